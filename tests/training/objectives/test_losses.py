"""Every term against a plain twin written pixel by pixel, and its gradient against differences."""

import math

import numpy as np
import pytest
import torch

from hvtrain.objectives.losses import (
    EDGE_CELLS,
    balanced_loss,
    dice_loss,
    distillation_loss,
    edge_loss,
    focal_loss,
    mask_iou,
)

G = torch.Generator().manual_seed(0)
LOGITS = torch.randn(4, 2, 7, 6, generator=G, dtype=torch.float64) * 2
TARGET = (torch.rand(4, 1, 7, 6, generator=G) > 0.6).double()
TARGET[2:] = 0
TARGET[2, 0, :2, 0] = 1  # a small object in a corner, and none
MASK_LOSSES = {"focal": focal_loss, "dice": dice_loss, "balanced": balanced_loss, "edge": edge_loss}


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def plain_focal(logits, target):
    total = 0.0
    for x, t in zip(logits.ravel(), target.ravel(), strict=True):
        p = sigmoid(x) if t else 1 - sigmoid(x)
        total += (0.25 if t else 0.75) * (1 - p) ** 2 * -math.log(p)
    return total / logits.size


def plain_dice(logits, target):
    p = [sigmoid(x) for x in logits.ravel()]
    overlap = sum(a * t for a, t in zip(p, target.ravel(), strict=True))
    return 1 - (2 * overlap + 1) / (sum(p) + target.sum() + 1)


def plain_balanced(logits, target):
    inside = [-math.log(sigmoid(x)) for x, t in zip(logits.ravel(), target.ravel(), strict=True) if t]
    outside = [-math.log(1 - sigmoid(x)) for x, t in zip(logits.ravel(), target.ravel(), strict=True) if not t]
    return sum(inside) / (len(inside) + 4) + sum(outside) / (len(outside) + 4)


def plain_edge(logits, target):
    height, width = target.shape
    terms = []
    for y in range(height):
        for x in range(width):
            around = target[max(0, y - EDGE_CELLS) : y + EDGE_CELLS + 1, max(0, x - EDGE_CELLS) : x + EDGE_CELLS + 1]
            if around.min() != around.max():
                p = sigmoid(logits[y, x])
                terms.append(-math.log(p if target[y, x] else 1 - p))
    return float(np.mean(terms)) if terms else 0.0


PLAIN = {"focal": plain_focal, "dice": plain_dice, "balanced": plain_balanced, "edge": plain_edge}


@pytest.mark.parametrize("name", MASK_LOSSES)
def test_mask_losses_equal_their_plain_twins(name):
    found = MASK_LOSSES[name](LOGITS, TARGET)
    wanted = [[PLAIN[name](LOGITS[n, m].numpy(), TARGET[n, 0].numpy()) for m in range(2)] for n in range(4)]
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-9)


@pytest.mark.parametrize("name", MASK_LOSSES)
def test_mask_losses_have_the_right_gradient(name):
    assert torch.autograd.gradcheck(lambda x: MASK_LOSSES[name](x, TARGET), LOGITS.clone().requires_grad_())


def test_mask_iou_counts_pixels():
    a = torch.zeros(1, 2, 4, 4, dtype=torch.bool)
    a[0, 0, :2] = True  # 8 px
    target = torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    target[0, 0, 1:3] = True  # 8 px, 4 shared
    assert mask_iou(a, target).tolist() == [[pytest.approx(4 / 12), 0.0]]
    assert mask_iou(torch.zeros_like(a), torch.zeros_like(target)).tolist() == [[0.0, 0.0]]


def test_distillation_equals_its_plain_twin_and_is_least_at_the_teacher():
    student, teacher = torch.randn(2, 3, 4, generator=G).double(), torch.randn(2, 3, 4, generator=G).double()
    centre = torch.randn(4, generator=G).double()
    total = 0.0
    for s, t in zip(student.reshape(-1, 4).tolist(), teacher.reshape(-1, 4).tolist(), strict=True):
        wanted = [math.exp((v - c) / 0.7) for v, c in zip(t, centre.tolist(), strict=True)]
        given = [math.exp(v / 0.5) for v in s]
        total -= sum(w / sum(wanted) * math.log(g / sum(given)) for w, g in zip(wanted, given, strict=True))
    found = distillation_loss(student, teacher, centre, 0.5, 0.7)
    assert float(found) == pytest.approx(total / 6)
    best = (teacher - centre) / 0.7 * 0.5
    assert distillation_loss(best, teacher, centre, 0.5, 0.7) < found
    assert torch.autograd.gradcheck(
        lambda s: distillation_loss(s, teacher, centre, 0.5, 0.7), student.clone().requires_grad_()
    )
