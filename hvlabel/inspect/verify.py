"""Every file of a run against its index, key, seal and receipt."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hvlabel.cache.index import Entry, drop_untrue, read_index, require_results
from hvlabel.cache.receipt import damage, read_attributes
from hvlabel.errors import HvError
from hvlabel.layout import STAGES, Layout
from hvlabel.manifest import read_manifest
from hvlabel.masks import is_corrected, read_document
from hvlabel.stages.fuse import label_picture_damage
from hvlabel.stages.mask_files import keep_edit


@dataclass(frozen=True)
class Problem:
    """One file that is not what its index says."""

    path: Path
    what: str


@dataclass(frozen=True)
class Verdict:
    """What was found: number of files checked, those that are not what they should be, and those corrected by hand."""

    checked: int
    problems: tuple[Problem, ...]
    corrected: tuple[Path, ...]


def verify(layout: Layout, *, deep: bool) -> Verdict:
    """Check every file of a run. deep: read every byte of every cube.

    ResultsError if there is no results folder.
    """
    require_results(layout)
    checked = 0
    corrected: list[Path] = []
    untrue = drop_untrue(layout, dry=True)
    problems = [Problem(path, reason) for path, reason in untrue.items() if reason.startswith(str(path))]
    for stage in STAGES:
        for dataset, shard in dict.fromkeys((i.dataset, i.shard) for i in read_manifest(layout.manifest)):
            index_path = layout.index(stage, dataset, shard)
            if not index_path.exists() or any(p.path == index_path for p in problems):
                continue
            for entry in read_index(index_path).images.values():
                if entry.status != "ok":
                    continue
                checked += 1
                path = layout.root / entry.path
                if stage in ("cubes", "teacher"):
                    what, by_hand = _cube_damage(path, entry, deep=deep), False
                else:
                    what, by_hand = _mask_damage(stage, path, entry)
                if by_hand:
                    corrected.append(path)
                if what is not None:
                    problems.append(Problem(path, what))
    return Verdict(checked, tuple(problems), tuple(corrected))


def repair(layout: Layout, problems: Sequence[Problem]) -> None:
    """Remove damaged files: the next run finds them gone and makes exactly those images again. Edited ones are moved aside."""
    for problem in problems:
        if problem.path.is_dir():
            shutil.rmtree(problem.path)
        elif problem.path.suffix == ".json" and keep_edit(problem.path, layout) is not None:
            continue
        else:
            problem.path.unlink(missing_ok=True)


def _cube_damage(path: Path, entry: Entry, *, deep: bool) -> str | None:
    """What is wrong with a Zarr group, or None."""
    if not path.exists():
        return "missing"
    return damage(path, deep=deep) or (
        None if read_attributes(path).get("key") == entry.digest else "made from other inputs than the index says"
    )


def _mask_damage(stage: str, path: Path, entry: Entry) -> tuple[str | None, bool]:
    """What is wrong with a mask file, or None; and whether people corrected it."""
    if not path.exists():
        return "missing", False
    try:
        document = read_document(path)
    except HvError as error:
        return str(error), False
    by_hand = is_corrected(document)
    if document["provenance"]["content_sha256"] != entry.digest and not by_hand:
        return "another content than the index says", False
    return label_picture_damage(path, document) if stage == "labels" else None, by_hand
