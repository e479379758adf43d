"""Instance masks: grey PNG or TIFF pictures in which each non-zero value is one object."""

from __future__ import annotations

import io
import logging
import math
import struct
from collections.abc import Iterator
from functools import partial
from typing import Any

import cv2
import numpy as np

from hvlabel.masks import encode
from hvlabel.prompt_files.prompt import Drawn, ObjectPrompt, Stated
from hvlabel.prompt_files.source import PromptFileError, Source

logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what it complains about is told in our sentence
PNG_START = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
PNG_HEADER = struct.Struct(">IIBB")  # width, height, bits per sample, colour type (PNG specification, 11.2.1)
PNG_SIGNATURE_BYTES = 8
PNG_CHUNK = struct.Struct(">I4s")  # length of the data, type; then the data and a checksum
PNG_CHECKSUM_BYTES = 4
PNG_COLOUR_TYPES = {0: "grey", 2: "RGB", 3: "palette", 4: "grey with alpha", 6: "RGB with alpha"}
DTYPES = (np.dtype(np.uint8), np.dtype(np.uint16))
TIFF_KINDS = ("uint8, 8 bits, MINISBLACK", "uint16, 16 bits, MINISBLACK")
MAX_PADDING = 4  # times the image: what the tiles of a sound TIFF file may unpack to
HARMLESS_PX = 1 << 20


def read_png(source: Source) -> Iterator[Stated]:
    """The objects of a PNG file of 8 or 16 bits."""
    return _objects(source, png_values(source))


def png_values(source: Source) -> np.ndarray:
    """(H, W) uint8 or uint16 of such a file; PromptFileError for anything else."""
    content = source.content()
    if len(content) < len(PNG_START) + PNG_HEADER.size or not content.startswith(PNG_START):
        raise source.error("not a PNG file, expected an instance mask; write it again")
    # before decoding: nothing is allocated because a header says so
    width, height, bits, colour_type = PNG_HEADER.unpack_from(content, len(PNG_START))
    if bits not in (8, 16) or colour_type != 0:
        raise _not_a_mask(source, f"a PNG of {bits} bits, {PNG_COLOUR_TYPES.get(colour_type, 'unknown colours')}")
    source.require_size(width, height)
    _require_whole_chunks(source, content)
    return _decoded(source, content, "PNG")


def _require_whole_chunks(source: Source, content: bytes) -> None:
    """Refuse a PNG whose chunks end beyond the file: OpenCV would allocate the gigabytes that a length promises."""
    start = PNG_SIGNATURE_BYTES  # of the next chunk
    kind = b""
    while kind != b"IEND":
        chunk = content[start : start + PNG_CHUNK.size]
        if len(chunk) < PNG_CHUNK.size:
            raise source.error("this PNG ends before its last chunk, it is damaged; copy it again")
        length, kind = PNG_CHUNK.unpack(chunk)
        start += PNG_CHUNK.size + length + PNG_CHECKSUM_BYTES
    if start > len(content):
        raise source.error("this PNG ends within its last chunk, it is damaged; copy it again")


def read_tiff(source: Source) -> Iterator[Stated]:
    """The objects of a TIFF file with one page of 8 or 16 bits."""
    return _objects(source, tiff_values(source))


def tiff_values(source: Source) -> np.ndarray:
    """(H, W) uint8 or uint16 of such a file; PromptFileError for anything else."""
    content = source.content()
    compression = _require_one_mask(source, content)
    # not with tifffile: the LZW decoder of imagecodecs 2026.3.6 can crash the process on damaged data
    return _decoded(source, content, f"TIFF file (compression {compression})")


def _require_one_mask(source: Source, content: bytes) -> str:
    """Refuse by its tags a TIFF file that is no instance mask of the image; returns the compression's name."""
    import tifffile  # only here: it takes a sixth of a second to import, which every job would wait for

    try:
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            n_pages = len(file.pages)
            page: Any = file.pages.first
            # int(): a damaged tag may be a tuple, bytes or None
            shape = tuple(int(n) for n in page.shape)
            kind = f"{np.dtype(page.dtype).name}, {page.bitspersample} bits, {page.photometric.name}"
            compression = str(page.compression.name)
            orientation = int(page.tags.valueof("Orientation", 1))
            pieces = zip(page.dataoffsets, page.databytecounts, strict=True)
            end = max(int(offset) + int(n_bytes) for offset, n_bytes in pieces)
            padded_px = math.prod(int(n) for n in page.chunks)
    except Exception as error:  # tifffile raises many kinds on damaged files; each means a damaged file
        raise source.error("not a readable TIFF file, it is damaged; copy it again") from error
    if n_pages != 1:
        raise source.error(f"{n_pages} pages in this TIFF file, expected one with an instance mask; write it again")
    if len(shape) != 2 or kind not in TIFF_KINDS:
        raise _not_a_mask(source, f"a TIFF page of {kind}, with the axes {shape}")
    if orientation != 1:
        raise source.error(
            f"the TIFF tag Orientation is {orientation}, expected 1 (upright); write the mask without it"
        )
    source.require_size(shape[1], shape[0])
    if end > len(content) or padded_px > MAX_PADDING * math.prod(shape) + HARMLESS_PX:
        raise source.error("the tags of this TIFF file promise what it does not hold; it is damaged, copy it again")
    return compression


def _decoded(source: Source, content: bytes, format_name: str) -> np.ndarray:
    """(H, W) or, of what is no mask, (H, W, channels) values as stored. format_name: for messages."""
    try:
        # unchanged: values are numbers of objects, not brightness
        mask = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise source.error(f"not a readable {format_name}: {error.err[:80]}; copy it again") from error
    if mask is None:
        raise source.error(f"not a readable {format_name}, it is damaged or of a rare kind; copy or write it again")
    return np.asarray(mask)


def _objects(source: Source, mask: np.ndarray) -> Iterator[Stated]:
    """One object for each non-zero value of an (H, W) uint8 or uint16 mask."""
    from scipy import ndimage  # only here: most annotation files do without

    if mask.ndim != 2 or mask.dtype not in DTYPES:
        raise _not_a_mask(source, f"values of type {mask.dtype} with the axes {mask.shape}")
    source.require_size(mask.shape[1], mask.shape[0])
    for k, slices in enumerate(ndimage.find_objects(mask.astype(np.int32)), start=1):
        if slices is not None:  # values may have gaps
            rows, columns = slices
            box = (float(columns.start), float(rows.start), float(columns.stop), float(rows.stop))
            yield Stated(f"value {k}", ObjectPrompt(box, object_id=str(k)), partial(_drawn, mask, k))


def _drawn(mask: np.ndarray, value: int) -> Drawn:
    """The object of a value of an (H, W) instance mask."""
    return Drawn(encode(mask == value))


def _not_a_mask(source: Source, what: str) -> PromptFileError:
    """The error of a sound picture of another kind. what: it is."""
    return source.error(
        f"{what}, expected an instance mask: one grey channel of 8 or 16 bits in which each object has its own value; "
        "save it like that (of a palette picture: its indices)"
    )
