"""Lazy reading of a cube."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
import zarr.errors

from hvlabel.errors import CubeError


@dataclass(frozen=True)
class Cube:
    """One open cube.

    array          : (C, H, W) zarr array, stored values in file order of the bands
    rgb            : (H, W, 3) uint8
    wavelengths_nm : (C,) float64 in file order
    attributes     : everything else the file knows about itself (docs/FORMATS.md)
    """

    path: Path
    array: zarr.Array[Any]
    rgb: np.ndarray
    wavelengths_nm: np.ndarray
    attributes: dict[str, Any]

    @property
    def image_id(self) -> str:
        """Name of the image: the file name without .zarr."""
        return self.path.stem

    @property
    def height_px(self) -> int:
        """Rows."""
        return int(self.array.shape[1])

    @property
    def width_px(self) -> int:
        """Columns."""
        return int(self.array.shape[2])

    def values(self) -> np.ndarray:
        """(C, H, W) float32 physical values (stored value times scale); non-finite values become the minimum."""
        stored = _read(self.path, self.array).astype(np.float32)
        if self.attributes["n_nonfinite"]:
            stored = np.where(np.isfinite(stored), stored, np.float32(self.attributes["min"]))
        return stored * np.float32(self.attributes["scale"])


def open_cube(path: Path) -> Cube:
    """The cube at `path`; CubeError if it is missing, unfinished or something else."""
    if not path.is_dir():
        raise CubeError(f"{path}: no such cube; make it with `hvlabel convert`")
    try:
        group = zarr.open_group(path, mode="r")
        attributes = dict(group.attrs)
        cube, rgb, wavelength = (group[name] for name in ("cube", "rgb", "wavelength_nm"))
    except Exception as error:  # zarr raises many kinds on foreign folders; each means the same to the user
        raise CubeError(
            f"{path}: not a cube of this project ({str(error)[:80]}); make it with `hvlabel convert`"
        ) from error
    if not isinstance(cube, zarr.Array) or "rgb_source" not in attributes:
        raise CubeError(f"{path}: an unfinished or foreign Zarr group; delete it and run again")
    return Cube(path, cube, _read(path, rgb), _read(path, wavelength), attributes)


def _read(path: Path, array: Any) -> np.ndarray:
    """All values of a zarr array; CubeError if a chunk does not match its checksum."""
    try:
        return np.asarray(array[:])
    except Exception as error:  # the codec pipeline raises many kinds; each means a damaged chunk
        raise CubeError(
            f"{path}: a chunk is damaged ({str(error)[:80]}); delete the cube and run again to convert it anew"
        ) from error
