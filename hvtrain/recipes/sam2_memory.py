"""The embedded SAM2, part two: its memory, on clips of false-colour frames.

Objects are given as masks on a clip's first frame, as the sequence branch gives them, and looked for on the others.
All that single pictures are segmented with stays as it is: a decoder that learns to carry masks forgets how to answer
clicks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from hvlabel.config import LossSettings, Sam2Model
from hvlabel.models.sam2 import load_sam2
from hvlabel.models.weights import file_sha256
from hvtrain.data.batch import Batch
from hvtrain.objectives.contract import Terms
from hvtrain.objectives.losses import mask_iou, mask_loss
from hvtrain.recipes.sam2_image import CONFIG, normalised, set_side
from hvtrain.recipes.scenes import clip_batch
from hvtrain.recipes.stages import Stage
from hvtrain.recipes.training import LOG_EVERY, begin, play

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
ABSENT_LOGIT = -30.0  # lowest logit of a mask: sam2 gives -1024 where it takes the object to be absent
TERMS = ("mask", "iou", "presence", "mark")
NAMES = ("loss", *TERMS, "second_iou", "between_iou", "last_iou")  # of its scalars
IOU_WEIGHT = 2.0  # of the predicted IoU; all other terms count once


class MemoryObjective(nn.Module):
    """Masks carried along clips by a network of which the memory alone learns.

    A throw-away head reads the mask off the features that the memory has marked: it teaches memory encoder and
    attention to bring the mask along, before they have learned to do so in a way that the decoder sees.
    """

    def __init__(self, network: Any, loss: LossSettings) -> None:
        super().__init__()
        self.student, self.loss = network, loss
        self.mark = nn.Conv2d(network.hidden_dim, 1, 1)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name.startswith(LEARNED))

    def begin_stage(self, stage: Stage) -> None:
        """Use a stage's weights of losses."""
        self.loss = stage.loss

    def forward(self, batch: Batch) -> Terms:
        """Terms of the loss of a batch of clips, and the IoU of the chosen masks on second, last and other frames."""
        with _flash_attention(self.student.memory_attention):
            return self._carried(batch)

    def _carried(self, batch: Batch) -> Terms:
        """What `forward` gives."""
        n_frames = batch.rgb.shape[1]
        n_carried = n_frames - 1  # the first frame's masks are given
        target = batch.masks[:, None]  # (N, 1, L, L), N = clips * objects
        terms: Terms = {name: target.new_zeros((), dtype=torch.float32) for name in TERMS}
        for t, answer in self._answers(batch, target):
            of_frame, chosen_iou = self._of_frame(answer, target, batch.present[t])
            for name, value in of_frame.items():
                terms[name] = terms[name] + value / n_carried
            if chosen_iou is not None:
                shown = {1: "second_iou", n_carried: "last_iou"}.get(t, "between_iou")
                terms[shown] = chosen_iou
        loss = terms["mask"] + IOU_WEIGHT * terms["iou"] + terms["presence"] + terms["mark"]
        return {**terms, "loss": loss}

    def _answers(self, batch: Batch, target: Tensor) -> Iterator[tuple[int, _Answer]]:
        """Every frame of the clips after the first, and the network's answer there."""
        net = self.student
        n_clips, n_frames, side_px = batch.rgb.shape[:3]
        set_side(net, side_px)
        with torch.no_grad():  # the image encoder stays as it is
            frames = batch.rgb.flatten(0, 1)  # (B*T, S, S, 3)
            encoded = net.forward_image(normalised(frames))
        _, maps, codes, sizes = net._prepare_backbone_features(encoded)
        clip = _Clip(n_clips, n_frames, n_objects=len(target) // n_clips)
        remembered: dict[str, dict[int, Any]] = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
        for t, place in enumerate(batch.places):
            is_first = t == 0
            now = clip.frame(maps, t)
            now_codes = clip.frame(codes, t)
            given = given_masks(target, batch.uniform[0], side_px) if is_first else None
            current, outputs, _, marked = net._track_step(
                frame_idx=place,
                is_init_cond_frame=is_first,
                current_vision_feats=now,
                current_vision_pos_embeds=now_codes,
                feat_sizes=sizes,
                point_inputs=None,
                mask_inputs=given,
                output_dict=remembered,
                num_frames=batch.n_frames,
                track_in_reverse=False,
                prev_sam_mask_logits=None,
            )
            logits, _, iou, _, best_mask, current["obj_ptr"], score = outputs
            net._encode_memory_in_output(
                current_vision_feats=now,
                feat_sizes=sizes,
                point_inputs=None,
                run_mem_encoder=True,
                high_res_masks=best_mask,
                object_score_logits=score,
                current_out=current,
            )
            kind = "cond_frame_outputs" if is_first else "non_cond_frame_outputs"
            remembered[kind][place] = current
            if not is_first:
                yield t, _Answer(logits, iou, score, marked)

    def _of_frame(self, answer: _Answer, target: Tensor, present: Tensor) -> tuple[Terms, Tensor | None]:
        """A frame's terms; and, where the objects are there, the mean IoU of the masks that the network trusts most.

        present : scalar bool, whether they are
        """
        is_there = present.expand_as(answer.score).float()  # (N, 1)
        score = answer.score.float()
        terms: Terms = {"presence": F.binary_cross_entropy_with_logits(score, is_there)}
        if not present:  # there is no mask to compare with
            return terms, None
        logits = answer.logits.float().clamp(min=ABSENT_LOGIT)  # (N, M, L, L)
        predicted_iou = answer.iou.float()  # (N, M)
        truth = target.float()  # (N, 1, L, L)
        losses = mask_loss(logits, truth, self.loss)  # (N, M)
        true_iou = mask_iou(logits > 0, target)
        terms["mask"] = losses.amin(dim=1).mean()  # the best of the M alone learns, as in SAM
        terms["iou"] = (predicted_iou - true_iou).square().mean()
        mark = self.mark(answer.marked).float()  # (N, 1, h, w)
        of_mark = F.interpolate(mark, size=target.shape[-2:], mode="bilinear")
        terms["mark"] = mask_loss(of_mark, truth, self.loss).mean()
        most_trusted = predicted_iou.detach().argmax(dim=1, keepdim=True)  # (N, 1)
        chosen_iou = true_iou.gather(1, most_trusted)
        return terms, chosen_iou.mean().detach()


class _Answer(NamedTuple):
    """What the network says of a frame.

    logits : (N, M, L, L)
    iou    : (N, M), as the network expects it
    score  : (N, 1) logit of the object being there
    marked : (N, D, h, w) features that the memory has marked
    """

    logits: Tensor
    iou: Tensor
    score: Tensor
    marked: Tensor


class _Clip:
    """Which part of maps of all frames belongs to one frame."""

    def __init__(self, n_clips: int, n_frames: int, n_objects: int) -> None:
        self._shape, self._n_objects = (n_clips, n_frames), n_objects

    def frame(self, maps: Sequence[Tensor], t: int) -> list[Tensor]:
        """(HW, N, C) of frame t, for every object, of each (HW, clips * frames, C)."""
        of_frame = []
        for level in maps:
            by_clip = level.unflatten(1, self._shape)  # (HW, clips, frames, C)
            of_clips = by_clip[:, :, t]
            of_frame.append(of_clips.repeat_interleave(self._n_objects, dim=1))
        return of_frame


@contextmanager
def _flash_attention(attention: Any) -> Iterator[None]:
    """The memory attention by the flash kernel: its one wide head is fast where small heads are slow."""
    attention.forward = sdpa_kernel(SDPBackend.FLASH_ATTENTION)(attention.forward)
    try:
        yield
    finally:
        del attention.forward  # the class's own is there again


def given_masks(target: Tensor, uniform: Tensor, side_px: int) -> Tensor:
    """(N, 1, S, S) float32 masks to begin with: the targets (N, 1, L, L), a third a cell too wide, a third too narrow.

    uniform : (N,) in [0, 1), which third
    """
    exact = target.float()
    wide = F.max_pool2d(exact, 3, stride=1, padding=1)
    ground = F.max_pool2d(1 - exact, 3, stride=1, padding=1)
    narrow = 1 - ground
    is_left = narrow.flatten(1).any(dim=1)  # (N,); of an object of one cell nothing is
    is_left = is_left[:, None, None, None]
    narrow = torch.where(is_left, narrow, exact)
    draw = uniform[:, None, None, None]
    narrow_or_exact = torch.where(draw < 2 / 3, narrow, exact)
    mask = torch.where(draw < 1 / 3, wide, narrow_or_exact)  # (N, 1, L, L)
    enlarged = F.interpolate(mask, size=(side_px, side_px), mode="bilinear")
    return (enlarged > 0.5).float()


def train(
    start: Path,
    out: Path,
    threads: int,
    workers: int,
    stages: tuple[Stage, ...] = STAGES,
    *,
    log_every: int = LOG_EVERY,
) -> None:
    """All stages from the weights `start`, or from the checkpoint in `out`; writes OUT/sam2_embedded.safetensors."""
    fabric = begin(threads)
    model = Sam2Model(config=CONFIG, checkpoint=str(start))
    network = load_sam2(model, torch.device("cpu")).train()
    of_presence = network.sam_mask_decoder.pred_obj_score_head.layers[-1]
    nn.init.constant_(of_presence.bias, PRESENT_BIAS)
    objective = MemoryObjective(network, stages[0].loss)
    play(
        fabric,
        objective,
        network,
        out,
        recipe=f"the memory of the SAM2 of sha256 {file_sha256(start)[:12]}",
        make=clip_batch,
        stages=stages,
        workers=workers,
        weights="sam2_embedded.safetensors",
        begin_stage=objective.begin_stage,
        names=NAMES,
        log_every=log_every,
    )
