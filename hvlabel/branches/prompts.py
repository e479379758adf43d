"""prompts: masks of the objects that people marked by boxes or points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from hvlabel.branches.material import composites
from hvlabel.branches.pictures import scored
from hvlabel.config import PromptsSettings
from hvlabel.cube import Cube
from hvlabel.masks import Mask, MaskSet, encode, interior_point, ranked
from hvlabel.prompt_files import ObjectPrompt

STABILITY_OFFSET = 1.0  # logit shift of the stability test, as of the generator


class MarkModel(Protocol):
    """A network that decodes what people mark."""

    def embed(self, image: np.ndarray) -> Any:
        """Embedding of an (H, W, 3) uint8 picture."""

    def decode(
        self,
        embedding: Any,
        points_xy: np.ndarray | None,
        masks: Tensor | None = None,
        *,
        labels: np.ndarray | None = None,
        boxes_xyxy: np.ndarray | None = None,
        multimask: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """Logits (N, M, h, w) and predicted IoU (N, M) of N prompts, px of the picture."""

    def decode_clear(self, embedding: Any, boxes_xyxy: np.ndarray) -> tuple[Tensor, Tensor]:
        """One mask per box (N, 4): logits (N, h, w) and predicted IoU (N,)."""

    def upscale(self, logits: Tensor, embedding: Any) -> Tensor:
        """(N, h, w) low-resolution logits -> (N, H, W) of the picture."""


def run(cube: Cube, settings: PromptsSettings, model: MarkModel, prompts: Sequence[ObjectPrompt]) -> MaskSet:
    """One mask per prompt, best first.

    Each prompt is decoded on the RGB picture and on the composites, since what only the spectrum shows has no outline in
    colours; the mask of the highest predicted IoU times stability stays, and its extra says of which picture it is.
    """
    best: list[Mask | None] = [None] * len(prompts)
    if prompts:
        for name, picture in _pictures(cube, settings.n_composites):
            embedding = model.embed(picture)
            for k, mask in enumerate(_masks(model, embedding, prompts, name)):
                before = best[k]
                if mask is not None and (before is None or mask.score > before.score):
                    best[k] = mask
    return ranked([m for m in best if m is not None], cube.height_px, cube.width_px)


def _pictures(cube: Cube, n_composites: int) -> list[tuple[str, np.ndarray]]:
    """Name and (H, W, 3) uint8 of every picture that prompts are decoded on."""
    pictures = [("rgb", cube.rgb)]
    if n_composites:
        for components, picture in composites(cube.live_values(), n_composites, cube.valid):
            pictures.append(("components " + "-".join(map(str, components)), picture))
    return pictures


def _masks(model: MarkModel, embedding: Any, prompts: Sequence[ObjectPrompt], name: str) -> list[Mask | None]:
    """The mask of each prompt on one picture; None where the network sees nothing."""
    decoded: dict[int, tuple[Tensor, float]] = {}
    boxed = [k for k, p in enumerate(prompts) if p.box_xyxy is not None and not p.points_xy]
    if boxed:
        logits, iou = model.decode_clear(embedding, np.array([prompts[k].box_xyxy for k in boxed], float))
        decoded = dict(zip(boxed, zip(logits, iou.tolist(), strict=True), strict=True))
    masks = []
    for k, prompt in enumerate(prompts):
        made, sure = decoded[k] if k in decoded else _by_points(model, embedding, prompt)
        masks.append(_mask(model.upscale(made[None], embedding)[0], sure, prompt, name))
    return masks


def _by_points(model: MarkModel, embedding: Any, prompt: ObjectPrompt) -> tuple[Tensor, float]:
    """Logits (h, w) and predicted IoU; one point alone is ambiguous, so the best of three answers counts."""
    points = np.array(prompt.points_xy, float)[None]
    labels = np.array(prompt.labels)[None]
    box = None if prompt.box_xyxy is None else np.array(prompt.box_xyxy, float)[None]
    ambiguous = box is None and len(prompt.points_xy) == 1
    logits, iou = model.decode(embedding, points, labels=labels, boxes_xyxy=box, multimask=ambiguous)
    best = int(iou[0].argmax())
    return logits[0, best], float(iou[0, best])


@torch.inference_mode()
def _mask(full: Tensor, iou: float, prompt: ObjectPrompt, name: str) -> Mask | None:
    """The mask of (H, W) logits, or None if it is empty."""
    inside = (full > 0).cpu().numpy()
    if not inside.any():
        return None
    stability = float((full > STABILITY_OFFSET).sum() / (full > -STABILITY_OFFSET).sum())
    extra: dict[str, Any] = {"picture": name, "prompt": prompt.object_id}
    if prompt.name is not None:
        extra["name"] = prompt.name
    point = prompt.points_xy[0] if prompt.points_xy else interior_point(inside)
    return scored(
        Mask(encode(inside), 0.0, "prompts", point, predicted_iou=iou, stability_score=stability, extra=extra)
    )
