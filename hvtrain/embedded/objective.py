"""The objective of networks with SAM's prompt decoder: masks asked for by a point or a box, then by a correction."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvlabel.config import LossSettings
from hvlabel.demo.materials import MATERIALS
from hvlabel.demo.scenes import METAMER
from hvtrain.embedded.stages import Batch
from hvtrain.losses import embedding_logits, mask_iou, mask_loss
from hvtrain.objective import Shortcut, correction, distance, watch

WEIGHTS = {"mask": 1.0, "iou": 2.0, "shortcut": 1.0, "dense": 0.3, "material": 0.5, "size": 0.3}
EMBEDDING = 24  # channels of the throw-away pixel embedding


@dataclass(frozen=True)
class Prompts:
    """What N masks are asked for by.

    points : (N, P, 2) px of the network's input and labels (N, P), 1 object, 0 not; or none
    boxes  : (N, 4) x0, y0, x1, y1 px of the network's input, or none
    masks  : (N, 1, L, L) logits, or none
    single : for one answer each, else three
    """

    points: tuple[Tensor, Tensor] | None
    boxes: Tensor | None
    masks: Tensor | None
    single: bool


class PromptObjective(nn.Module):
    """A network with throw-away heads: pixel embedding, shortcut to the hypernetworks, material.

    network : what is trained; decoder : its SAM mask decoder
    widths  : channels of the levels that `encode` gives, the decoder's input last
    """

    def __init__(self, network: Any, decoder: Any, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.network = network
        self.seen: dict[str, Tensor] = {}
        watch(decoder, self.seen)
        self.shortcut = Shortcut(widths[-1])
        self.embed = nn.ModuleList(nn.Conv2d(c, EMBEDDING, 1) for c in widths)
        self.gain = nn.Parameter(torch.tensor([8.0, -4.0]))
        self.material = nn.ModuleList(nn.Conv2d(c, len(MATERIALS), 1) for c in widths)

    def encode(self, batch: Batch) -> tuple[list[Tensor], int]:
        """Levels (B, C, h, w), the decoder's input last, and the side of the network's input, px."""
        raise NotImplementedError

    def decode(self, levels: list[Tensor], asked: Prompts) -> tuple[Tensor, Tensor]:
        """Logits (N, M, L, L) and predicted IoU (N, M) of N prompts with their levels (N, C, h, w), M = 1 if single, else 3."""
        raise NotImplementedError

    def size_of(self, levels: list[Tensor]) -> Tensor | float:
        """What features cost that grow too large."""
        return 0.0

    def forward(self, batch: Batch, loss: LossSettings) -> dict[str, Tensor]:
        """Terms of the loss, and of prompts on objects the IoU of the best mask and of the mask after a correction."""
        levels, side = self.encode(batch)
        image, target = levels[-1], batch["masks"][:, None]
        n_images, cells = len(image), target.shape[-1]
        real = target.flatten(1).any(dim=1)  # (N,) prompts on objects

        def of_objects(values: Tensor) -> Tensor:
            return values[real].mean()

        points, labels = batch["points_xy"][:, None], torch.ones(len(target), 1, dtype=torch.int32)
        boxes = batch["boxes_xyxy"] if batch["boxed"] else None
        places = (batch["points_xy"].view(n_images, -1, 2) + 0.5) / side
        vector = self.shortcut(image.float(), places)
        each = [f.repeat_interleave(places.shape[1], dim=0) for f in levels]
        terms: dict[str, Tensor] = defaultdict(lambda: image.new_zeros((), dtype=torch.float32))
        before: Tensor | None = None
        for turn in range(2):
            if before is not None:
                point, label = correction(before > 0, target[:, 0], batch["luck"], side)
                points = point if boxes is not None else torch.cat([points, point], dim=1)
                labels = label.int() if boxes is not None else torch.cat([labels, label.int()], dim=1)
            asked = Prompts(
                points=None if boxes is not None and turn == 0 else (points, labels),
                boxes=boxes,
                masks=None if before is None else before[:, None],
                single=turn > 0 or boxes is not None,
            )
            logits, iou = self.decode(each, asked)
            logits, iou = logits.float(), iou.float()
            losses, truth = mask_loss(logits, target.float(), loss), mask_iou(logits > 0, target)
            best = losses.detach().argmin(dim=1, keepdim=True)
            terms["mask"] = terms["mask"] + of_objects(losses.gather(1, best)) / 2
            terms["iou"] = terms["iou"] + (iou - truth).square().mean() / 2
            apart = distance(self.seen["vectors"].float(), vector.detach())
            terms["shortcut"] = terms["shortcut"] + of_objects(apart) / 2
            if turn == 0:
                direct = torch.einsum("nc,nchw->nhw", vector, self.seen["map"].float())[:, None]
                terms["shortcut"] = terms["shortcut"] + of_objects(mask_loss(direct, target.float(), loss))
                best_iou = truth.gather(1, best)
                terms["box_iou" if batch["boxed"] else "best_iou"] = of_objects(best_iou).detach()
                if not batch["boxed"]:
                    trusted = truth.gather(1, iou.detach().argmax(dim=1, keepdim=True))
                    terms["trusted_iou"] = of_objects(trusted).detach()
                if batch["spectral_only"].any():
                    terms["spectral_iou"] = best_iou[batch["spectral_only"]].mean().detach()
            before = logits.detach().gather(1, best[..., None, None].expand(-1, -1, cells, cells))[:, 0]
        terms["corrected_iou"] = of_objects(truth).detach()
        pixels, classes = (_summed(head, levels, cells) for head in (self.embed, self.material))
        terms["dense"] = of_objects(mask_loss(embedding_logits(pixels, places, self.gain, cells), target.float(), loss))
        terms["material"] = F.cross_entropy(classes, batch["materials"], ignore_index=METAMER)
        terms["size"] = terms["size"] + self.size_of(levels)
        terms["loss"] = sum((WEIGHTS[k] * terms[k] for k in WEIGHTS), image.new_zeros(()))
        return dict(terms)


def _summed(heads: nn.ModuleList, levels: list[Tensor], side: int) -> Tensor:
    """(B, E, side, side) float32: each level through its convolution, enlarged to `side`, added."""
    parts = [
        F.interpolate(head(f.float()), size=(side, side), mode="bilinear")
        for head, f in zip(heads, levels, strict=True)
    ]
    return torch.stack(parts).sum(0)
