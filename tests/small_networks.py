"""Sizes of networks that are made in milliseconds."""

from hvlabel.models.hyperfree import Topology

SMALLEST = {
    "image_size_px": 64,
    "patch_px": 16,
    "embed_dim": 8,
    "depth": 1,
    "num_heads": 2,
    "window_px": 4,
    "global_blocks": (0,),
    "out_dim": 8,
    "decoder_heads": 2,
    "mask_channels": 4,
    "decoder_mlp": 8,
    "iou_hidden": 8,
}


def small_topology(**sizes):
    """HyperFree's smallest sizes, some of them others."""
    return Topology(**SMALLEST | sizes)
