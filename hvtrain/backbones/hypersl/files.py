"""Networks of published HyperSL state dicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from hvtrain.backbones.hypersl.encoder import HyperSlEncoder
from hvtrain.backbones.hypersl.mae import HyperSl
from hvtrain.backbones.hypersl.sizes import sizes_of
from hvtrain.backbones.parts.states import filled

TABLE = "pe"  # of zeros, which some files leave out
DECODING = ("mask_token", "corss_attn.", "norm1.", "norm2.", "decoder_")


def load(state: Mapping[str, Tensor], config: Mapping[str, Any], source: str) -> nn.Module:
    """The network that the names of a state dict tell: with decoder, or the encoder alone."""
    sizes = sizes_of(state, config, source)
    network = HyperSl(sizes) if "mask_token" in state else HyperSlEncoder(sizes)
    return filled(network, state, source, unused=(TABLE,))


def encoder_part(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of a published state dict what is the encoder's."""
    return {name: tensor for name, tensor in state.items() if not name.startswith(DECODING)}
