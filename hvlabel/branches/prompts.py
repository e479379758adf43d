"""prompts: masks of the objects that people marked by boxes or points, or their masks as they drew them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol, Self

import numpy as np
from pydantic import Field

from hvlabel.branches.material import composites
from hvlabel.branches.pictures import scored
from hvlabel.config import NetworkBranchSettings, Sam2Model, Surroundings, read_by
from hvlabel.masks import Mask, MaskSet, decode, encode, interior_point, ranked

if TYPE_CHECKING:
    from torch import Tensor

    from hvlabel.cube import Cube
    from hvlabel.prompt_files import ObjectPrompt

STABILITY_OFFSET = 1.0  # logit shift of the stability test, as of the generator


class PromptsSettings(NetworkBranchSettings):
    """Masks of the boxes and points that people drew, from files beside the images; or masks that they drew."""

    version: ClassVar[int] = 1

    backend: Literal["auto", "sam", "sam2", "drawn", "off"] = Field(
        "auto",
        description="auto: sam; drawn: the masks of the files as they are, without a network; the branch runs where a "
        "data set has a rule `prompts`; off: it does not",
    )
    sam2: Annotated[Sam2Model | None, read_by("sam2")] = Field(None, description="required by backend sam2")
    n_composites: Annotated[int, read_by("sam", "sam2")] = Field(
        2,
        ge=0,
        le=8,
        description="false-colour pictures of three whitened spectral components each on which a prompt is decoded "
        "beside the RGB picture; of each prompt's masks the one that the network is surest of stays",
    )

    def takes_part(self, around: Surroundings) -> bool:
        """Where people drew something."""
        return self.backend != "off" and around.has_prompts

    def resolved(self) -> Self:
        """The settings of a branch that runs: nothing else decodes what people drew, so there is no way round SAM."""
        return self.model_copy(update={"backend": "sam"}) if self.backend == "auto" else self

    def takes_masks(self) -> bool:
        """Whether nothing is decoded."""
        return self.backend == "drawn"


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


def run(cube: Cube, settings: PromptsSettings, model: MarkModel | None, prompts: Sequence[ObjectPrompt]) -> MaskSet:
    """One mask per prompt, best first.

    Of backend drawn, each prompt's own mask, pixel for pixel; `model` is None then.

    Each prompt is decoded on the RGB picture and on the composites, since what only the spectrum shows has no outline
    in colours; the mask of the highest predicted IoU times stability stays, and its extra says of which picture it is.
    """
    if model is None:
        as_drawn = [_as_drawn(prompt) for prompt in prompts]
        return ranked(as_drawn, cube.height_px, cube.width_px)
    best: list[Mask | None] = [None] * len(prompts)
    if prompts:
        for name, picture in _pictures(cube, settings.n_composites):
            embedding = model.embed(picture)
            on_picture = _masks(model, embedding, prompts, name)
            pairs = zip(best, on_picture, strict=True)
            # the best so far first: of equal masks the RGB picture's stays
            best = [_better(one, other) for one, other in pairs]
    drawn = [mask for mask in best if mask is not None]
    return ranked(drawn, cube.height_px, cube.width_px)


def _as_drawn(prompt: ObjectPrompt) -> Mask:
    """The mask that a prompt comes with."""
    drawn = prompt.drawn
    assert drawn is not None  # prompts are read with masks where nothing decodes them
    point_xy = interior_point(decode(drawn.rle))
    about = _about(prompt, "drawn")
    return Mask(drawn.rle, drawn.score, branch="prompts", point_xy=point_xy, extra=about)


def _about(prompt: ObjectPrompt, picture: str) -> dict[str, Any]:
    """What a mask says of its prompt. picture: that it was decoded on, or `drawn`."""
    named = {} if prompt.name is None else {"name": prompt.name}
    return {"picture": picture, "prompt": prompt.object_id, **named}


def _better(first: Mask | None, second: Mask | None) -> Mask | None:
    """The mask with the higher score; of equal ones the first."""
    if first is None or second is None:
        return first or second
    return second if second.score > first.score else first


def _pictures(cube: Cube, n_composites: int) -> list[tuple[str, np.ndarray]]:
    """Name and (H, W, 3) uint8 of every picture that prompts are decoded on."""
    pictures = [("rgb", cube.rgb)]
    if n_composites:
        for components, picture in composites(cube.live_values(), n_composites, cube.valid):
            numbers = "-".join(map(str, components))
            pictures.append((f"components {numbers}", picture))
    return pictures


def _masks(model: MarkModel, embedding: Any, prompts: Sequence[ObjectPrompt], name: str) -> list[Mask | None]:
    """The mask of each prompt on one picture; None where the network sees nothing."""
    # boxes are never ambiguous: all of them go in one call
    boxed = [k for k, p in enumerate(prompts) if p.box_xyxy is not None and not p.points_xy]
    decoded: dict[int, tuple[Tensor, float]] = {}
    if boxed:
        boxes_xyxy = np.array([prompts[k].box_xyxy for k in boxed], float)
        logits, iou = model.decode_clear(embedding, boxes_xyxy)
        answers = zip(logits, iou.tolist(), strict=True)
        decoded = dict(zip(boxed, answers, strict=True))
    masks = []
    for k, prompt in enumerate(prompts):
        answer = decoded[k] if k in decoded else _by_points(model, embedding, prompt)
        low, predicted_iou = answer
        full = model.upscale(low[None], embedding)[0]  # (H, W)
        masks.append(_mask(full, predicted_iou, prompt, name))
    return masks


def _by_points(model: MarkModel, embedding: Any, prompt: ObjectPrompt) -> tuple[Tensor, float]:
    """Logits (h, w) and predicted IoU; one point alone is ambiguous, so the best of three answers counts."""
    points = np.array(prompt.points_xy, float)[None]  # (1, P, 2)
    labels = np.array(prompt.labels)[None]  # (1, P)
    box = None if prompt.box_xyxy is None else np.array(prompt.box_xyxy, float)[None]
    ambiguous = box is None and len(prompt.points_xy) == 1
    logits, iou = model.decode(embedding, points, labels=labels, boxes_xyxy=box, multimask=ambiguous)
    best = int(iou[0].argmax())
    return logits[0, best], float(iou[0, best])


def _mask(full: Tensor, predicted_iou: float, prompt: ObjectPrompt, name: str) -> Mask | None:
    """The mask of (H, W) logits, or None if it is empty."""
    inside = (full > 0).cpu().numpy()
    if not inside.any():
        return None
    n_above = (full > STABILITY_OFFSET).sum()
    n_below = (full > -STABILITY_OFFSET).sum()  # px; at least as many as inside, so never 0
    point_xy = prompt.points_xy[0] if prompt.points_xy else interior_point(inside)
    mask = Mask(
        encode(inside),
        score=0.0,  # until it is scored
        branch="prompts",
        point_xy=point_xy,
        predicted_iou=predicted_iou,
        stability_score=float(n_above / n_below),
        extra=_about(prompt, name),
    )
    return scored(mask)
