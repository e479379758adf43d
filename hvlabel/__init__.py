"""Pseudo-labels for hyperspectral images: raw files to Zarr cubes to masks of three branches to one fused label."""

__version__ = "0.1.0"
