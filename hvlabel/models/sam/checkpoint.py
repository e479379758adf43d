"""State dicts of SAMs: which architecture they are, batch norms folded, every key and shape checked."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from hvlabel.config import SamModel
from hvlabel.errors import WeightsError
from hvlabel.models.blocks import rel_pos_lengths
from hvlabel.models.sam.network import STRIDE_PX, Sam
from hvlabel.models.sam.tiny_vit import TinyViT
from hvlabel.models.sam.vit import VisionTransformer
from hvlabel.models.weights import read_state_dict

ENCODER = "image_encoder."
# of ImageNet pre-training, in MobileSAM's file but never run
UNUSED = ("image_encoder.norm_head.", "image_encoder.head.")
BATCH_NORM = ("weight", "bias", "running_mean", "running_var")
BATCH_NORM_EPS = 1e-5
TINY_VIT_KEY = "image_encoder.patch_embed.seq.0.c.weight"
VIT_KEY = "image_encoder.pos_embed"
VIT_WINDOW_PX = 14  # no file says it in which all blocks are global


def load_sam(state: Mapping[str, Tensor], *, input_px: int = 1024, source: str = "state dict") -> Sam:
    """The network of a state dict, in evaluation mode and float32.

    state    : MobileSAM's, with batch norms or folded, or one of SAM ViT-B, L, H; any float type
    input_px : side of the padded input; a ViT takes the one it was made for only
    WeightsError if it is another network's, or a tensor is missing, unknown or of another shape.
    """
    if TINY_VIT_KEY in state:
        used = {key: tensor for key, tensor in state.items() if not key.startswith(UNUSED)}
        try:
            state = folded(used)
        except KeyError as error:
            raise WeightsError(f"{source}: a batch norm is not whole, no key {error}; download it again") from error
        with torch.device("meta"):  # no time spent on initial values that the file replaces
            network = Sam(TinyViT(), input_px)
    elif VIT_KEY in state:
        encoder = _vision_transformer(state, source)
        side_px = encoder.pos_embed.shape[1] * STRIDE_PX
        if input_px != side_px:
            raise WeightsError(f"{source}: this SAM takes pictures of {side_px} px; set sam.input_px to {side_px}")
        network = Sam(encoder, input_px)
    else:
        raise WeightsError(
            f"{source}: no SAM; expected the keys of MobileSAM (mobile_sam.pt) or of SAM ViT-B, L or H "
            f"(sam_vit_b_*.pth), found {sorted(state)[:3]}"
        )
    _fill(network, state, source)
    return network.eval()


def sam_of(model: SamModel) -> Sam:
    """The network of the settings, in evaluation mode; WeightsError where its file is missing or does not fit."""
    path = model.path()
    if path is not None:
        return load_sam(read_state_dict(path), input_px=model.input_px, source=str(path))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(model.seed or 0)
        return Sam(TinyViT(), model.input_px).eval()


def folded(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same network without batch norms: each is put into the convolution before it, in float64.

    A norm `X.bn` turns `X.c` without bias into weight * s and bias - mean * s, with s = scale / sqrt(variance + eps).
    """
    plain = {key: tensor for key, tensor in state.items() if ".bn." not in key}
    for key in state:
        if not key.endswith(".bn.weight"):
            continue
        path = key.removesuffix(".bn.weight")
        norm = [state[f"{path}.bn.{name}"].double() for name in BATCH_NORM]  # (C',) each
        scale, shift, mean, variance = norm
        gain = scale / torch.sqrt(variance + BATCH_NORM_EPS)
        weight = state[f"{path}.c.weight"].double()  # (C', C, k, k)
        folded_weight = weight * gain[:, None, None, None]
        folded_bias = shift - mean * gain
        plain[f"{path}.c.weight"] = folded_weight.float()
        plain[f"{path}.c.bias"] = folded_bias.float()
    return plain


def _vision_transformer(state: Mapping[str, Tensor], source: str) -> VisionTransformer:
    """An encoder of the sizes that the file's shapes tell."""
    try:
        _, grid, _, embed_dim = state[VIT_KEY].shape
        patch_px = state[f"{ENCODER}patch_embed.proj.weight"].shape[-1]
        tables = rel_pos_lengths(state, ENCODER)
        head_dim = state[f"{ENCODER}blocks.0.attn.rel_pos_h"].shape[1]
    except (KeyError, ValueError) as error:
        raise WeightsError(f"{source}: not a whole SAM ViT ({error}); download it again") from error
    # a table holds the offsets along a side, which in a global block is the grid's
    of_grid = 2 * grid - 1
    global_blocks = tuple(k for k, length in enumerate(tables) if length == of_grid)
    with torch.device("meta"):
        return VisionTransformer(
            embed_dim=embed_dim,
            depth=len(tables),
            num_heads=embed_dim // head_dim,
            grid=grid,
            patch_px=patch_px,
            window_px=VIT_WINDOW_PX,
            global_blocks=global_blocks,
        )


def _fill(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Put a state dict into a network; WeightsError names what is missing, unknown or of another shape."""
    expected = network.state_dict()
    missing = sorted(expected.keys() - state.keys())
    unknown = sorted(state.keys() - expected.keys())
    common = expected.keys() & state.keys()
    wrong = sorted(key for key in common if expected[key].shape != state[key].shape)
    if missing or unknown or wrong:
        raise WeightsError(
            f"{source}: does not fit its architecture: missing {missing[:3]}, unknown {unknown[:3]}, wrong shape "
            f"{wrong[:3]} ({len(missing)}, {len(unknown)}, {len(wrong)} in all); download it again"
        )
    as_float = {key: tensor.float() for key, tensor in state.items()}
    network.load_state_dict(as_float, strict=True, assign=True)
