"""Scores of a run: every branch and the label, over all images that have ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hvlabel.cache.index import all_indexes, require_results
from hvlabel.inspect.scores import N_BEST, Scores, score
from hvlabel.layout import Layout
from hvlabel.masks import MaskSet, read_document, read_masks

FUSED = "fused"  # the source that is no branch


class ScoreRow(NamedTuple):
    """Scores of one source of masks. group: a data set, or `all`; source: a branch, or FUSED."""

    group: str
    source: str
    scores: Scores


def evaluate_run(layout: Layout, n_proposals: int = 100) -> list[ScoreRow]:
    """Scores of every labelled image that has ground truth, by data set and, pooled, as group `all`, which comes first.

    MaskFileError if a file is damaged.
    """
    require_results(layout)
    images = _with_truth(layout)
    if not images:
        return []
    truth = {image: read_masks(layout.truth(*image)) for image in images}
    groups = ["all", *dict.fromkeys(dataset for dataset, _ in images)]
    rows: list[ScoreRow] = []
    for source in (*_common_branches(layout, images), FUSED):
        masks = {image: _masks_of(layout, source, image) for image in images}
        for group in groups:
            members = [image for image in images if group in ("all", image[0])]
            pairs = [(masks[image], truth[image]) for image in members]
            rows.append(ScoreRow(group, source, score(pairs, n_proposals)))
    return sorted(rows, key=lambda row: groups.index(row.group))


def _with_truth(layout: Layout) -> list[tuple[str, str]]:
    """(data set, image) of every labelled image that has ground truth."""
    images = []
    for index in all_indexes(layout, "labels"):
        for name, entry in index.images.items():
            has_truth = layout.truth(index.dataset, name).exists()
            if entry.status == "ok" and has_truth:
                images.append((index.dataset, name))
    return images


def _common_branches(layout: Layout, images: Sequence[tuple[str, str]]) -> list[str]:
    """The branches that all labels were fused from, in the order of the first one."""
    documents = [read_document(layout.label(*image)) for image in images]
    made_from = [document["provenance"]["branches"] for document in documents]
    # only these can be compared: other scores would be of other images
    return [branch for branch in made_from[0] if all(branch in others for others in made_from)]


def _masks_of(layout: Layout, source: str, image: tuple[str, str]) -> MaskSet:
    path = layout.label(*image) if source == FUSED else layout.masks(source, *image)
    return read_masks(path)


def evaluation_table(rows: Sequence[ScoreRow], n_proposals: int = 100) -> list[list[str]]:
    """Header and rows as text."""
    header = [
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
        "AP",
        "AP50",
        "calibration error",
    ]
    return [header, *(_cells(row) for row in rows)]


def _cells(row: ScoreRow) -> list[str]:
    s = row.scores
    return [
        row.group,
        row.source,
        str(s.n_images),
        str(s.n_objects),
        f"{s.masks_per_image:.0f}",
        f"{s.ar:.3f}",
        f"{s.mean_best_iou:.3f}",
        f"{s.spectral_only:.3f}",
        f"{s.precision_best:.2f}",
        f"{s.precision:.2f}",
        f"{s.ap:.3f}",
        f"{s.ap50:.3f}",
        f"{s.calibration_error:.3f}",
    ]


def calibration_table(rows: Sequence[ScoreRow]) -> list[list[str]]:
    """Header and rows as text: of every source, what its scores promise and what they hold."""
    header = ["data set", "masks of", "masks", "mean score", "mean best IoU"]
    lines = []
    for group, source, scores in rows:
        for point in scores.calibration:
            numbers = [str(point.n_masks), f"{point.score:.3f}", f"{point.iou:.3f}"]
            lines.append([group, source, *numbers])
    return [header, *lines]


def tsv(table: Sequence[Sequence[str]]) -> bytes:
    """A table as a file of tab-separated values."""
    lines = ["\t".join(row) for row in table]
    return "".join(f"{line}\n" for line in lines).encode()


def markdown(table: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, first row as header."""
    lines = ["| " + " | ".join(row) + " |" for row in table]
    rule = "|" + "---|" * len(table[0])
    return "\n".join([lines[0], rule, *lines[1:]])
