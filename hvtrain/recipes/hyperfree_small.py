"""The embedded HyperFree: masks of cubes of any camera, trained on generated scenes of many.

First at 64 px, where steps are cheap and a prompt learns to matter, then at 128 px; at last with a loss along outlines,
the second half of it at the 192 px of the file and mostly on objects that a photograph shows too.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from hvlabel.models.hyperfree import Topology
from hvlabel.models.hyperfree.spectral import CUBE_SLOTS_NM, KEY_SLOTS_NM
from hvtrain.backbones.hyperfree import HyperFreeBackbone, calm_neck
from hvtrain.data.batch import Batch
from hvtrain.data.feature_maps import FeatureMaps
from hvtrain.heads.first_weights import listen_to_prompts
from hvtrain.heads.prompted import answer
from hvtrain.recipes.objectives import SceneObjective
from hvtrain.recipes.scenes import cube_batch
from hvtrain.recipes.stages import Stage
from hvtrain.recipes.training import LOG_EVERY, begin, play

# patches of 4 px: the smallest objects of a scene are a few px wide, and a mask has four cells along a patch
SIZES = Topology(
    image_size_px=192,
    patch_px=4,
    embed_dim=128,
    depth=6,
    num_heads=4,
    window_px=8,
    global_blocks=(2, 5),
    out_dim=128,
    decoder_mlp=512,
    iou_hidden=128,
)
LARGER = Stage(450, 128, 128, (128, 128, 192, 256), images=4, objects=8, grounds=2, lr=1e-3)
OUTLINES = replace(LARGER, warmup_steps=20, boxed=0.35, balanced=0.0, edge=0.3)
FULL_SIZE = replace(OUTLINES, side_px=192, logits_px=192, images=2, objects=10, hidden=0.2)
STAGES = (
    Stage(1500, 64, 64, (96, 128), images=6, objects=8, grounds=0, lr=1.5e-3),
    LARGER,
    replace(OUTLINES, steps=550, scene_px=(128, 192, 256, 256), lr=9e-4, fall=0.6),
    replace(FULL_SIZE, steps=560, scene_px=(192, 256, 256), lr=8e-4, fall=0.7),
)
PERIODS_NM = (50.0, 900.0)  # of the first kernels along the spectrum
KERNEL_GAIN = 0.5  # of the first kernels
PROMPTED = (  # the rate of these is halved
    "student.prompt_encoder.",
    "student.mask_decoder.transformer.",
    "student.mask_decoder.iou_token.",
    "student.mask_decoder.mask_tokens.",
)


def make_objective(network: HyperFreeBackbone) -> SceneObjective:
    """HyperFree's path from a cube to masks."""
    return SceneObjective(
        network,
        decoder=network.mask_decoder,
        widths=(network.dim,),
        encode=encode,
        answer=partial(answer, network),
        first=STAGES[0],
    )


def encode(network: nn.Module, batch: Batch, training: bool) -> FeatureMaps:
    """The last map of cube (B, C, S, S), wavelengths_nm (C,) and gsd_m (B,), m per px of the input."""
    assert isinstance(network, HyperFreeBackbone)
    side_px = batch.cube.shape[-1]
    set_side(network, side_px)
    gsd_m = batch.gsd_m.tolist()
    maps = network.encode(batch.cube, batch.wavelengths_nm, gsd_m)
    return FeatureMaps.of(maps[-1:], side_px)


def train(
    out: Path, threads: int, workers: int, stages: tuple[Stage, ...] = STAGES, *, log_every: int = LOG_EVERY
) -> None:
    """All stages, from the checkpoint in `out` if there is one; writes OUT/hyperfree_embedded.safetensors."""
    fabric = begin(threads)
    network = HyperFreeBackbone(SIZES).train()
    listen_to_prompts(network.mask_decoder, network.prompt_encoder)
    calm_neck(network)
    with torch.no_grad():
        for parameter in network.image_encoder.contras_modules.parameters():
            parameter.zero_()  # of every published file, used by none of the outputs
    smooth_kernels(network)
    objective = make_objective(network)
    play(
        fabric,
        objective,
        network,
        out,
        recipe="hyperfree",
        make=cube_batch,
        stages=stages,
        workers=workers,
        weights="hyperfree_embedded.safetensors",
        prompted=PROMPTED,
        begin_stage=objective.begin_stage,
        names=objective.names,
        log_every=log_every,
    )


def set_side(network: HyperFreeBackbone, side_px: int) -> None:
    """Another input side; position tables of global blocks are interpolated as they are read."""
    encoder, prompts = network.image_encoder, network.prompt_encoder
    encoder.grid = prompts.grid = side_px // encoder.patch_px
    prompts.image_size_px = side_px


def smooth_kernels(network: HyperFreeBackbone) -> None:
    """First kernels of the spectral dictionary: waves along the wavelength, each the same for both banks.

    Slots of like wavelength then answer alike, so a camera never seen is read like its neighbours from the first step.
    Half of the kernels take the mean of a patch, half an edge in it.
    """
    encoder = network.image_encoder
    n = encoder.embed_dim  # E
    n_px = encoder.patch_px**2
    rng = np.random.default_rng(0)
    shortest_nm, longest_nm = PERIODS_NM
    periods_nm = shortest_nm * (longest_nm / shortest_nm) ** rng.random(n)  # (E,), equal chances for equal ratios
    phases = rng.uniform(0, 2 * math.pi, n)  # (E,)
    noise = rng.normal(0, 1, (n, 1, encoder.patch_px, encoder.patch_px))
    patterns = torch.from_numpy(noise).float()  # (E, 1, p, p)
    patterns[::2] = 1.0  # the mean of a patch
    level = patterns[1::2].mean(dim=(2, 3), keepdim=True)
    patterns[1::2] -= level  # an edge in it: blind to what the whole patch has in common
    banks = (encoder.point_spectral_weight_bank_w, encoder.block_spectral_weight_bank_w)
    with torch.no_grad():
        for bank, slots_nm in zip(banks, (KEY_SLOTS_NM, CUBE_SLOTS_NM), strict=True):
            place_nm = np.asarray(slots_nm)[None]  # (1, slots)
            turns = 2 * math.pi * place_nm / periods_nm[:, None]  # (E, slots), radians
            heights = np.sin(turns + phases[:, None])
            waves = torch.from_numpy(heights).float()  # (E, slots)
            kernels = waves[..., None, None] * patterns / n_px  # (E, slots, p, p)
            bank.copy_(kernels * KERNEL_GAIN)
