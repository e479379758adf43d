"""Tables, pages and pictures that people open."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from pathlib import Path

import cv2

from hvlabel.errors import HvError
from hvlabel.inspect.info.answer import Info
from hvlabel.manifest import read_manifest

# columns that only one table has -> what it is
TSV_KINDS = {
    "expected IoU": "labels in numbers",
    "quality": "labels in numbers, worst first (hvlabel quality)",
    "mean score": "what scores promise and what they hold (hvlabel evaluate)",
    "mean best IoU": "scores against ground truth (hvlabel evaluate)",  # the table above has this column too
    "unreadable": "a data card (hvlabel scan --table)",
    "camera": "scores of a trained backbone (hvtrain evaluate)",
}


def tsv_info(path: Path) -> Info | None:
    """A table of tab-separated values; None for a foreign one."""
    if path.name == "manifest.tsv":
        return _manifest_info(path)
    text = io.StringIO(_text(path))
    rows = list(csv.reader(text, delimiter="\t"))
    return _table_info(path, rows)


def csv_info(path: Path) -> Info | None:
    """Metrics of a training run; None for a foreign table."""
    rows = list(csv.reader(io.StringIO(_text(path))))
    if not rows or "step" not in rows[0]:
        return None
    # not strict: of a run that goes on the last line may be half written
    last = dict(zip(rows[0], rows[-1], strict=False)) if len(rows) > 1 else None
    facts = {"rows": len(rows) - 1, "columns": rows[0], "last": last}
    return Info(path, "metrics of a training run", facts)


def parquet_info(path: Path) -> Info | None:
    """A table as Parquet."""
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (OSError, ValueError) as error:
        return Info(path, "a Parquet table", health=f"damaged: {str(error)[:80]}")
    # of the footer alone: no row is read
    columns = ", ".join(file.schema_arrow.names)
    return Info(path, "a Parquet table", {"rows": file.metadata.num_rows, "columns": columns})


def page_info(path: Path) -> Info | None:
    """A page of Markdown."""
    lines = _text(path).splitlines()
    with_text = (line.lstrip("# ") for line in lines if line.strip())
    title = next(with_text, "")
    return Info(path, "a page for people", {"begins": title, "lines": len(lines)})


def text_info(path: Path) -> Info | None:
    """Sentences about the last scan; None for a foreign text."""
    if path.name != "problems.txt":
        return None
    lines = _text(path).splitlines()
    first = lines[0] if lines else None
    return Info(path, "data sets without images", {"sentences": len(lines), "first": first})


def picture_info(path: Path) -> Info | None:
    """A picture; beside a label the one that it is sealed with."""
    content = path.read_bytes()
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if picture is None:
        return Info(path, "a picture", health="damaged: cannot be decoded")
    facts = {"size": f"{picture.shape[1]} x {picture.shape[0]} px (width x height), {picture.dtype}"}
    label = path.with_suffix(".json")
    expected = None
    if label.is_file():
        expected = json.loads(label.read_bytes()).get("provenance", {}).get("picture_sha256")
    if expected is None:
        return Info(path, "a picture", facts)
    is_same = hashlib.sha256(content).hexdigest() == expected
    health = "whole: the one that the label was sealed with" if is_same else f"not the one that {label} was sealed with"
    return Info(path, "the picture of a label", facts, health)


def _manifest_info(path: Path) -> Info:
    try:
        rows = read_manifest(path)
    except HvError as error:
        return Info(path, "the manifest of a run", health=str(error))
    datasets = list(dict.fromkeys(row.dataset for row in rows))
    shards = {(row.dataset, row.shard) for row in rows}
    facts = {"images": len(rows), "shards": len(shards), "data sets": ", ".join(datasets)}
    return Info(path, "the manifest of a run", facts, "whole: every row matches its checksum")


def _table_info(path: Path, rows: list[list[str]]) -> Info | None:
    header = rows[0] if rows else []
    kinds = (kind for column, kind in TSV_KINDS.items() if column in header)
    kind = next(kinds, None)
    if kind is None:
        return None
    first_row = ", ".join(rows[1]) if rows[1:] else None
    facts = {"rows": len(rows) - 1, "columns": ", ".join(header), "first row": first_row}
    return Info(path, kind, facts)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")
