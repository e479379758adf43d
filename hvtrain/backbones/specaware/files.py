"""Networks of published SpecAware state dicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from hvtrain.backbones.parts.states import filled, shape_of
from hvtrain.backbones.specaware.encoder import SpecAwareEncoder
from hvtrain.backbones.specaware.mae import SpecAwareMae
from hvtrain.backbones.specaware.sentences import checked
from hvtrain.backbones.specaware.sizes import sizes_of
from hvtrain.backbones.specaware.upernet import SpecAwareSegmentation

ENCODER, SENTENCE = "encoder.", "sent/"


def load(state: Mapping[str, Tensor], config: Mapping[str, Any], source: str) -> nn.Module:
    """The network that the names of a state dict tell: autoencoder, encoder, or encoder with UPerNet.

    state : may hold the six sentence vectors under `sent/`; without them the shipped ones are taken
    """
    sentences = {name.removeprefix(SENTENCE): v for name, v in state.items() if name.startswith(SENTENCE)}
    weights = {name: tensor for name, tensor in state.items() if not name.startswith(SENTENCE)}
    of_encoder = {name.removeprefix(ENCODER): tensor for name, tensor in weights.items() if name.startswith(ENCODER)}
    network: SpecAwareEncoder | SpecAwareSegmentation
    if any(name.startswith("segmentation_head.") for name in weights):
        network = SpecAwareSegmentation(
            sizes_of(of_encoder, config, source),
            n_classes=shape_of(weights, "segmentation_head.0.weight", source, "SpecAware")[0],
            pyramid=shape_of(weights, "neck.convs.0.weight", source, "SpecAware")[0],
            segmentation=shape_of(weights, "decoder.fpn_bottleneck.0.weight", source, "SpecAware")[0],
        )
    else:
        weights = of_encoder or weights  # the authors' loader puts `encoder.` before every name
        sizes = sizes_of(weights, config, source)
        network = SpecAwareMae(sizes) if "mask_token" in weights else SpecAwareEncoder(sizes)
    encoder = network.encoder if isinstance(network, SpecAwareSegmentation) else network
    if sentences:
        encoder.patch_embed.spectral_embedding.sentences = checked(sentences, source)
    return filled(network, weights, source)


def resized_patches(state: Mapping[str, Tensor], patch_px: int, rank: int) -> dict[str, Tensor]:
    """The state dict of an encoder for patches of another side: only what makes a kernel's pixels changes.

    rank : of the generated matrices
    """
    generator = "patch_embed.matrix_generator.v_generator.6"
    changed = dict(state)
    for name in (f"{generator}.weight", f"{generator}.bias"):
        changed[name] = resized_rows(state[name], patch_px, rank)
    return changed


def resized_rows(rows: Tensor, patch_px: int, rank: int) -> Tensor:
    """(r * k' * k', ...) of (r * k * k, ...): bilinear, not rescaled."""
    flat = rows.reshape(len(rows), -1)  # (r * k * k, n)
    side = round((len(rows) / rank) ** 0.5)
    pictures = flat.T.reshape(-1, rank, side, side)
    resized = F.interpolate(pictures, size=(patch_px, patch_px), mode="bilinear", align_corners=False)
    return resized.reshape(len(pictures), -1).T.reshape(-1, *rows.shape[1:])


def encoder_part(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of a published state dict what is the encoder's, by its plain names."""
    of_encoder = {name.removeprefix(ENCODER): tensor for name, tensor in state.items() if name.startswith(ENCODER)}
    weights = of_encoder or state
    decoding = ("decoder_", "mask_token", SENTENCE)
    return {name: tensor for name, tensor in weights.items() if not name.startswith(decoding)}
