"""The objectives of pre-training, one row each."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from hvlabel.config import PretrainSettings
from hvlabel.config.pretrain import MASKED_OBJECTIVES
from hvlabel.errors import BandError, ConfigError
from hvtrain.backbones.contract import Backbone
from hvtrain.backbones.table import autoencoder_of
from hvtrain.data.augment import augmented
from hvtrain.data.batch import Batch
from hvtrain.data.feature_maps import FeatureMaps
from hvtrain.data.inputs import network_input
from hvtrain.data.schedule import NETWORK, rng
from hvtrain.heads.pixel_embedding import LastLevel
from hvtrain.heads.prompted import answer, decoder_of, without_prompts
from hvtrain.heads.shortcut import Shortcut
from hvtrain.heads.tap import DecoderTap
from hvtrain.objectives.combined import CombinedObjective
from hvtrain.objectives.contract import Objective
from hvtrain.objectives.distil import DistilObjective
from hvtrain.objectives.masked import MaskedObjective
from hvtrain.objectives.pixels import PixelObjective
from hvtrain.objectives.prompts import OverAllPrompts, PromptObjective

RequireBands = Callable[[Sequence[float]], None]  # raises BandError
EMBEDDING = 32  # channels of the throw-away pixel embedding


@dataclass(frozen=True)
class Setting:
    """What an objective is built from. teacher_centre: (D,) mean of the teacher's tokens, empty without a teacher."""

    student: Backbone
    settings: PretrainSettings
    teacher_centre: Tensor


def distil(of: Setting) -> Objective | None:
    """Where there is a teacher that one shall learn from."""
    if "distil" not in of.settings.objectives or not len(of.teacher_centre):
        return None
    return DistilObjective(of.student.dim, of.teacher_centre, of.settings.loss)


def pixels(of: Setting) -> Objective | None:
    """Where the settings give it a weight."""
    loss = of.settings.loss
    if "masks" not in of.settings.objectives or not loss.dense:
        return None
    head = LastLevel(of.student.dim, EMBEDDING)
    return PixelObjective(head, OverAllPrompts().of_masks, loss)


def prompts(of: Setting) -> Objective | None:
    """Where the labels' masks shall be learnt from."""
    if "masks" not in of.settings.objectives:
        return None
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


def masked(name: str, of: Setting) -> Objective | None:
    """Where the settings name this autoencoder; ConfigError if the student's backbone has none."""
    settings = of.settings
    if name not in settings.objectives:
        return None
    autoencoder = autoencoder_of(name, without_prompts(of.student), settings.masked)
    requires = (of.student.require_bands, autoencoder.require_bands)
    show_it = partial(shown, settings, of.student, requires=requires)
    return MaskedObjective(name, autoencoder, show_it, settings.masked, settings.seed)


# heads are drawn and registered in this order: checkpoints and recorded runs depend on it. New rows before `prompts`
OBJECTIVES: dict[str, Callable[[Setting], Objective | None]] = {
    "distil": distil,
    "pixels": pixels,
    **{name: partial(masked, name) for name in MASKED_OBJECTIVES},
    "prompts": prompts,
}


def make_objective(student: Backbone, settings: PretrainSettings, teacher_centre: Tensor) -> CombinedObjective:
    """The student with all objectives that the settings ask for.

    ConfigError if there is none, or one that the student's backbone has not.
    """
    of = Setting(student, settings, teacher_centre)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed + 1)  # settings.seed is the student's
        built = [build(of) for build in OBJECTIVES.values()]
    registered = [objective for objective in built if objective is not None]
    if not registered:
        raise ConfigError(
            f"pretrain.objective {settings.objective} leaves nothing to learn from, as there is no teacher; "
            "set teacher, or add masks"
        )
    # prompts first: gradients add up in this order, and floating-point sums depend on it
    computed = [registered[-1], *registered[:-1]]
    return CombinedObjective(student, partial(show, settings), computed, registered)


def show(settings: PretrainSettings, student: nn.Module, batch: Batch, training: bool) -> FeatureMaps:
    """The student's maps of a batch; in training with spectral augmentation and the network's own draws."""
    assert isinstance(student, Backbone)
    x, bands = shown(settings, student, batch, requires=[student.require_bands], training=training)
    seed_of_step = int(rng(settings.seed, NETWORK, batch.step).integers(2**62))
    gsd_m = batch.gsd_m.tolist()
    return student.encode(x, bands, gsd_m, rng=random.Random(seed_of_step))


def shown(
    settings: PretrainSettings,
    student: Backbone,
    batch: Batch,
    *,
    requires: Sequence[RequireBands],
    training: bool = True,
) -> tuple[Tensor, tuple[float, ...]]:
    """The student's input (B, C, S, S) of a batch and its band centres (C,), nm; in training augmented.

    requires : none of them may refuse the bands that band dropout leaves
    """
    x = network_input(batch.cube, batch.flips, settings.student.crop_px, student.input_range)
    bands = batch.wavelengths_nm
    if not training:
        return x, bands
    fits = partial(_fits, requires)
    return augmented(x, bands, settings.data, seed=settings.seed, step=batch.step, fits=fits)


def _fits(requires: Sequence[RequireBands], wavelengths_nm: Sequence[float]) -> bool:
    """Whether nobody refuses these bands."""
    try:
        for require_bands in requires:
            require_bands(wavelengths_nm)
    except BandError:
        return False
    return True
