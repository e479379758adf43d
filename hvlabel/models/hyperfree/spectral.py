"""Which band of any camera feeds which slot of the spectral dictionary. Rules of the published HyperFree code."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

# Centre wavelengths of the 85 key slots, nm (fixed by the published weights; no regular grid)
KEY_SLOTS_NM = (
    400, 412.5, 429.5, 443, 455, 467.5, 473.375, 481.25, 488.25, 500, 520, 531, 536, 545, 550.5, 561.25, 564.75,
    565.5, 575, 580, 596, 605, 610, 612, 626, 627.5, 630, 635, 640, 645, 650, 655, 656, 660, 664.5, 665, 667,
    671.25, 677.5, 686, 700, 705, 710, 716, 725, 730, 740, 748.5, 760, 764.25, 776, 783, 790, 808, 820, 825, 830,
    835.3125, 842, 850, 858.5, 865, 866, 869.5, 880, 896, 905, 910, 926, 938, 945, 950, 959, 1240, 1375, 1575,
    1575.5, 1610, 1640, 1650, 2050.25, 2130, 2195, 2217.5, 2500,
)  # fmt: skip
CUBE_SLOTS_NM = tuple(range(400, 2501, 10))  # the 211 intermediate slots
TOLERANCE_NM = 10.0
HYPERSPECTRAL_BANDS = 20  # from this many channels on the cube branch takes part
TRAINING_DRAWS = 40  # cube pairs drawn with replacement in training


@dataclass(frozen=True)
class ChannelChoice:
    """Pairs of (input channel, dictionary slot) of both branches; a channel may serve several slots."""

    key_channels: tuple[int, ...]
    key_slots: tuple[int, ...]
    cube_channels: tuple[int, ...]
    cube_slots: tuple[int, ...]


def match(wavelengths_nm: Sequence[float], slots_nm: Sequence[float]) -> list[tuple[int, int]]:
    """(channel, slot) pairs: per slot the first channel, in list order, within 10 nm inclusive. First, not nearest."""
    pairs = []
    for slot, slot_nm in enumerate(slots_nm):
        near = (channel for channel, nm in enumerate(wavelengths_nm) if abs(slot_nm - nm) <= TOLERANCE_NM)
        first = next(near, None)
        if first is not None:
            pairs.append((first, slot))
    return pairs


def choose_channels(wavelengths_nm: Sequence[float], rng: random.Random | None = None) -> ChannelChoice:
    """The dictionary entries of a camera.

    wavelengths_nm : (C,) band centres in channel order, nm; any sequence
    rng            : None chooses deterministically (published test_mode=True); a generator draws TRAINING_DRAWS cube
                     pairs with replacement (test_mode=False), as in training
    With at least 20 channels the cube branch takes the pairs whose channel the key branch does not use.
    """
    centres_nm = [float(nm) for nm in wavelengths_nm]
    key = match(centres_nm, KEY_SLOTS_NM)
    cube: list[tuple[int, int]] = []
    if len(centres_nm) >= HYPERSPECTRAL_BANDS:
        cube = match(centres_nm, CUBE_SLOTS_NM)
        if rng is not None and cube:
            last = len(cube) - 1  # randint takes both ends in
            drawn = [rng.randint(0, last) for _ in range(TRAINING_DRAWS)]
            cube = [cube[k] for k in sorted(drawn)]
        # after the draw: of the TRAINING_DRAWS pairs fewer may be left
        taken = {channel for channel, _ in key}
        cube = [(channel, slot) for channel, slot in cube if channel not in taken]
    return ChannelChoice(*_channels_and_slots(key), *_channels_and_slots(cube))


def _channels_and_slots(pairs: Sequence[tuple[int, int]]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The channels of (channel, slot) pairs, and their slots."""
    channels = tuple(channel for channel, _ in pairs)
    slots = tuple(slot for _, slot in pairs)
    return channels, slots
