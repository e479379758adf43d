"""Raw files of any camera as upright (C, H, W) cubes: one module per container format, one descriptor per data set."""

from hvlabel.readers.pictures import fit, read_rgb
from hvlabel.readers.raw import READER_VERSION, RawImage, Strip, first_line, open_raw, raw_sha256

__all__ = ["READER_VERSION", "RawImage", "Strip", "first_line", "fit", "open_raw", "raw_sha256", "read_rgb"]
