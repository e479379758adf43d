"""The network of a branch: loaded, placed on a device, its batches planned. Importing this imports torch."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any, NamedTuple

import torch

from hvlabel.config import (
    DistilledModel,
    HyperFreeModel,
    NetworkBranchSettings,
    RunSettings,
    Sam2Model,
    SamModel,
    Weights,
)
from hvlabel.models.batches import Ceilings, bytes_per_point, plan_points
from hvlabel.models.device import choose_device, computes_in_bfloat16
from hvlabel.models.hyperfree import HyperFree, HyperFreePredictor, Topology, load_hyperfree
from hvlabel.models.sam import SamPredictor, sam_of
from hvlabel.models.sam.distilled import SpectralPredictor, SpectralSam, load_spectral
from hvlabel.models.sam.spectral import SpectralEncoder
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

    model     : SAM as a BoxModel; SAM2 as a PromptModel (rgb) or TrackModel (sequence); the distilled network as a
                function wavelengths_nm -> SpectralPredictor; HyperFree as one (wavelengths_nm, gsd_m) -> PromptModel
    precision : float32 or bfloat16
    ceilings  : of the batches, lowered where memory ran out
    """

    def __init__(
        self,
        branch: str,
        settings: NetworkBranchSettings,
        weights: Weights,
        run: RunSettings | None,
    ) -> None:
        if run is not None:
            torch.set_num_threads(run.threads)
        device_name = run.device if run is not None else "auto"
        device = choose_device(device_name)
        half = settings.generator.wants_half and computes_in_bfloat16(device)
        self.precision = "bfloat16" if half else "float32"
        self.ceilings = Ceilings()
        place = _Place(device, half, self.ceilings)
        loaded = _load(weights, place, settings)
        self.model: Any = loaded.model
        point_bytes = bytes_per_point(loaded.decoder, loaded.grid, loaded.side_px)
        sentence = plan_points(settings.generator.points_per_batch, point_bytes, device, self.ceilings)
        if sentence:
            print(f"{branch}: {sentence}", file=sys.stderr, flush=True)  # noqa: T201 (the log of the job)


class _Place(NamedTuple):
    """Where and how a network computes."""

    device: torch.device
    half: bool
    ceilings: Ceilings


class _Loaded(NamedTuple):
    """A predictor, and what its batches are planned from: its mask decoder, the sides of token grid and input."""

    model: Any
    decoder: Any
    grid: int
    side_px: int


def _load(weights: Weights, place: _Place, settings: NetworkBranchSettings) -> _Loaded:
    """The predictor of a network's settings."""
    match weights:
        case HyperFreeModel():
            return _hyperfree(weights, place)
        case SamModel():
            return _sam(weights, place)
        case DistilledModel():
            return _distilled(weights, place)
        case Sam2Model():
            return _sam2(weights, place, settings)
        case _:
            raise AssertionError(f"no loader for {type(weights).__name__}")


def _hyperfree(weights: HyperFreeModel, place: _Place) -> _Loaded:
    network = hyperfree_of(weights).to(place.device)
    topology = network.topology
    of_camera = partial(HyperFreePredictor, network, half=place.half, ceilings=place.ceilings)
    return _Loaded(of_camera, network.mask_decoder, topology.decoder_grid, topology.image_size_px)


def _sam(weights: SamModel, place: _Place) -> _Loaded:
    network = sam_of(weights).to(place.device)
    predictor = SamPredictor(network, half=place.half, ceilings=place.ceilings)
    return _Loaded(predictor, network.mask_decoder, network.prompt_encoder.grid, network.input_px)


def _distilled(weights: DistilledModel, place: _Place) -> _Loaded:
    network = distilled_of(weights).to(place.device)
    of_camera = partial(SpectralPredictor, network, half=place.half, ceilings=place.ceilings)
    prompts = network.prompt_encoder
    return _Loaded(of_camera, network.mask_decoder, prompts.grid, prompts.image_size_px)


def _sam2(weights: Sam2Model, place: _Place, settings: NetworkBranchSettings) -> _Loaded:
    from hvlabel.models.sam2 import Sam2Predictor, load_sam2  # only here: a machine without sam2 runs all else

    network = load_sam2(weights, place.device)
    tracking = settings.tracking()
    predictor = Sam2Predictor(
        network,
        tracking.objects,
        half=place.half,
        memory_frames=tracking.memory_frames,
        ceilings=place.ceilings,
    )
    return _Loaded(predictor, network.sam_mask_decoder, network.sam_image_embedding_size, network.image_size)


def distilled_of(model: DistilledModel) -> SpectralSam:
    """The network of the settings, in evaluation mode; WeightsError where a file is missing or does not fit."""
    sam = sam_of(model.sam)
    path = model.path()
    if path is not None:
        return load_spectral(path, sam)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(model.seed or 0)
        return SpectralSam(SpectralEncoder(), sam).eval()


def hyperfree_of(model: HyperFreeModel) -> HyperFree:
    """The network of the settings, in evaluation mode; WeightsError where its file is missing or does not fit."""
    path = model.path()
    if path is not None:
        state = read_state_dict(path)
        return load_hyperfree(
            state,
            image_size_px=model.image_size_px,
            merge_blocks=model.merge_blocks,
            decoder_heads=model.decoder_heads,
            source=model.checkpoint,
        )
    # untrained: the weights come from the seed alone, and drawing them leaves the caller's generator as it was
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(model.seed or 0)
        return HyperFree(SMALL_HYPERFREE).eval()
