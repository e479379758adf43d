"""Stage indexes: what became of every image of a shard; written last, the only outputs the workflow declares."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from hvlabel.errors import ResultsError
from hvlabel.layout import STAGES, Layout

Status = Literal["ok", "failed", "skipped"]


@dataclass(frozen=True)
class Entry:
    """One image in an index.

    status  : ok; failed (this stage could not make it); skipped (an earlier stage failed)
    path    : output relative to the results folder
    digest  : seal or key of the output
    seconds : time spent making it; 0 if it was valid already
    counts  : what to show in tables (masks, bands, ...)
    reason  : one sentence for failed and skipped images
    """

    status: Status
    path: str
    digest: str = ""
    seconds: float = 0.0
    counts: dict[str, Any] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True)
class StageIndex:
    """The index of one shard."""

    stage: str
    dataset: str
    shard: str
    images: dict[str, Entry]

    def to_json(self) -> bytes:
        """The file's content, one image per line."""
        lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(asdict(entry))}" for name, entry in self.images.items())
        head = json.dumps({"stage": self.stage, "dataset": self.dataset, "shard": self.shard})[:-1]
        return f'{head}, "images": {{\n{lines}\n}}}}\n'.encode()


def read_index(path: Path) -> StageIndex:
    """An index; ResultsError if it is missing or damaged."""
    try:
        content = json.loads(path.read_bytes())
        images = {name: Entry(**entry) for name, entry in content["images"].items()}
        return StageIndex(content["stage"], content["dataset"], content["shard"], images)
    except OSError as error:
        raise ResultsError(
            f"{path}: cannot read the stage index ({error.strerror}); run the workflow, it makes it"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ResultsError(
            f"{path}: damaged stage index ({str(error)[:80]}); delete it and run again, valid images are kept"
        ) from error


def all_indexes(layout: Layout, stage: str) -> Iterator[StageIndex]:
    """Every index of a stage, by data set and shard."""
    for path in sorted((layout.root / "index" / stage).glob("*/*.json")):
        yield read_index(path)


def missing_outputs(layout: Layout) -> dict[Path, list[str]]:
    """Index file -> paths that it lists as made but that are gone. One folder listing per data set, no file is opened
    but the indexes: cheap enough for every start of the workflow."""
    missing: dict[Path, list[str]] = {}
    listings: dict[Path, set[str]] = {}
    for stage in STAGES:
        for path in sorted((layout.root / "index" / stage).glob("*/*.json")):
            try:
                entries = read_index(path).images.values()
            except ResultsError as error:
                missing[path] = [str(error)]
                continue
            gone = [e.path for e in entries if e.status == "ok" and not _listed(layout.root / e.path, listings)]
            if gone:
                missing[path] = gone
    return missing


def _listed(path: Path, listings: dict[Path, set[str]]) -> bool:
    folder = path.parent
    if folder not in listings:
        listings[folder] = set(os.listdir(folder)) if folder.is_dir() else set()
    return path.name in listings[folder]
