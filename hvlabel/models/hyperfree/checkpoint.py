"""State dicts of the published layout: the topology read off them, strict loading."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from hvlabel.errors import WeightsError
from hvlabel.models.blocks import rel_pos_lengths
from hvlabel.models.hyperfree.network import HyperFree, Topology

ENCODER = "image_encoder."
PUBLISHED_WINDOW_PX = 14  # side of a window, tokens
# size -> (embed_dim, depth, heads, global blocks of the published demos, merge blocks of the published README)
SIZES = {
    "b": (768, 12, 12, (2, 5, 8, 11), (3, 12)),
    "l": (1024, 24, 16, (5, 11, 17, 23), (6, 24)),
    "h": (1280, 32, 16, (7, 15, 23, 31), (8, 32)),
}


def published_topology(size: str, image_size_px: int = 1024, *, merging: bool = False) -> Topology:
    """Topology of HyperFree / HyperVision B, L or H.

    merging : the README variant: two merge blocks (the second is never reached) and three global blocks instead of four
    """
    embed_dim, depth, heads, global_blocks, merge_blocks = SIZES[size]
    return Topology(
        image_size_px=image_size_px,
        patch_px=16,
        embed_dim=embed_dim,
        depth=depth,
        num_heads=heads,
        window_px=PUBLISHED_WINDOW_PX,
        global_blocks=global_blocks[1:] if merging else global_blocks,
        merge_blocks=merge_blocks if merging else None,
    )


def infer_topology(
    state: Mapping[str, Tensor],
    *,
    image_size_px: int | None = None,
    merge_blocks: tuple[int, ...] | None = None,
    decoder_heads: int = 8,
    source: str = "state dict",
) -> Topology:
    """Topology of a bare state dict.

    image_size_px, merge_blocks, decoder_heads : what the settings say where a file does not
    source                                     : its name in errors
    Read off the shapes: widths, depth, heads, patch, window, global blocks, image size. Not in a file: where merging
    takes place (merge_blocks), the decoder's heads, and, if all position tables have one length, whether blocks are
    windowed: then all are taken as global unless that contradicts image_size_px. WeightsError asks for what is missing.
    """
    try:
        bank = state[f"{ENCODER}point_spectral_weight_bank_w"]  # (E, slots, patch, patch)
        tables = rel_pos_lengths(state, ENCODER)
        head_dim = state[f"{ENCODER}blocks.0.attn.rel_pos_h"].shape[1]
        mlp_hidden = state[f"{ENCODER}blocks.0.mlp.lin1.weight"].shape[0]
        sizes = {
            "out_dim": state[f"{ENCODER}neck.0.weight"].shape[0],
            "mask_channels": state["prompt_encoder.mask_downscaling.3.weight"].shape[0],
            "decoder_mlp": state["mask_decoder.transformer.layers.0.mlp.lin1.weight"].shape[0],
            "iou_hidden": state["mask_decoder.iou_prediction_head.layers.0.weight"].shape[0],
        }
    except KeyError as error:
        raise WeightsError(f"{source}: no key {error}; expected a bare HyperFree or HyperVision state dict") from error
    embed_dim, patch_px = bank.shape[0], bank.shape[-1]
    _check_merges(state, merge_blocks, source)
    class_head = state.get("mask_decoder.class_seg_head.weight")
    window, grid = _window_and_grid(tables, patch_px, image_size_px, source)
    # a table holds the offsets along a side, which in a global block is the grid's
    of_grid = 2 * grid - 1
    global_blocks = tuple(i for i, length in enumerate(tables) if length == of_grid)
    return Topology(
        image_size_px=grid * patch_px,
        patch_px=patch_px,
        embed_dim=embed_dim,
        depth=len(tables),
        num_heads=embed_dim // head_dim,
        window_px=window,
        global_blocks=global_blocks,
        merge_blocks=merge_blocks,
        mlp_ratio=mlp_hidden // embed_dim,
        decoder_heads=decoder_heads,
        n_classes=0 if class_head is None else class_head.shape[0],
        **sizes,
    )


def load_hyperfree(
    state: Mapping[str, Tensor],
    *,
    image_size_px: int | None = None,
    merge_blocks: tuple[int, ...] | None = None,
    decoder_heads: int = 8,
    source: str = "state dict",
) -> HyperFree:
    """The network of a state dict, every key and shape checked, in evaluation mode and float32.

    WeightsError says what is missing, unknown or of another shape; the arguments are those of `infer_topology`.
    """
    topology = infer_topology(
        state, image_size_px=image_size_px, merge_blocks=merge_blocks, decoder_heads=decoder_heads, source=source
    )
    with torch.device("meta"):  # no time spent on initial values that the file replaces
        network = HyperFree(topology)
    expected = network.state_dict()
    missing = sorted(expected.keys() - state.keys())
    unknown = sorted(state.keys() - expected.keys())
    common = expected.keys() & state.keys()
    wrong = [key for key in common if expected[key].shape != state[key].shape]
    if missing or unknown or wrong:
        raise WeightsError(
            f"{source}: does not fit its own topology: missing {missing[:3]}, unknown {unknown[:3]}, "
            f"wrong shape {wrong[:3]} ({len(missing)}, {len(unknown)}, {len(wrong)} in all); "
            "is it a HyperFree or HyperVision file?"
        )
    as_float = {key: tensor.float() for key, tensor in state.items()}
    network.load_state_dict(as_float, strict=True, assign=True)
    return network.eval()


def _check_merges(state: Mapping[str, Tensor], merge_blocks: tuple[int, ...] | None, source: str) -> None:
    """WeightsError if the settings name another number of merges than the file holds modules for."""
    merging = [key for key in state if key.startswith(f"{ENCODER}multi_scale_convs.")]
    n_merges = sum(key.endswith("reduction.weight") for key in merging)  # one in each module
    if n_merges and (merge_blocks is None or len(merge_blocks) != n_merges):
        raise WeightsError(
            f"{source}: holds {n_merges} patch-merging modules, but no file says after which blocks they act; "
            f"set hyperfree.merge_blocks (published: [3, 12] for B, [6, 24] for L, [8, 32] for H)"
        )
    if merge_blocks is not None and not n_merges:
        raise WeightsError(
            f"{source}: hyperfree.merge_blocks is set but the file holds no patch-merging modules; leave it out"
        )


def _window_and_grid(tables: list[int], patch_px: int, image_size_px: int | None, source: str) -> tuple[int, int]:
    """Sides of window and grid, in tokens, from the lengths 2n-1 of the position tables.

    Global blocks have the grid's. image_size_px: what the settings say; None: nothing
    """
    sides = sorted({(length + 1) // 2 for length in tables})
    if image_size_px is not None:
        grid = image_size_px // patch_px
        windows = [side for side in sides if side != grid]
        if grid not in sides or len(windows) > 1:
            raise WeightsError(
                f"{source}: position tables are for sides {sides}, image_size_px {image_size_px} needs {grid}; "
                f"set hyperfree.image_size_px to {max(sides) * patch_px} or leave it out"
            )
        return (windows or [PUBLISHED_WINDOW_PX])[0], grid
    if len(sides) > 2:
        raise WeightsError(
            f"{source}: position tables of sides {sides}, expected one for windows and one for the grid; "
            "is the file complete?"
        )
    if sides == [PUBLISHED_WINDOW_PX]:
        raise WeightsError(
            f"{source}: all position tables have side {PUBLISHED_WINDOW_PX}, "
            "so the file does not say which blocks are global; "
            f"set hyperfree.image_size_px (a grid of {PUBLISHED_WINDOW_PX} is {PUBLISHED_WINDOW_PX * patch_px} px)"
        )
    window = sides[0] if len(sides) == 2 else PUBLISHED_WINDOW_PX
    return window, sides[-1]
