"""What a results folder holds: counts, times and failures of every stage, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hvlabel.cache.index import Entry, all_indexes, require_results
from hvlabel.errors import MaskFileError
from hvlabel.evaluation import N_BEST, Scores, score
from hvlabel.layout import STAGES, Layout
from hvlabel.manifest import read_manifest
from hvlabel.masks import read_document, read_masks


@dataclass(frozen=True)
class StageSummary:
    """One stage over all shards. seconds: time that making its outputs took."""

    stage: str
    n_ok: int
    n_failed: int
    n_skipped: int
    seconds: float
    masks: int


@dataclass(frozen=True)
class RunSummary:
    """All stages, the images that have a label, and every failure in the order of the stages."""

    n_images: int
    stages: tuple[StageSummary, ...]
    labelled: tuple[tuple[str, str], ...]  # (data set, image)
    failures: tuple[tuple[str, str, str, str], ...]  # (stage, data set, image, sentence)
    backends: tuple[str, ...]  # "rgb: regions", ...
    caution: str  # what must be said about the models, "" if nothing
    notes: tuple[str, ...] = ()  # what must be said about the images, one sentence each


def summarise(layout: Layout) -> RunSummary:
    """The state of a results folder as its indexes tell it; ResultsError if there is none."""
    require_results(layout)
    stages: list[StageSummary] = []
    failures: list[tuple[str, str, str, str]] = []
    labelled: list[tuple[str, str]] = []
    invented: dict[str, int] = {}
    for stage in STAGES:
        entries: list[Entry] = []
        for index in all_indexes(layout, stage):
            entries += index.images.values()
            failures += [
                (stage, index.dataset, name, e.reason) for name, e in index.images.items() if e.status == "failed"
            ]
            if stage == "cubes":
                n = sum(e.counts.get("centres") == "placeholder" for e in index.images.values())
                invented[index.dataset] = invented.get(index.dataset, 0) + n
            if stage == "labels":
                labelled += [(index.dataset, name) for name, e in index.images.items() if e.status == "ok"]
        if stage in ("teacher", "regions", "prompts") and not entries:
            continue  # no part of every run: only shown where it ran
        stages.append(
            StageSummary(
                stage,
                n_ok=sum(e.status == "ok" for e in entries),
                n_failed=sum(e.status == "failed" for e in entries),
                n_skipped=sum(e.status == "skipped" for e in entries),
                seconds=sum(e.seconds for e in entries),
                masks=sum(e.counts.get("masks", 0) for e in entries),
            )
        )
    backends, caution = _models(layout, labelled)
    n_images = len(read_manifest(layout.manifest))
    notes = tuple(_invented(dataset, n) for dataset, n in invented.items() if n)
    return RunSummary(n_images, tuple(stages), tuple(labelled), tuple(failures), backends, caution, notes)


def _invented(dataset: str, n_images: int) -> str:
    return (
        f"{dataset}: the band centres of {n_images} images are placeholders, so their pictures are three bands and no colours, "
        "and networks that read wavelengths are told wrong ones; give wavelengths_nm"
    )


def _models(layout: Layout, labelled: Sequence[tuple[str, str]]) -> tuple[tuple[str, ...], str]:
    """Backends used, and a sentence if no trained model made the masks (from the first readable label's provenance)."""
    provenance = None
    for image in labelled:
        try:
            provenance = read_document(layout.label(*image))["provenance"]
            break
        except MaskFileError:  # `hvlabel verify` names it
            continue
    if provenance is None:
        return (), ""
    backends = tuple(f"{b}: {of['backend']}" for b, of in provenance["branches"].items())
    if provenance["untrained_weights"]:
        return (
            backends,
            "Untrained random weights were used: these masks mean nothing, they only show that the pipeline runs.",
        )
    if not provenance["learned_model"]:
        sentence = "No learned model was used: all masks are classical graph regions (backend `regions`)."
        reasons = {of["fallback"] for of in provenance["branches"].values() if of.get("fallback")}
        return backends, " ".join([sentence, *(f"No SAM: {reason}." for reason in sorted(reasons))])
    return backends, ""


def evaluate_run(layout: Layout, n_proposals: int = 100) -> list[tuple[str, str, Scores]]:
    """(data set, source, scores) of every labelled image that has ground truth; data set "all" pools them.

    MaskFileError if a file is damaged.

    source: a branch or "fused"
    """
    require_results(layout)
    rows: list[tuple[str, str, Scores]] = []
    labelled = [
        (index.dataset, name)
        for index in all_indexes(layout, "labels")
        for name, e in index.images.items()
        if e.status == "ok" and layout.truth(index.dataset, name).exists()
    ]
    if not labelled:
        return rows
    truth = {image: read_masks(layout.truth(*image)) for image in labelled}
    datasets = list(dict.fromkeys(dataset for dataset, _ in labelled))
    for source in (*branches_of(layout, labelled), "fused"):
        found = {i: read_masks(layout.label(*i) if source == "fused" else layout.masks(source, *i)) for i in labelled}
        for group in ("all", *datasets):
            pairs = [(found[i], truth[i]) for i in labelled if group in ("all", i[0])]
            rows.append((group, source, score(pairs, n_proposals)))
    return sorted(rows, key=lambda row: ("all", *datasets).index(row[0]))


def branches_of(layout: Layout, labelled: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """The branches that all of some labels were fused from, in the order of the first one."""
    made_from = [read_document(layout.label(*image))["provenance"]["branches"] for image in labelled]
    return tuple(b for b in made_from[0] if all(b in others for others in made_from))


def evaluation_table(rows: Sequence[tuple[str, str, Scores]], n_proposals: int = 100) -> list[list[str]]:
    """Header and rows as text."""
    table = [
        [
            "data set",
            "masks of",
            "images",
            "objects",
            "masks/image",
            f"AR@{n_proposals}",
            "mean best IoU",
            "spectral-only recall@.5",
            f"right of best {N_BEST}",
            "right of all",
        ]
    ]
    for group, source, s in rows:
        table.append(
            [
                group,
                source,
                str(s.n_images),
                str(s.n_objects),
                f"{s.masks_per_image:.0f}",
                f"{s.ar:.3f}",
                f"{s.mean_best_iou:.3f}",
                f"{s.spectral_only:.3f}",
                f"{s.precision_best:.2f}",
                f"{s.precision:.2f}",
            ]
        )
    return table


def markdown(table: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, first row as header."""
    lines = ["| " + " | ".join(row) + " |" for row in table]
    return "\n".join([lines[0], "|" + "---|" * len(table[0]), *lines[1:]])
