"""What the head of a dense task sees of a cube, by name: maps of a frozen backbone, a picture, or both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from hvlabel.cube import Cube
from hvlabel.errors import ConfigError
from hvlabel.settings import Settings
from hvtrain.data.inputs import PICTURE_NM
from hvtrain.downstream import pictures

PIXELS = "pixels"  # of Input.shown


@dataclass(frozen=True)
class Input:
    """One choice.

    shown   : what of the cube the backbone is shown; pixels: each spectrum by itself; "": there is no backbone
    picture : what the head itself sees at full size; "": nothing
    """

    shown: Literal["", "cube", "rgb", "pixels"] = ""
    picture: Literal["", "cube", "pca1", "mean", "rgb"] = ""


INPUTS = {
    "features": Input(shown="cube"),
    "features+cube": Input(shown="cube", picture="cube"),
    "features-rgb": Input(shown="rgb"),
    "features-pixels": Input(shown="pixels"),
    "cube": Input(picture="cube"),
    "pca1": Input(picture="pca1"),
    "mean": Input(picture="mean"),
    "rgb": Input(picture="rgb"),
}


Index = Annotated[int, Field(ge=0)]


class PseudoRgbSettings(Settings):
    """Which bands stand for red, green and blue."""

    bands: tuple[Index, Index, Index] = Field(description="indices from 0 of the bands shown as red, green and blue")
    ranges: tuple[tuple[float, float], tuple[float, float], tuple[float, float]] | None = Field(
        None, description="values of each that become 0 and 255; none: least and largest of the image"
    )

    @model_validator(mode="after")
    def _ranges_rise(self) -> Self:
        falling = [limits for limits in self.ranges or () if not limits[0] < limits[1]]
        if falling:
            low, high = falling[0]
            raise ValueError(f"a range from {low:g} to {high:g} does not rise: give the darker value first")
        return self


def input_of(name: str) -> Input:
    """The row of a name; ConfigError for a name that no row has."""
    if name not in INPUTS:
        raise ConfigError(f"input {name!r} is unknown; there are: {', '.join(INPUTS)}")
    return INPUTS[name]


def require_maps(name: str) -> Input:
    """The row of an input that is maps of cells and nothing else; ConfigError for any other."""
    chosen = input_of(name)
    if chosen.shown not in ("cube", "rgb") or chosen.picture:
        raise ConfigError(f"input {name}: the head sees maps only; choose features or features-rgb")
    return chosen


def picture_of(cube: Cube, kind: str, every_px: int, rgb: PseudoRgbSettings | None) -> np.ndarray:
    """(C, H, W) float32 of what a head sees at full size: values as they are, 0 to 255 for colours.

    rgb : bands of a pseudo-RGB picture; none: the picture that the cube holds
    ConfigError for bands that the cube has not.
    """
    if kind == "rgb" and rgb is None:
        thinned = cube.rgb[::every_px, ::every_px]  # (H, W, 3)
        channels_first = thinned.transpose(2, 0, 1)
        return np.ascontiguousarray(channels_first, np.float32)
    values = cube.values()[:, ::every_px, ::every_px]
    if kind == "pca1":
        return pictures.pca1(values)
    if kind == "mean":
        return pictures.mean_band(values)
    if kind == "rgb":
        assert rgb is not None
        if max(rgb.bands) >= len(values):
            raise ConfigError(
                f"{cube.path}: has {len(values)} bands, pseudo_rgb.bands names {max(rgb.bands)}; count from 0"
            )
        return pictures.pseudo_rgb(values, rgb.bands, rgb.ranges)
    return np.ascontiguousarray(values)


def network_values(
    cube: Cube, shown: str, every_px: int, box: tuple[slice, slice] = (slice(None), slice(None))
) -> tuple[np.ndarray, Sequence[float]]:
    """(C, H, W) float32 that a backbone is shown, and the (C,) band centres, nm.

    box : rows and columns of what is shown, counted after every n-th pixel was taken
    """
    if shown == "rgb":
        picture = picture_of(cube, "rgb", every_px, None)
        return picture[:, *box], PICTURE_NM
    wavelengths_nm = cube.live_wavelengths_nm.tolist()
    if box == (slice(None), slice(None)):
        # a dead band has nothing to tell
        whole = cube.live_values()
        return whole[:, ::every_px, ::every_px], wavelengths_nm
    # in px of the cube; only the chunks of the box are read
    rows, columns = (slice(part.start * every_px, part.stop * every_px) for part in box)
    values = cube.values(rows, columns)[cube.live_bands]
    return values[:, ::every_px, ::every_px], wavelengths_nm
