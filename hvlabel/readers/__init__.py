"""Raw files of any camera as lazy (C, H, W) arrays: one module per container format, one descriptor per data set."""

from hvlabel.readers.raw import READER_VERSION, RawImage, open_raw, raw_sha256, read_rgb

__all__ = ["READER_VERSION", "RawImage", "open_raw", "raw_sha256", "read_rgb"]
