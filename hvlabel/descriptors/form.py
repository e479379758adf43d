"""One form in which raw files come: container, axes, bands, values, companions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from hvlabel.descriptors.centres import WavelengthRange, require_centres_nm
from hvlabel.descriptors.companion import Companion, as_rule
from hvlabel.settings import Settings

# a row of hvlabel.readers.table for each
Container = Literal["envi", "matlab", "hdf5", "netcdf", "npy", "tiff", "mosaic_png", "band_png", "hsd"]
ENVI_DATA_SUFFIXES = (
    ".dat", ".raw", ".bin", ".img", ".float", ".hyspex", ".bil", ".bip", ".bsq", ".pix", ".cube", ".ref", ".rfl",
    ".l1r", ".sli", "",
)  # fmt: skip
Confidence = Literal["calibrated", "nominal", "placeholder"]
# a mere path may stand for a rule; the schema tells so too
Rule = Annotated[Companion | None, BeforeValidator(as_rule, json_schema_input_type=str | Companion | None)]


class Form(Settings):
    """One form in which a data set's files come."""

    files: str | None = Field(
        None, description="which files are images: a pattern below the root, e.g. hyperspectral/*.mat"
    )
    container: Container = Field(description="file format; MATLAB v5 and v7.3 are told apart by signature")
    variable: str | None = Field(
        None,
        description="array to read from matlab, hdf5 and npz; none: the 3-D numeric one, of several the one with "
        "as many bands as wavelengths",
    )
    of_several: Literal["refuse", "last"] = Field(
        "refuse",
        description="what to do if more than one array may be the cube: refuse the file, or read the last of them "
        "(of MATLAB v5 in the order of the file, else by name)",
    )
    axes: str = Field(
        "yxc",
        description="axis order of the stored array: a permutation of y (row), x (column), c (band); of ENVI files: "
        "of lines, samples, bands",
    )
    rot90: int = Field(0, ge=0, le=3, description="quarter turns counter-clockwise that bring the image upright")
    shape: tuple[int, int] | None = Field(
        None,
        description="rows and columns of an image that is stored as a matrix of bands and pixels; `axes` then says in "
        "which order they were unfolded, as the container counts axes",
    )
    drop_bands: tuple[int, ...] = Field((), description="bands to leave out, counted from 0 in file order")
    bad_bands: Literal["drop", "keep"] = Field(
        "drop", description="what becomes of bands that the file's bad band list (bbl) names: left out, or kept"
    )
    drop_rows: tuple[int, ...] = Field((), description="rows to leave out, counted from 0 in file order")
    wavelengths_nm: list[float] | WavelengthRange | None = Field(
        None,
        description="band centres of the bands kept, in file order, nm; none: taken from the file "
        "(ENVI or HSD header, wavelength_variable)",
    )
    wavelength_variable: str | None = Field(None, description="variable of the same file that holds the band centres")
    wavelengths_first: Literal["descriptor", "file"] = Field(
        "descriptor", description="whose band centres count where both name them"
    )
    wavelength_confidence: Confidence | None = Field(
        None,
        description="how far the band centres can be trusted; kept in the cube. None: calibrated if they come from "
        "the file, else nominal",
    )
    mosaic_px: int | None = Field(
        None, ge=2, le=8, description="mosaic_png: side of the filter pattern; band = row * side + column"
    )
    scale: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="stored value times scale = physical value; none: from the file, else 1",
    )
    unit: str | None = Field(
        None, description="unit of the physical values (reflectance, radiance); none: from the file, else counts"
    )
    rgb_companion: Rule = Field(None, description="RGB file of the same image: a path, or a rule")
    prompts: Rule = Field(
        None,
        description="file with boxes, points or masks that people drew: a path, or a rule; COCO or plain .json, .csv, "
        "Pascal VOC .xml, YOLO .txt, or an instance mask as .png or .tif",
    )
    rgb_variable: str | None = Field(None, description="RGB picture inside the raw file, axes as of the cube")
    rgb_rot90: int = Field(0, ge=0, le=3, description="quarter turns counter-clockwise of rgb_variable")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        # what the bounds of single fields cannot say
        if sorted(self.axes) != ["c", "x", "y"]:
            raise ValueError(f"axes must be a permutation of 'yxc', not {self.axes!r}")
        has_mosaic_px = self.mosaic_px is not None
        if has_mosaic_px != (self.container == "mosaic_png"):
            raise ValueError("mosaic_px belongs to container mosaic_png and is required there")
        if self.rgb_companion is not None and self.rgb_variable is not None:
            raise ValueError("rgb_companion and rgb_variable exclude each other; keep one")
        dropped = (*self.drop_bands, *self.drop_rows)
        if min(dropped, default=0) < 0:
            raise ValueError("drop_bands and drop_rows count from 0")
        require_centres_nm(self.wavelengths_nm)
        if self.shape is not None and min(self.shape) < 1:
            raise ValueError("shape is rows and columns, both at least 1")
        return self

    @property
    def is_folder(self) -> bool:
        """Whether an image is a folder of files."""
        return self.container == "band_png"

    def companion_of(self, raw: Path) -> Path | None:
        """RGB companion that belongs to a raw file, or None if there is no rule."""
        return self._beside(self.rgb_companion, raw)

    def prompts_of(self, raw: Path) -> Path | None:
        """File of what people drew on a raw file, or None if there is no rule."""
        return self._beside(self.prompts, raw)

    def known_wavelengths_nm(self) -> list[float] | None:
        """Band centres of the kept bands in file order, nm, if the descriptor gives them."""
        if isinstance(self.wavelengths_nm, WavelengthRange):
            return self.wavelengths_nm.values_nm()
        return self.wavelengths_nm

    def canonical(self) -> str:
        """JSON of what a cube's content depends on: part of its cache key, and kept in the cube."""
        content = set(Form.model_fields) - {"files", "prompts"}  # neither changes a value of the cube
        # without defaults: a field that is added later leaves the keys of older cubes as they are
        return self.model_dump_json(exclude_defaults=True, include=content)

    def _beside(self, rule: Companion | None, raw: Path) -> Path | None:
        """The file that a rule names for a raw file; its suffix may be in capital or small letters."""
        if rule is None:
            return None
        raw = raw.absolute()  # rules name folders above the raw file
        folder = raw if self.is_folder else raw.parent
        path = rule.of(raw, folder)
        written = path.suffix
        for suffix in (written, written.lower(), written.upper()):  # cameras write .JPG, people .jpg
            spelling = path.with_suffix(suffix)
            if spelling.is_file():
                return spelling
        return path
