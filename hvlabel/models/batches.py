"""How much a device decodes at once: planned before a run, halved when memory runs out. Results do not depend on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal, TypeVar

import torch

from hvlabel.errors import DeviceMemoryError
from hvlabel.models.two_way.contract import DecoderParts

T = TypeVar("T")
What = Literal["points", "masks", "objects"]
TOKEN_MAPS, UPSCALED_MAPS, MASKS_PER_POINT = 6, 3, 3  # that are alive at once, at the peak
MASK_PX_BYTES = 4 + 4 + 1  # a logit of a mask at full size, its comparison, its bit
FREE_SHARE = 0.7  # of the device's free memory that a batch may take


@dataclass
class Ceilings:
    """The largest batches that proved to fit; None: as large as the settings say. One object serves a whole run."""

    points: int | None = None
    masks: int | None = None  # at full size
    objects: int | None = None

    def lowered(self) -> dict[str, int]:
        """Those that are below the settings, for the record."""
        return {what: size for what, size in asdict(self).items() if size is not None}


def in_batches(
    n: int, largest: int, ceilings: Ceilings, what: What, call: Callable[[slice], T]
) -> Iterator[tuple[slice, T]]:
    """(part, call(part)) for consecutive parts of range(n), at most `largest` long.

    A part that lacks device memory is tried in halves. If it was as long as allowed, later parts are no longer than its
    half. DeviceMemoryError if not even one fits.
    """
    start, limit = 0, largest
    while start < n:
        ceiling = getattr(ceilings, what) or largest  # read anew: a part that failed lowers it
        allowed = min(largest, ceiling)
        stop = min(start + min(limit, allowed), n)
        part = slice(start, stop)
        size = part.stop - start
        shortage = None
        try:
            result = call(part)
        except torch.OutOfMemoryError as error:
            shortage = str(error)
        if shortage is not None:  # outside the handler, which keeps what the failed attempt had allocated
            limit = halved(size, what, shortage)
            if size == allowed:  # a short last part that fails says little of longer ones
                setattr(ceilings, what, limit)
            continue
        yield part, result
        start = part.stop


def halved(size: int, what: What, shortage: str) -> int:
    """Half of a batch that did not fit; cached memory is given back. DeviceMemoryError if there is no half."""
    if size == 1:
        raise DeviceMemoryError(
            f"the device has not the memory for one of the {what} ({shortage[:80]}); take a smaller model or image, "
            "fewer jobs on this device, or run.device: cpu"
        )
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return size // 2


def bytes_per_point(decoder: DecoderParts, grid: int, side_px: int) -> int:
    """About what decoding one point takes, its three masks at full size included.

    grid    : image tokens along a side
    side_px : of the network's input, which the image is not larger than
    """
    weight = decoder.iou_token.weight
    width = weight.shape[1]
    item_bytes = weight.element_size()
    n_tokens = grid**2
    n_cells = 16 * n_tokens  # of the low-resolution logits, with an eighth of the channels
    tokens = TOKEN_MAPS * n_tokens * width * item_bytes
    upscaled = UPSCALED_MAPS * n_cells * (width // 8) * item_bytes
    mask_bytes = n_cells * item_bytes + side_px**2 * MASK_PX_BYTES  # its logits, and all at full size
    masks = MASKS_PER_POINT * mask_bytes
    return tokens + upscaled + masks


def plan_points(largest: int, per_point_bytes: int, device: torch.device, ceilings: Ceilings) -> str:
    """Lowers the ceiling to what fits a GPU's free memory; a sentence for the log, empty on a CPU."""
    if device.type != "cuda":
        return ""
    free_bytes = torch.cuda.mem_get_info(device)[0]
    budget_bytes = int(free_bytes * FREE_SHARE)
    fit = max(1, budget_bytes // per_point_bytes)  # one is tried even where it may not fit
    if fit < largest:
        ceilings.points = fit
    n_points = min(fit, largest)
    taken_gib = n_points * per_point_bytes / 2**30
    free_gib = free_bytes / 2**30
    return (
        f"{n_points} points at once, about {taken_gib:.1f} of {free_gib:.1f} GiB free "
        "(for images up to the network's input size; larger ones may have to do with fewer)"
    )
