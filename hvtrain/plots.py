"""Pictures of a run: its curves, and what it predicts."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import torch

from hvlabel.cache.publish import publish_bytes
from hvtrain.objective import Objective
from hvtrain.samples import Batch
from hvtrain.student import network_input

SHOWN = ("loss", "miou", "distill", "dense", "shortcut", "grad_norm", "waiting_share")
MAX_ROWS, MAX_MASKS = 6, 4


def draw_curves(metrics: Path, out: Path) -> None:
    """PNG with a panel per quantity that the run has."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    with metrics.open(newline="") as file:
        rows = list(csv.DictReader(file))
    shown = [name for name in SHOWN if any(r[name] for r in rows)]
    figure, axes = plt.subplots(2, -(-len(shown) // 2), figsize=(4 * -(-len(shown) // 2), 6), squeeze=False)
    for axis, name in zip(axes.flat, shown, strict=False):
        axis.plot([int(r["step"]) for r in rows if r[name]], [float(r[name]) for r in rows if r[name]], linewidth=1)
        axis.set_title(name)
        axis.set_xlabel("step")
    figure.tight_layout()
    figure.savefig(out, dpi=90)
    plt.close(figure)


@torch.no_grad()
def draw_predictions(out: Path, objective: Objective, batch: Batch) -> None:
    """PNG: per crop three bands, then per mask prompt, wanted outline (green) and predicted outline (red)."""
    settings, student = objective.settings, objective.student
    side = settings.student.crop_px
    few = slice(0, MAX_ROWS)
    x = network_input(batch.cube[few], batch.flips[few], side)
    bands = objective.wavelengths_nm[batch.camera]
    student.eval()
    neck = student.encode(x, bands, (batch.zoom[few] * settings.student.gsd_m).tolist())[-1]
    rows = []
    order = np.argsort(bands)[[int(share * (len(bands) - 1)) for share in (0.85, 0.5, 0.15)]]
    for k in range(len(x)):
        picture = x[k, torch.from_numpy(order).to(x.device)].permute(1, 2, 0).float().cpu().numpy()
        low, high = np.percentile(picture, (1, 99))
        base = (np.clip((picture - low) / max(high - low, 1e-6), 0, 1) ** 0.6 * 255).astype(np.uint8)[:, :, ::-1].copy()
        tiles = [base]
        points = batch.points_xy[k, :MAX_MASKS]
        logits, iou = student.decode(
            neck[k : k + 1], points_xy=points[:, None], labels=torch.ones_like(points[:, :1], dtype=torch.int64)
        )
        for m, point in enumerate(points.tolist()):
            tile = base.copy()
            wanted = batch.masks[k, m].cpu().numpy()
            found = (logits[m, int(iou[m].argmax())] > 0).cpu().numpy()
            for mask, colour in ((wanted, (0, 255, 0)), (found, (0, 0, 255))):
                large = cv2.resize(mask.astype(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST)
                outlines = cv2.findContours(large, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)[0]
                cv2.drawContours(tile, outlines, -1, colour, 1)
            cv2.circle(tile, (round(point[0]), round(point[1])), 3, (255, 255, 255), -1)
            tiles.append(tile)
        rows.append(np.concatenate(tiles, axis=1))
    student.train()
    publish_bytes(out, cv2.imencode(".png", np.concatenate(rows))[1].tobytes())
