"""The network of a branch: loaded, placed on a device, its batches planned."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import torch

from hvlabel.config import (
    Branch,
    BranchSettings,
    HyperFreeModel,
    RunSettings,
    Sam2Model,
    SamModel,
    SequenceSettings,
    Weights,
)
from hvlabel.models.batches import Ceilings, bytes_per_point, plan_points
from hvlabel.models.device import choose_device, computes_in_bfloat16
from hvlabel.models.hyperfree import HyperFree, HyperFreePredictor, Topology, load_hyperfree
from hvlabel.models.sam import SamPredictor, sam_of
from hvlabel.models.weights import read_state_dict

# the network of untrained weights: small enough for a laptop
SMALL_HYPERFREE = Topology(
    image_size_px=256,
    patch_px=16,
    embed_dim=64,
    depth=4,
    num_heads=4,
    window_px=7,
    global_blocks=(1, 3),
    out_dim=64,
    decoder_mlp=256,
    iou_hidden=64,
)


class BranchNetwork:
    """What a branch asks for masks.

    model     : SAM as a BoxModel; SAM2 as a PromptModel (rgb) or TrackModel (sequence); HyperFree as a function (wavelengths_nm, gsd_m) -> PromptModel
    precision : float32 or bfloat16
    ceilings  : of the batches, lowered where memory ran out
    """

    def __init__(
        self,
        branch: Branch,
        settings: BranchSettings,
        weights: Weights,
        run: RunSettings | None,
    ) -> None:
        if run is not None:
            torch.set_num_threads(run.threads)
        device = choose_device(run.device if run is not None else "auto")
        half = settings.generator.wants_half and computes_in_bfloat16(device)
        self.precision = "bfloat16" if half else "float32"
        self.ceilings = Ceilings()
        self.model: Any
        if isinstance(weights, HyperFreeModel):
            hyperfree = hyperfree_of(weights).to(device)
            decoder, topology = hyperfree.mask_decoder, hyperfree.topology
            grid, side_px = topology.decoder_grid, topology.image_size_px
            self.model = partial(HyperFreePredictor, hyperfree, half=half, ceilings=self.ceilings)
        elif isinstance(weights, SamModel):
            sam = sam_of(weights).to(device)
            decoder, grid, side_px = sam.mask_decoder, sam.prompt_encoder.grid, sam.input_px
            self.model = SamPredictor(sam, half=half, ceilings=self.ceilings)
        else:
            from hvlabel.models.sam2 import Sam2Predictor, load_sam2  # only here: a machine without sam2 runs all else

            assert isinstance(weights, Sam2Model)
            sam2 = load_sam2(weights, device)
            decoder, grid, side_px = sam2.sam_mask_decoder, sam2.sam_image_embedding_size, sam2.image_size
            objects, memory_frames = 1, None
            if isinstance(settings, SequenceSettings):
                objects = settings.objects_per_batch
                memory_frames = settings.memory_frames if settings.generator.mode == "fast" else None
            self.model = Sam2Predictor(sam2, objects, half=half, memory_frames=memory_frames, ceilings=self.ceilings)
        asked = settings.generator.points_per_batch
        sentence = plan_points(asked, bytes_per_point(decoder, grid, side_px), device, self.ceilings)
        if sentence:
            print(f"{branch}: {sentence}", file=sys.stderr, flush=True)  # noqa: T201 (the log of the job)


def hyperfree_of(model: HyperFreeModel) -> HyperFree:
    """The network of the settings, in evaluation mode; WeightsError where its file is missing or does not fit."""
    path = model.path()
    if path is not None:
        return load_hyperfree(
            read_state_dict(path),
            image_size_px=model.image_size_px,
            merge_blocks=model.merge_blocks,
            decoder_heads=model.decoder_heads,
            source=model.checkpoint,
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(model.seed or 0)
        return HyperFree(SMALL_HYPERFREE).eval()
