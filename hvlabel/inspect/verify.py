"""Every image at every stage of a run: done, failed, not tried, damaged; and files that belong to none."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from tqdm import tqdm

from hvlabel.cache.index import Entry, StageIndex, read_index, require_results, shards_of
from hvlabel.cache.left_overs import left_overs
from hvlabel.cache.receipt import damage, read_attributes
from hvlabel.errors import MaskFileError, ResultsError
from hvlabel.inspect.summary import SHOWN_WHERE_THEY_RAN
from hvlabel.layout import STAGES, ZARR_STAGES, Layout
from hvlabel.manifest import Image, read_manifest
from hvlabel.masks import is_corrected, read_document
from hvlabel.stages.fuse import label_picture_damage
from hvlabel.stages.mask_files import keep_edit

# done; done, and without a mask; failed; left out since an earlier stage failed; not tried yet; made from other inputs
# than the index says; of an image that is in no manifest; missing, damaged or changed
State = Literal["done", "empty", "failed", "left out", "undone", "stale", "orphan", "corrupt"]
STATES: tuple[State, ...] = ("done", "empty", "failed", "left out", "undone", "stale", "orphan", "corrupt")
WRONG = ("stale", "corrupt")  # what `repair` removes
MAX_PROCESSES = 8
WORTH_PROCESSES = 400  # outputs to check: starting processes takes a second or two


class Finding(NamedTuple):
    """One image at one stage, or a file of none.

    stage    : "" for an index
    sentence : what is wrong, "" if nothing is
    by_hand  : whether people corrected it
    """

    state: State
    stage: str
    dataset: str
    image_id: str
    path: Path
    sentence: str = ""
    by_hand: bool = False


@dataclass(frozen=True)
class Verdict:
    """What was found.

    checked    : number of outputs that were looked into
    left_overs : what killed processes left half made, and what living ones are making
    """

    findings: tuple[Finding, ...]
    checked: int
    left_overs: tuple[Path, ...]

    @property
    def problems(self) -> tuple[Finding, ...]:
        """What is not what its index says."""
        return tuple(finding for finding in self.findings if finding.state in WRONG)

    @property
    def corrected(self) -> tuple[Path, ...]:
        """What people corrected."""
        return tuple(finding.path for finding in self.findings if finding.by_hand)

    def counts(self) -> dict[str, dict[str, int]]:
        """How many images of each stage are in each state."""
        n = Counter((finding.stage, finding.state) for finding in self.findings)
        with_findings = {finding.stage for finding in self.findings}
        counts: dict[str, dict[str, int]] = {}
        for stage in STAGES:
            if stage in with_findings:
                counts[stage] = {state: n[stage, state] for state in STATES}
        return counts

    def to_json(self) -> str:
        """Counts, and everything that is not simply done."""
        others = [finding for finding in self.findings if finding.state not in ("done", "empty") or finding.by_hand]
        rows = [{**finding._asdict(), "path": str(finding.path)} for finding in others]  # JSON knows no paths
        left = [str(path) for path in self.left_overs]
        content = {"checked": self.checked, "counts": self.counts(), "findings": rows, "left_overs": left}
        return json.dumps(content)


def verify_run(layout: Layout, *, deep: bool) -> Verdict:
    """Look at every image at every stage. deep: read every byte of every cube.

    ResultsError if there is no results folder.
    """
    require_results(layout)
    rows = read_manifest(layout.manifest)
    jobs = list(_jobs(layout, rows))
    check = partial(_check_shard, layout, deep=deep)
    n_images = sum(len(images) for _, images in jobs)
    findings: list[Finding] = []
    with tqdm(total=n_images, desc="verify", unit="file", disable=None) as bar:
        for of_shard in _mapped(check, jobs, n_images):
            findings += of_shard
            bar.update(len(of_shard))
    looked_into = ("done", "empty", *WRONG)
    checked = sum(finding.state in looked_into and finding.stage != "" for finding in findings)
    findings += _orphans(layout, rows)
    # what is wrong with indexes first: it may explain the rest
    findings.sort(key=lambda finding: finding.stage != "")
    return Verdict(tuple(findings), checked, tuple(left_overs(layout.root)))


Job = tuple[str, tuple[Image, ...]]  # a stage, and the images of one shard


def _jobs(layout: Layout, rows: Sequence[Image]) -> Iterator[Job]:
    """Every shard of every stage that is part of the run."""
    shards = shards_of(layout)
    of_shard: dict[tuple[str, str], list[Image]] = {shard: [] for shard in shards}
    for image in rows:
        of_shard[image.dataset, image.shard].append(image)
    ran = []
    for stage in STAGES:
        if any(layout.index(stage, *shard).exists() for shard in shards):
            ran.append(stage)
    # without a label to tell, every branch may still come; what labels were made without is off
    may_come = set() if "labels" in ran else set(STAGES) - set(SHOWN_WHERE_THEY_RAN)
    for stage in STAGES:
        if stage in ran or stage in may_come:
            for images in of_shard.values():
                yield stage, tuple(images)


def _mapped(check: partial[list[Finding]], jobs: Sequence[Job], n_images: int) -> Iterator[list[Finding]]:
    """The findings of every job, in their order; in several processes where there is much to do."""
    n_processes = min(MAX_PROCESSES, len(os.sched_getaffinity(0)), len(jobs))
    if n_processes < 2 or n_images < WORTH_PROCESSES:
        yield from map(check, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_processes, mp_context=context) as pool:
        yield from pool.map(check, jobs)


def _check_shard(layout: Layout, job: Job, *, deep: bool) -> list[Finding]:
    """The findings of one shard at one stage, and one more of its index if that is damaged."""
    stage, images = job
    first = images[0]
    path = layout.index(stage, first.dataset, first.shard)
    index = StageIndex(stage, first.dataset, first.shard, {})
    findings = []
    if path.exists():
        try:
            index = read_index(path)
        except ResultsError as error:  # the others can be checked all the same
            findings.append(Finding("corrupt", "", first.dataset, first.shard, path, str(error)))
    for image in images:
        output = layout.output(stage, image.dataset, image.image_id)
        entry = index.images.get(image.image_id)
        seen = _seen(stage, output, entry, deep=deep)
        findings.append(Finding(seen.state, stage, image.dataset, image.image_id, output, seen.sentence, seen.by_hand))
    return findings


class _Seen(NamedTuple):
    """What an output is like; as in Finding."""

    state: State
    sentence: str = ""
    by_hand: bool = False


def _seen(stage: str, path: Path, entry: Entry | None, *, deep: bool) -> _Seen:
    if entry is None:
        return _Seen("undone")
    if entry.status != "ok":
        return _Seen("failed" if entry.status == "failed" else "left out", entry.reason)
    if not path.exists():
        return _Seen("corrupt", f"{path}: missing")
    return _zarr_state(path, entry, deep=deep) if stage in ZARR_STAGES else _mask_state(stage, path, entry)


def _zarr_state(path: Path, entry: Entry, *, deep: bool) -> _Seen:
    what = damage(path, deep=deep)
    if what is not None:
        return _Seen("corrupt", f"{path}: {what}")
    if read_attributes(path).get("key") != entry.digest:
        return _Seen("stale", f"{path}: made from other inputs than the index says")
    return _Seen("done")


def _mask_state(stage: str, path: Path, entry: Entry) -> _Seen:
    try:
        document = read_document(path)
    except MaskFileError as error:
        return _Seen("corrupt", str(error))
    by_hand = is_corrected(document)
    # an accepted correction is sound by its seal alone, whether or not the index knows of it
    if not by_hand and document["provenance"]["content_sha256"] != entry.digest:
        return _Seen("stale", f"{path}: another content than the index says")
    if not by_hand and document["provenance"].get("seconds") != entry.seconds:  # no part of the seal
        return _Seen("corrupt", f"{path}: took other seconds than the index says")
    what = label_picture_damage(path, document) if stage == "labels" else None
    if what is not None:
        return _Seen("corrupt", f"{path}: {what}", by_hand)
    return _Seen("done" if document["annotations"] else "empty", by_hand=by_hand)


def _orphans(layout: Layout, rows: Sequence[Image]) -> Iterator[Finding]:
    """Outputs of images that are in no manifest: of data that left, or was renamed. They stay; nothing reads them."""
    known = {(image.dataset, image.image_id) for image in rows}
    for stage in STAGES:
        example = layout.output(stage, "d", "i")  # of any name: only its folders and its suffix count
        suffix = example.suffix
        folder = example.parent.parent
        for path in sorted(folder.glob(f"*/[!.]*{suffix}")):
            if (path.parent.name, path.stem) not in known:
                sentence = f"{path}: of an image that is in no data set any more"
                yield Finding("orphan", stage, path.parent.name, path.stem, path, sentence)


def repair(layout: Layout, problems: Sequence[Finding]) -> None:
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
