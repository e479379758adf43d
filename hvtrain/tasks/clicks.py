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
    target = torch.from_numpy(masks)[:, None]  # (N, 1, S, S)
    first = [interior_point(mask) for mask in masks]
    points = torch.tensor(first, dtype=torch.float32)[:, None]  # (N, P, 2), P grows by one a turn
    labels = torch.ones(len(masks), 1, dtype=torch.int64)  # (N, P)
    before: Tensor | None = None
    scores = []
    for turn in range(1, max(clicks) + 1):
        logits, predicted_iou = network.decode(
            neck,
            points_xy=points.to(neck.device),
            labels=labels.to(neck.device),
            masks=None if before is None else before[:, None],
            multimask=turn == 1,  # a single click may mean a part or the whole; later ones do not
        )
        # the answer that the network trusts most: nobody who clicks knows the best one
        most_trusted = predicted_iou.argmax(dim=1)
        before = logits[torch.arange(len(logits)), most_trusted]  # (N, L, L)
        size = (side_px, side_px)
        large = F.interpolate(before[:, None].float(), size, mode="bilinear", align_corners=False)
        answers = large.cpu() > 0  # (N, 1, S, S)
        if turn in clicks:
            iou = mask_iou(answers, target)[:, 0]
            scores.append(iou.numpy())
        points_next, labels_next = _next_clicks(masks, answers[:, 0].numpy())
        points = torch.cat([points, points_next], dim=1)
        labels = torch.cat([labels, labels_next], dim=1)
    return np.stack(scores)


def constant_iou(masks: np.ndarray) -> np.ndarray:
    """(N,) IoU of the one answer, a mask or the whole crop, that suits N masks (N, S, S) best without a prompt."""
    whole = np.ones_like(masks[:1])
    answers = torch.from_numpy(np.concatenate([masks, whole]))  # (N + 1, S, S)
    target = torch.from_numpy(masks)[:, None]  # (N, 1, S, S)
    rows = []
    for answer in answers:
        given_to_all = answer.expand_as(target)
        rows.append(mask_iou(given_to_all, target)[:, 0])
    iou = torch.stack(rows)  # (N + 1, N)
    best = int(iou.mean(dim=1).argmax())
    return iou[best].numpy()


def _next_clicks(masks: np.ndarray, answers: np.ndarray) -> tuple[Tensor, Tensor]:
    """Points (N, 1, 2) float32 px and labels (N, 1) int64 of the next turn, of masks and answers (N, S, S) bool."""
    points, labels = [], []
    for mask, answer in zip(masks, answers, strict=True):
        xy, label = _next_click(mask, answer)
        points.append([xy])
        labels.append([label])
    return torch.tensor(points, dtype=torch.float32), torch.tensor(labels)


def _next_click(mask: np.ndarray, answer: np.ndarray) -> tuple[tuple[float, float], int]:
    """A point (x, y) in the larger error of an answer, and whether the object is there; inside it if none is wrong."""
    missed, extra = mask & ~answer, answer & ~mask
    if not missed.any() and not extra.any():
        return interior_point(mask), 1
    if missed.sum() >= extra.sum():
        return interior_point(missed), 1
    return interior_point(extra), 0
