"""Interactive segmentation: how well a click, and further clicks where it went wrong, bring up a mask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hvlabel.masks import interior_point
from hvlabel.models.decoder import PromptedNetwork
from hvtrain.objectives.losses import mask_iou


@torch.no_grad()
def click_iou(network: PromptedNetwork, neck: Tensor, masks: np.ndarray, clicks: Sequence[int]) -> np.ndarray:
    """(len(clicks), N) IoU after so many clicks: the first deepest inside the mask, further ones in the larger error.

    neck   : (1, D, g, g) of the crop
    masks  : (N, S, S) bool, S = the network's input
    clicks : rising numbers
    """
    side_px = masks.shape[1]
    target = torch.from_numpy(masks)
    points = torch.tensor([[interior_point(m)] for m in masks], dtype=torch.float32)  # (N, 1, 2)
    labels = torch.ones(len(masks), 1, dtype=torch.int64)
    before: Tensor | None = None
    scores = []
    for turn in range(1, max(clicks) + 1):
        logits, predicted_iou = network.decode(
            neck,
            points_xy=points.to(neck.device),
            labels=labels.to(neck.device),
            masks=None if before is None else before[:, None],
            multimask=turn == 1,
        )
        before = logits[torch.arange(len(logits)), predicted_iou.argmax(dim=1)]  # (N, L, L)
        large = F.interpolate(before[:, None].float(), (side_px, side_px), mode="bilinear", align_corners=False)
        answers = large[:, 0].cpu() > 0
        if turn in clicks:
            scores.append(mask_iou(answers[:, None], target[:, None])[:, 0].numpy())
        coming = [_next_click(mask, answer) for mask, answer in zip(masks, answers.numpy(), strict=True)]
        points = torch.cat([points, torch.tensor([[xy] for xy, _ in coming], dtype=torch.float32)], dim=1)
        labels = torch.cat([labels, torch.tensor([[label] for _, label in coming])], dim=1)
    return np.stack(scores)


def constant_iou(masks: np.ndarray) -> np.ndarray:
    """(N,) IoU of the one answer, a mask or the whole crop, that suits N masks (N, S, S) best without a prompt."""
    answers = torch.from_numpy(np.concatenate([masks, np.ones_like(masks[:1])]))
    target = torch.from_numpy(masks)
    table = torch.stack([mask_iou(a.expand_as(target)[:, None], target[:, None])[:, 0] for a in answers])
    return table[int(table.mean(dim=1).argmax())].numpy()


def _next_click(mask: np.ndarray, answer: np.ndarray) -> tuple[tuple[float, float], int]:
    """A point (x, y) in the larger error of an answer, and whether the object is there; inside it if none is wrong."""
    missed, extra = mask & ~answer, answer & ~mask
    if not missed.any() and not extra.any():
        return interior_point(mask), 1
    if missed.sum() >= extra.sum():
        return interior_point(missed), 1
    return interior_point(extra), 0
