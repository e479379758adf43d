"""Masks asked for by prompts: a click or a box, then corrections where the answer was wrong (paper, section 4.2.5)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hvlabel.config import LossSettings
from hvtrain.data.batch import Batch
from hvtrain.heads.prompted import Prompts
from hvtrain.heads.shortcut import Shortcut, masks_of, relative_distance
from hvtrain.heads.tap import DecoderTap
from hvtrain.objectives.combined import full_precision
from hvtrain.objectives.contract import Objective, Terms
from hvtrain.objectives.losses import mask_iou, mask_loss

# (maps with N images, N prompts) -> logits (N, M, L, L) and predicted IoU (N, M)
Answer = Callable[[Sequence[Tensor], Prompts], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Round:
    """One round of answers to N prompts.

    number    : from 0
    losses    : (N, M) of each answer
    iou       : (N, M) of each answer with its target
    predicted : (N, M) IoU that the network says
    best      : (N, 1) the answer of least loss
    """

    number: int
    losses: Tensor
    iou: Tensor
    predicted: Tensor
    best: Tensor

    @property
    def best_iou(self) -> Tensor:
        """(N,) IoU of the answer of least loss."""
        return _of_answer(self.iou, self.best)


class Averaging(ABC):
    """How values of N prompts become one scalar, and which scalars of a round are shown."""

    shown: tuple[str, ...]

    @abstractmethod
    def of_masks(self, values: Tensor, batch: Batch) -> Tensor:
        """Scalar of (N,) values that only prompts on objects have."""

    @abstractmethod
    def of_scores(self, errors: Tensor, batch: Batch) -> Tensor:
        """Scalar of (N, M) errors of the predicted IoU."""

    @abstractmethod
    def figures(self, answers: Round, batch: Batch, *, last: bool) -> Terms:
        """Scalars of a round by the names of `shown`."""


class OverAllPrompts(Averaging):
    """Mean over all prompts, those without an object counting as 0: processes that share a batch then add up to it."""

    shown = ("miou",)

    def of_masks(self, values: Tensor, batch: Batch) -> Tensor:
        """Scalar of (N,)."""
        return (values * batch.weights.flatten()).mean()

    def of_scores(self, errors: Tensor, batch: Batch) -> Tensor:
        """Scalar of (N, M)."""
        per_prompt = errors.mean(dim=1)  # (N,)
        return (per_prompt * batch.weights.flatten()).mean()

    def figures(self, answers: Round, batch: Batch, *, last: bool) -> Terms:
        """`miou`: mean IoU of the last round's best masks."""
        if not last:
            return {}
        weights = batch.weights.flatten()
        total = (answers.best_iou * weights).sum()
        weight = weights.sum().clamp(min=1)  # a crop without masks has weights of 0
        return {"miou": total / weight}


class PromptObjective(Objective):
    """Terms of mask and IoU, mean over all rounds of prompts; of the best of three answers where there are three.

    answer      : how the student is asked
    averaging   : of prompts
    loss        : weights of mask losses, and of the predicted IoU
    corrections : rounds after the first
    n_maps      : how many of the student's last maps `answer` takes
    box_is_one  : a box is asked for one answer, not for three
    shortcut    : throw-away head, with the tap of the decoder whose hypernetworks it teaches
    whole       : losses are computed in full precision even where the network is not
    shortcut_first : it is computed before the maps are repeated for each prompt: gradients then add up in that order
    """

    needs = frozenset({"features", "masks", "weights", "points_xy", "boxes_xyxy", "boxed", "uniform"})

    def __init__(
        self,
        answer: Answer,
        averaging: Averaging,
        loss: LossSettings,
        *,
        corrections: int = 1,
        n_maps: int = 1,
        box_is_one: bool = False,
        shortcut: tuple[Shortcut, DecoderTap] | None = None,
        whole: bool = True,
        shortcut_first: bool = False,
    ) -> None:
        self.answer, self.averaging, self.loss = answer, averaging, loss
        self.corrections, self.n_maps = corrections, n_maps
        self.box_is_one, self.whole, self.shortcut_first = box_is_one, whole, shortcut_first
        self.shortcut: Shortcut | None = None
        if shortcut is not None:
            self.shortcut, self.tap = shortcut
        self.weights = {"mask": 1.0, "iou": loss.iou}
        self.shown = averaging.shown
        if self.shortcut is not None:
            self.weights["shortcut"] = loss.shortcut
            self.heads: dict[str, nn.Module | nn.Parameter] = {"shortcut": self.shortcut}

    def __call__(self, batch: Batch) -> Terms:
        """Scalars `mask`, `iou`, `shortcut` and what the averaging shows."""
        target = batch.masks.flatten(0, 1)[:, None]  # (N, 1, L, L), N = B * K
        side_px = batch.features.side_px
        neck = batch.features[-1]  # (B, D, g, g)
        clicks = (batch.points_xy + 0.5) / side_px  # (B, K, 2) in [0, 1]
        vectors = self._vectors(neck, clicks) if self.shortcut_first else None
        n_masks = batch.masks.shape[1]
        shown = batch.features[-self.n_maps :]
        maps = [level.repeat_interleave(n_masks, dim=0) for level in shown]  # (N, D, h, w)
        if vectors is None:
            vectors = self._vectors(neck, clicks)
        prompts = self._first(batch)
        terms: Terms = {}
        n_rounds = 1 + self.corrections
        for number in range(n_rounds):
            logits, predicted = self.answer(maps, prompts)
            with full_precision(neck.device) if self.whole else nullcontext():
                answers = self._judged(number, logits.float(), predicted.float(), target)
                # only the best of three learns: each may then stand for another meaning of a click
                chosen = _of_answer(answers.losses, answers.best)
                mask_term = self.averaging.of_masks(chosen, batch)
                _add(terms, "mask", mask_term / n_rounds)
                errors = (answers.predicted - answers.iou).square()  # (N, M): each answer learns its own IoU
                iou_term = self.averaging.of_scores(errors, batch)
                _add(terms, "iou", iou_term / n_rounds)
                if vectors is not None:
                    self._teach(terms, vectors, target, batch, number, n_rounds)
            is_last = number == n_rounds - 1
            terms |= self.averaging.figures(answers, batch, last=is_last)
            if not is_last:
                uniform = batch.uniform[number]
                prompts = self._corrected(prompts, logits.float(), answers.best, target, uniform, side_px)
        return terms

    def _vectors(self, neck: Tensor, clicks: Tensor) -> Tensor | None:
        """(N, D/8) of the shortcut, if there is one."""
        if self.shortcut is None:
            return None
        with full_precision(neck.device) if self.whole else nullcontext():
            return self.shortcut(neck.float(), clicks)

    def _first(self, batch: Batch) -> Prompts:
        """What masks are asked for by at first: boxes, or points."""
        if batch.boxed:
            boxes = batch.boxes_xyxy.flatten(0, 1)  # (N, 4)
            return Prompts(boxes_xyxy=boxes, multimask=not self.box_is_one)
        points = batch.points_xy.flatten(0, 1)[:, None]  # (N, 1, 2)
        on_object = torch.ones_like(points[..., 0], dtype=torch.int64)  # (N, 1)
        return Prompts(points_xy=points, labels=on_object, multimask=True)

    def _judged(self, number: int, logits: Tensor, predicted: Tensor, target: Tensor) -> Round:
        """A round of logits (N, M, L, L) and predicted IoU (N, M) beside its targets (N, 1, L, L) bool."""
        iou = mask_iou(logits > 0, target)
        losses = mask_loss(logits, target.float(), self.loss)
        best = losses.detach().argmin(dim=1, keepdim=True)
        return Round(number, losses, iou, predicted, best)

    def _teach(self, terms: Terms, vectors: Tensor, target: Tensor, batch: Batch, number: int, n_rounds: int) -> None:
        """The shortcut's own mask in the first round; in every round, how far the decoder's vectors are from its."""
        if number == 0:
            direct = masks_of(vectors, self.tap.upscaled.float())
            per_mask = mask_loss(direct, target.float(), self.loss)[:, 0]
            _add(terms, "shortcut", self.averaging.of_masks(per_mask, batch))
        # detached: the decoder learns from the shortcut, not the shortcut from the decoder
        apart = relative_distance(self.tap.vectors.float(), vectors.detach())
        term = self.averaging.of_masks(apart, batch)
        _add(terms, "shortcut", term / n_rounds)

    def _corrected(
        self, prompts: Prompts, logits: Tensor, best: Tensor, target: Tensor, uniform: Tensor, side_px: int
    ) -> Prompts:
        """The next round: one more point where the best answer is wrong, and that answer as a mask."""
        of_best = best[..., None, None]  # (N, 1, 1, 1)
        index = of_best.expand(-1, -1, *logits.shape[2:])
        answer = logits.detach().gather(1, index)  # (N, 1, L, L); no gradient from round to round
        mask = answer[:, 0] > 0  # (N, L, L)
        point, label = correction(mask, target[:, 0], uniform, side_px)
        return Prompts(
            points_xy=_appended(prompts.points_xy, point),
            labels=_appended(prompts.labels, label),
            boxes_xyxy=prompts.boxes_xyxy,
            masks=answer,
            multimask=False,
        )


def _of_answer(values: Tensor, answer: Tensor) -> Tensor:
    """(N,) of values (N, M): those of the answers (N, 1)."""
    return values.gather(1, answer)[:, 0]


def _appended(before: Tensor | None, coming: Tensor) -> Tensor:
    """(N, P + 1, ...) of (N, P, ...), or of nothing, and (N, 1, ...)."""
    return coming if before is None else torch.cat([before, coming], dim=1)


def _add(terms: Terms, name: str, value: Tensor) -> None:
    """Add to a term, which the first value begins."""
    terms[name] = terms[name] + value if name in terms else value


def correction(mask: Tensor, target: Tensor, uniform: Tensor, side_px: int) -> tuple[Tensor, Tensor]:
    """A point (N, 1, 2) px of the network's input where the mask is wrong, and what is there (N, 1): 1 object, 0 not.

    mask, target : (N, L, L) bool
    uniform      : (N,) in [0, 1), which of the wrong pixels; where none is wrong, which of the target's
    """
    side = mask.shape[-1]
    wrong = (mask ^ target).flatten(1)  # (N, L * L)
    inside = target.flatten(1)
    is_wrong = wrong.any(dim=1, keepdim=True)  # (N, 1)
    candidates = torch.where(is_wrong, wrong, inside)
    rank = candidates.cumsum(dim=1)  # how many candidates up to here
    n_candidates = rank[:, -1]
    chosen_rank = (uniform * n_candidates).floor() + 1
    # the first cell of that rank; past the end where an empty target has no candidate
    cell = torch.searchsorted(rank, chosen_rank.long()[:, None])
    cell = cell.clamp(max=rank.shape[1] - 1)  # (N, 1)
    column, row = cell % side, cell // side
    xy = torch.stack([column, row], dim=-1).float()  # (N, 1, 2) cells
    point = (xy + 0.5) * (side_px / side) - 0.5  # from the middle of a cell to the middle of a pixel
    return point, inside.gather(1, cell).long()
