"""Every file of a run against its index, key, seal and receipt."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from hvlabel.cache.index import Entry, read_index, require_results, shards_of
from hvlabel.cache.receipt import damage, read_attributes
from hvlabel.errors import MaskFileError, ResultsError
from hvlabel.layout import STAGES, ZARR_STAGES, Layout
from hvlabel.masks import is_corrected, read_document
from hvlabel.stages.fuse import label_picture_damage
from hvlabel.stages.mask_files import keep_edit


@dataclass(frozen=True)
class Problem:
    """One file that is not what its index says. sentence: names it, and what is wrong."""

    path: Path
    sentence: str


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
    of_indexes: list[Problem] = []
    of_files: list[Problem] = []
    corrected: list[Path] = []
    for stage, index_path in _index_paths(layout):
        try:
            entries = read_index(index_path).images.values()
        except ResultsError as error:  # the others can be checked all the same
            of_indexes.append(Problem(index_path, str(error)))
            continue
        for entry in entries:
            if entry.status != "ok":
                continue
            checked += 1
            path = layout.root / entry.path
            state = _zarr_state(path, entry, deep=deep) if stage in ZARR_STAGES else _mask_state(stage, path, entry)
            if state.sentence is not None:
                of_files.append(Problem(path, state.sentence))
            if state.by_hand:
                corrected.append(path)
    return Verdict(checked, (*of_indexes, *of_files), tuple(corrected))


def repair(layout: Layout, problems: Sequence[Problem]) -> None:
    """Remove damaged files: the next run finds them gone and makes exactly those images again.

    Edited ones are moved aside.
    """
    for problem in problems:
        if problem.path.is_dir():
            shutil.rmtree(problem.path)
        elif problem.path.suffix == ".json" and keep_edit(problem.path, layout) is not None:
            continue
        else:
            problem.path.unlink(missing_ok=True)


class _State(NamedTuple):
    """What an output is like. sentence: what is wrong, None if nothing is; by_hand: people corrected it."""

    sentence: str | None
    by_hand: bool = False


def _index_paths(layout: Layout) -> Iterator[tuple[str, Path]]:
    """Stage and path of every index that there is."""
    for stage in STAGES:
        for dataset, shard in shards_of(layout):
            path = layout.index(stage, dataset, shard)
            if path.exists():
                yield stage, path


def _zarr_state(path: Path, entry: Entry, *, deep: bool) -> _State:
    if not path.exists():
        return _State(f"{path}: missing")
    what = damage(path, deep=deep)
    if what is not None:
        return _State(f"{path}: {what}")
    if read_attributes(path).get("key") != entry.digest:
        return _State(f"{path}: made from other inputs than the index says")
    return _State(None)


def _mask_state(stage: str, path: Path, entry: Entry) -> _State:
    if not path.exists():
        return _State(f"{path}: missing")
    try:
        document = read_document(path)
    except MaskFileError as error:
        return _State(str(error))
    by_hand = is_corrected(document)
    # an accepted correction is sound by its seal alone, whether or not the index knows of it
    if document["provenance"]["content_sha256"] != entry.digest and not by_hand:
        return _State(f"{path}: another content than the index says")
    if document["provenance"].get("seconds") != entry.seconds and not by_hand:  # no part of the seal
        return _State(f"{path}: took other seconds than the index says")
    what = label_picture_damage(path, document) if stage == "labels" else None
    return _State(None if what is None else f"{path}: {what}", by_hand)
