"""Which images are in which part, and how near the parts lie to each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from hvlabel.errors import ConfigError
from hvtrain.downstream.contract import Part
from hvtrain.downstream.task_file import OrderSettings, SplitSettings

PARTS: tuple[Part, ...] = get_args(Part)
Parts = dict[Part, list[str]]
SHOWN = 3  # names in a message


def split_of(names: Sequence[str], settings: SplitSettings) -> Parts:
    """Names of images by part, in a fixed order.

    names : of the images that are there
    ConfigError for a list that names an image twice or one that is not there, and for a part without images.
    """
    in_order = sorted(names)  # the draw must not hang on how a disk lists files
    parts = _listed(names, settings) if settings.lists else _drawn(in_order, settings.shares, settings.seed)
    if settings.by == "scene":
        assert settings.order is not None  # the settings' validator
        parts = _by_scene(parts, settings.order, settings.seed)
    for part in ("train", "test"):
        if not parts[part]:
            raise ConfigError(
                f"split: no image is left for {part} ({len(names)} images); give more images, or other lists or shares"
            )
    return parts


def _listed(names: Sequence[str], settings: SplitSettings) -> Parts:
    """The parts that lists name."""
    assert settings.lists is not None
    there = set(names)
    parts: Parts = {part: [] for part in PARTS}
    taken: dict[str, str] = {}
    for part, file in settings.lists.items():
        listed = read_list(Path(file))
        matched = [_name_of(entry, there) for entry in listed]
        pairs = zip(listed, matched, strict=True)
        missing = [entry for entry, name in pairs if name is None]
        if missing and not settings.allow_missing:
            raise ConfigError(
                f"{file}: names {len(missing)} images that are not there, e.g. {', '.join(missing[:SHOWN])}; restore "
                "them, or set split.allow_missing: true"
            )
        for name in matched:
            if name is None:
                continue
            if name in taken:
                raise ConfigError(f"{file}: image {name} is in {taken[name]} already; name it once")
            taken[name] = part
            parts[part].append(name)
    return parts


def read_list(path: Path) -> list[str]:
    """Entries of a list, one a line; ConfigError if it cannot be read or is empty."""
    try:
        entries = [line.strip() for line in path.read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: no readable list of images ({error}); correct split.lists") from error
    entries = [entry for entry in entries if entry]
    if not entries:
        raise ConfigError(f"{path}: an empty list; name at least one image, or leave the list out")
    return entries


def _name_of(entry: str, there: set[str]) -> str | None:
    """The image that an entry names, by itself or as the name of a file."""
    if entry in there:
        return entry
    stem = Path(entry).stem  # lists of HyKo2 and HCV2 hold names of files, those of HSI-Drive do not
    return stem if stem in there else None


def _drawn(names: Sequence[str], shares: Mapping[Part, float], seed: int) -> Parts:
    """Parts drawn at random, in shares; each in the order of the names."""
    order = np.random.default_rng(seed).permutation(len(names))
    parts: Parts = {part: [] for part in PARTS}
    first, share = 0, 0.0
    for part in PARTS:
        share += shares.get(part, 0.0)
        last = round(share * len(names))  # of the running sum, so that nothing is lost by rounding
        drawn = sorted(order[first:last])
        parts[part] = [names[k] for k in drawn]
        first = last
    return parts


def scenes_of(names: Sequence[str], order: OrderSettings) -> list[list[str]]:
    """Frames in their order, cut where the gap between neighbours is larger than order.scene_gap."""
    # with the name: frames of one position come in one order
    placed = sorted((order.position(name), name) for name in names)
    scenes: list[list[str]] = []
    before = -np.inf  # so that the first frame begins a scene
    for position, name in placed:
        if position - before > order.scene_gap:
            scenes.append([])
        scenes[-1].append(name)
        before = position
    return scenes


def _by_scene(parts: Parts, order: OrderSettings, seed: int) -> Parts:
    """Whole scenes in parts of about the same sizes: scenes in random order, each to the part that lacks most."""
    names = [name for part in PARTS for name in parts[part]]
    scenes = scenes_of(names, order)
    # what lists or shares gave says how large the parts shall be
    lacking = {part: float(len(parts[part])) for part in PARTS}
    drawn: Parts = {part: [] for part in PARTS}
    for k in np.random.default_rng(seed).permutation(len(scenes)):
        part = max(PARTS, key=lambda p: lacking[p])
        drawn[part] += scenes[k]
        lacking[part] -= len(scenes[k])
    return drawn


@dataclass(frozen=True)
class Leak:
    """How near the frames of a part lie to training frames; numbers of frames, or seconds.

    near_share : share of frames that are not farther from a training frame than `near`
    """

    median_gap: float
    quarter_gap: float
    near: float
    near_share: float

    def sentence(self, part: str) -> str:
        """For people."""
        return (
            f"{self.near_share:.0%} of the {part} frames lie within {self.near:g} of a training frame "
            f"(median {self.median_gap:g}): good scores do not show that new places can be segmented"
        )


def leak_of(train: Sequence[str], others: Sequence[str], order: OrderSettings) -> Leak:
    """Of some frames beside the training frames."""
    # nearest in time, whichever scene it is of: a scene that was driven twice is near as well
    placed = np.sort([order.position(name) for name in train])
    gaps = []
    for name in others:
        distances = np.abs(placed - order.position(name))
        gaps.append(distances.min())
    quarter, median = np.quantile(gaps, (0.25, 0.5))
    near_share = np.mean(np.array(gaps) <= order.near)
    return Leak(float(median), float(quarter), order.near, float(near_share))


def labelled_share(names: Sequence[str], per_cent: float, seed: int) -> tuple[list[str], float]:
    """Some of the training images, and the share of their labelled pixels that is used.

    Images are drawn once per seed, so that the smaller share is part of the larger. Below one image, it is one image
    with as many of its pixels. ConfigError for a share outside (0, 100].
    """
    if not 0 < per_cent <= 100:
        raise ConfigError(f"--labels {per_cent:g} is no share; give per cent above 0 and up to 100")
    # one order for all shares: what 5 % see, 10 % see too
    order = np.random.default_rng([seed, len(names)]).permutation(len(names))
    n_exact = per_cent / 100 * len(names)
    n_images = max(1, round(n_exact))
    drawn = sorted(order[:n_images])
    chosen = [names[k] for k in drawn]
    # 1.4 images are one whole image
    return chosen, min(1.0, n_exact) if n_images == 1 else 1.0
