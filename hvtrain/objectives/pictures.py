"""Pictures of what a student predicts."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from matplotlib.figure import Figure

from hvlabel.cache.publish import publish_bytes
from hvtrain.backbones.contract import Backbone
from hvtrain.backbones.parts.autoencoder import Spectra
from hvtrain.data.batch import Batch
from hvtrain.data.inputs import network_input
from hvtrain.heads.prompted import decoder_of

MAX_ROWS, MAX_MASKS = 6, 4
MAX_SPECTRA = 6
SHOWN_BANDS = (0.85, 0.5, 0.15)  # as red, green and blue: places in the order of wavelengths
STRETCH_PERCENT = (1, 99)  # a few bright pixels shall not darken the rest
GAMMA = 0.6  # reflectances are mostly low
TARGET_BGR, PREDICTED_BGR, CLICK_BGR = (0, 255, 0), (0, 0, 255), (255, 255, 255)


@torch.no_grad()
def draw_predictions(out: Path, batch: Batch, student: Backbone, side_px: int) -> None:
    """PNG with a row per crop: three bands, then for each of some clicks the target (green) and the answer (red).

    side_px : of the network's input
    """
    few = slice(0, MAX_ROWS)
    x = network_input(batch.cube[few], batch.flips[few], side_px, student.input_range)
    bands = batch.wavelengths_nm
    student.eval()
    gsd_m = batch.gsd_m[few].tolist()
    neck = student.encode(x, bands, gsd_m)[-1]  # (B, D, g, g)
    rows = []
    for k in range(len(x)):
        values = x[k].float().cpu().numpy()  # (C, S, S)
        picture = _three_bands(values, bands)
        points = batch.points_xy[k, :MAX_MASKS]
        labels = torch.ones_like(points[:, :1], dtype=torch.int64)
        logits, iou = decoder_of(student).decode(neck[k : k + 1], points_xy=points[:, None], labels=labels)
        most_trusted = iou.argmax(dim=1).tolist()
        tiles = [picture]
        for m, point in enumerate(points.tolist()):
            target = batch.masks[k, m].cpu().numpy()  # (L, L)
            answer = logits[m, most_trusted[m]]  # (L, L)
            predicted = (answer > 0).cpu().numpy()
            tiles.append(_tile(picture, target, predicted, point))
        rows.append(np.concatenate(tiles, axis=1))
    student.train()
    _, png = cv2.imencode(".png", np.concatenate(rows))
    publish_bytes(out, png.tobytes())


@torch.no_grad()
def draw_spectra(out: Path, spectra: Spectra) -> None:
    """PNG with a panel per spectrum: what was there, what the autoencoder says, and what it was not shown."""
    few = slice(0, MAX_SPECTRA)
    targets = spectra.target[few].float().cpu().numpy()
    predictions = spectra.prediction[few].float().cpu().numpy()
    removed = spectra.removed[few].cpu().numpy()
    figure = Figure(figsize=(10, 5), layout="constrained")
    panels = figure.subplots(2, MAX_SPECTRA // 2, sharex=True).flat
    for panel, target, prediction, hidden in zip(panels, targets, predictions, removed, strict=False):
        bands = np.arange(len(target))
        panel.plot(bands, target, color="0.3", linewidth=1, label="input")
        panel.plot(bands, prediction, color="tab:red", linewidth=1, label="prediction")
        shown = ~hidden
        panel.plot(bands[shown], target[shown], "o", color="0.3", markersize=3, label="what it was shown")
    panels[0].legend(fontsize="small")
    figure.supxlabel("band")
    content = io.BytesIO()
    figure.savefig(content, format="png")
    publish_bytes(out, content.getvalue())


def _three_bands(x: np.ndarray, wavelengths_nm: Sequence[float]) -> np.ndarray:
    """(S, S, 3) uint8 BGR of an input (C, S, S)."""
    by_wavelength = np.argsort(wavelengths_nm)
    last = len(by_wavelength) - 1
    places = [int(share * last) for share in SHOWN_BANDS]
    picture = x[by_wavelength[places]].transpose(1, 2, 0)  # (S, S, 3)
    low, high = np.percentile(picture, STRETCH_PERCENT)
    share = (picture - low) / max(high - low, 1e-6)
    stretched = np.clip(share, 0, 1) ** GAMMA
    rgb = (stretched * 255).astype(np.uint8)
    return rgb[:, :, ::-1].copy()  # OpenCV draws on no view with negative strides


def _tile(picture: np.ndarray, target: np.ndarray, predicted: np.ndarray, point: Sequence[float]) -> np.ndarray:
    """The picture with two outlines and a click."""
    side_px = len(picture)
    tile = picture.copy()
    for mask, colour in ((target, TARGET_BGR), (predicted, PREDICTED_BGR)):
        size = (side_px, side_px)
        large = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        outlines, _ = cv2.findContours(large, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(tile, outlines, -1, colour, 1)
    x, y = point
    cv2.circle(tile, (round(x), round(y)), 3, CLICK_BGR, -1)
    return tile
