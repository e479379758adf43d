"""Interactive segmentation: how well a click, and further clicks where it went wrong, bring up a mask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hvlabel.masks import interior_point
from hvlabel.models.hyperfree import HyperFree
from hvtrain.losses import mask_iou


@torch.no_grad()
def click_iou(network: HyperFree, neck: Tensor, masks: np.ndarray, clicks: Sequence[int]) -> np.ndarray:
    """(len(clicks), N) IoU after so many clicks, the first deepest inside the mask, each further one deepest inside the larger error.

    neck   : (1, D, g, g) of the crop
    masks  : (N, S, S) bool, S = the network's input
    clicks : rising numbers
    """
    side = masks.shape[1]
    target = torch.from_numpy(masks)
    points = torch.tensor([[interior_point(m)] for m in masks], dtype=torch.float32)  # (N, 1, 2)
    labels = torch.ones(len(masks), 1, dtype=torch.int64)
    before: Tensor | None = None
    scores = []
    for turn in range(1, max(clicks) + 1):
        logits, predicted = network.decode(
            neck,
            points_xy=points.to(neck.device),
            labels=labels.to(neck.device),
            masks=None if before is None else before[:, None],
            multimask=turn == 1,
        )
        before = logits[torch.arange(len(logits)), predicted.argmax(dim=1)]
        found = (
            F.interpolate(before[:, None].float(), (side, side), mode="bilinear", align_corners=False)[:, 0].cpu() > 0
        )
        if turn in clicks:
            scores.append(mask_iou(found[:, None], target[:, None])[:, 0].numpy())
        nxt = [_next_click(m, f) for m, f in zip(masks, found.numpy(), strict=True)]
        points = torch.cat([points, torch.tensor([[xy] for xy, _ in nxt], dtype=torch.float32)], dim=1)
        labels = torch.cat([labels, torch.tensor([[label] for _, label in nxt])], dim=1)
    return np.stack(scores)


def constant_iou(masks: np.ndarray) -> np.ndarray:
    """(N,) IoU of the one answer that suits all N masks (N, S, S) best: one of them, or the whole crop. No prompt is used."""
    answers = torch.from_numpy(np.concatenate([masks, np.ones_like(masks[:1])]))
    target = torch.from_numpy(masks)
    table = torch.stack([mask_iou(a.expand_as(target)[:, None], target[:, None])[:, 0] for a in answers])
    return table[int(table.mean(dim=1).argmax())].numpy()


def _next_click(mask: np.ndarray, found: np.ndarray) -> tuple[tuple[float, float], int]:
    missed, extra = mask & ~found, found & ~mask
    if not missed.any() and not extra.any():
        return interior_point(mask), 1
    return (interior_point(missed), 1) if missed.sum() >= extra.sum() else (interior_point(extra), 0)
