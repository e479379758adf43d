"""Pictures of runs: examples, confusion, and how scores grow with labels."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hvlabel.cache.publish import publish_bytes
from hvtrain.downstream.embedded import has_tsne, neighbourhoods, principal

NO_CLASS = (30, 30, 30)  # grey of pixels that do not count
PANEL_IN, DPI = 2.6, 90
LEAST_CELLS = 10  # of which neighbourhoods are worth drawing
Row = tuple[str, np.ndarray, np.ndarray, np.ndarray]  # name, picture (H, W, 3) uint8, truth and prediction (H, W)


def coloured(labels: np.ndarray, colours: Sequence[Sequence[int]]) -> np.ndarray:
    """(H, W, 3) uint8 of labels (H, W)."""
    table = np.full((256, 3), NO_CLASS, np.uint8)  # a colour for every byte: what is no class is grey
    table[: len(colours)] = np.array(colours, np.uint8)
    return table[labels.astype(np.uint8)]


def draw_examples(out: Path, rows: Sequence[Row], names: Sequence[str], colours: Sequence[Sequence[int]]) -> None:
    """PNG with a line per image: picture, truth, prediction; the classes below."""
    plt = _pyplot()
    size_in = (3 * PANEL_IN, len(rows) * PANEL_IN + 0.8)  # a strip for the classes below
    figure, axes = plt.subplots(len(rows), 3, figsize=size_in, squeeze=False, layout="constrained")
    for line, (name, picture, truth, predicted) in zip(axes, rows, strict=True):
        panels = (picture, coloured(truth, colours), coloured(predicted, colours))
        titles = (name, "truth", "prediction")
        for axis, panel, title in zip(line, panels, titles, strict=True):
            axis.imshow(panel)
            axis.set_title(title, fontsize=8)
            axis.set_axis_off()
    handles = []
    for name, colour in zip(names, colours, strict=True):
        handles.append(plt.Rectangle((0, 0), 1, 1, color=_unit(colour), label=name))
    figure.legend(handles=handles, loc="outside lower center", ncols=5, fontsize=7)
    _publish(figure, out)


def draw_confusion(out: Path, confusion: np.ndarray, names: Sequence[str]) -> None:
    """PNG of a confusion matrix (K, K), each row as shares of the true class."""
    plt = _pyplot()
    # shares of the true class: rare classes would be invisible as counts
    totals = np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    shares = confusion / totals
    side_in = 1.5 + 0.42 * len(names)
    figure, axis = plt.subplots(figsize=(side_in + 0.6, side_in), layout="constrained")
    drawn = axis.imshow(shares, vmin=0, vmax=1, cmap="viridis")
    for row, column in zip(*np.nonzero(shares >= 0.05), strict=True):
        text = f"{shares[row, column]:.2f}".lstrip("0")
        # x is the column
        axis.text(column, row, text, ha="center", va="center", fontsize=6, color="white")
    axis.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    axis.set_yticks(range(len(names)), names, fontsize=7)
    axis.set_xlabel("predicted")
    axis.set_ylabel("truth")
    figure.colorbar(drawn, shrink=0.7)
    _publish(figure, out)


def draw_label_curves(out: Path, curves: dict[str, list[tuple[float, float, float]]], figure_name: str) -> None:
    """PNG of scores by share of labels.

    curves : name -> (per cent of the labels, mean, sd over seeds), rising
    """
    plt = _pyplot()
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, points in curves.items():
        per_cent, means, deviations = zip(*points, strict=True)
        bars = np.nan_to_num(deviations)  # of a single seed there is no deviation
        axis.errorbar(per_cent, means, yerr=bars, marker="o", capsize=3, label=name)
    axis.set_xscale("log")
    axis.set_xlabel("labels used, %")
    axis.set_ylabel(figure_name)
    axis.legend(fontsize=7)
    _publish(figure, out)


def draw_features(
    out: Path, features: np.ndarray, labels: np.ndarray, names: Sequence[str], colours: Sequence[Sequence[int]]
) -> None:
    """PNG of cells of the deepest map by class: on two principal components, and by t-SNE where scikit-learn is there.

    features : (n, D) float; labels : (n,) whole numbers, the class in the middle of each cell
    """
    every_cell = np.arange(len(features))
    shown = [("first component of the features", "second", every_cell, principal(features))]
    if has_tsne() and len(features) >= LEAST_CELLS:
        shown.append(("t-SNE of the features", "", *neighbourhoods(features)))
    plt = _pyplot()
    size_in = (5.5 * len(shown), 4.5)
    figure, axes = plt.subplots(1, len(shown), figsize=size_in, squeeze=False, layout="constrained")
    for axis, (x_label, y_label, cells, places) in zip(axes[0], shown, strict=True):
        of_cells = labels[cells]
        for k, (name, colour) in enumerate(zip(names, colours, strict=True)):
            x, y = places[of_cells == k].T
            if len(x):  # a class without cells has no place in the legend
                axis.scatter(x, y, s=5, color=[_unit(colour)], label=name)
        axis.set_xlabel(x_label)
        axis.set_ylabel(y_label)
        axis.set_facecolor("lightgrey")  # classes may be white
    axes[0, 0].legend(fontsize=6, markerscale=2)
    _publish(figure, out)


def _unit(colour: Sequence[int]) -> list[float]:
    """A colour as matplotlib takes it: (3,) in [0, 1]."""
    return [level / 255 for level in colour]


def _pyplot() -> Any:
    """Matplotlib where there is no screen; imported when something is drawn."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    return plt


def _publish(figure: Any, out: Path) -> None:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=DPI)
    _pyplot().close(figure)
    publish_bytes(out, content.getvalue())
