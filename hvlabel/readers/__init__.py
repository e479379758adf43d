"""Raw files of any camera as upright (C, H, W) cubes: one module per container format, one descriptor per data set."""

from hvlabel.readers.first_line import first_line
from hvlabel.readers.pictures import fit, read_rgb
from hvlabel.readers.raw import READER_VERSION, RawImage, Strip, open_raw, raw_sha256

__all__ = ["READER_VERSION", "RawImage", "Strip", "first_line", "fit", "open_raw", "raw_sha256", "read_rgb"]
