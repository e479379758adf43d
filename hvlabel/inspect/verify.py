"""Every file of a run against its index, key, seal and receipt."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from hvlabel.cache.index import Entry, drop_untrue, read_index, require_results
from hvlabel.cache.receipt import damage, read_attributes
from hvlabel.errors import HvError
from hvlabel.layout import STAGES, Layout
from hvlabel.manifest import read_manifest
from hvlabel.masks import read_document
from hvlabel.stages.fuse import label_picture_damage


@dataclass(frozen=True)
class Problem:
    """One file that is not what its index says."""

    path: Path
    what: str


def verify(layout: Layout, *, deep: bool) -> tuple[int, list[Problem]]:
    """Number of files checked and the problems found. deep: read every byte of every cube.

    ResultsError if there is no results folder.
    """
    require_results(layout)
    checked = 0
    untrue = drop_untrue(layout, dry=True)
    problems = [Problem(path, reason) for path, reason in untrue.items() if reason.startswith(str(path))]
    for stage in STAGES:
        for dataset, shard in dict.fromkeys((i.dataset, i.shard) for i in read_manifest(layout.manifest)):
            path = layout.index(stage, dataset, shard)
            if not path.exists() or any(p.path == path for p in problems):
                continue
            for entry in read_index(path).images.values():
                if entry.status == "ok":
                    checked += 1
                    what = _check(stage, layout.root / entry.path, entry, deep=deep)
                    if what is not None:
                        problems.append(Problem(layout.root / entry.path, what))
    return checked, problems


def repair(problems: list[Problem]) -> None:
    """Remove damaged files: the next run finds them gone and makes exactly those images again."""
    for problem in problems:
        if problem.path.is_dir():
            shutil.rmtree(problem.path)
        else:
            problem.path.unlink(missing_ok=True)


def _check(stage: str, path: Path, entry: Entry, *, deep: bool) -> str | None:
    if not path.exists():
        return "missing"
    if stage in ("cubes", "teacher"):
        return damage(path, deep=deep) or (
            None if read_attributes(path).get("key") == entry.digest else "made from other inputs than the index says"
        )
    try:
        document = read_document(path)
    except HvError as error:
        return str(error)
    if document["provenance"]["content_sha256"] != entry.digest:
        return "another content than the index says"
    return label_picture_damage(path, document) if stage == "labels" else None
