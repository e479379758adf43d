"""Settings of the stage from raw file to cube."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from hvlabel.config.marks import NO_RESULT
from hvlabel.config.stage import StageSettings


class CubeSettings(StageSettings):
    """Raw file to Zarr cube with an RGB rendering."""

    version: ClassVar[int] = 2

    rgb: Literal["auto", "companion", "cie", "triplet"] = Field(
        "auto",
        description="source of the rendering; auto: companion, else CIE if the visible range is covered, else three "
        "bands",
    )
    rgb_nm: tuple[float, float, float] = Field(
        (640.0, 550.0, 460.0), description="triplet: wanted red, green, blue, nm"
    )
    band_tol_nm: float = Field(
        60.0, gt=0, description="triplet: farthest band that may stand for a wanted wavelength, nm"
    )
    stretch_percentiles: tuple[float, float] = Field((1.0, 99.0), description="values mapped to black and white")
    memory_mib: Annotated[int, NO_RESULT] = Field(
        1024, ge=512, description="most memory that one conversion may take, MiB, whatever the size of the cube"
    )

    @model_validator(mode="after")
    def _stretch_is_a_range(self) -> Self:
        low, high = self.stretch_percentiles
        if not 0 <= low < high <= 100:
            raise ValueError(f"stretch_percentiles must be two rising numbers in 0..100, not {low:g}, {high:g}")
        return self
