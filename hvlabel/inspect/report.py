"""The gallery over a run: a static HTML page with a small picture of every label; nothing comes from elsewhere."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from hvlabel import __version__
from hvlabel.branches.table import BRANCHES
from hvlabel.cache.index import all_indexes, read_problems
from hvlabel.cache.publish import publish_bytes
from hvlabel.config import WarnBelow
from hvlabel.cube.bands import evenly_spread
from hvlabel.errors import HvError
from hvlabel.inspect.evaluate import evaluate_run, evaluation_table
from hvlabel.inspect.quality import LabelQuality, by_dataset, label_qualities, publish_qualities, warnings_of, worst
from hvlabel.inspect.summary import RunSummary, summarise
from hvlabel.inspect.thumbnails import Made, Work, publish_all
from hvlabel.layout import Layout
from hvlabel.viewer import render

MOST_WORST = 20  # labels in the list of the worst
MOST_FAILURES = 200  # in the table; the gallery shows all
OVERVIEW_PICTURES = 12  # that the overview holds inside


class Report(NamedTuple):
    """What a report consists of, beside its page."""

    n_pictures: int
    n_pages: int


def write_report(layout: Layout, max_pages: int, below: WarnBelow) -> Report:
    """Write the gallery, its pictures, pages of some images, the overview, and the tables of the labels' quality.

    max_pages : images that get a page: the worst ones, and as many evenly spread over the others
    below     : limits of the warnings
    """
    run = summarise(layout)
    problems = read_problems(layout)
    branches = [s.stage for s in run.stages if s.stage in BRANCHES]
    labels = label_qualities(layout)
    publish_qualities(layout, labels)
    with_page = _with_page(labels, max_pages)
    todo = [Work(label.dataset, label.image, label in with_page) for label in labels]
    made = publish_all(layout, todo)
    try:
        scores = evaluate_run(layout)
    except HvError as error:
        scores = []
        problems.append(f"no scores: {error}")
    # what gallery and overview share
    tables: dict[str, Any] = {
        "run": run,
        "problems": problems,
        "failures": run.failures[:MOST_FAILURES],
        "evaluation": evaluation_table(scores) if scores else None,
        "warnings": warnings_of(labels, below),
        "datasets": by_dataset(labels),
        "worst": worst(labels, MOST_WORST),
        "branches": branches,
        "about": _about(layout, run, max_pages),
    }
    rows = [*_label_rows(layout, labels, made, branches), *_failure_rows(run, len(branches))]
    data = {"columns": [*COLUMNS, *branches], "rows": rows, "results": shlex.quote(str(layout.root))}
    publish_bytes(layout.report, render("gallery.html", data, **tables))
    overview = render("overview.html", {}, **tables, pictures=_inside(layout, made))
    publish_bytes(layout.overview, overview)
    return Report(sum(m.has_thumbnail for m in made), sum(m.has_page for m in made))


def _with_page(labels: Sequence[LabelQuality], n: int) -> set[LabelQuality]:
    """The worst labels, and others evenly spread. labels: worst first."""
    n_worst = (n + 1) // 2  # of one page the worst has it
    others = labels[n_worst:]
    chosen = evenly_spread(len(others), n - n_worst)
    return {*labels[:n_worst], *(others[k] for k in chosen)}


# of a row of the gallery, before the numbers of masks of each branch
COLUMNS = (
    "dataset",
    "image",
    "camera",
    "picture",
    "page",
    "masks",
    "suppressed",
    "coverage",
    "quality",
    "agreement",
    "cut",
    "unknown",
    "failure",
)


def _label_rows(
    layout: Layout, labels: Sequence[LabelQuality], made: Sequence[Made], branches: Sequence[str]
) -> list[list[Any]]:
    """COLUMNS and the masks of each branch of every label, worst first."""
    cameras = _cameras(layout)
    n_masks = {stage: _count(layout, stage, "masks") for stage in branches}
    n_suppressed = _count(layout, "labels", "suppressed")
    rows = []
    for label, (_, has_thumbnail, has_page) in zip(labels, made, strict=True):
        image = (label.dataset, label.image)
        picture = _link(layout, layout.thumbnail(*image)) if has_thumbnail else None
        page = _link(layout, layout.page(*image)) if has_page else None
        numbers = [_rounded(value) for value in label[3:]]
        of_branches = [n_masks[branch].get(image) for branch in branches]
        known = [*image, cameras.get(image), picture, page, label.masks, n_suppressed.get(image), *numbers]
        rows.append([*known, None, *of_branches])
    return rows


def _failure_rows(run: RunSummary, n_branches: int) -> list[list[Any]]:
    """The same of images that failed; an image may have failed at several stages."""
    unknown = [None] * (len(COLUMNS) - 3)  # all but its names and the failure
    of_branches = [None] * n_branches
    rows: list[list[Any]] = []
    for failure in run.failures:
        sentence = f"{failure.stage}: {failure.reason}"
        rows.append([failure.dataset, failure.image_id, *unknown, sentence, *of_branches])
    return rows


def _cameras(layout: Layout) -> dict[tuple[str, str], str]:
    """What tells cameras apart: number of bands, and their range where it is known."""
    cameras = {}
    for index in all_indexes(layout, "cubes"):
        for name, entry in index.images.items():
            if entry.status != "ok":
                continue
            of_cube = entry.counts
            range_nm = f", {of_cube['from_nm']:.0f}-{of_cube['to_nm']:.0f} nm" if "from_nm" in of_cube else ""
            cameras[index.dataset, name] = f"{of_cube.get('bands', '?')} bands{range_nm}"
    return cameras


def _count(layout: Layout, stage: str, what: str) -> dict[tuple[str, str], int]:
    """A number of each image of a stage, as its indexes tell it."""
    return {
        (index.dataset, name): entry.counts[what]
        for index in all_indexes(layout, stage)
        for name, entry in index.images.items()
        if what in entry.counts
    }


def _rounded(value: float) -> float | None:
    return None if value != value else round(value, 4)  # nan is not equal to itself


def _link(layout: Layout, path: Path) -> str:
    """Address of a file beside the page; # and ? in its name are no parts of an address."""
    return quote(path.relative_to(layout.report.parent).as_posix())


def _inside(layout: Layout, made: Sequence[Made]) -> list[tuple[str, str]]:
    """Names and data addresses of some thumbnails, worst first."""
    pictures = []
    for (dataset, image_id, _), has_thumbnail, _ in made[:OVERVIEW_PICTURES]:
        if has_thumbnail:
            # inside the page: `snakemake --report` takes one file
            stored = layout.thumbnail(dataset, image_id).read_bytes()
            content = base64.b64encode(stored).decode()
            pictures.append((f"{dataset}/{image_id}", f"data:image/jpeg;base64,{content}"))
    return pictures


def _about(layout: Layout, run: RunSummary, max_pages: int) -> dict[str, str]:
    """What one should know about the page: who made it from what, and under which licences."""
    provenance = run.provenance or {}
    weights = {of["weights"] for of in provenance.get("branches", {}).values() if of.get("weights")}
    return {
        "version": f"hvlabel {__version__} (Apache-2.0)",
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": f"hvlabel report --results {shlex.quote(str(layout.root))} --max-pages {max_pages}",
        "fusion settings": json.dumps(provenance.get("settings", {})),
        "weights and their licences": "; ".join(sorted(weights)) or "none",
    }
