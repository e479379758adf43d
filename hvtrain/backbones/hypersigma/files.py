"""Networks of published HyperSIGMA state dicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from hvlabel.errors import WeightsError
from hvtrain.backbones.hypersigma.attention import SparseAttention
from hvtrain.backbones.hypersigma.fusion import UNUSED_OF_HEADS, PatchClassification, Segmentation
from hvtrain.backbones.hypersigma.mae import MASK_RATIO, SpatMae, SpecMae
from hvtrain.backbones.hypersigma.sizes import NETWORK, decoder_sizes_of, sizes_of, square_side
from hvtrain.backbones.hypersigma.spatial import UNUSED_SPATIAL, SpatVit
from hvtrain.backbones.hypersigma.spectral import UNUSED_SPECTRAL, SpecVit
from hvtrain.backbones.parts.states import filled, shape_of
from hvtrain.backbones.parts.transformer import Attention, Grid

SPATIAL, SPECTRAL, ENCODER = "spat_encoder.", "spec_encoder.", "encoder."
OFFSETS = "sampling_offsets."
DECODING = ("decoder_", "mask_token", "fpn")  # starts of names that a backbone has no use for
State = Mapping[str, Tensor]
Config = Mapping[str, Any]


def load(state: State, config: Config, source: str) -> nn.Module:
    """The network that the names of a state dict tell: attention, transformer, autoencoder, or a head over both.

    config : heads, taps, spec_tap, img and so on, by their published names; attention: mhsa leaves sparse attention out
    """
    if config.get("attention") == "mhsa":
        state = {name: tensor for name, tensor in state.items() if OFFSETS not in name}
    if "qkv.weight" in state:
        return _attention(state, config, source)
    if any(name.startswith(SPATIAL) for name in state):
        return _head(state, config, source)
    state = part(state, ENCODER) or state
    if "mask_token" in state:
        return _autoencoder(state, config, source)
    if "spat_map.weight" in state:
        weights = without(state, UNUSED_SPECTRAL)
        return filled(spectral(weights, config, source), weights, source)
    weights = without(state, UNUSED_SPATIAL)
    return filled(spatial(weights, config, source), weights, source)


def part(state: State, prefix: str) -> dict[str, Tensor]:
    """What stands under a prefix, by its name there."""
    below = [name for name in state if name.startswith(prefix)]
    return {name.removeprefix(prefix): state[name] for name in below}


def without(state: State, unused: tuple[str, ...]) -> dict[str, Tensor]:
    """A state dict without what nothing reads."""
    return {name: tensor for name, tensor in state.items() if not name.startswith(unused)}


def of_both(parts: Sequence[State], source: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights of the spatial and of the spectral encoder in some files, by their plain names, decoders left out.

    The latter may be empty; WeightsError where there is a spectral one alone.
    """
    of_spatial: dict[str, Tensor] = {}
    of_spectral: dict[str, Tensor] = {}
    for whole in parts:
        of_head = part(whole, SPATIAL)
        of_spatial |= without(of_head, (*UNUSED_SPATIAL, *DECODING))
        of_spectral |= without(part(whole, SPECTRAL), UNUSED_SPECTRAL)
        if of_head:
            continue
        alone = part(whole, ENCODER) or whole
        weights = without(alone, (*UNUSED_SPATIAL, *UNUSED_SPECTRAL, *DECODING))
        if "spat_map.weight" in weights:
            of_spectral |= weights
        else:
            of_spatial |= weights
    if not of_spatial and of_spectral:
        raise WeightsError(f"{source}: a spectral network alone; give the spatial one's file before it")
    return of_spatial, of_spectral


def spatial(state: State, config: Config, source: str, *, patch_file: bool | None = None) -> SpatVit:
    """A spatial transformer of the sizes of a state dict, its weights still to be filled in.

    patch_file : whether it is the variant for classes of patches; none: its layers tell
    """
    _, n_bands, _, patch_px = shape_of(state, "patch_embed.proj.weight", source, NETWORK)
    n_tokens = shape_of(state, "pos_embed", source, NETWORK)[1]
    image_px = config.get("img", config.get("img_size"))
    made_for = _grid(image_px, n_tokens, patch_px)
    if patch_file is None:
        patch_file = "fpn2.0.weight" in state  # elsewhere the second tap stays as it is
    sizes = sizes_of(state, config, source)
    return SpatVit(sizes, n_bands, made_for, patch_px, patch_file=patch_file)


def _grid(image_px: Any, n_tokens: int, patch_px: int) -> Grid:
    """The grid of a table of positions: of the recorded image, or a square."""
    side = square_side(n_tokens)
    if image_px is None:
        return side, side
    is_pair = isinstance(image_px, list | tuple)
    height_px, width_px = image_px if is_pair else (image_px, image_px)
    rows, columns = height_px // patch_px, width_px // patch_px
    # the table counts where the recorded image does not fit it
    return (rows, columns) if rows * columns == n_tokens else (side, side)


def spectral(state: State, config: Config, source: str, *, taps: str = "taps") -> SpecVit:
    """A spectral transformer of the sizes of a state dict, its weights still to be filled in."""
    n_pixels = shape_of(state, "spat_map.weight", source, NETWORK)[1]
    n_tokens = shape_of(state, "pos_embed", source, NETWORK)[1]
    sizes = sizes_of(state, config, source, taps=taps)
    return SpecVit(sizes, square_side(n_pixels), n_tokens)


def _attention(state: State, config: Config, source: str) -> nn.Module:
    """One attention layer."""
    width = shape_of(state, "proj.weight", source, NETWORK)[0]
    heads = int(config.get("heads", config.get("num_heads", 12)))
    if "sampling_offsets.weight" not in state:
        return filled(Attention(width, heads), state, source)
    n_offsets = state["sampling_offsets.weight"].shape[0]
    points = n_offsets // (2 * heads)  # x and y of each
    return filled(SparseAttention(width, heads, points), state, source)


def _autoencoder(state: State, config: Config, source: str) -> nn.Module:
    """A masked autoencoder."""
    sizes = sizes_of(state, config, source)
    decoder = decoder_sizes_of(state, config, source)
    n_tokens = shape_of(state, "pos_embed", source, NETWORK)[1]
    n_numbers = shape_of(state, "decoder_pred.weight", source, NETWORK)[0]
    ratio = float(config.get("mask_ratio", MASK_RATIO))
    network: SpatMae | SpecMae
    if "spat_map.weight" in state:
        n_pixels = state["spat_map.weight"].shape[1]
        n_bands = n_numbers // n_pixels * n_tokens  # a token predicts all pixels of its bands
        network = SpecMae(sizes, decoder, n_bands, square_side(n_pixels), n_tokens, ratio)
    else:
        _, n_bands, _, patch_px = shape_of(state, "patch_embed.proj.weight", source, NETWORK)
        side_px = square_side(n_tokens) * patch_px
        network = SpatMae(sizes, decoder, n_bands, side_px, patch_px, ratio)
    return filled(network, state, source, unused=("decoder_pos_embed",))  # fixed: some files leave it out


def _head(state: State, config: Config, source: str) -> nn.Module:
    """Both encoders with the head for pixels or for patches."""
    for_patches = "classifier.0.weight" in state  # the other one has it inside its encoder alone
    unused = (
        *UNUSED_OF_HEADS,
        *(SPATIAL + name for name in UNUSED_SPATIAL),
        *(SPECTRAL + name for name in UNUSED_SPECTRAL),
        *(("conv.",) if for_patches else ()),
    )
    weights = without(state, unused)
    of_both = (
        spatial(part(weights, SPATIAL), config, source, patch_file=for_patches),
        spectral(part(weights, SPECTRAL), config, source, taps="spec_tap"),
    )
    if for_patches:
        n_classes = shape_of(weights, "classifier.4.weight", source, NETWORK)[0]
        return filled(PatchClassification(*of_both, n_classes), weights, source)
    n_classes = shape_of(weights, "cls.weight", source, NETWORK)[0]
    return filled(Segmentation(*of_both, n_classes), weights, source)
