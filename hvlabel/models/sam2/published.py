"""Which SAM2 configs the memory here is the same function for: all published ones."""

from __future__ import annotations

from torch import nn

from hvlabel.errors import WeightsError
from hvlabel.models.sam2.contract import Sam2Network

# what all published configs share and the memory relies on, of the network and of each layer of its memory attention
NETWORK = {
    "memory_temporal_stride_for_eval": 1,
    "non_overlap_masks_for_mem_enc": False,
    "use_obj_ptrs_in_encoder": True,
    "multimask_output_in_sam": True,
    "multimask_output_for_tracking": True,
    "multimask_min_pt_num": 0,
    "soft_no_obj_ptr": False,
}
MEMORY_LAYER = {
    "pos_enc_at_attn": False,
    "pos_enc_at_cross_attn_queries": False,
    "pos_enc_at_cross_attn_keys": True,
}


def require_published(network: Sam2Network) -> None:
    """WeightsError for settings that no published config has: masks would be carried by another function."""
    unpublished = _unpublished(network)
    if unpublished:
        raise WeightsError(
            f"masks cannot be carried with this SAM2 config: {', '.join(unpublished)} as in no published one; "
            "use a published config"
        )


def _unpublished(network: Sam2Network) -> list[str]:
    """Names of the settings that differ."""
    # what a version of the package does not know is as published
    unpublished = [name for name, value in NETWORK.items() if getattr(network, name, value) != value]
    first = network.memory_attention.layers[0]
    for name, value in MEMORY_LAYER.items():
        if getattr(first, name) != value:
            unpublished.append(f"{name} of memory_attention")
    if not all(hasattr(m, "compute_cis") for m in (first.self_attn, first.cross_attn_image)):
        unpublished.append("attention without rotary positions")
    if not isinstance(network.memory_encoder.fuser.proj, nn.Identity):
        unpublished.append("input_projection of the fuser")
    if network.num_maskmem < 1:
        unpublished.append("num_maskmem")
    return unpublished
