"""The embedded SAM2, part two: its memory, on clips of false-colour frames.

Objects are given as masks on a clip's first frame, as the sequence branch gives them, and looked for on the others. All that
single pictures are segmented with stays as it is: a decoder that learns to carry masks forgets how to answer clicks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from hvlabel.config import LossSettings, Sam2Model
from hvlabel.models.sam2 import load_sam2
from hvlabel.models.weights import file_sha256
from hvtrain.embedded.batches import clip_batch
from hvtrain.embedded.run import Run, begin
from hvtrain.embedded.sam2 import CONFIG, normalised, set_side
from hvtrain.embedded.stages import Batch, Stage
from hvtrain.losses import mask_iou, mask_loss

# at half the side of the published config, where a step costs a fifth: what is learned there holds at 512 px too
STAGES = (Stage(850, 256, 64, (192, 256), images=4, objects=5, grounds=0, frames=4, lr=1e-3),)
LEARNED = (
    "memory_attention.",
    "memory_encoder.",
    "maskmem_tpos_enc",
    "mask_downsample.",
    "obj_ptr_proj.",
    "obj_ptr_tpos_proj.",
    "no_obj_ptr",
    "no_obj_embed_spatial",
    "sam_mask_decoder.pred_obj_score_head.",
)
PRESENT_BIAS = 3.0  # of the first answer to whether an object is there: an absent one's mask teaches nothing
ABSENT_LOGIT = -30.0  # of a mask whose object is said to be absent


class MemoryObjective(nn.Module):
    """Masks carried along clips by a network of which the memory alone learns.

    A throw-away head reads the mask off the features that the memory has marked: it teaches memory encoder and attention
    to bring the mask along, before they have learned to do so in a way that the decoder sees.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        self.mark = nn.Conv2d(network.hidden_dim, 1, 1)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name.startswith(LEARNED))

    def forward(self, batch: Batch, loss: LossSettings) -> dict[str, Tensor]:
        """Terms of the loss, and figures, of a batch of clips."""
        attention = self.network.memory_attention
        # its one wide head is fast in the kernel that small heads are slow in
        attention.forward = sdpa_kernel(SDPBackend.FLASH_ATTENTION)(attention.forward)
        try:
            return self._carried(batch, loss)
        finally:
            del attention.forward

    def _carried(self, batch: Batch, loss: LossSettings) -> dict[str, Tensor]:
        """Terms of the loss, and the mean IoU of the chosen masks on the second and on the last frame."""
        net = self.network
        n_clips, n_frames, side = batch["rgb"].shape[:3]
        target, present = batch["masks"][:, None], batch["present"]
        set_side(net, side)
        with torch.no_grad():
            seen = net.forward_image(normalised(batch["rgb"].flatten(0, 1)))
        _, features, codes, sizes = net._prepare_backbone_features(seen)
        n_objects = len(target) // n_clips

        def at(x: Tensor, t: int) -> Tensor:
            """(HW, N, C) of frame t, for every object."""
            return x.unflatten(1, (n_clips, n_frames))[:, :, t].repeat_interleave(n_objects, dim=1)

        remembered: dict[str, dict[int, Any]] = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
        terms = {name: target.new_zeros((), dtype=torch.float32) for name in ("mask", "iou", "presence", "mark")}
        n_found = n_frames - 1
        for t, place in enumerate(batch["places"]):
            now, where = [at(f, t) for f in features], [at(c, t) for c in codes]
            given = started(target, batch["luck"], side) if t == 0 else None
            current, outputs, _, marked = net._track_step(
                place, t == 0, now, where, sizes, None, given, remembered, batch["n_frames"], False, None
            )
            logits, _, iou, _, best_mask, current["obj_ptr"], score = outputs
            net._encode_memory_in_output(now, sizes, None, True, best_mask, score, current)
            remembered["non_cond_frame_outputs" if t else "cond_frame_outputs"][place] = current
            if t == 0:
                continue
            there = present[t].expand_as(score).float()
            terms["presence"] = terms["presence"] + F.binary_cross_entropy_with_logits(score.float(), there) / n_found
            if not present[t]:
                continue
            logits, iou = logits.float().clamp(min=ABSENT_LOGIT), iou.float()
            losses, truth = mask_loss(logits, target.float(), loss), mask_iou(logits > 0, target)
            terms["mask"] = terms["mask"] + losses.amin(dim=1).mean() / n_found
            terms["iou"] = terms["iou"] + (iou - truth).square().mean() / n_found
            direct = F.interpolate(self.mark(marked).float(), size=target.shape[-2:], mode="bilinear")
            terms["mark"] = terms["mark"] + mask_loss(direct, target.float(), loss).mean() / n_found
            chosen = truth.gather(1, iou.detach().argmax(dim=1, keepdim=True)).mean().detach()
            terms[{1: "second_iou", n_frames - 1: "last_iou"}.get(t, "between_iou")] = chosen
        terms["loss"] = terms["mask"] + 2 * terms["iou"] + terms["presence"] + terms["mark"]
        return terms


def started(target: Tensor, luck: Tensor, side_px: int) -> Tensor:
    """(N, 1, S, S) float32 masks to begin with: the targets (N, 1, L, L), a third of them a cell too wide and a third too narrow."""
    exact = target.float()
    wide = F.max_pool2d(exact, 3, stride=1, padding=1)
    narrow = 1 - F.max_pool2d(1 - exact, 3, stride=1, padding=1)
    narrow = torch.where(narrow.flatten(1).any(dim=1)[:, None, None, None], narrow, exact)
    luck = luck[:, None, None, None]
    mask = torch.where(luck < 1 / 3, wide, torch.where(luck < 2 / 3, narrow, exact))
    return (F.interpolate(mask, size=(side_px, side_px), mode="bilinear") > 0.5).float()


def train(start: Path, out: Path, threads: int, workers: int, stages: tuple[Stage, ...] = STAGES) -> None:
    """All stages from the weights `start`, or from the checkpoint in `out` if there is one; writes OUT/sam2_embedded.safetensors."""
    begin(threads)
    network = load_sam2(Sam2Model(config=CONFIG, checkpoint=str(start)), torch.device("cpu")).train()
    nn.init.constant_(network.sam_mask_decoder.pred_obj_score_head.layers[-1].bias, PRESENT_BIAS)
    recipe = f"the memory of the SAM2 of sha256 {file_sha256(start)[:12]}"
    Run(MemoryObjective(network), out, recipe).train(clip_batch, stages, workers, "sam2_embedded.safetensors")
