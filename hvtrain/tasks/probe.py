"""Linear probe: what a straight line can read off frozen features, pixel by pixel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

PIXELS_PER_IMAGE = 768  # drawn for fitting: neighbours are alike, more would add little
WEIGHT_PENALTY = 1e-3  # of squared weights of standardised features: with fewer pixels than channels they would grow
ITERATIONS = 60  # of L-BFGS; the problem is convex
NO_CLASS = 255  # of a pixel whose class is not known
MIN_STD = 1e-6  # added to the spread of a channel, which may be constant


def probe_miou(fit: Sequence[tuple[Tensor, np.ndarray]], test: Sequence[tuple[Tensor, np.ndarray]], seed: int) -> float:
    """Mean IoU over the classes that occur in `test`, of a logistic regression fitted on `fit`; nan without either.

    Each item: features (D, h, w) of an image at any resolution, read bilinearly, and its classes (H, W) uint8, 255 for
    none.
    """
    if not fit or not test:
        return float("nan")
    random = np.random.default_rng(seed)
    drawn = [_pixels(features, classes, random) for features, classes in fit]
    x = torch.cat([of_image for of_image, _ in drawn])  # (n, D)
    y = torch.cat([of_image for _, of_image in drawn])  # (n,)
    lasts = [_last_class(classes) for _, classes in (*fit, *test)]
    n_classes = 1 + max(lasts)
    weight, bias = logistic_weights(x, y, n_classes)
    confusion = np.zeros((n_classes, n_classes), np.int64)  # rows: truth, columns: prediction
    for features, classes in test:
        # logits are interpolated, not features: both are linear, there are fewer channels
        kernels = weight[:, :, None, None]  # (K, D, 1, 1)
        logits = F.conv2d(features[None].float(), kernels, bias)  # (1, K, h, w)
        scores = F.interpolate(logits, size=classes.shape, mode="bilinear", align_corners=False)[0]  # (K, H, W)
        predicted = scores.argmax(dim=0).numpy()
        confusion += _confusion(classes, predicted, n_classes)
    overlap = np.diag(confusion)
    n_true = confusion.sum(axis=1)
    n_predicted = confusion.sum(axis=0)
    union = n_true + n_predicted - overlap
    iou = overlap / np.maximum(union, 1)
    return float(iou[n_true > 0].mean())


def logistic_weights(x: Tensor, y: Tensor, n_classes: int) -> tuple[Tensor, Tensor]:
    """Weights (K, D) and biases (K,) that tell classes y (n,) int64 from features x (n, D) float32 as they are."""
    mean, std = _spread(x)
    weight = torch.zeros(n_classes, x.shape[1], requires_grad=True)
    bias = torch.zeros(n_classes, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=ITERATIONS, line_search_fn="strong_wolfe")
    x = (x - mean) / std

    def loss() -> Tensor:
        solver.zero_grad()
        fit = F.cross_entropy(x @ weight.T + bias, y)
        value = fit + WEIGHT_PENALTY * weight.square().sum()
        value.backward()
        return value

    solver.step(loss)
    return _unstandardised(weight.detach(), bias.detach(), mean, std)


def least_squares_weights(x: Tensor, y: Tensor, n_classes: int) -> tuple[Tensor, Tensor]:
    """As logistic_weights, of ridge regression on a column per class, 1 in it and 0 elsewhere: one solve."""
    mean, std = _spread(x)
    x = ((x - mean) / std).double()  # (n, D)
    target = F.one_hot(y, n_classes).double()  # (n, K)
    share = target.mean(dim=0)  # (K,), what an empty set of features would answer
    penalty = WEIGHT_PENALTY * torch.eye(x.shape[1], dtype=x.dtype)
    gram = x.T @ x / len(x) + penalty  # (D, D)
    moments = x.T @ (target - share) / len(x)  # (D, K)
    weight = torch.linalg.solve(gram, moments).T  # (K, D)
    return _unstandardised(weight.float(), share.float(), mean, std)


def _spread(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and standard deviation (D,), never 0, of features (n, D)."""
    return x.mean(dim=0), x.std(dim=0) + MIN_STD


def _unstandardised(weight: Tensor, bias: Tensor, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
    """The standardising folded into weights (K, D) and biases (K,): they then apply to features as they are."""
    weight = weight / std
    return weight, bias - weight @ mean


def _last_class(classes: np.ndarray) -> int:
    return int(classes[classes != NO_CLASS].max(initial=0))


def _confusion(classes: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """(K, K) counts of pixels by class and prediction, both (H, W)."""
    known = classes != NO_CLASS
    pairs = classes[known].astype(int) * n_classes + predicted[known]  # each pair of classes as one number
    counts = np.bincount(pairs, minlength=n_classes**2)
    return counts.reshape(n_classes, n_classes)


def _pixels(features: Tensor, classes: np.ndarray, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """(n, D) features and (n,) classes at pixels drawn at random."""
    known = np.flatnonzero(classes != NO_CLASS)
    n_drawn = min(PIXELS_PER_IMAGE, len(known))
    chosen = random.choice(known, size=n_drawn, replace=False)
    rows, columns = np.unravel_index(chosen, classes.shape)
    height, width = classes.shape
    x, y = (columns + 0.5) / width, (rows + 0.5) / height  # middles of pixels, in [0, 1]
    xy = np.stack([x, y], axis=-1)  # (n, 2)
    grid = torch.from_numpy(xy * 2 - 1).float()[None, None]  # grid_sample counts from -1 to 1
    values = F.grid_sample(features[None].float(), grid, align_corners=False, padding_mode="border")  # (1, D, 1, n)
    of_chosen = classes.flat[chosen].astype(np.int64)
    return values[0, :, 0].T, torch.from_numpy(of_chosen)
