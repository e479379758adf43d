"""Finished runs side by side: one row per task, backbone, head, input and share of labels; seeds as mean and spread."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hvlabel.cache.publish import publish_bytes
from hvlabel.errors import ResultsError
from hvtrain.downstream.plots import draw_label_curves
from hvtrain.engine.run_folder import RunFiles

TELL_APART = ("task", "backbone", "head", "input", "labels")  # of rows: runs that differ in the seed share one
NAN = float("nan")
NOTHING = "-"  # in a cell


def runs_below(folder: Path) -> list[dict[str, Any]]:
    """Facts of all finished runs below a folder, in the order of their paths; ResultsError if there are none."""
    runs = []
    for path in sorted(folder.rglob(RunFiles(folder).facts.name)):
        try:
            facts = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise ResultsError(f"{path}: cannot be read ({str(error)[:80]}); delete it and run again") from error
        # a pre-training run has a run.json too
        if isinstance(facts, dict) and "kind" in facts and "scores" in facts:
            runs.append(facts)
    if not runs:
        raise ResultsError(f"{folder}: no finished run of a downstream task below it; `hvtrain adapt` makes one")
    return runs


def table(runs: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Header and rows as text.

    Figures are means over seeds, each beside its standard deviation (of a sample; - for one seed).
    """
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = defaultdict(list)
    for run in runs:
        of_run = tuple(run[name] for name in TELL_APART)
        groups[of_run].append(run)
    names: dict[str, None] = {}  # each once, in the order of their first run
    for run in runs:
        names |= dict.fromkeys(run["scores"]["test"])
    header = [*TELL_APART, "seeds"]
    for name in names:
        header += [name, f"{name} sd"]
    header += ["trainable", "total", "seconds"]
    rows = [header]
    for group in sorted(groups, key=_place):
        of_group = groups[group]
        *words, labels = group
        row = [*map(str, words), f"{labels:g}", str(len(of_group))]
        for name in names:
            values = [run["scores"]["test"].get(name, NAN) for run in of_group]  # kinds have figures of their own
            mean, deviation = spread(values)
            row += [_figure(mean), _figure(deviation)]
        seconds = np.mean([run["seconds"] for run in of_group])
        first = of_group[0]  # seeds have networks of one size
        row += [str(first["trainable_parameters"]), str(first["total_parameters"]), f"{seconds:.1f}"]
        rows.append(row)
    return rows


def spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation of a sample; nan for the second of a single value."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, NAN
    # of a sample: three seeds stand for all that there could be
    return mean, float(np.std(values, ddof=1))


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table for people, figures to the right."""
    header, *lines = ["| " + " | ".join(row) + " |" for row in rows]
    n_words = len(TELL_APART) - 1  # the share of labels is a figure
    n_figures = len(rows[0]) - n_words
    alignment = "|" + "---|" * n_words + "---:|" * n_figures
    return "\n".join([header, alignment, *lines]) + "\n"


def compare(folder: Path) -> str:
    """Write compare.tsv and compare.md, and the curves of tasks with several shares of labels; returns the table."""
    runs = runs_below(folder)
    rows = table(runs)
    for_people = markdown(rows)
    lines = ["\t".join(row) + "\n" for row in rows]
    publish_bytes(folder / "compare.tsv", "".join(lines).encode())
    publish_bytes(folder / "compare.md", for_people.encode())
    for task in dict.fromkeys(run["task"] for run in runs):
        of_task = [run for run in runs if run["task"] == task]
        if len({run["labels"] for run in of_task}) > 1:
            figure = of_task[0]["figure"]
            draw_label_curves(folder / f"labels_{task}.png", _curves(of_task, figure), figure)
    return for_people


def _place(group: tuple[Any, ...]) -> tuple[Any, ...]:
    """Of a group among the rows: by its words, then by its share of labels, which is a number: 5 before 10."""
    *words, labels = group
    return (*map(str, words), labels)


def _curves(runs: Sequence[Mapping[str, Any]], figure: str) -> dict[str, list[tuple[float, float, float]]]:
    """Score by share of labels of each way to see a task."""
    values: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        name = f"{run['backbone']}, {run['input']}, {run['head']}"
        score = run["scores"]["test"][figure]
        values[name][run["labels"]].append(score)
    curves = {}
    for name, by_share in values.items():
        rising = sorted(by_share.items())
        curves[name] = [(share, *spread(of_seeds)) for share, of_seeds in rising]
    return curves


def _figure(value: float) -> str:
    return NOTHING if math.isnan(value) else f"{value:.4f}"
