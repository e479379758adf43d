"""How much a device decodes at once: planned before a run, halved when memory runs out. Results do not depend on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar

import torch

from hvlabel.errors import DeviceMemoryError

T = TypeVar("T")
What = Literal["points", "masks", "objects"]
TOKEN_MAPS, UPSCALED_MAPS, MASKS_PER_POINT = 6, 3, 3  # that are alive at once, at the peak
FREE_SHARE = 0.7  # of the device's free memory that a batch may take


@dataclass
class Ceilings:
    """The largest batches that proved to fit; None: as large as asked. One object serves a whole run."""

    points: int | None = None
    masks: int | None = None  # at full size
    objects: int | None = None

    def lowered(self) -> dict[str, int]:
        """Those that are below what was asked, for the record."""
        return {k: v for k, v in asdict(self).items() if v is not None}


def in_batches(
    n: int, asked: int, ceilings: Ceilings, what: What, call: Callable[[slice], T]
) -> Iterator[tuple[slice, T]]:
    """call(part) for consecutive parts of range(n), at most `asked` long; a part that lacks device memory is tried in halves.

    If it was as long as allowed, later parts are no longer than its half. DeviceMemoryError if not even one fits.
    """
    start, limit = 0, asked
    while start < n:
        allowed = min(asked, getattr(ceilings, what) or asked)
        part = slice(start, min(start + min(limit, allowed), n))
        size, shortage = part.stop - start, None
        try:
            result = call(part)
        except torch.OutOfMemoryError as error:
            shortage = str(error)
        if shortage is not None:  # outside the handler, which keeps what the failed attempt had allocated
            limit = halved(size, what, shortage)
            if size == allowed:
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


def bytes_per_point(decoder: Any, grid: int, side_px: int) -> int:
    """About what decoding one point takes, its three masks at full size included, for images up to the network's input.

    grid    : image tokens along a side
    side_px : of the network's input
    """
    weight = decoder.iou_token.weight
    width, n_tokens, item = weight.shape[1], grid**2, weight.element_size()
    decoding = n_tokens * width * item * TOKEN_MAPS + 16 * n_tokens * (width // 8) * item * UPSCALED_MAPS
    masks = MASKS_PER_POINT * (16 * n_tokens * item + side_px**2 * (4 + 4 + 1))  # logits, their comparison, bits
    return decoding + masks


def plan_points(asked: int, per_point: int, device: torch.device, ceilings: Ceilings) -> str:
    """Lowers the ceiling to what fits a GPU's free memory; a sentence for the log."""
    if device.type != "cuda":
        return ""
    free = torch.cuda.mem_get_info(device)[0]
    fit = max(1, int(free * FREE_SHARE) // per_point)
    if fit < asked:
        ceilings.points = fit
    return (
        f"{min(fit, asked)} points at once, about {min(fit, asked) * per_point / 2**30:.1f} of {free / 2**30:.1f} GiB free "
        "(for images up to the network's input size; larger ones may have to do with fewer)"
    )
