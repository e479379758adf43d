"""What a results folder holds: counts, times and failures of every stage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from hvlabel.branches.table import BRANCHES, CORE_BRANCHES, OPTIONAL_BRANCHES
from hvlabel.cache.index import Entry, StageIndex, all_indexes, require_results
from hvlabel.errors import MaskFileError
from hvlabel.layout import STAGES, Layout
from hvlabel.manifest import read_manifest
from hvlabel.masks import is_corrected, read_document

# no part of every run: only shown where there is something of them
SHOWN_WHERE_THEY_RAN = (*OPTIONAL_BRANCHES, "teacher")


@dataclass(frozen=True)
class StageSummary:
    """One stage over all shards. seconds: time that making its outputs took."""

    stage: str
    n_ok: int
    n_failed: int
    n_skipped: int
    seconds: float
    masks: int


class Failure(NamedTuple):
    """An image that a stage could not make. reason: one sentence; is_final: False where the next run tries again."""

    stage: str
    dataset: str
    image_id: str
    reason: str
    is_final: bool


@dataclass(frozen=True)
class RunSummary:
    """All stages, the images that have a label, and every failure in the order of the stages.

    labelled : (data set, image)
    n_undone : images that no index of labels lists: their jobs have not ended yet, or not well
    backends : "rgb: regions", ... of the branches that labels were fused from, "sequence: off" of core branches that
               were left out
    caution  : what must be said about the models, "" if nothing
    notes    : what must be said about branches and images, one sentence each
    provenance : of the first label that no person corrected; None without a label
    """

    n_images: int
    stages: tuple[StageSummary, ...]
    labelled: tuple[tuple[str, str], ...]
    n_undone: int
    failures: tuple[Failure, ...]
    backends: tuple[str, ...]
    caution: str
    notes: tuple[str, ...] = ()
    provenance: dict[str, Any] | None = None


def summarise(layout: Layout) -> RunSummary:
    """The state of a results folder as its indexes tell it; ResultsError if there is none.

    A branch that the labels were not fused from is off: what an earlier run left of it is not counted.
    """
    require_results(layout)
    indexes = {stage: list(all_indexes(layout, stage)) for stage in STAGES}
    labelled = _labelled(indexes["labels"])
    provenance = _provenance(layout, labelled)
    off = _branches_off(provenance)
    stages: list[StageSummary] = []
    failures: list[Failure] = []
    for stage in STAGES:
        if stage in off:
            continue
        failures += _failures(stage, indexes[stage])
        if _is_shown(stage, indexes[stage]):
            stages.append(_stage_summary(stage, indexes[stage]))
    left_out = [name for name in CORE_BRANCHES if name in off]
    notes = [*_about_branches_off(left_out), *_about_invented_centres(indexes["cubes"])]
    n_images = len(read_manifest(layout.manifest))
    n_listed = sum(len(index.images) for index in indexes["labels"])
    return RunSummary(
        n_images=n_images,
        stages=tuple(stages),
        labelled=tuple(labelled),
        n_undone=max(0, n_images - n_listed),
        failures=tuple(failures),
        backends=_backends(provenance, left_out),
        caution=_caution(provenance),
        notes=tuple(notes),
        provenance=provenance,
    )


def _labelled(labels: Sequence[StageIndex]) -> list[tuple[str, str]]:
    """(data set, image) of every image that has a label."""
    labelled = []
    for index in labels:
        labelled += [(index.dataset, name) for name, entry in index.images.items() if entry.status == "ok"]
    return labelled


def _provenance(layout: Layout, labelled: Sequence[tuple[str, str]]) -> dict[str, Any] | None:
    """What a label says that it was made from; None if there is none.

    The first label that no person corrected counts: a corrected one is kept by every run, and may be older than this.
    """
    corrected = None
    for image in labelled:
        try:
            document = read_document(layout.label(*image))
        except MaskFileError:  # `hvlabel verify` names it
            continue
        if not is_corrected(document):
            return document["provenance"]
        corrected = corrected or document["provenance"]
    return corrected


def _branches_off(provenance: dict[str, Any] | None) -> set[str]:
    """The branches that labels were not fused from; none where there is no label that tells."""
    return set() if provenance is None else set(BRANCHES) - set(provenance["branches"])


def _is_shown(stage: str, indexes: Sequence[StageIndex]) -> bool:
    return stage not in SHOWN_WHERE_THEY_RAN or any(index.images for index in indexes)


def _stage_summary(stage: str, indexes: Sequence[StageIndex]) -> StageSummary:
    entries = [entry for index in indexes for entry in index.images.values()]
    n_of = Counter(entry.status for entry in entries)
    return StageSummary(
        stage,
        n_ok=n_of["ok"],
        n_failed=n_of["failed"],
        n_skipped=n_of["skipped"],
        seconds=sum(entry.seconds for entry in entries),
        masks=sum(entry.counts.get("masks", 0) for entry in entries),
    )


def _failures(stage: str, indexes: Sequence[StageIndex]) -> list[Failure]:
    return [
        Failure(stage, index.dataset, name, entry.reason, entry.is_final)
        for index in indexes
        for name, entry in index.images.items()
        if entry.status == "failed"
    ]


def _backends(provenance: dict[str, Any] | None, left_out: Sequence[str]) -> tuple[str, ...]:
    """What every branch ran on. left_out: core branches that did not run."""
    if provenance is None:
        return ()
    ran = [f"{branch}: {of['backend']}" for branch, of in provenance["branches"].items()]
    off = [f"{branch}: off" for branch in left_out]
    return (*ran, *off)


def _caution(provenance: dict[str, Any] | None) -> str:
    """A sentence if no trained model made the masks."""
    if provenance is None:
        return ""
    if provenance["untrained_weights"]:
        return "Untrained random weights were used: these masks mean nothing, they only show that the pipeline runs."
    if provenance["learned_model"]:
        return ""
    sentence = f"No learned model was used: all masks are {_what_masks_are(provenance['branches'])}."
    # a set: several branches usually do without SAM for one reason
    reasons = {of["fallback"] for of in provenance["branches"].values() if of.get("fallback")}
    because = [f"No SAM: {reason}." for reason in sorted(reasons)]
    return " ".join([sentence, *because])


def _what_masks_are(branches: dict[str, Any]) -> str:
    """Where the masks of branches without a network come from."""
    drawn = [name for name, of in branches.items() if of.get("backend") == "drawn"]
    if len(drawn) == len(branches):
        return "as people drew them"
    aside = f", but for {', '.join(drawn)}, whose masks people drew" if drawn else ""
    return f"classical graph regions (backend `regions`){aside}"


def _about_branches_off(left_out: Sequence[str]) -> list[str]:
    """A sentence if core branches took no part."""
    if not left_out:
        return []
    if len(left_out) == 1:
        return [f"{left_out[0]} is off: the labels are made without it."]
    return [f"{' and '.join(left_out)} are off: the labels are made without them."]


def _about_invented_centres(cubes: Sequence[StageIndex]) -> list[str]:
    """A sentence per data set with images whose band centres nobody knows."""
    invented: Counter[str] = Counter()
    for index in cubes:
        entries = index.images.values()
        invented[index.dataset] += sum(_has_invented_centres(entry) for entry in entries)
    return [
        f"{dataset}: the band centres of {n_images} images are placeholders, so their pictures are three bands and no "
        "colours, and networks that read wavelengths are told wrong ones; give wavelengths_nm"
        for dataset, n_images in invented.items()
        if n_images
    ]


def _has_invented_centres(entry: Entry) -> bool:
    return entry.counts.get("centres") == "placeholder"
