"""Linear probe: what a straight line can read off frozen features, pixel by pixel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

PIXELS_PER_IMAGE = 768  # drawn for fitting
WEIGHT_PENALTY = 1e-3
ITERATIONS = 60  # of L-BFGS; the problem is convex
NO_CLASS = 255


def probe_miou(fit: Sequence[tuple[Tensor, np.ndarray]], test: Sequence[tuple[Tensor, np.ndarray]], seed: int) -> float:
    """Mean IoU over the classes that occur in `test`, of a logistic regression fitted on `fit`; nan without either.

    Each item: features (D, h, w) of an image at any resolution, read bilinearly, and its classes (H, W) uint8, 255 for
    none.
    """
    if not fit or not test:
        return float("nan")
    random = np.random.default_rng(seed)
    x, y = (torch.cat(part) for part in zip(*(_pixels(f, c, random) for f, c in fit), strict=True))
    mean, std = x.mean(dim=0), x.std(dim=0) + 1e-6
    n_classes = 1 + max(int(c[c != NO_CLASS].max(initial=0)) for _, c in (*fit, *test))
    weight, bias = _logistic_regression((x - mean) / std, y, n_classes)
    weight = weight / std
    bias = bias - weight @ mean
    confusion = np.zeros((n_classes, n_classes), np.int64)
    for features, classes in test:
        logits = F.conv2d(features[None].float(), weight[:, :, None, None], bias)
        scores = F.interpolate(logits, size=classes.shape, mode="bilinear", align_corners=False)[0]
        predicted = scores.argmax(dim=0).numpy()
        known = classes != NO_CLASS
        pairs = classes[known].astype(int) * n_classes + predicted[known]
        confusion += np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)
    overlap = np.diag(confusion)
    n_true, n_predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    iou = overlap / np.maximum(n_true + n_predicted - overlap, 1)
    return float(iou[n_true > 0].mean())


def _pixels(features: Tensor, classes: np.ndarray, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """(n, D) features and (n,) classes at pixels drawn at random."""
    known = np.flatnonzero(classes != NO_CLASS)
    chosen = random.choice(known, size=min(PIXELS_PER_IMAGE, len(known)), replace=False)
    rows, columns = np.unravel_index(chosen, classes.shape)
    place = np.stack([(columns + 0.5) / classes.shape[1], (rows + 0.5) / classes.shape[0]], axis=-1) * 2 - 1
    grid = torch.from_numpy(place).float()[None, None]
    values = F.grid_sample(features[None].float(), grid, align_corners=False, padding_mode="border")[0, :, 0]
    return values.T, torch.from_numpy(classes.flat[chosen].astype(np.int64))


def _logistic_regression(x: Tensor, y: Tensor, n_classes: int) -> tuple[Tensor, Tensor]:
    """Weights (K, D) and biases (K,)."""
    weight = torch.zeros(n_classes, x.shape[1], requires_grad=True)
    bias = torch.zeros(n_classes, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        value = F.cross_entropy(x @ weight.T + bias, y) + WEIGHT_PENALTY * weight.square().sum()
        value.backward()
        return value

    solver.step(loss)
    return weight.detach(), bias.detach()
