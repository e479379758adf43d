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
from hvlabel.readers.npy import is_zip
from hvlabel.readers.npy import variables as npz_variables
from hvlabel.readers.pictures import read_grey
from hvlabel.readers.raw import one_sentence, read_stored
from hvlabel.readers.variables import Variable, band_centres_nm

SENSIBLE_NM = (200.0, 30_000.0)  # ultraviolet to thermal infrared
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
PICTURE_FOLDERS = ("rgb", "RGB", "color", "colour", "images", "false_color", "pseudocolor")
RISING_SHARE = 0.9  # centres rise but where one spectrometer's range ends inside the next one's
GUESSED_RANGE_NM = (400.0, 1000.0)
LISTED, FEWEST_BANDS = 40, 4
CENTRE_NAMES = ("wave", "wvl", "lambda", "centre", "center", "nm")


@dataclass
class _Findings:
    """What was found in a file, and what could not be known from it."""

    holds: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    questions: list[str] = field(default_factory=list)


def describe(path: Path) -> str:
    """A descriptor as YAML, ready to be saved and used; what the file holds and what to check stand in its comments.

    RawFileError if the file is of no known format or damaged.
    """
    container = sniff(path)
    with one_sentence(path, container):
        return _describe(path, container)


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
    if "unit" not in found.settings and raw.unit == "counts":
        found.questions.append(
            "what are the values? Set `unit` (reflectance, radiance) and `scale`, or leave them as counts"
        )
    if container not in ("envi", "hsd", "mosaic_png", "band_png"):
        found.questions.append(
            "are rows, columns and bands the right way round? Convert and look at the picture; else change `axes` or `rot90`"
        )
    return _text(path, found)


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
        b"\x89PNG": "mosaic_png",
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
            f"{path}: no known format; expected ENVI (a .hdr beside it), MATLAB, HDF5, npy, npz, TIFF, PNG, HSD or a folder of PNGs"
        ) from error
    return "envi"


def _variables(path: Path, container: Container) -> Mapping[str, Variable] | None:
    match container:
        case "matlab":
            return matlab_variables(path)
        case "hdf5":
            return hdf5_variables(path)
        case "npy" if is_zip(path):
            return npz_variables(path)
    return None


def _from_variables(path: Path, named: Mapping[str, Variable], found: _Findings) -> None:
    for name, variable in list(named.items())[:LISTED]:
        found.holds.append(f"{name}: {'x'.join(map(str, variable.shape)) or 'scalar'} {variable.kind}")
    if len(named) > LISTED:
        found.holds.append(f"... and {len(named) - LISTED} more")
    cubes = {n: v for n, v in named.items() if v.numeric and len(v.shape) == 3 and min(v.shape) > 0}
    pictures = [n for n, v in cubes.items() if 3 in v.shape and len(cubes) > 1]
    candidates = {n: v for n, v in cubes.items() if n not in pictures} or cubes
    if not candidates:
        raise RawFileError(
            f"{path}: holds no three-dimensional array of numbers ({'; '.join(found.holds) or 'nothing'}); name another file"
        )
    centres = {n: nm for n, v in sorted(named.items(), key=_is_no_centre_name) if len(nm := _centres(v)) > 3}
    fitting = [(n, c) for n in candidates for c in centres if len(centres[c]) in candidates[n].shape]
    name = fitting[0][0] if fitting else max(candidates, key=lambda n: math.prod(candidates[n].shape))
    if len(candidates) > 1:
        found.questions.append(f"which array is the image: {', '.join(candidates)}? Taken: {name}")
    found.settings["variable"] = name
    shape = candidates[name].shape
    wavelengths = [c for n, c in fitting if n == name]
    found.settings["axes"] = _axes(shape, len(centres[wavelengths[0]]) if wavelengths else None, found)
    if wavelengths:
        found.settings["wavelength_variable"] = wavelengths[0]
        if _is_no_centre_name((wavelengths[0], None)):
            found.questions.append(
                f"does {wavelengths[0]} hold the band centres? It has as many values; else drop `wavelength_variable`"
            )
        if len(wavelengths) > 1:
            found.questions.append(
                f"which vector holds the band centres: {', '.join(wavelengths)}? Taken: {wavelengths[0]}"
            )
    else:
        _guess_wavelengths(shape[found.settings["axes"].index("c")], found)
    for picture in pictures:
        if named[picture].shape[found.settings["axes"].index("c")] == 3:
            found.settings["rgb_variable"] = picture
            found.questions.append(
                f"is {picture} an RGB picture of the same view? Else drop `rgb_variable`; if it is turned, set `rgb_rot90`"
            )
            break


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
    stored = read_stored(path, Form(container=container))
    # a Fortran-ordered npy lies in the reverse of its own axes
    shape = stored.array.shape[::-1] if container == "npy" and stored.axes == "cxy" else stored.array.shape
    found.holds.append(f"one array: {'x'.join(map(str, shape))} {stored.array.dtype}")
    if container == "band_png":
        found.holds.append(f"from {stored.files[0].name} to {stored.files[-1].name}")
    if container in ("npy", "tiff"):
        found.settings["axes"] = _axes(shape, None, found)
    sizes = dict(zip(found.settings.get("axes", stored.axes), shape, strict=True))
    if stored.wavelengths_nm is None:
        _guess_wavelengths(sizes["c"], found)


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


def _guess_wavelengths(n_bands: int, found: _Findings) -> None:
    start_nm, stop_nm = GUESSED_RANGE_NM
    found.settings["wavelengths_nm"] = {"start_nm": start_nm, "stop_nm": stop_nm, "count": n_bands}
    found.settings["wavelength_confidence"] = "placeholder"
    found.questions.append(
        f"what are the {n_bands} band centres? The file does not say; {start_nm:g}-{stop_nm:g} nm is invented: correct `wavelengths_nm`"
    )


def _is_no_centre_name(item: tuple[str, Any]) -> bool:
    return not any(word in item[0].lower() for word in CENTRE_NAMES)


def _centres(variable: Variable) -> tuple[float, ...]:
    """Values that look like band centres in nm, or nothing."""
    values = band_centres_nm(variable) or ()
    if not values or min(values) < SENSIBLE_NM[0] or max(values) > SENSIBLE_NM[1]:
        return ()
    return values if np.mean(np.diff(values) > 0) > RISING_SHARE or len(values) == 1 else ()


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
