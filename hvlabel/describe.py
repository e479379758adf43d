"""What is in a raw file nobody has described yet: a listing, and a descriptor to start from, with its open questions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import yaml

from hvlabel.descriptors import Container, Descriptor, Form, band_files
from hvlabel.errors import RawFileError
from hvlabel.readers import open_raw
from hvlabel.readers.envi import header_of
from hvlabel.readers.hdf5 import variables as hdf5_variables
from hvlabel.readers.matlab import HDF5_SIGNATURE
from hvlabel.readers.matlab import variables as matlab_variables
from hvlabel.readers.netcdf import CDF5_SIGNATURE, V3_SIGNATURES
from hvlabel.readers.netcdf import variables as netcdf_variables
from hvlabel.readers.npy import is_zip, npy_header
from hvlabel.readers.npy import variables as npz_variables
from hvlabel.readers.pictures import read_grey
from hvlabel.readers.raw import RawImage, read_stored
from hvlabel.readers.refusals import one_sentence
from hvlabel.readers.stored import StoredArray, squeezed
from hvlabel.readers.variables import COLOURS, Variable, band_centres, find_centres, is_centre_name, size_in
from hvlabel.walk import visible_files

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
PICTURE_FOLDERS = ("rgb", "RGB", "color", "colour", "images", "false_color", "pseudocolor")
RAW_SUFFIXES = (
    ".hdr",
    ".mat",
    ".h5",
    ".hdf5",
    ".he5",
    ".hdf",
    ".nc",
    ".nc4",
    ".cdf",
    ".npy",
    ".npz",
    ".tif",
    ".tiff",
    ".hsd",
)
GUESSED_RANGE_NM = (400.0, 1000.0)
LISTED, FEWEST_BANDS, TRIED = 40, 4, 3
LEAST_SQUARE_PX = 8  # side of a matrix of pixels that is guessed to be a square


@dataclass
class _Findings:
    """What was found in a file, and what could not be known from it."""

    holds: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    questions: list[str] = field(default_factory=list)


def describe(path: Path) -> str:
    """A descriptor as YAML, ready to be saved and used; what the file holds and what to check stand in its comments.

    A folder that is no image gives one for every kind of raw file below it. RawFileError if the file is of no known format
    or damaged, or the folder holds none.
    """
    if path.is_dir() and not _is_band_folder(path):
        return _describe_folder(path)
    container = sniff(path)
    with one_sentence(path, container):
        return _describe(path, container)


def _describe_folder(folder: Path) -> str:
    """The descriptors of all kinds of images below a folder, each from the first one that can be read."""
    kinds = _kinds(folder)
    if not kinds:
        raise RawFileError(
            f"{folder}: no raw file of a known kind below this folder ({', '.join(RAW_SUFFIXES)}, or a folder with one PNG per "
            "band); name a raw file"
        )
    parts = []
    for kind, paths in kinds.items():
        parts.append(f"# {len(paths)} images: {kind}\n{_first_described(paths)}")
    return "\n---\n".join(parts)


def _first_described(paths: list[Path]) -> str:
    refused = []
    for path in paths[:TRIED]:
        try:
            return describe(path)
        except RawFileError as error:
            refused.append(f"# {_printable(str(error))}")
    return "\n".join(refused)


def _kinds(folder: Path) -> dict[str, list[Path]]:
    """Raw files and folders of band pictures below a folder, by suffix; what belongs to an ENVI header is not counted apart."""
    kinds: dict[str, list[Path]] = {}
    band_folders: set[Path] = set()
    for path in visible_files(folder):
        suffix = path.suffix.lower()
        if suffix in RAW_SUFFIXES:
            kinds.setdefault(f"*{suffix}", []).append(path)
        elif (
            suffix == ".png"
            and path.parent != folder
            and path.parent not in band_folders
            and _is_band_folder(path.parent)
        ):
            band_folders.add(path.parent)
    if band_folders:
        kinds["folders with one PNG per band"] = sorted(band_folders)
    return kinds


def _is_band_folder(path: Path) -> bool:
    """Whether a folder holds grey pictures that may be bands, and no raw file of another kind."""
    files = band_files(path)
    if len(files) < FEWEST_BANDS or any(p.suffix.lower() in RAW_SUFFIXES for p in path.iterdir()):
        return False
    return not _is_colour(files[0]) or not _is_colour(files[-1])


def _describe(path: Path, container: Container) -> str:
    found = _Findings()
    found.settings["files"] = "*" if path.is_dir() else f"*{_data_suffix(path, container)}"
    found.settings["container"] = container
    named = _variables(path, container)
    if named is not None:
        _from_variables(path, named, found)
    else:
        _from_single(path, container, found)
    _look_for_companion(path, container, found)
    raw = open_raw(path, Descriptor.model_validate(found.settings))
    n_bands, height, width = raw.shape
    found.holds.append(
        f"read so: {n_bands} bands of {width}x{height} px (width x height), {min(raw.wavelengths_nm):g}-{max(raw.wavelengths_nm):g} nm, {raw.dtype}"
    )
    found.holds += _remarks(raw)
    if "unit" not in found.settings and raw.unit == "counts":
        found.questions.append(
            "what are the values? Set `unit` (reflectance, radiance) and `scale`, or leave them as counts"
        )
    if container not in ("envi", "hsd", "mosaic_png", "band_png"):
        found.questions.append(
            "are rows, columns and bands the right way round? Convert and look at the picture; else change `axes` or `rot90`"
        )
    return _text(path, found)


def _remarks(raw: RawImage) -> list[str]:
    """What the file says about its values, and what is made of it."""
    remarks = []
    if raw.bad_bands:
        shown = ", ".join(map(str, raw.bad_bands[:12])) + (", ..." if len(raw.bad_bands) > 12 else "")
        remarks.append(
            f"its bad band list names {len(raw.bad_bands)} bands, which are left out: {shown}; else bad_bands: keep"
        )
    for value in raw.stored.ignore_values:
        counts = value in raw.ignore_values or raw.gain is not None
        effect = "such pixels take no part" if counts else f"{raw.stored.array.dtype} holds no such value"
        remarks.append(f"{value:g} stands for no data; {effect}")
    if raw.gain is not None:
        remarks.append(f"its gains and offsets by band are applied; values are {raw.unit}")
    elif raw.scale != 1:
        remarks.append(f"stored values times {raw.scale:g} are {raw.unit}")
    if raw.georeference is not None:
        remarks.append(f"georeferenced: {raw.georeference.crs or 'coordinate system not named'}")
    return remarks


def sniff(path: Path) -> Container:
    """Container of a raw file or folder, by its content; RawFileError if it is none that can be read."""
    if path.is_dir():
        if len(band_files(path)) >= FEWEST_BANDS:
            return "band_png"
        raise RawFileError(
            f"{path}: a folder with fewer than {FEWEST_BANDS} PNG files; name a raw file, or a folder with one PNG per band"
        )
    try:
        with path.open("rb") as file:
            head = file.read(520)
    except OSError as error:
        raise RawFileError(f"{path}: cannot read the file ({error.strerror}); check the path") from error
    if HDF5_SIGNATURE in (head[:8], head[512:520]):
        return "matlab" if path.suffix.lower() == ".mat" or head[:6] == b"MATLAB" else "hdf5"
    signatures: dict[bytes, Container] = {
        b"\x93NUMPY": "npy", b"PK\x03\x04": "npy", b"II*\0": "tiff", b"MM\0*": "tiff", b"II+\0": "tiff", b"MM\0+": "tiff",
        b"\x89PNG": "mosaic_png", V3_SIGNATURES[0]: "netcdf", V3_SIGNATURES[1]: "netcdf", CDF5_SIGNATURE: "netcdf",
    }  # fmt: skip
    for signature, container in signatures.items():
        if head.startswith(signature):
            return container
    if head[126:128] in (b"IM", b"MI"):
        return "matlab"
    if path.suffix.lower() == ".hsd":
        return "hsd"
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"ENVI"):
        return "envi"
    try:
        header_of(path)
    except RawFileError as error:
        raise RawFileError(
            f"{path}: no known format; expected ENVI (a .hdr beside it), MATLAB, HDF5, NetCDF, npy, npz, TIFF, PNG, HSD or a folder of PNGs"
        ) from error
    return "envi"


def _variables(path: Path, container: Container) -> Mapping[str, Variable] | None:
    match container:
        case "matlab":
            return matlab_variables(path)
        case "hdf5":
            return hdf5_variables(path)
        case "netcdf":
            return netcdf_variables(path)
        case "npy" if is_zip(path):
            return npz_variables(path)
    return None


def _from_variables(path: Path, named: Mapping[str, Variable], found: _Findings) -> None:
    for name, variable in list(named.items())[:LISTED]:
        found.holds.append(f"{name}: {'x'.join(map(str, variable.shape)) or 'scalar'} {variable.kind}")
    if len(named) > LISTED:
        found.holds.append(f"... and {len(named) - LISTED} more")
    cubes = {n: v for n, v in named.items() if v.is_cube and 0 not in v.shape}
    size = size_in(named)
    has_matrix = size is not None and any(v.is_matrix and size[0] * size[1] in v.shape for v in named.values())
    if has_matrix and all(COLOURS in squeezed(v.shape) for v in cubes.values()):
        _from_matrices(path, named, found)
        return
    pictures = [n for n, v in cubes.items() if 3 in v.shape and len(cubes) > 1]
    candidates = {n: v for n, v in cubes.items() if n not in pictures} or cubes
    if not candidates:
        _from_matrices(path, named, found)
        return
    centres = find_centres(named, None)
    shapes = {n: squeezed(v.shape) for n, v in candidates.items()}
    fitting = [(n, c) for n in candidates for c in centres if len(centres[c]) in shapes[n]]
    name = fitting[0][0] if fitting else max(candidates, key=lambda n: math.prod(candidates[n].shape))
    if len(candidates) > 1:
        found.questions.append(f"which array is the image: {', '.join(candidates)}? Taken: {name}")
    found.settings["variable"] = name
    shape = shapes[name]
    wavelengths = [c for n, c in fitting if n == name]
    found.settings["axes"] = _axes(shape, len(centres[wavelengths[0]]) if wavelengths else None, found)
    if wavelengths:
        _take_centres(wavelengths, found)
    else:
        n_bands = shape[found.settings["axes"].index("c")]
        _guess_wavelengths(n_bands, found, *_unbelieved(named, n_bands))
    for picture in pictures:
        if named[picture].shape[found.settings["axes"].index("c")] == 3:
            found.settings["rgb_variable"] = picture
            found.questions.append(
                f"is {picture} an RGB picture of the same view? Else drop `rgb_variable`; if it is turned, set `rgb_rot90`"
            )
            break


def _unbelieved(named: Mapping[str, Variable], n_bands: int) -> list[str]:
    """Why a vector that is called like band centres is not taken for them, if there is one."""
    for name, variable in named.items():
        if is_centre_name(name) and variable.numeric and variable.is_vector and variable.n_values == n_bands:
            try:
                band_centres(name, variable).in_nm()
            except ValueError as error:
                return [f"Those of the file cannot be believed ({error})"]
    return []


def _take_centres(names: list[str], found: _Findings) -> None:
    """The first of some variables as band centres, with what to ask about them."""
    found.settings["wavelength_variable"] = names[0]
    if not is_centre_name(names[0]):
        found.questions.append(
            f"does {names[0]} hold the band centres? It has as many values; else drop `wavelength_variable`"
        )
    if len(names) > 1:
        found.questions.append(f"which vector holds the band centres: {', '.join(names)}? Taken: {names[0]}")


def _from_matrices(path: Path, named: Mapping[str, Variable], found: _Findings) -> None:
    """A matrix of bands and pixels as the image: its shape is known from two numbers in the file, or a square is guessed."""
    matrices = {n: v for n, v in named.items() if v.is_matrix}
    size = size_in(named)
    for name, variable in sorted(matrices.items(), key=lambda item: -item[1].n_values):
        shape = size if size is not None and size[0] * size[1] in variable.shape else _square(variable.shape)
        if shape is None:
            continue
        n_px = shape[0] * shape[1]
        n_bands = variable.n_values // n_px
        found.settings |= {"variable": name, "shape": list(shape)}
        source = "as the file's own numbers say" if shape == size else "a square, guessed"
        found.questions.append(
            f"is {name} a matrix of {n_bands} bands and {n_px} pixels of {shape[0]} rows and {shape[1]} columns ({source})? "
            "Else correct `shape`; if the picture is scrambled, set axes: xyc"
        )
        wavelengths = list(find_centres(named, n_bands))
        if wavelengths:
            _take_centres(wavelengths, found)
        else:
            _guess_wavelengths(n_bands, found)
        return
    raise RawFileError(
        f"{path}: holds no three-dimensional array of numbers ({'; '.join(found.holds) or 'nothing'}); name another file, or set "
        "descriptor.shape to the rows and columns of a matrix of bands and pixels"
    )


def _square(shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Rows and columns of a matrix whose longer side is a square number, or None."""
    side = math.isqrt(max(shape))
    return (side, side) if side >= LEAST_SQUARE_PX and side * side == max(shape) > min(shape) else None


def _from_single(path: Path, container: Container, found: _Findings) -> None:
    if container == "mosaic_png":
        frame = read_grey(path)
        found.holds.append(f"a grey picture of {frame.shape[1]}x{frame.shape[0]} px, {frame.dtype}")
        found.settings["mosaic_px"] = side = mosaic_side_px(frame)
        found.questions.append(
            f"is this a snapshot mosaic, and is its pattern {side}x{side}? The pixels repeat at that distance"
        )
        _guess_wavelengths(side * side, found)
        found.questions.append(
            "mosaics are rarely sorted by wavelength: give the centres in pixel order, row by row of the pattern"
        )
        return
    stored = _stored(path, container, found)
    # a Fortran-ordered npy lies in the reverse of its own axes
    shape = stored.array.shape[::-1] if container == "npy" and stored.axes == "cxy" else stored.array.shape
    found.holds.append(f"one array: {'x'.join(map(str, shape))} {stored.array.dtype}")
    if container == "band_png":
        found.holds.append(f"from {stored.files[0].name} to {stored.files[-1].name}")
    if container in ("npy", "tiff") and "shape" not in found.settings:
        n_stored = None if stored.centres is None else len(stored.centres.values)
        found.settings["axes"] = _axes(shape, n_stored, found)
    sizes = dict(zip(found.settings.get("axes", stored.axes), shape, strict=True))
    if stored.centres is None:
        _guess_wavelengths(sizes["c"], found)
        return
    try:
        stored.centres.in_nm()
    except ValueError as error:
        _guess_wavelengths(sizes["c"], found, f"Those of the file cannot be believed ({error})")


def _stored(path: Path, container: Container, found: _Findings) -> StoredArray:
    """The array of a file; of a matrix in a .npy file the image is guessed to be a square."""
    try:
        return read_stored(path, Form(container=container))
    except RawFileError:
        shape = _square(npy_header(path)[0]) if container == "npy" else None
        if shape is None:
            raise
        found.settings["shape"] = list(shape)
        found.questions.append(
            f"is this a matrix of bands and of the pixels of {shape[0]} rows and {shape[1]} columns? Else correct `shape`"
        )
        return read_stored(path, Form(container=container, shape=shape))


def _axes(shape: tuple[int, ...], n_bands: int | None, found: _Findings) -> str:
    """Axis letters of a shape: the band axis is the one with n_bands, else the one that differs from two equal ones, else the smallest."""
    if n_bands is not None and shape.count(n_bands) == 1:
        band = shape.index(n_bands)
    else:
        odd = [k for k in range(3) if len(set(shape)) == 2 and shape.count(shape[k]) == 1]
        band = odd[0] if odd else 2 - shape[::-1].index(min(shape))
        found.questions.append(
            f"which of {'x'.join(map(str, shape))} counts the bands? Taken: {shape[band]}; else change `axes`"
        )
    letters = ["y", "x"]
    letters.insert(band, "c")
    return "".join(letters)


def _guess_wavelengths(n_bands: int, found: _Findings, why: str = "The file does not say") -> None:
    start_nm, stop_nm = GUESSED_RANGE_NM
    found.settings["wavelengths_nm"] = {"start_nm": start_nm, "stop_nm": stop_nm, "count": n_bands}
    found.settings["wavelength_confidence"] = "placeholder"
    found.questions.append(
        f"what are the {n_bands} band centres? {why}; {start_nm:g}-{stop_nm:g} nm is invented: correct `wavelengths_nm`"
    )


def mosaic_side_px(frame: np.ndarray) -> int:
    """Side of the pattern of a mosaic frame: the distance from 2 to 8 px at which pixels are most alike."""
    values = frame.astype(np.float32)

    def change(distance: int) -> float:
        return float(
            np.abs(values[distance:] - values[:-distance]).mean()
            + np.abs(values[:, distance:] - values[:, :-distance]).mean()
        )

    distances = [d for d in range(2, 9) if min(frame.shape) > 2 * d]
    if not distances:
        return 2
    return min(distances, key=change)


def _look_for_companion(path: Path, container: Container, found: _Findings) -> None:
    if "rgb_variable" in found.settings:
        return
    folder = path if path.is_dir() else path.parent
    places = {"": folder, **{f"../{n}/": folder.parent / n for n in PICTURE_FOLDERS}}
    for prefix, place in places.items():
        for suffix in PICTURES:
            candidate = place / f"{path.stem}{suffix}"
            if candidate == path or not candidate.is_file() or not _is_colour(candidate):
                continue
            found.settings["rgb_companion"] = f"{prefix}{{stem}}{suffix}"
            found.questions.append(f"is {candidate} a picture of the same view, not turned? Else drop `rgb_companion`")
            return


def _is_colour(path: Path) -> bool:
    try:
        with PIL.Image.open(path) as picture:
            return picture.mode in ("RGB", "RGBA", "P", "YCbCr")
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError):
        return False


def _data_suffix(path: Path, container: Container) -> str:
    return ".hdr" if container == "envi" else path.suffix


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def _text(path: Path, found: _Findings) -> str:
    body = "".join(
        yaml.safe_dump({k: v}, width=118, default_flow_style=None if isinstance(v, dict) else False)
        for k, v in found.settings.items()
    )
    lines = [f"# {_printable(path.name)}", *(f"#   {_printable(line)}" for line in found.holds)]
    questions = [f"# ? {_printable(question)}" for question in found.questions]
    usage = f"# Save this as my_camera.yaml, then: hvlabel convert --dataset my_camera.yaml {path} out.zarr"
    return "\n".join([*lines, body.rstrip(), *questions, usage])
