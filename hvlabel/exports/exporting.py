"""Write labels in some formats: each into a folder of its own, published when it is whole."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hvlabel import __version__
from hvlabel.cache.publish import publish_folder, temporary_beside
from hvlabel.errors import ConfigError, ResultsError
from hvlabel.exports.contract import Remarks, needed
from hvlabel.exports.source import Source
from hvlabel.exports.table import row_of, writer_of

FACTS = "export.json"  # beside what was written: what it is; tells an older export from a folder of somebody's own


class Exported(NamedTuple):
    """One format that was written."""

    name: str
    folder: Path
    remarks: Remarks


def formats_of(text: str) -> list[str]:
    """Names of formats, divided by commas; ConfigError for one that there is not."""
    words = (word.strip() for word in text.split(","))
    names = [word for word in words if word]
    if not names:
        raise ConfigError("--to names no format, e.g. --to coco,yolo")
    for name in names:
        row_of(name)
    return list(dict.fromkeys(names))


def export(source: Source, names: Sequence[str], out: Path | str) -> list[Exported]:
    """Write some formats: one into `out` itself, several into a folder each below it.

    Images that cannot be read are named in `source.failed`, all others are written. ConfigError, before anything is
    written, if a format needs a package that is not installed or a folder holds something else than an older export;
    ResultsError if there is nothing to write.
    """
    out = Path(out)
    for name in names:
        for package in row_of(name).packages:
            needed(package, "geo")
    is_single = len(names) == 1
    folders = {name: out if is_single else out / name for name in names}
    # all of them before the first is written
    for folder in folders.values():
        _require_free(folder)
    return [_export_one(source, name, folder) for name, folder in folders.items()]


def _export_one(source: Source, name: str, folder: Path) -> Exported:
    row = row_of(name)
    write = writer_of(row)
    categories = source.categories()
    temporary = temporary_beside(folder)  # a reader sees the older export or the new one, never half of one
    try:
        temporary.mkdir()
        remarks = write(source.images(pictures=row.pictures), categories, temporary)
        # an export of nothing would look like a success
        if not remarks.n_images:
            reason = next(iter(source.failed.values()), "no label")
            raise ResultsError(f"{source.layout.root}: no image could be exported, e.g. {reason}")
        facts = {
            "format": name,
            "images": remarks.n_images,
            "masks": remarks.n_masks,
            "categories": categories,
            "branch": source.branch,
            "min_quality": source.min_quality,
            "remarks": remarks.sentences(),
            "failed": source.failed,
            "hvlabel_version": __version__,
        }
        text = json.dumps(facts, indent=1)
        (temporary / FACTS).write_text(f"{text}\n", encoding="utf-8")
        publish_folder(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Exported(name, folder, remarks)


def _require_free(folder: Path) -> None:
    """Refuse a folder that holds what no export wrote: it would be replaced."""
    if not folder.exists():
        return
    is_export = (folder / FACTS).is_file()
    if not folder.is_dir() or (any(folder.iterdir()) and not is_export):
        raise ConfigError(f"{folder}: is there and holds no export; name a new folder, or an older export to replace")
