"""What any file or folder is that hvlabel or hvtrain wrote: kind, origin, settings, content, health."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hvlabel.errors import ResultsError
from hvlabel.inspect.info.answer import Info
from hvlabel.inspect.info.folders import folder_info
from hvlabel.inspect.info.json_files import json_info
from hvlabel.inspect.info.tables import csv_info, page_info, parquet_info, picture_info, text_info, tsv_info
from hvlabel.inspect.info.weights import checkpoint_info, safetensors_info

__all__ = ["Info", "info_of"]

# a suffix -> what reads it; None where the file is of another program
KINDS: dict[str, Callable[[Path], Info | None]] = {
    ".json": json_info,
    ".tsv": tsv_info,
    ".csv": csv_info,
    ".parquet": parquet_info,
    ".md": page_info,
    ".png": picture_info,
    ".txt": text_info,
    ".safetensors": safetensors_info,
    ".pt": checkpoint_info,
    ".pth": checkpoint_info,
}


def info_of(path: Path | str) -> Info:
    """What a file or folder is; ResultsError if there is none, or it is of no kind that is written here.

    A damaged one is no error: its health says so.
    """
    path = Path(path)
    if not path.exists():
        raise ResultsError(f"{path}: no such file or folder; check the path")
    known = None
    if path.is_dir():
        known = folder_info(path)
    elif path.suffix.lower() in KINDS:
        known = KINDS[path.suffix.lower()](path)
    if known is None:
        raise ResultsError(f"{path}: no file that is written here; docs/FORMATS.md lists them")
    return known
