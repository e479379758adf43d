"""A network of known answers behind real preprocessing and upscaling."""

import cv2
import numpy as np
import pytest
import torch
from small_networks import small_topology

from hvlabel.models.hyperfree import HyperFree, HyperFreePredictor
from hvlabel.models.two_way import DecodedMasks


def analytic_logits(points_xy, img_size):
    """Closed-form stand-in for a decoder: discs with texture around each point, and an IoU that varies with place."""
    n = img_size // 4
    p = points_xy.to(torch.float32)
    c = (torch.arange(n, dtype=torch.float32) + 0.5) * 4
    gx, gy = c[None, None, None, :], c[None, None, :, None]
    px, py = p[:, 0].reshape(-1, 1, 1, 1), p[:, 1].reshape(-1, 1, 1, 1)
    radii = torch.tensor([0.06, 0.15, 0.33]).reshape(1, 3, 1, 1) * img_size * (1 + 0.5 * torch.sin(px * 0.9 + py * 0.4))
    texture = torch.sin(gx * 0.35 + px) * torch.cos(gy * 0.29 - py)
    logits = (radii - torch.sqrt((gx - px) ** 2 + (gy - py) ** 2)) * 5.0 + torch.tensor([0.0, 25.0, 60.0]).reshape(
        1, 3, 1, 1
    ) * texture
    return logits, 0.55 + 0.45 * torch.cos(torch.tensor([[1.0, 2.0, 3.0]]) * (p[:, :1] * 0.37 + p[:, 1:] * 0.11))


class AnalyticNetwork(HyperFree):
    """Real preprocessing and upscaling around the analytic decoder."""

    def encode(self, image, *args, **kwargs):
        return [torch.zeros(1, 8, 8, 8)]

    def decode(self, features, *, points_xy, multimask=True, **kwargs):
        logits, iou = analytic_logits(points_xy[:, 0], self.topology.image_size_px)
        return (logits, iou) if multimask else (logits[:, :1], iou[:, :1])


class AnalyticPredictor(HyperFreePredictor):
    def decode_above(self, embedding, points_xy, min_iou):
        logits, iou = self.decode(embedding, points_xy)
        keep = iou > (-1 if min_iou is None else min_iou)
        return DecodedMasks(logits[keep], iou[keep], keep.nonzero()[:, 0])


@pytest.fixture
def predictor():
    topology = small_topology(image_size_px=128)
    return AnalyticPredictor(AnalyticNetwork(topology), [500.0])


@pytest.fixture
def blobs():
    """n -> (n, 40, 48) smooth logits, the highest tenth above 0."""

    def make(n):
        rng = np.random.default_rng(0)
        smooth = torch.from_numpy(np.stack([cv2.GaussianBlur(rng.normal(size=(40, 48)), (0, 0), 4) for _ in range(n)]))
        return smooth.float() - smooth.float().flatten(1).quantile(0.9, dim=1)[:, None, None]

    return make
