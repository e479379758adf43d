"""Raw files of any camera as upright (C, H, W) cubes: one module per container format, one descriptor per data set.

`contract.py` is the specification of a reader, `table.py` lists them.
"""

from hvlabel.readers.first_line import first_line
from hvlabel.readers.pictures import fit, read_rgb
from hvlabel.readers.raw import READER_VERSION, RawImage, open_raw, raw_sha256
from hvlabel.readers.strips import Strip

__all__ = ["READER_VERSION", "RawImage", "Strip", "first_line", "fit", "open_raw", "raw_sha256", "read_rgb"]
