"""Every label of a run in numbers, without ground truth: which images to look at first, and what is worth a warning."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from hvlabel.cache.index import all_indexes
from hvlabel.cache.publish import publish_bytes
from hvlabel.config import WarnBelow
from hvlabel.layout import Layout


class LabelQuality(NamedTuple):
    """One label.

    masks     : how many
    coverage  : share of the pixels that lie in one
    quality   : mean IoU with an object that is expected of them; nan without masks, or where nobody was asked
    agreement : mean share of the branches that made a mask
    cut       : share of all candidate masks of which too little was expected
    unknown   : share of the masks that lie outside of what the quality predictor knows
    """

    dataset: str
    image: str
    masks: int
    coverage: float
    quality: float
    agreement: float
    cut: float
    unknown: float


def label_qualities(layout: Layout) -> list[LabelQuality]:
    """All labels of a run, worst first: without masks, then by falling doubt. Reads the indexes alone."""
    labels = []
    for index in all_indexes(layout, "labels"):
        for name, entry in index.images.items():
            if entry.status == "ok":
                labels.append(_of_counts(index.dataset, name, entry.counts))
    return sorted(labels, key=_badness)


def _of_counts(dataset: str, image: str, counts: dict[str, float]) -> LabelQuality:
    """counts: of its index entry."""
    nan = float("nan")
    return LabelQuality(
        dataset,
        image,
        int(counts["masks"]),
        float(counts["foreground_share"]),
        float(counts.get("quality", nan)),
        float(counts.get("agreement", nan)),
        float(counts.get("cut", nan)),
        float(counts.get("unknown", nan)),
    )


def _badness(label: LabelQuality) -> tuple[bool, float, str, str]:
    """Sorts what has no masks first, then by quality or, where that is unknown, by agreement."""
    known = label.quality == label.quality  # nan is not equal to itself
    value = label.quality if known else label.agreement
    if value != value:  # neither is known: among the worst, and nan would sort anywhere
        value = 0.0
    return label.masks > 0, value, label.dataset, label.image


def publish_qualities(layout: Layout, labels: Sequence[LabelQuality]) -> None:
    """Write the table as .tsv and .parquet."""
    table = pd.DataFrame(labels, columns=list(LabelQuality._fields))
    text = table.to_csv(sep="\t", index=False, float_format="%.4f")
    publish_bytes(layout.quality, text.encode())
    content = io.BytesIO()
    table.to_parquet(content, index=False)
    publish_bytes(layout.quality.with_suffix(".parquet"), content.getvalue())


def by_dataset(labels: Sequence[LabelQuality]) -> list[list[str]]:
    """Header and a row per data set as text: its images, and the means of its labels."""
    header = ["data set", "labels", "masks/image", "coverage", "expected IoU", "agreement", "cut", "unknown"]
    rows = []
    datasets = {label.dataset for label in labels}
    for dataset in sorted(datasets):
        of_dataset = [label for label in labels if label.dataset == dataset]
        table = pd.DataFrame(of_dataset)
        means = table[["coverage", "quality", "agreement", "cut", "unknown"]].mean()  # leaves nan out
        masks = f"{table['masks'].mean():.0f}"
        rows.append([dataset, str(len(table)), masks, *(_text(value) for value in means)])
    return [header, *rows]


def worst(labels: Sequence[LabelQuality], n: int) -> list[list[str]]:
    """Header and a row for each of the n worst labels as text."""
    header = ["image", "masks", "coverage", "expected IoU", "agreement", "cut", "unknown"]
    rows = []
    for label in labels[:n]:
        numbers = [_text(value) for value in label[3:]]  # all behind the number of masks
        rows.append([f"{label.dataset}/{label.image}", str(label.masks), *numbers])
    return [header, *rows]


def _text(value: float) -> str:
    return "" if value != value else f"{value:.2f}"  # nan is not equal to itself


def warnings_of(labels: Sequence[LabelQuality], below: WarnBelow) -> list[str]:
    """One sentence per data set and limit that some of its labels do not reach, with the worst one."""
    n_labels = Counter(label.dataset for label in labels)
    sentences = []
    for dataset in sorted(n_labels):
        of_dataset = [label for label in labels if label.dataset == dataset]
        for name, limit in below.model_dump().items():
            low = [label for label in of_dataset if getattr(label, name) < limit]
            if low:
                lowest = min(low, key=lambda label: getattr(label, name))
                sentences.append(
                    f"{dataset}: {name} of {len(low)} of {n_labels[dataset]} labels is below {limit:g} "
                    f"(run.warn_below.{name}), lowest {getattr(lowest, name):.2g} in {lowest.image}"
                )
    return sentences
