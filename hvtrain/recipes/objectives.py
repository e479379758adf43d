"""The objective of recipes: prompts on generated scenes, with throw-away heads that know what a scene is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from hvlabel.demo.materials import MATERIALS
from hvlabel.demo.scenes import METAMER
from hvtrain.data.batch import Batch
from hvtrain.heads.pixel_embedding import AllLevels
from hvtrain.heads.shortcut import Shortcut
from hvtrain.heads.tap import DecoderTap
from hvtrain.objectives.combined import CombinedObjective, Encode
from hvtrain.objectives.contract import Objective, Terms
from hvtrain.objectives.pixels import PixelObjective
from hvtrain.objectives.prompts import Answer, Averaging, PromptObjective, Round
from hvtrain.recipes.stages import Stage

EMBEDDING = 24  # channels of the throw-away pixel embedding
MATERIAL_WEIGHT, SIZE_WEIGHT = 0.5, 0.3  # beside 1 of the masks


class OverObjects(Averaging):
    """Mean over prompts on objects; clicks beside all objects teach the predicted IoU alone.

    Shown are the IoU of the best of three masks after a click (best_iou) or of the mask of a box (box_iou), of the one
    that the network trusts most, on objects that only a spectrum shows, and after a correction.
    """

    shown = ("best_iou", "box_iou", "trusted_iou", "spectral_iou", "corrected_iou")

    def of_masks(self, values: Tensor, batch: Batch) -> Tensor:
        """Scalar of (N,)."""
        on_object = batch.weights.flatten() > 0  # (N,)
        return values[on_object].mean()

    def of_scores(self, errors: Tensor, batch: Batch) -> Tensor:
        """Scalar of (N, M)."""
        return errors.mean()

    def figures(self, answers: Round, batch: Batch, *, last: bool) -> Terms:
        """Scalars of a round."""
        if answers.number > 0:
            corrected_iou = answers.iou[:, 0]  # a correction has one answer
            return {"corrected_iou": self.of_masks(corrected_iou, batch).detach()} if last else {}
        figures: Terms = {}
        best_iou = answers.best_iou  # (N,)
        name = "box_iou" if batch.boxed else "best_iou"
        figures[name] = self.of_masks(best_iou, batch).detach()
        if not batch.boxed:
            most_trusted = answers.predicted.detach().argmax(dim=1, keepdim=True)  # (N, 1)
            trusted_iou = answers.iou.gather(1, most_trusted)[:, 0]
            figures["trusted_iou"] = self.of_masks(trusted_iou, batch).detach()
        if batch.spectral_only.any():
            figures["spectral_iou"] = best_iou[batch.spectral_only].mean().detach()
        return figures


class MaterialObjective(Objective):
    """Cross-entropy of the material of every cell. widths: channels of the student's maps."""

    needs = frozenset({"features", "materials"})

    def __init__(self, widths: Sequence[int]) -> None:
        self.head = AllLevels(widths, len(MATERIALS))
        self.weights = {"material": MATERIAL_WEIGHT}
        self.heads = {"material": self.head}

    def __call__(self, batch: Batch) -> Terms:
        """Scalar `material`; cells of no known material do not count."""
        cells = batch.materials.shape[-1]
        classes = self.head(batch.features, cells)  # (B, materials, L, L)
        return {"material": F.cross_entropy(classes, batch.materials, ignore_index=METAMER)}


class SizeObjective(Objective):
    """What features cost that grow too large. penalty: scalar of the student's maps."""

    needs = frozenset({"features"})

    def __init__(self, penalty: Callable[[Sequence[Tensor]], Tensor]) -> None:
        self.penalty = penalty
        self.weights = {"size": SIZE_WEIGHT}

    def __call__(self, batch: Batch) -> Terms:
        """Scalar `size`."""
        return {"size": self.penalty(batch.features)}


class SceneObjective(CombinedObjective):
    """A network with SAM's prompt decoder on generated scenes.

    decoder : the network's, whose hypernetworks a throw-away head teaches
    widths  : channels of the maps that `encode` gives, the decoder's input last
    answer  : how the network is asked
    penalty : of maps that grow too large, where nothing in the network bounds them
    """

    def __init__(
        self,
        network: nn.Module,
        decoder: nn.Module,
        widths: Sequence[int],
        encode: Encode,
        answer: Answer,
        first: Stage,
        penalty: Callable[[Sequence[Tensor]], Tensor] | None = None,
    ) -> None:
        averaging = OverObjects()
        shortcut = Shortcut(widths[-1]), DecoderTap(decoder)
        # half precision in heads and losses too: a step of a small network costs a third less on a CPU
        prompts = PromptObjective(
            answer,
            averaging,
            first.loss,
            n_maps=len(widths),
            box_is_one=True,
            shortcut=shortcut,
            whole=False,
            shortcut_first=True,
        )
        pixels = PixelObjective(AllLevels(widths, EMBEDDING), averaging.of_masks, first.loss, whole=False)
        objectives: list[Objective] = [prompts, pixels, MaterialObjective(widths)]
        if penalty is not None:
            objectives.append(SizeObjective(penalty))
        super().__init__(network, encode, objectives)
        self._with_loss = (prompts, pixels)

    def begin_stage(self, stage: Stage) -> None:
        """Use a stage's weights of losses."""
        for objective in self._with_loss:
            objective.loss = stage.loss
