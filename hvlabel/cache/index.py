"""Stage indexes: what became of every image of a shard; written last, the only outputs the workflow declares."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

from hvlabel.branches.table import CORE_BRANCHES
from hvlabel.cache.publish import make_folder, publish_bytes
from hvlabel.cache.receipt import damage
from hvlabel.checksummed import BLANK, FIELD, is_whole, stamped
from hvlabel.errors import ResultsError
from hvlabel.layout import STAGES, Layout, before
from hvlabel.manifest import Scan, read_manifest

Status = Literal["ok", "failed", "skipped"]
Place = tuple[str, str, str]  # of an index: stage, data set, shard
Cause = Literal["", "input", "machine", "damage"]  # of a failure: see hvlabel/stages/failures.py
KEYS = {"stage", "dataset", "shard", "images", FIELD}  # of the file; those of older versions have no checksum
NOT_FINAL = ("machine", "damage")  # causes of failures that the next run tries again


@dataclass(frozen=True)
class Entry:
    """One image in an index.

    status  : ok; failed (this stage could not make it); skipped (an earlier stage failed)
    path    : output relative to the results folder
    digest  : seal or key of the output
    seconds : time that making the output took, whenever that was
    counts  : what to show in tables (masks, bands, ...)
    reason  : one sentence for failed and skipped images
    made    : whether this walk made it; False: it was valid already
    cause   : of a failure; "" in indexes from before it was recorded, which counts as input
    """

    status: Status
    path: str
    digest: str = ""
    seconds: float = 0.0
    counts: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    made: bool = False
    cause: Cause = ""

    @property
    def is_final(self) -> bool:
        """False for a failure that the next run tries again, so that it never counts as done."""
        return self.cause not in NOT_FINAL


@dataclass(frozen=True)
class StageIndex:
    """The index of one shard. images: by image id, in the order of the manifest."""

    stage: str
    dataset: str
    shard: str
    images: dict[str, Entry]

    def to_json(self) -> bytes:
        """The file's content, one image per line."""
        lines = [f"  {json.dumps(name)}: {json.dumps(asdict(entry))}" for name, entry in self.images.items()]
        images = ",\n".join(lines)
        head = json.dumps({"stage": self.stage, "dataset": self.dataset, "shard": self.shard, FIELD: BLANK})
        opened = head[:-1]  # without its closing bracket: the images come last
        text = f'{opened}, "images": {{\n{images}\n}}}}\n'
        return stamped(text.encode())


def read_index(path: Path | str) -> StageIndex:
    """An index; ResultsError if it is missing or damaged."""
    path = Path(path)
    try:
        stored = path.read_bytes()
        content = json.loads(stored)
        if is_whole(stored) is False or not content.keys() <= KEYS:
            raise ValueError("its checksum does not fit")
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


def replace_entry(layout: Layout, stage: str, dataset: str, image_id: str, entry: Entry) -> bool:
    """Put an entry in place of an image's older one, under the shard's lock; False if there is none."""
    rows = read_manifest(layout.manifest)
    shards = (i.shard for i in rows if (i.dataset, i.image_id) == (dataset, image_id))
    shard = next(shards, None)  # an image of another run has none
    if shard is None:
        return False
    path = layout.index(stage, dataset, shard)
    if not path.exists():
        return False
    lock = layout.lock(stage, dataset, shard)
    make_folder(lock.parent)
    with FileLock(lock):  # a job that walks the shard would write over it
        index = read_index(path)
        images = {**index.images, image_id: entry}  # in its old place: the order is the manifest's
        changed = replace(index, images=images)
        publish_bytes(path, changed.to_json())
    return True


def shards_of(layout: Layout) -> list[tuple[str, str]]:
    """Data set and shard of all images of the manifest, in its order."""
    rows = read_manifest(layout.manifest)
    return list(dict.fromkeys((i.dataset, i.shard) for i in rows))


def all_indexes(layout: Layout, stage: str) -> Iterator[StageIndex]:
    """The indexes of a stage for the shards of the manifest, in its order; shards without one are left out."""
    for dataset, shard in shards_of(layout):
        path = layout.index(stage, dataset, shard)
        if path.exists():
            yield read_index(path)


def publish_scan(layout: Layout, scan: Scan) -> None:
    """Write the manifest, and the sentences about data sets without images that the report lists."""
    publish_bytes(layout.manifest, scan.table().encode())
    text = "".join(f"{problem}\n" for problem in scan.problems)
    publish_bytes(layout.problems, text.encode())  # also where there are none: those of an older scan go


def read_problems(layout: Layout) -> list[str]:
    """Sentences of the last scan about data sets without images."""
    if not layout.problems.exists():
        return []
    text = layout.problems.read_bytes().decode(errors="replace")
    return text.removesuffix("\n").split("\n") if text else []  # a name may hold what str.splitlines() cuts at


def require_results(layout: Layout) -> None:
    """ResultsError unless there is a readable results folder with a manifest."""
    if not read_manifest(layout.manifest):
        raise ResultsError(
            f"{layout.root}: no results here (no manifest); name the folder with --results, or run the workflow first"
        )


def drop_untrue(
    layout: Layout, *, dry: bool = False, branches: Sequence[str] = CORE_BRANCHES, retry_all: bool = False
) -> dict[Path, str]:
    """Index files that no longer tell the truth, removed unless `dry`, each with the reason.

    branches  : those that labels are fused from
    retry_all : try all failures again, also those of images

    An index is untrue if it is damaged, lists an output that is gone or a failure that is not final, or builds on an
    index that is missing or untrue: the workflow engine would not look at it again by itself. One folder listing per
    data set, no output is opened but cubes that a later stage could not read, which go if they are damaged: cheap
    enough for every start of the workflow.
    """
    indexes = _Indexes(layout)
    shards = shards_of(layout)
    built_on = {stage: before(stage, branches) for stage in STAGES}
    untrue = _built_on_damage(indexes, shards, built_on, dry=dry)
    folders = _Folders(layout.root)
    for dataset, shard in shards:
        # a stage comes after those that it builds on, so what is untrue below it is known
        for stage in STAGES:
            place = (stage, dataset, shard)
            if place in untrue or not indexes.hold(place):
                continue
            earlier = [(below, dataset, shard) for below in built_on[stage]]
            broken = [other for other in earlier if other in untrue or not indexes.hold(other)]
            if broken:
                untrue[place] = f"{layout.index(*broken[0])} is to be made again"
                continue
            reason = _untruth(indexes.entries(place), folders, retry_all)
            if reason is not None:
                untrue[place] = reason
    by_path = {layout.index(*place): reason for place, reason in untrue.items()}
    if not dry:
        for path in by_path:
            path.unlink(missing_ok=True)
    return by_path


def _built_on_damage(
    indexes: _Indexes, shards: Sequence[tuple[str, str]], built_on: Mapping[str, Sequence[str]], *, dry: bool
) -> dict[Place, str]:
    """Indexes of stages whose outputs a later stage could not read, each with the reason; damaged cubes are removed.

    Mask files need not be: their stage reads them whole, seal and all, before it keeps one.
    """
    untrue: dict[Place, str] = {}
    for dataset, shard in shards:
        for stage in STAGES:
            entries = indexes.entries((stage, dataset, shard))
            if isinstance(entries, ResultsError):
                continue
            unread = [name for name, entry in entries.items() if entry.cause == "damage"]
            if not unread:
                continue
            for earlier in built_on[stage]:
                untrue[earlier, dataset, shard] = f"{stage} could not read what is made of {unread[0]}"
            for cube in (indexes.layout.cube(dataset, name) for name in unread):
                if not dry and cube.is_dir() and damage(cube, deep=True) is not None:
                    shutil.rmtree(cube)
    return untrue


def _untruth(entries: dict[str, Entry] | ResultsError, folders: _Folders, retry_all: bool) -> str | None:
    """Why an index is not true by itself, or None. entries: what it lists, or why it cannot be read."""
    if isinstance(entries, ResultsError):
        return str(entries)
    all_failed = [entry for entry in entries.values() if entry.status == "failed"]
    failed = [entry for entry in all_failed if retry_all or not entry.is_final]
    if failed:
        return f"{len(failed)} failed, e.g. {failed[0].reason}"
    # an image that failed has no output that could be gone
    listed = [entry.path for entry in entries.values() if entry.status == "ok"]
    gone = [name for name in listed if not folders.hold(name)]
    return f"{len(gone)} missing, e.g. {gone[0]}" if gone else None


class _Indexes:
    """The indexes of a results folder, each read once: thousands of them are looked at in every start of a run."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._entries: dict[Place, dict[str, Entry] | ResultsError] = {}
        self._missing: set[Place] = set()

    def hold(self, place: Place) -> bool:
        """Whether there is an index, readable or not."""
        self.entries(place)
        return place not in self._missing

    def entries(self, place: Place) -> dict[str, Entry] | ResultsError:
        """What an index lists, which is nothing where there is none; why it cannot be read."""
        known = self._entries.get(place)
        if known is not None:
            return known
        entries: dict[str, Entry] | ResultsError
        try:
            entries = read_index(self.layout.index(*place)).images
        except ResultsError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                self._missing.add(place)
                entries = {}
            else:
                entries = error
        self._entries[place] = entries
        return entries


class _Folders:
    """What folders hold; each is listed once, which is far cheaper than asking for every file on a shared disk."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._names: dict[str, set[str]] = {}

    def hold(self, path: str) -> bool:
        """Whether a file or folder is in its folder. path: below the root."""
        folder, _, name = path.rpartition("/")
        if folder not in self._names:
            where = self._root / folder
            names = os.listdir(where) if where.is_dir() else []
            self._names[folder] = set(names)
        return name in self._names[folder]
