"""The network that is trained: sizes, first weights, and a cube's way into it."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvlabel.cache.publish import publish_bytes
from hvlabel.config import StudentSettings
from hvlabel.errors import WeightsError
from hvlabel.models.hyperfree import HyperFree, Topology, load_hyperfree, published_topology
from hvlabel.models.weights import read_state_dict
from hvtrain.samples import finite

SMALL = Topology(
    image_size_px=128,
    patch_px=8,
    embed_dim=128,
    depth=6,
    num_heads=4,
    window_px=8,
    global_blocks=(1, 3, 5),
    out_dim=128,
    decoder_mlp=512,
    iou_hidden=128,
)
TOPOLOGY = "topology"  # key of the sizes in the metadata of a .safetensors file
SMALL_MERGES = (2, 6)  # like the published ones: the second is never reached


def topology(settings: StudentSettings) -> Topology:
    """Sizes of the network that the settings name."""
    if settings.size == "small":
        return replace(SMALL, image_size_px=settings.crop_px, merge_blocks=SMALL_MERGES if settings.merging else None)
    return published_topology(settings.size, settings.crop_px, merging=settings.merging)


def make_student(settings: StudentSettings, seed: int) -> HyperFree:
    """The network with its first weights: those of the checkpoint, or drawn from the seed; WeightsError if the file does not fit."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = HyperFree(topology(settings))
        listen_to_prompts(network.mask_decoder, network.prompt_encoder)
        neck: Any = network.image_encoder.neck
        nn.init.constant_(neck[-1].weight, 0.5)  # features must not drown the position code
    path = start_file(settings)
    if path is not None:
        load_into(network, read_state_dict(path), str(path))
    return network


def start_file(settings: StudentSettings) -> Path | None:
    """The checkpoint to start from, None from scratch; WeightsError if it is missing."""
    if settings.checkpoint is None:
        return None
    path = Path(settings.checkpoint).expanduser()
    if not path.is_file():
        raise WeightsError(
            f"{path}: no such checkpoint; set pretrain.student.checkpoint to a file, or leave it out to start from scratch"
        )
    return path


def load_into(network: HyperFree, state: Mapping[str, Tensor], source: str) -> None:
    """Every weight of a state dict into a network of the same sizes; WeightsError otherwise.

    Position tables of global blocks may be of another image size: they are interpolated.
    """
    own = network.state_dict()
    blocks = network.topology.global_blocks
    tables = {f"image_encoder.blocks.{b}.attn.rel_pos_{axis}" for b in blocks for axis in "hw"}
    wrong = [k for k in own if k not in state or (state[k].shape != own[k].shape and k not in tables)]
    extra = [k for k in state if k not in own and not k.startswith("mask_decoder.class_seg_head.")]
    if wrong or extra:
        some = ", ".join((wrong + extra)[:3])
        raise WeightsError(
            f"{source}: does not fit the network that pretrain.student names ({len(wrong)} tensors missing or of another shape, "
            f"{len(extra)} unknown, e.g. {some}); choose its size and merging"
        )
    network.load_state_dict({k: _fitted(state[k].float(), own[k]) for k in own}, strict=True)


def _fitted(table: Tensor, own: Tensor) -> Tensor:
    """A position table for another grid; anything else as it is."""
    if table.shape == own.shape:
        return table
    return F.interpolate(table.T[None], size=own.shape[0], mode="linear")[0].T


def listen_to_prompts(decoder: Any, prompts: Any) -> None:
    """First weights of a SAM mask decoder and prompt encoder under which a mask depends on its prompt from the first step.

    With ordinary first weights the decoder gives one answer whatever the prompt, and stays there for thousands of steps.
    Here a prompt token looks at its own place (queries and keys share their weights and the position code is sharp), what
    it sees is passed on unchanged, other branches start small, and an empty mask is the first answer.
    """
    layers = list(decoder.transformer.layers)
    looks = [layer.cross_attn_token_to_image for layer in layers]
    answers = [layer.cross_attn_image_to_token for layer in layers]
    last = decoder.transformer.final_attn_token_to_image
    with torch.no_grad():
        prompts.pe_layer.positional_encoding_gaussian_matrix.mul_(2.0)
        for embedding in prompts.point_embeddings:
            embedding.weight.mul_(0.2)
        for embedding in (decoder.mask_tokens, decoder.iou_token, prompts.not_a_point_embed, prompts.no_mask_embed):
            embedding.weight.mul_(0.1)
        for layer in layers:
            closing = [m for m in layer.mlp.modules() if isinstance(m, nn.Linear)][-1]
            nn.init.zeros_(closing.weight)
            nn.init.zeros_(closing.bias)
        first = layers[0].self_attn
        for linear in (first.v_proj, first.out_proj):
            nn.init.eye_(linear.weight)
            nn.init.zeros_(linear.bias)
        for attention in (*looks, *answers, last):
            attention.q_proj.weight.mul_(4.0)
            attention.k_proj.weight.copy_(attention.q_proj.weight)
            nn.init.orthogonal_(attention.v_proj.weight)
            attention.out_proj.weight.copy_(attention.v_proj.weight.T)
            for linear in (attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj):
                nn.init.zeros_(linear.bias)
        looks[0].out_proj.weight.mul_(3.0)
        for attention in (layers[1].self_attn, looks[1], last, *answers):
            attention.out_proj.weight.mul_(0.1)
        decoder.output_upscaling[3].bias[0] = 3.0
        for hyper in decoder.output_hypernetworks_mlps:
            hyper.layers[-1].bias[0] = -0.5


def network_input(cube: Tensor, flips: Tensor, side_px: int) -> Tensor:
    """(B, C, S, S) float32: stored values as the published predictor feeds them, mirrored where asked.

    cube  : (B, C, s, s) stored values; resized (antialiased) to S, each divided by its own maximum
    flips : (B, 2) bool, along y and x
    """
    x = finite(cube.float()) if cube.is_floating_point() else cube.float()
    if x.shape[-1] != side_px:
        x = F.interpolate(x, size=(side_px, side_px), mode="bilinear", align_corners=False, antialias=True)
    for axis in (0, 1):
        chosen = flips[:, axis]
        if chosen.any():
            x[chosen] = x[chosen].flip(2 + axis)
    peak = x.amax(dim=(1, 2, 3), keepdim=True)
    return x / torch.where(peak > 0, peak, torch.ones_like(peak))


def export(state: Mapping[str, Tensor], path: Path, sizes: Topology | None = None) -> None:
    """Publish a bare state dict of the published layout as .safetensors, .pt or .pth.

    sizes : written beside the tensors of a .safetensors file, which alone do not tell all of them
    """
    whole = {k: v.detach().cpu().contiguous() for k, v in state.items()}
    if path.suffix == ".safetensors":
        facts = None if sizes is None else {TOPOLOGY: json.dumps(asdict(sizes))}
        publish_bytes(path, safetensors.torch.save(whole, metadata=facts))
    elif path.suffix in (".pt", ".pth"):
        content = io.BytesIO()
        torch.save(whole, content)
        publish_bytes(path, content.getvalue())
    else:
        raise WeightsError(f"{path}: weights are written as .safetensors, .pt or .pth; choose one of these endings")


def load_exported(path: Path, image_size_px: int | None = None, merge_blocks: Sequence[int] | None = None) -> HyperFree:
    """The network of an exported or published file, in evaluation mode.

    image_size_px, merge_blocks : what a published file does not tell; not needed for a .safetensors file of a run
    """
    state = read_state_dict(path)
    sizes = _sizes_of(path)
    if sizes is None:
        merges = None if merge_blocks is None else tuple(merge_blocks)
        return load_hyperfree(state, image_size_px=image_size_px, merge_blocks=merges, source=str(path))
    network = HyperFree(sizes)
    load_into(network, state, str(path))
    return network.eval()


def _sizes_of(path: Path) -> Topology | None:
    if path.suffix != ".safetensors":
        return None
    with safetensors.safe_open(path, framework="pt") as file:
        facts = (file.metadata() or {}).get(TOPOLOGY)
    if facts is None:
        return None
    sizes: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(facts).items()}
    return Topology(**sizes)
