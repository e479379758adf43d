"""How a camera's or a data set's raw files are read: the YAML files of resources/datasets, or one of the user's own."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from hvlabel.errors import ConfigError
from hvlabel.settings import Settings, read_yaml, validated
from hvlabel.wavelengths import centres_nm

SHIPPED = Path(__file__).resolve().parent.parent / "resources" / "datasets"

Container = Literal["envi", "matlab", "hdf5", "netcdf", "npy", "tiff", "mosaic_png", "band_png", "hsd"]
BAND_FILES = "*.[pP][nN][gG]"  # band_png: the files of an image's folder
ENVI_DATA_SUFFIXES = (
    ".dat", ".raw", ".bin", ".img", ".float", ".hyspex", ".bil", ".bip", ".bsq", ".pix", ".cube", ".ref", ".rfl", ".l1r", ".sli", "",
)  # fmt: skip
Confidence = Literal["calibrated", "nominal", "placeholder"]


class WavelengthRange(Settings):
    """Evenly spaced band centres."""

    start_nm: float = Field(gt=0, description="centre of the first band, nm")
    stop_nm: float = Field(gt=0, description="centre of the last band, nm")
    count: int = Field(ge=1, description="number of bands")

    def values_nm(self) -> list[float]:
        """(count,) band centres, nm."""
        if self.count == 1:
            return [self.start_nm]
        step_nm = (self.stop_nm - self.start_nm) / (self.count - 1)
        return [self.start_nm + k * step_nm for k in range(self.count)]


def require_centres_nm(given: list[float] | WavelengthRange | None) -> None:
    """ValueError unless configured band centres can be believed."""
    if given is not None:
        centres_nm(given.values_nm() if isinstance(given, WavelengthRange) else given, "nm")


def _last(parts: list[str], name: str) -> int:
    return len(parts) - 1 - parts[::-1].index(name)


class Companion(Settings):
    """Where the RGB picture of a raw file lies."""

    path: str = Field(
        description="beside the raw file (inside it, if it is a folder), with {stem} of the raw name, e.g. ../rgb/{stem}.png"
    )
    folders: dict[str, str | None] = Field(
        {},
        description="folder names on the way to the raw file that differ for the picture; null: left out, if it lies below the others. Of equal names the last counts",
    )
    remove: tuple[str, ...] = Field((), description="parts of the raw name that {stem} goes without")
    optional: bool = Field(
        False, description="images without the file do without: they are rendered from their bands, or have no prompts"
    )
    transpose: bool = Field(False, description="the picture's rows are the columns of the upright cube")

    @model_validator(mode="after")
    def _names_the_stem_only(self) -> Self:
        try:
            self.path.format(stem="")
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(f"rgb_companion {self.path!r} may use {{stem}} only") from error
        return self

    def of(self, raw: Path, folder: Path) -> Path:
        """Path of the picture. folder: the raw file's folder, or the raw folder itself."""
        parts = list(folder.parts)
        places = {name: _last(parts, name) for name in self.folders if name in parts}
        top = min((at for name, at in places.items() if self.folders[name] is not None), default=0)
        for name, at in sorted(places.items(), key=lambda place: -place[1]):
            instead = self.folders[name]
            if instead is not None:
                parts[at] = instead
            elif at >= top:  # a folder of that name above the data set is none of ours
                del parts[at]
        stem = raw.stem
        for part in self.remove:
            stem = stem.replace(part, "")
        return Path(*parts) / self.path.format(stem=stem)


def as_rule(given: Any) -> Any:
    """A companion's rule from a mere path."""
    return {"path": given} if isinstance(given, str) else given


class About(Settings):
    """What people want to know about a data set; nothing here changes a result."""

    title: str | None = Field(None, description="name of the data set")
    bands: int | None = Field(None, ge=1, description="expected bands")
    images: int | None = Field(None, ge=1, description="expected images")
    source: str | None = Field(None, description="where it comes from")
    licence: str | None = Field(None, description="licence note")
    notes: tuple[str, ...] = Field((), description="what a user should know")


class Form(Settings):
    """One form in which a data set's files come."""

    files: str | None = Field(
        None, description="which files are images: a pattern below the root, e.g. hyperspectral/*.mat"
    )
    container: Container = Field(description="file format; MATLAB v5 and v7.3 are told apart by signature")
    variable: str | None = Field(
        None,
        description="array to read from matlab, hdf5 and npz; none: the 3-D numeric one, of several the one with as many bands as wavelengths",
    )
    of_several: Literal["refuse", "last"] = Field(
        "refuse",
        description="what to do if more than one array may be the cube: refuse the file, or read the last of them (of MATLAB v5 in the order of the file, else by name)",
    )
    axes: str = Field(
        "yxc",
        description="axis order of the stored array: a permutation of y (row), x (column), c (band); of ENVI files: of lines, samples, bands",
    )
    rot90: int = Field(0, ge=0, le=3, description="quarter turns counter-clockwise that bring the image upright")
    shape: tuple[int, int] | None = Field(
        None,
        description="rows and columns of an image that is stored as a matrix of bands and pixels; `axes` then says in which "
        "order they were unfolded, as the container counts axes",
    )
    drop_bands: tuple[int, ...] = Field((), description="bands to leave out, counted from 0 in file order")
    bad_bands: Literal["drop", "keep"] = Field(
        "drop", description="what becomes of bands that the file's bad band list (bbl) names: left out, or kept"
    )
    drop_rows: tuple[int, ...] = Field((), description="rows to leave out, counted from 0 in file order")
    wavelengths_nm: list[float] | WavelengthRange | None = Field(
        None,
        description="band centres of the bands kept, in file order, nm; none: taken from the file (ENVI or HSD header, wavelength_variable)",
    )
    wavelength_variable: str | None = Field(None, description="variable of the same file that holds the band centres")
    wavelengths_first: Literal["descriptor", "file"] = Field(
        "descriptor", description="whose band centres count where both name them"
    )
    wavelength_confidence: Confidence | None = Field(
        None,
        description="how far the band centres can be trusted; kept in the cube. None: calibrated if they come from the file, else nominal",
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
    rgb_companion: Annotated[
        Companion | None, BeforeValidator(as_rule, json_schema_input_type=str | Companion | None)
    ] = Field(None, description="RGB file of the same image: a path, or a rule")
    prompts: Annotated[Companion | None, BeforeValidator(as_rule, json_schema_input_type=str | Companion | None)] = (
        Field(
            None,
            description="file with boxes, points or masks that people drew: a path, or a rule; COCO or plain .json, .csv, "
            "Pascal VOC .xml, YOLO .txt, or an instance mask as .png or .tif",
        )
    )
    rgb_variable: str | None = Field(None, description="RGB picture inside the raw file, axes as of the cube")
    rgb_rot90: int = Field(0, ge=0, le=3, description="quarter turns counter-clockwise of rgb_variable")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if sorted(self.axes) != ["c", "x", "y"]:
            raise ValueError(f"axes must be a permutation of 'yxc', not {self.axes!r}")
        if (self.mosaic_px is None) == (self.container == "mosaic_png"):
            raise ValueError("mosaic_px belongs to container mosaic_png and is required there")
        if self.rgb_companion is not None and self.rgb_variable is not None:
            raise ValueError("rgb_companion and rgb_variable exclude each other; keep one")
        if min((*self.drop_bands, *self.drop_rows), default=0) < 0:
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
        """RGB companion that belongs to a raw file, or None if there is no rule; its suffix may be in capital or small letters."""
        return self._beside(self.rgb_companion, raw)

    def prompts_of(self, raw: Path) -> Path | None:
        """File of what people drew on a raw file, or None if there is no rule."""
        return self._beside(self.prompts, raw)

    def _beside(self, rule: Companion | None, raw: Path) -> Path | None:
        """The file that a rule names for a raw file; its suffix may be in capital or small letters."""
        if rule is None:
            return None
        raw = raw.absolute()  # rules name folders above the raw file
        path = rule.of(raw, raw if self.is_folder else raw.parent)
        suffixes = (path.suffix, path.suffix.lower(), path.suffix.upper())
        return next((p for p in map(path.with_suffix, suffixes) if p.is_file()), path)

    def known_wavelengths_nm(self) -> list[float] | None:
        """Band centres of the kept bands in file order, nm, if the descriptor gives them."""
        if isinstance(self.wavelengths_nm, WavelengthRange):
            return self.wavelengths_nm.values_nm()
        return self.wavelengths_nm

    def canonical(self) -> str:
        """JSON of what a cube's content depends on: part of its cache key, and kept in the cube."""
        return self.model_dump_json(exclude_defaults=True, include=set(Form.model_fields) - {"files", "prompts"})


class Descriptor(Form):
    """How the raw files of one data set are read. The other forms take over whatever they do not say themselves."""

    other_forms: Annotated[
        tuple[Form, ...], BeforeValidator(lambda given: given, json_schema_input_type=list[dict[str, Any]])
    ] = Field(
        (), description="further forms of the same data set, told apart by `files`; what they do not say they inherit"
    )
    min_kib: int = Field(0, ge=0, description="smaller files are no images but tables beside them, KiB")
    every: int = Field(1, ge=1, description="every n-th file of a folder, in name order, is an image (video frames)")
    about: About = About()

    @model_validator(mode="before")
    @classmethod
    def _inherit(cls, tree: Any) -> Any:
        if not isinstance(tree, dict) or not isinstance(tree.get("other_forms"), list | tuple):
            return tree
        own = {name: tree[name] for name in Form.model_fields if name in tree}
        return {**tree, "other_forms": [{**own, **f} if isinstance(f, dict) else f for f in tree["other_forms"]]}

    @property
    def forms(self) -> tuple[Form, ...]:
        """All forms, the main one first."""
        return (self, *self.other_forms)

    def form_for(self, raw: Path) -> Form:
        """The first of the other forms whose `files` fit the name of a raw file.

        If none does, the first for folders, if it is one; the first of its suffix, if the main form's `files` have another;
        else the main form.
        """
        raw = raw.absolute()  # "." has no name
        is_folder, suffix = raw.is_dir(), raw.suffix.lower()
        names = {raw.name.lower()}
        if suffix in ENVI_DATA_SUFFIXES and not is_folder:  # named by its data file instead of its header
            names |= {raw.with_suffix(".hdr").name.lower(), f"{raw.name.lower()}.hdr"}
        patterns = [(form, PurePath(form.files.lower())) for form in self.other_forms if form.files is not None]
        for form, pattern in patterns:
            if any(fnmatch(n, pattern.name) for n in names):
                return form
        if is_folder:
            return next((form for form in self.forms if form.is_folder), self)
        own = PurePath((self.files or "").lower()).suffix
        if own and suffix and own != suffix:
            return next((form for form, pattern in patterns if pattern.suffix == suffix), self)
        return self

    def with_own(
        self,
        every: int | None,
        wavelengths_nm: list[float] | WavelengthRange | None,
        prompts: Companion | None = None,
    ) -> Descriptor:
        """This descriptor with a data set's own frame sampling, calibrated band centres and prompts where they are not None."""
        change: dict[str, Any] = {} if every is None else {"every": every}
        own: dict[str, Any] = {} if prompts is None else {"prompts": prompts}
        if wavelengths_nm is not None:
            own |= {
                "wavelengths_nm": wavelengths_nm,
                "wavelengths_first": "descriptor",
                "wavelength_confidence": "calibrated",
            }
        if own:
            change |= {**own, "other_forms": tuple(f.model_copy(update=own) for f in self.other_forms)}
        return self.model_copy(update=change)


def band_files(folder: Path) -> list[Path]:
    """PNG files of a folder, ordered by the numbers in their names: band 2 comes before band 10.

    If the names of most of them end in a number, the others are no bands: an RGB picture may lie among them.
    """

    def order(path: Path) -> list[tuple[int, str]]:
        return [(int(w), "") if w.isdecimal() else (0, w) for w in re.split(r"(\d+)", path.name.lower())]

    found = [p for p in folder.glob(BAND_FILES) if p.name[0] != "." and p.is_file()]
    numbered = [p for p in found if p.stem[-1].isdecimal()]
    return sorted(numbered if 2 * len(numbered) > len(found) else found, key=order)


def is_shipped(name: str) -> bool:
    """Whether a descriptor of this name lies in resources/datasets."""
    return (SHIPPED / f"{name}.yaml").is_file()


def load_descriptor(dataset: str, named: str | Descriptor) -> Descriptor:
    """The descriptor of a data set: itself, a name in resources/datasets, or the path of a YAML file."""
    if isinstance(named, Descriptor):
        return named
    path = SHIPPED / f"{named}.yaml" if is_shipped(named) else Path(named)
    if not path.is_file():
        names = sorted(p.stem for p in SHIPPED.glob("*.yaml"))
        raise ConfigError(
            f"data set {dataset}: no descriptor {named!r}; known: {', '.join(names)}; or give the path of a YAML file"
        )
    return validated(Descriptor, read_yaml(path), str(path))
