"""Recipe of the quality predictor: from runs on generated scenes to resources/models/quality.json.

python -m hvtrain.recipes.quality OUT.json RESULTS [RESULTS ...]

Each results folder holds demo scenes with their masks (config/quality_scenes.yaml makes one). A mask's target is its
best IoU with an object. Beside what the branches made, true masks are grown, shrunk, shifted, cut, and merged with
others: whatever makes masks errs in these ways. The fit minimises cross-entropy against the IoU, so its output is an
estimate of it; a monotone curve fitted on scenes that training did not see takes out what is left.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from hvlabel.cache.index import all_indexes
from hvlabel.cache.publish import publish_bytes
from hvlabel.cube import open_cube
from hvlabel.layout import Layout
from hvlabel.masks import Mask, MaskSet, decode, encode, iou_matrix, read_document, read_masks
from hvlabel.quality import NAMES, mask_features
from hvlabel.quality.view import make_view

SEED = 20
MEMBERS, HIDDEN, STEPS, RATE, DECAY = 5, (32, 16), 1500, 4e-3, 2e-3
HELD_OUT = 4  # every fourth scene decides the curve
CORRUPTED_PER_OBJECT, CORRUPTED_WEIGHT = 2, 0.3
NOISE = (0.0, 0.01)  # deviations added to the values, share of their spread: of each scene a clean and a noisy copy
QUANTILES = (0.002, 0.998)  # range of a feature in training
KNOTS = 24


@dataclass(frozen=True)
class Examples:
    """Features (N, F), IoU with the truth (N,), weight (N,), and the scene (N,) each mask is of."""

    features: np.ndarray
    iou: np.ndarray
    weight: np.ndarray
    scene: np.ndarray


def labelled_scenes(results: Path) -> Iterator[tuple[str, str, list[Mask], MaskSet]]:
    """(data set, image, masks of all branches, ground truth) of every label that has ground truth."""
    layout = Layout(results)
    for index in all_indexes(layout, "labels"):
        for image_id, entry in index.images.items():
            truth = layout.truth(index.dataset, image_id)
            if entry.status != "ok" or not truth.exists():
                continue
            branches = read_document(layout.label(index.dataset, image_id))["provenance"]["branches"]
            pool = [m for b in branches for m in read_masks(layout.masks(b, index.dataset, image_id)).masks]
            yield index.dataset, image_id, pool, read_masks(truth)


def collect(
    folders: Sequence[Path], random: np.random.Generator, only: set[tuple[Path, str, str]] | None = None
) -> Examples:
    """The examples of some runs. only: (folder, data set, image) of those that count; None: all."""
    parts: list[tuple[np.ndarray, np.ndarray, float, int]] = []
    n_scenes = 0
    for folder in folders:
        for dataset, image_id, pool, truth in labelled_scenes(folder):
            if only is not None and (folder, dataset, image_id) not in only:
                continue
            cube = open_cube(Layout(folder).cube(dataset, image_id))
            values = cube.live_values()
            for noise in NOISE:
                noisy = values + random.normal(0, 1, values.shape).astype(np.float32) * values.std() * np.float32(noise)
                view = make_view(noisy if noise else values, cube.rgb, cube.valid)
                parts.append((mask_features(pool, view), _truth_iou(pool, truth), 1.0, n_scenes))
                wrong = corrupted(truth, pool, random)
                rows = mask_features([*pool, *wrong], view)[len(pool) :]
                parts.append((rows, _truth_iou(wrong, truth), CORRUPTED_WEIGHT, n_scenes))
            n_scenes += 1
    features, iou, weight, scene = zip(*parts, strict=True)
    sizes = [len(f) for f in features]
    return Examples(np.concatenate(features), np.concatenate(iou), np.repeat(weight, sizes), np.repeat(scene, sizes))


def joined(parts: Sequence[Examples]) -> Examples:
    """Several sets of examples as one; scenes are numbered anew."""
    starts = np.cumsum([0, *(int(p.scene.max()) + 1 for p in parts)])
    return Examples(
        np.concatenate([p.features for p in parts]),
        np.concatenate([p.iou for p in parts]),
        np.concatenate([p.weight for p in parts]),
        np.concatenate([p.scene + start for p, start in zip(parts, starts, strict=False)]),
    )


def corrupted(truth: MaskSet, pool: Sequence[Mask], random: np.random.Generator) -> list[Mask]:
    """True masks spoilt as masks are spoilt, with what some mask of the pool says about itself."""
    objects = [decode(r) for r in truth.rles]
    made = []
    for k, mask in enumerate(objects):
        for _ in range(CORRUPTED_PER_OBJECT):
            other = objects[int(random.integers(len(objects)))] if len(objects) > 1 else mask
            spoilt = _spoil(mask, other if other is not objects[k] else mask, random)
            if spoilt.sum() >= 20:
                donor = pool[int(random.integers(len(pool)))] if pool else truth.masks[k]
                made.append(
                    Mask(
                        encode(spoilt),
                        donor.score,
                        "corrupted",
                        (0.0, 0.0),
                        predicted_iou=donor.predicted_iou,
                        stability_score=donor.stability_score,
                        extra=donor.extra,
                    )
                )
    return made


def _spoil(mask: np.ndarray, other: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """One (H, W) bool mask grown, shrunk, shifted, cut in two, merged with another, or left as it is."""
    reach = int(random.integers(1, max(2, round(0.25 * mask.sum() ** 0.5)) + 1))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    kind = random.choice(["grow", "shrink", "shift", "cut", "merge", "keep"])
    if kind == "grow":
        return cv2.dilate(mask.astype(np.uint8), kernel).astype(bool)
    if kind == "shrink":
        return cv2.erode(mask.astype(np.uint8), kernel).astype(bool)
    if kind == "shift":
        moved = np.roll(mask, random.integers(-2 * reach, 2 * reach + 1, 2), axis=(0, 1))
        return np.asarray(moved)
    if kind == "cut":
        y, x = np.nonzero(mask)
        angle = random.uniform(0, np.pi)
        along = np.cos(angle) * np.arange(mask.shape[1])[None] + np.sin(angle) * np.arange(mask.shape[0])[:, None]
        at = np.quantile(np.cos(angle) * x + np.sin(angle) * y, random.uniform(0.2, 0.8))
        return np.asarray(mask & (along < at))
    return np.asarray(mask | other) if kind == "merge" else mask


def _truth_iou(masks: Sequence[Mask], truth: MaskSet) -> np.ndarray:
    """(N,) best IoU with an object."""
    return iou_matrix([m.rle for m in masks], truth.rles).max(axis=1, initial=0.0)


def fit(examples: Examples, seed: int = SEED) -> dict[str, object]:
    """The content of a predictor's file."""
    held_out = examples.scene % HELD_OUT == HELD_OUT - 1
    low, high = np.quantile(examples.features, QUANTILES, axis=0)
    clipped = np.clip(examples.features, low, high)
    centre, spread = clipped.mean(axis=0), np.maximum(clipped.std(axis=0), 1e-6)
    x = torch.tensor((clipped - centre) / spread, dtype=torch.float32)
    target = torch.tensor(examples.iou, dtype=torch.float32)
    weight = torch.tensor(examples.weight, dtype=torch.float32)
    learn = torch.from_numpy(~held_out)
    members, outputs = [], []
    for member in range(MEMBERS):
        network = _train(x[learn], target[learn], weight[learn], seed + member)
        with torch.no_grad():
            outputs.append(torch.sigmoid(network(x)[:, 0]).numpy())
        layers = [m for m in network if isinstance(m, nn.Linear)]
        members.append(
            [[_short(layer.weight.detach().numpy().T), _short(layer.bias.detach().numpy())] for layer in layers]
        )
    real = held_out & (examples.weight == 1)
    knots = monotone(np.mean(outputs, axis=0)[real], examples.iou[real])
    return {
        "features": list(NAMES),
        "low": _short(low),
        "high": _short(high),
        "centre": _short(centre),
        "spread": _short(spread),
        "members": members,
        "knots": _short(knots),
        "trained_on": {"scenes": int(examples.scene.max()) + 1, "masks": len(examples.iou), "seed": seed},
    }


def _train(x: torch.Tensor, target: torch.Tensor, weight: torch.Tensor, seed: int) -> nn.Sequential:
    """One network; inputs are jittered, so that it does not learn scenes by heart."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    sizes = [x.shape[1], *HIDDEN]
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.Tanh()]
    network = nn.Sequential(*layers, nn.Linear(sizes[-1], 1))
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=DECAY)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=STEPS)
    for _ in range(STEPS):
        rows = torch.randint(len(x), (1024,), generator=generator)
        jitter = torch.randn(len(rows), x.shape[1], generator=generator) * 0.1
        logits = network(x[rows] + jitter)[:, 0]
        loss = nn.functional.binary_cross_entropy_with_logits(logits, target[rows], weight[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rate.step()
    return network


def monotone(predicted: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """(K, 2) knots of the rising curve nearest to (predicted, observed): pooled adjacent violators on equal bins."""
    order = np.argsort(predicted, kind="stable")
    bins = [b for b in np.array_split(order, KNOTS) if len(b)]
    means = [[float(predicted[b].mean()), float(observed[b].mean()), float(len(b))] for b in bins]
    pooled: list[list[float]] = []
    for x, y, n in means:
        pooled.append([x, y, n])
        while len(pooled) > 1 and pooled[-2][1] > pooled[-1][1]:
            (x0, y0, n0), (x1, y1, n1) = pooled[-2], pooled[-1]
            pooled[-2:] = [[(x0 * n0 + x1 * n1) / (n0 + n1), (y0 * n0 + y1 * n1) / (n0 + n1), n0 + n1]]
    inner = np.array(pooled)[:, :2]
    return np.concatenate([[[0.0, min(0.0, inner[0, 1])]], inner, [[1.0, max(1.0, inner[-1, 1])]]])


def _short(values: np.ndarray) -> object:
    """Numbers of four digits, as lists."""
    return json.loads(json.dumps(np.asarray(values, float).tolist()), parse_float=lambda s: float(f"{float(s):.4g}"))


def main() -> None:
    """Train on the runs named and write the predictor."""
    if len(sys.argv) < 3:
        raise SystemExit("python -m hvtrain.recipes.quality OUT.json RESULTS [RESULTS ...]")
    torch.set_num_threads(1)  # the same bytes each time
    examples = collect([Path(p) for p in sys.argv[2:]], np.random.default_rng(SEED))
    content = fit(examples)
    publish_bytes(Path(sys.argv[1]), (json.dumps(content, separators=(",", ":")) + "\n").encode())
    print(f"{sys.argv[1]}: {content['trained_on']}")  # noqa: T201 (the answer)


if __name__ == "__main__":
    main()
