"""The objectives of pre-training, one row each."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from hvlabel.config import PretrainSettings
from hvlabel.errors import BandError
from hvtrain.backbones.contract import Backbone
from hvtrain.data.augment import augmented
from hvtrain.data.batch import Batch
from hvtrain.data.feature_maps import FeatureMaps
from hvtrain.data.inputs import network_input
from hvtrain.data.schedule import NETWORK, rng
from hvtrain.heads.pixel_embedding import LastLevel
from hvtrain.heads.prompted import answer, decoder_of
from hvtrain.heads.shortcut import Shortcut
from hvtrain.heads.tap import DecoderTap
from hvtrain.objectives.combined import CombinedObjective
from hvtrain.objectives.contract import Objective
from hvtrain.objectives.distil import DistilObjective
from hvtrain.objectives.pixels import PixelObjective
from hvtrain.objectives.prompts import OverAllPrompts, PromptObjective

EMBEDDING = 32  # channels of the throw-away pixel embedding


@dataclass(frozen=True)
class Setting:
    """What an objective is built from. teacher_centre: (D,) mean of the teacher's tokens, empty without a teacher."""

    student: Backbone
    settings: PretrainSettings
    teacher_centre: Tensor


def distil(of: Setting) -> Objective | None:
    """Where there is a teacher."""
    if not len(of.teacher_centre):
        return None
    return DistilObjective(of.student.dim, of.teacher_centre, of.settings.loss)


def pixels(of: Setting) -> Objective | None:
    """Where the settings give it a weight."""
    loss = of.settings.loss
    if not loss.dense:
        return None
    head = LastLevel(of.student.dim, EMBEDDING)
    return PixelObjective(head, OverAllPrompts().of_masks, loss)


def prompts(of: Setting) -> Objective | None:
    """Always: the masks are what a student is pre-trained on."""
    decoder, settings = decoder_of(of.student), of.settings
    shortcut = None
    if settings.loss.shortcut:
        shortcut = Shortcut(of.student.dim), DecoderTap(decoder.mask_decoder)
    return PromptObjective(
        partial(answer, decoder),
        OverAllPrompts(),
        settings.loss,
        corrections=settings.prompts.corrections,
        shortcut=shortcut,
    )


# heads are drawn and registered in this order: checkpoints and recorded runs depend on it. New rows before `prompts`
OBJECTIVES: dict[str, Callable[[Setting], Objective | None]] = {
    "distil": distil,
    "pixels": pixels,
    "prompts": prompts,
}


def make_objective(student: Backbone, settings: PretrainSettings, teacher_centre: Tensor) -> CombinedObjective:
    """The student with all objectives that the settings ask for."""
    of = Setting(student, settings, teacher_centre)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed + 1)  # settings.seed is the student's
        built = [build(of) for build in OBJECTIVES.values()]
    registered = [objective for objective in built if objective is not None]
    # prompts first: gradients add up in this order, and floating-point sums depend on it
    computed = [registered[-1], *registered[:-1]]
    return CombinedObjective(student, partial(show, settings), computed, registered)


def show(settings: PretrainSettings, student: nn.Module, batch: Batch, training: bool) -> FeatureMaps:
    """The student's maps of a batch; in training with spectral augmentation and the network's own draws."""
    assert isinstance(student, Backbone)
    seed = settings.seed
    x = network_input(batch.cube, batch.flips, settings.student.crop_px, student.input_range)  # (B, C, S, S)
    bands = batch.wavelengths_nm
    if training:
        x, bands = augmented(x, bands, settings.data, seed=seed, step=batch.step, fits=partial(_can_read, student))
    seed_of_step = int(rng(seed, NETWORK, batch.step).integers(2**62))
    return student.encode(x, bands, batch.gsd_m.tolist(), rng=random.Random(seed_of_step))


def _can_read(student: Backbone, wavelengths_nm: tuple[float, ...]) -> bool:
    """Whether the student can make features of these bands."""
    try:
        student.require_bands(wavelengths_nm)
    except BandError:
        return False
    return True
