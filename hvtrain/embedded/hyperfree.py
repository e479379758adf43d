"""The embedded HyperFree: masks of cubes of any camera, trained on generated scenes of many.

First at 64 px, where steps are cheap and a prompt learns to matter, then at 128 px; at last with a loss along outlines, the second
half of it at the 192 px of the file and mostly on objects that a photograph shows too.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hvlabel.models.hyperfree import HyperFree, Topology
from hvlabel.models.hyperfree.spectral import CUBE_SLOTS_NM, KEY_SLOTS_NM
from hvtrain.embedded.batches import cube_batch
from hvtrain.embedded.objective import PromptObjective, Prompts
from hvtrain.embedded.run import Run, begin
from hvtrain.embedded.stages import Batch, Stage
from hvtrain.student import listen_to_prompts

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
# the rate of these is halved
PROMPTED = tuple(
    f"network.{part}."
    for part in ("prompt_encoder", "mask_decoder.transformer", "mask_decoder.iou_token", "mask_decoder.mask_tokens")
)


class HyperFreeObjective(PromptObjective):
    """HyperFree's path from a cube to masks."""

    network: HyperFree

    def __init__(self, network: HyperFree) -> None:
        super().__init__(network, network.mask_decoder, (network.topology.out_dim,))

    def encode(self, batch: Batch) -> tuple[list[Tensor], int]:
        """Of cube (B, C, S, S), wavelengths_nm (C,) and gsd_m (B,), m per px of the input."""
        set_side(self.network, batch["cube"].shape[-1])
        levels = self.network.encode(batch["cube"], batch["wavelengths_nm"], batch["gsd_m"].tolist())
        return levels[-1:], batch["cube"].shape[-1]

    def decode(self, levels: list[Tensor], asked: Prompts) -> tuple[Tensor, Tensor]:
        """As the published predictor does it."""
        xy, labels = asked.points or (None, None)
        return self.network.decode(
            levels[-1],
            points_xy=xy,
            labels=labels,
            boxes_xyxy=asked.boxes,
            masks=asked.masks,
            multimask=not asked.single,
        )


def train(out: Path, threads: int, workers: int, stages: tuple[Stage, ...] = STAGES) -> None:
    """All stages, from the checkpoint in `out` if there is one; writes OUT/hyperfree_embedded.safetensors."""
    begin(threads)
    network = HyperFree(SIZES).train()
    listen_to_prompts(network.mask_decoder, network.prompt_encoder)
    with torch.no_grad():
        network.image_encoder.neck[-1].weight.fill_(0.5)  # type: ignore[operator]
        for parameter in network.image_encoder.contras_modules.parameters():
            parameter.zero_()  # of every published file, used by none of the outputs
    smooth_kernels(network)
    Run(HyperFreeObjective(network), out, "hyperfree", PROMPTED).train(
        cube_batch, stages, workers, "hyperfree_embedded.safetensors"
    )


def set_side(network: HyperFree, side_px: int) -> None:
    """Another input side; position tables of global blocks are interpolated as they are read."""
    encoder, prompts = network.image_encoder, network.prompt_encoder
    encoder.grid = prompts.grid = side_px // encoder.patch_px
    prompts.image_size_px = side_px


def smooth_kernels(network: HyperFree) -> None:
    """First kernels of the spectral dictionary: waves along the wavelength, each the same for both banks.

    Slots of like wavelength then answer alike, so a camera never seen is read like its neighbours from the first step.
    Half of the kernels take the mean of a patch, half an edge in it.
    """
    encoder = network.image_encoder
    n = encoder.embed_dim
    rng = np.random.default_rng(0)
    periods_nm = PERIODS_NM[0] * (PERIODS_NM[1] / PERIODS_NM[0]) ** rng.random(n)
    phases = rng.uniform(0, 2 * math.pi, n)
    patterns = torch.from_numpy(rng.normal(0, 1, (n, 1, encoder.patch_px, encoder.patch_px))).float()
    patterns[::2] = 1.0  # the mean of a patch
    patterns[1::2] -= patterns[1::2].mean(dim=(2, 3), keepdim=True)  # an edge in it
    banks = (encoder.point_spectral_weight_bank_w, encoder.block_spectral_weight_bank_w)
    with torch.no_grad():
        for bank, slots_nm in zip(banks, (KEY_SLOTS_NM, CUBE_SLOTS_NM), strict=True):
            angle = 2 * math.pi * np.asarray(slots_nm)[None] / periods_nm[:, None] + phases[:, None]
            waves = torch.from_numpy(np.sin(angle)).float()  # (E, slots)
            bank.copy_(waves[..., None, None] * patterns / encoder.patch_px**2 * 0.5)
