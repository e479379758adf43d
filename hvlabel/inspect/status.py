"""How far a run is, while it goes on: images done, their rate, and the time that is left, by stage and data set."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from hvlabel.branches.table import CORE_BRANCHES
from hvlabel.cache.index import read_index, require_results
from hvlabel.errors import ResultsError
from hvlabel.layout import STAGES, Layout
from hvlabel.manifest import read_manifest

WINDOW_S = 3600.0  # that the rate is taken over
ALWAYS = ("cubes", *CORE_BRANCHES, "labels")  # stages that a run has unless its labels tell otherwise


class Progress(NamedTuple):
    """One stage of one data set.

    n_done   : images with an output of this run, or that have failed or were left out
    n_failed : of them, those without an output
    per_hour : outputs made in the last hour, or since the run began if that is less
    """

    stage: str
    dataset: str
    n_images: int
    n_done: int
    n_failed: int
    per_hour: float

    @property
    def hours_left(self) -> float:
        """At that rate; inf where something is left and nothing was made lately."""
        left = self.n_images - self.n_done
        if not left:
            return 0.0
        return left / self.per_hour if self.per_hour else float("inf")


def progress_of(layout: Layout, now_s: float | None = None) -> list[Progress]:
    """Every stage that has begun or will come, data set by data set. Reads indexes and folders, opens no output.

    now_s : seconds since 1970; None: the clock
    A shard's index is written when its last image is done. Of a shard without one those outputs count that were
    written since the run began, so a run on many machines is seen image by image.
    """
    require_results(layout)
    now_s = time.time() if now_s is None else now_s
    began_s = _began_s(layout)
    window_s = WINDOW_S
    if began_s is not None:
        window_s = max(1.0, min(WINDOW_S, now_s - began_s))  # clocks of two machines may differ: never 0 or below
    rows = read_manifest(layout.manifest)
    n_images = Counter(image.dataset for image in rows)
    progress = []
    for stage in STAGES:
        for dataset in n_images:
            of_dataset = [image for image in rows if image.dataset == dataset]
            times_s = written_s(layout, stage, dataset)
            indexed = _indexed(layout, stage, dataset, {image.shard for image in of_dataset})
            index_of_labels = layout.index("labels", dataset, rows[0].shard)
            has_labels = index_of_labels.parent.is_dir()
            may_come = stage in ALWAYS and not has_labels  # else the labels were made without it
            if not may_come and not times_s and not indexed:
                continue
            # an index may name images that have left the manifest since: they are not counted
            done = {image.image_id for image in of_dataset if image.image_id in indexed}
            if began_s is not None:
                done |= {name for name, at_s in times_s.items() if at_s >= began_s}
            n_failed = sum(status != "ok" for status in indexed.values())
            n_lately = sum(now_s - window_s <= at_s <= now_s for at_s in times_s.values())
            per_hour = n_lately * 3600 / window_s
            progress.append(Progress(stage, dataset, n_images[dataset], len(done), n_failed, per_hour))
    return progress


def table_of(progress: list[Progress]) -> list[list[str]]:
    """Header and a row of text each."""
    header = ["stage", "data set", "images", "done", "failed or left out", "per hour", "time left"]
    rows = []
    for p in progress:
        numbers = [str(p.n_images), str(p.n_done), str(p.n_failed), f"{p.per_hour:.0f}"]
        rows.append([p.stage, p.dataset, *numbers, _as_time(p.hours_left)])
    return [header, *rows]


def _as_time(hours: float) -> str:
    if not hours:
        return ""
    if hours == float("inf"):
        return "unknown"
    minutes = round(hours * 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{max(1, minutes)} min"


def _began_s(layout: Layout) -> float | None:
    """When the run that is at work began; None if none is."""
    try:
        status = layout.at_work.stat()
    except OSError:
        return None
    return status.st_mtime if status.st_size else None


def written_s(layout: Layout, stage: str, dataset: str) -> dict[str, float]:
    """When each output of a stage was written, by image; seconds since 1970."""
    example = layout.output(stage, dataset, "i")
    times_s = {}
    try:
        entries = list(os.scandir(example.parent))
    except OSError:
        return {}
    for entry in entries:
        if entry.name.endswith(example.suffix) and not entry.name.startswith("."):
            try:
                times_s[Path(entry.name).stem] = entry.stat().st_mtime
            except OSError:  # gone meanwhile
                continue
    return times_s


def _indexed(layout: Layout, stage: str, dataset: str, shards: set[str]) -> dict[str, str]:
    """Status of every image that an index lists."""
    status: dict[str, str] = {}
    for shard in shards:
        path = layout.index(stage, dataset, shard)
        if not path.exists():
            continue
        try:
            images = read_index(path).images
            status |= {name: entry.status for name, entry in images.items()}
        except ResultsError:  # damaged: to be made again
            continue
    return status
