"""Pixel embeddings alike inside a mask: a throw-away head that teaches the backbone at once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

from torch import Tensor, nn

from hvlabel.config import LossSettings
from hvtrain.data.batch import Batch
from hvtrain.heads.pixel_embedding import embedding_logits, first_gain
from hvtrain.objectives.combined import full_precision
from hvtrain.objectives.contract import Objective, Terms
from hvtrain.objectives.losses import mask_loss


class PixelObjective(Objective):
    """Mask losses of the similarity between each place and the one under the click.

    head    : from the student's maps and a side to an embedding (B, E, h, w)
    average : scalar of (N,) values of prompts
    whole   : computed in full precision even where the network is not
    """

    needs = frozenset({"features", "masks", "weights", "points_xy"})

    def __init__(
        self,
        head: nn.Module,
        average: Callable[[Tensor, Batch], Tensor],
        loss: LossSettings,
        *,
        whole: bool = True,
    ) -> None:
        self.head, self.average, self.loss = head, average, loss
        self.whole = whole
        self.gain = first_gain()
        self.weights = {"dense": loss.dense}
        self.heads = {"embedding": head, "embedding_gain": self.gain}

    def __call__(self, batch: Batch) -> Terms:
        """Scalar `dense`."""
        maps = batch.features
        cells = batch.masks.shape[-1]
        clicks = (batch.points_xy + 0.5) / maps.side_px  # (B, K, 2) in [0, 1]
        with full_precision(maps[-1].device) if self.whole else nullcontext():
            embedding = self.head(maps, cells)  # (B, E, h, w)
            logits = embedding_logits(embedding, clicks, self.gain, cells)  # (N, 1, L, L), N = B * K
            masks = batch.masks.flatten(0, 1)[:, None]  # (N, 1, L, L)
            per_mask = mask_loss(logits, masks.float(), self.loss)[:, 0]  # (N,): one answer each
            return {"dense": self.average(per_mask, batch)}
