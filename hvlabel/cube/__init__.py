"""Cubes: one Zarr v3 group per image with `cube` (band, y, x), `wavelength_nm` (band) and `rgb` (y, x, 3)."""

from hvlabel.cube.cube import Cube, open_cube
from hvlabel.cube.write import write_cube

__all__ = ["Cube", "open_cube", "write_cube"]
