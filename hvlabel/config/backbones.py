"""Settings of the backbones that are not HyperFree, a group each. Sizes left out are those of `student.size`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hvlabel.config.marks import LeftOutAt
from hvlabel.settings import Settings

Size = Annotated[int | None, Field(ge=1)]
SENSORS = Literal["avc", "avng", "av3", "others"]
LEVELS = Literal["L1", "L2", "others"]


class SpecAwareSettings(Settings):
    """SpecAware: tokens by kernels that are generated for each band."""

    width: Size = Field(None, description="channels of a token; none: those of the size")
    depth: Size = Field(None, description="blocks; none: those of the size")
    heads: Size = Field(None, description="heads of a block, a divisor of the width; none: those of the size")
    patch_px: int = Field(8, ge=4, le=16, description="side of a token, px")
    sensor: SENSORS = Field("others", description="which sensor the images are of: AVIRIS Classic, NG, 3, or any other")
    level: LEVELS = Field("others", description="L1 radiance, L2 reflectance, others: not known")
    nominal_gsd_m: float | None = Field(
        10.0,
        gt=0,
        description="what all images are said to be sampled at, m per pixel: at the millimetres of a ground camera the "
        "position code is nearly constant; none: the real one",
    )
    sentences: Annotated[str | None, LeftOutAt(None)] = Field(
        None,
        description=".npz file with the sentence vectors avc, avng, av3, others, L1, L2; none: those of "
        "resources/models/specaware_sentences.npz",
    )
