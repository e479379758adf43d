"""Settings of the backbones that are not HyperFree, a group each. Sizes left out are those of `student.size`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hvlabel.config.marks import NO_RESULT, LeftOutAt
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
    condition: Annotated[Literal["both", "metadata", "content"], LeftOutAt("both")] = Field(
        "both",
        description="what the kernels of a band are generated from: metadata, its wavelength and the sensor; content, "
        "its picture; both, as published",
    )
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


class HyperSigmaSettings(Settings):
    """HyperSIGMA: a transformer over patches of fixed bands, which any camera is resampled to."""

    width: Size = Field(None, description="channels of a token; none: those of the size")
    depth: Size = Field(None, description="blocks; none: those of the size")
    heads: Size = Field(None, description="heads of a block, a divisor of the width; none: those of the size")
    patch_px: Literal[4, 8, 16] = Field(8, description="side of a token, px")
    bands: int = Field(100, ge=2, description="fixed bands, evenly spaced")
    range_nm: tuple[float, float] = Field(
        (400.0, 2500.0), description="centres of the first and the last of them; what a camera does not cover is 0"
    )
    embedding: Annotated[Literal["resampled", "dictionary"], LeftOutAt("resampled")] = Field(
        "resampled",
        description="resampled: patches of the fixed bands; dictionary: a camera's own bands in 390-2510 nm by kernels "
        "as HyperFree's, in front of the same transformer, of whose files all but the patch embedding is taken",
    )
    attention: Literal["mhsa", "ssa"] = Field(
        "mhsa",
        description="mhsa: full attention in all blocks, as pre-trained; ssa: sparse sampling attention in most of "
        "them, as the published heads have it; no published file holds its offsets",
    )
    spectral: bool = Field(
        False,
        description="the spectral transformer too, which gates the channels of the maps, as the published heads do",
    )

    @model_validator(mode="after")
    def _range_rises(self) -> Self:
        if not 0 < self.range_nm[0] < self.range_nm[1]:
            raise ValueError(f"range_nm must be two rising positive numbers, not {list(self.range_nm)}")
        return self


class HyperSlSettings(Settings):
    """HyperSL: each spectrum by itself. Of its published sizes b is what its code calls small, l base, h large."""

    width: Size = Field(None, description="channels of a token; none: those of the size")
    depth: Size = Field(None, description="layers, the last, different one included; none: those of the size")
    heads: Size = Field(None, description="heads of a layer, a divisor of the width; none: those of the size")
    stride_px: int = Field(4, ge=4, le=16, description="side of the cells whose mean spectra are encoded, px")
    band_minmax: bool = Field(
        False,
        description="stretch each band of each image to [0, 1], as in its pre-training; absolute values are lost",
    )
    chunk_pixels: Annotated[int, NO_RESULT] = Field(
        4096, ge=1, description="most spectra that are encoded at once, fewer of many bands: bounds the memory"
    )
