"""Classes of every pixel of an image, from the file in which they lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image as Picture

from hvlabel.errors import ConfigError, RawFileError
from hvlabel.readers.formats import matlab
from hvlabel.readers.named.variable import listing
from hvlabel.walk import visible_files
from hvtrain.downstream.task_file import NAME, TruthSettings

PICTURE_MODES = ("1", "L", "P", "I;16", "I")  # of PIL: one number a pixel; of a palette the index
TIFFS = (".tif", ".tiff")


class TruthFiles:
    """Finds truth files below a folder, which is listed once.

    ConfigError where an image has none or two.
    """

    def __init__(self, folder: Path, pattern: str) -> None:
        self.folder, self.pattern = folder, pattern
        self._by_file_name: dict[str, list[Path]] = {}
        for path in visible_files(folder):
            self._by_file_name.setdefault(path.name, []).append(path)

    def of(self, name: str) -> Path:
        """The file of an image."""
        end = self.pattern.replace(NAME, name)
        candidates = self._by_file_name.get(Path(end).name, [])
        # from a slash on: masks/1.png is no end of old_masks/1.png
        matches = [path for path in candidates if f"/{path.as_posix()}".endswith(f"/{end}")]
        if len(matches) != 1:
            what = "no truth" if not matches else f"{len(matches)} truth files"
            raise ConfigError(f"image {name}: {what} {end} below {self.folder}; correct truth.file, or the split")
        return matches[0]


def read_map(path: Path, variable: str | None = None) -> np.ndarray:
    """(H, W) integers as stored in a PNG or TIFF picture, or in a variable of a MATLAB file.

    RawFileError for what is missing, damaged, or holds no map of whole numbers.
    """
    if not path.is_file():
        raise RawFileError(f"{path}: no such truth file; restore it or correct the group truth")
    if variable is not None:
        values = _matlab_map(path, variable)
    else:
        try:
            values = _picture(path)
        except RawFileError:
            raise
        except Exception as error:  # decoders raise many kinds on damaged files; each means the same
            raise RawFileError(f"{path}: not a readable label picture ({str(error)[:80]}); restore it") from error
    if values.dtype.kind == "f" and np.array_equal(values, np.round(values)):
        values = values.astype(np.int64)  # MATLAB keeps whole numbers as doubles
    if values.ndim != 2 or values.dtype.kind not in "uib":
        raise RawFileError(
            f"{path}: the truth has shape {values.shape} and type {values.dtype}, expected (H, W) whole numbers"
        )
    return values.astype(np.int64)


def _picture(path: Path) -> np.ndarray:
    """Of a PNG, TIFF or other picture of one number a pixel."""
    if path.suffix.lower() in TIFFS:
        return np.squeeze(tifffile.imread(path))  # a page, or a band, of one is no axis
    with Picture.open(path) as picture:
        if picture.mode not in PICTURE_MODES:
            raise RawFileError(
                f"{path}: a picture of mode {picture.mode}, expected one number a pixel (grey or palette); colours are "
                "no classes"
            )
        return np.asarray(picture)


def _matlab_map(path: Path, variable: str) -> np.ndarray:
    """Of a variable of a MATLAB file, either version."""
    variables = matlab.variables(path)
    if variable not in variables:
        raise RawFileError(f"{path}: no variable {variable!r}; there are: {listing(variables)}; correct truth.variable")
    known = variables[variable]
    if not known.is_matrix:
        raise RawFileError(f"{path}: {variable!r} has shape {known.shape} of {known.kind}, expected a map (H, W)")
    flat = known.flat()
    if known.reversed:
        # columns lie one after another, as MATLAB keeps them
        return flat.reshape(known.shape[::-1]).T
    return flat.reshape(known.shape)


def remapped(stored: np.ndarray, mapping: Mapping[int, int]) -> np.ndarray:
    """Classes (H, W) int64 of stored values: every rule looks at the stored map, none at what another rule made."""
    classes = stored.astype(np.int64)
    for value, new in mapping.items():
        classes[stored == value] = new
    return classes


def require_classes(name: str, classes: np.ndarray, n_classes: int, ignored: Sequence[int]) -> None:
    """RawFileError if a map (H, W) holds a value that is neither a class in [0, K) nor ignored."""
    present = np.unique(classes)
    outside = [int(value) for value in present if not 0 <= value < n_classes]
    strange = [value for value in outside if value not in ignored]
    if strange:
        raise RawFileError(
            f"image {name}: class {strange[0]} in its truth, expected 0 to {n_classes - 1} or {ignored[0]}; give it a "
            "rule in truth.mapping, or name more classes"
        )


def truth_of(
    name: str, path: Path, settings: TruthSettings, size_px: tuple[int, int], variable: str | None
) -> np.ndarray:
    """(H, W) int64 of an image of this size: stored values upright and mapped.

    RawFileError as read_map, and for another size.
    """
    stored = read_map(path, variable)
    if settings.transpose:
        stored = stored.T
    if stored.shape != size_px:
        raise RawFileError(
            f"{path}: the truth of {name} is {stored.shape[0]} x {stored.shape[1]} px, its cube {size_px[0]} x "
            f"{size_px[1]} px; correct truth.file or truth.transpose"
        )
    return remapped(stored, settings.mapping)
