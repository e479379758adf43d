"""The objective: prompts drive the decoder against the masks, tokens follow the teacher's (paper, sections 4.2.5 and 4.3)."""

from __future__ import annotations

import random
from typing import Any

import torch
import torch.distributed
import torch.nn.functional as F
from torch import Tensor, nn

from hvlabel.config import PretrainSettings
from hvlabel.models.hyperfree import HyperFree, choose_channels
from hvtrain.losses import distillation_loss, embedding_logits, mask_iou, mask_loss
from hvtrain.samples import Batch
from hvtrain.schedule import NETWORK, PROMPT, rng
from hvtrain.student import network_input

EMBEDDING = 32  # channels of the throw-away pixel embedding
CENTRE_MOMENTUM = 0.99  # of the running mean of teacher tokens


class Objective(nn.Module):
    """A student with its heads for training; `forward` gives the loss of a batch.

    wavelengths_nm : per camera the band centres
    teacher_centre : (D,) mean of the teacher's tokens; empty without a teacher
    """

    teacher_centre: Tensor

    def __init__(
        self,
        student: HyperFree,
        settings: PretrainSettings,
        wavelengths_nm: list[tuple[float, ...]],
        teacher_centre: Tensor,
    ) -> None:
        super().__init__()
        self.student, self.settings, self.wavelengths_nm = student, settings, wavelengths_nm
        width = student.topology.out_dim
        self.register_buffer("teacher_centre", teacher_centre.clone())
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed + 1)
            self.projection = nn.Linear(width, len(teacher_centre)) if len(teacher_centre) else None
            self.embedding = nn.Conv2d(width, EMBEDDING, 1) if settings.loss.dense else None
            self.shortcut = Shortcut(width) if settings.loss.shortcut else None
        self.embedding_gain = nn.Parameter(torch.tensor([8.0, -4.0])) if settings.loss.dense else None
        self._seen: dict[str, Tensor] = {}
        if self.shortcut is not None:
            watch(student.mask_decoder, self._seen)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Scalars: `loss` to go down, its unweighted terms, and `miou`, the mean IoU of the last round's best masks."""
        s, step = self.settings, batch.step
        x, bands = self._augmented(network_input(batch.cube, batch.flips, s.student.crop_px), batch)
        draws = random.Random(int(rng(s.seed, NETWORK, step).integers(2**62)))
        neck = self.student.encode(x, bands, (batch.zoom * s.student.gsd_m).tolist(), test_mode=False, rng=draws)[-1]
        terms = self._segmentation(neck, batch)
        with torch.autocast(x.device.type, enabled=False):  # heads and losses in full precision
            self._add_heads(terms, neck.float(), batch)
        return terms

    def _add_heads(self, terms: dict[str, Tensor], neck: Tensor, batch: Batch) -> None:
        """Distillation and pixel embedding."""
        s = self.settings
        if self.projection is not None:
            tokens = self.projection(neck.permute(0, 2, 3, 1))  # (B, g, g, D)
            teacher = batch.teacher.float()
            if s.loss.centre == "running" and self.training:
                self._move_centre(teacher)
            terms["distill"] = distillation_loss(
                tokens, teacher, self.teacher_centre, s.loss.student_temperature, s.loss.teacher_temperature
            )
            terms["loss"] = terms["loss"] + s.loss.distill * terms["distill"]
        if self.embedding is not None and self.embedding_gain is not None:
            places = (batch.points_xy + 0.5) / s.student.crop_px
            alike = embedding_logits(self.embedding(neck), places, self.embedding_gain, batch.masks.shape[-1])
            per_mask = mask_loss(alike, batch.masks.flatten(0, 1)[:, None].float(), s.loss)
            terms["dense"] = (per_mask[:, 0] * batch.weights.flatten()).mean()
            terms["loss"] = terms["loss"] + s.loss.dense * terms["dense"]

    def _segmentation(self, neck: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Terms of mask and IoU, mean over all rounds of prompts."""
        s = self.settings
        n_masks = batch.masks.shape[1]
        features = neck.repeat_interleave(n_masks, dim=0)  # (N, D, g, g), N = B * K
        target = batch.masks.flatten(0, 1)[:, None]  # (N, 1, L, L)
        weights = batch.weights.flatten()
        boxed = bool(rng(s.seed, PROMPT, batch.step).random() < s.prompts.box_share)
        boxes = batch.boxes_xyxy.flatten(0, 1) if boxed else None
        points = None if boxed else batch.points_xy.flatten(0, 1)[:, None]  # (N, P, 2)
        labels = None if points is None else torch.ones_like(points[..., 0], dtype=torch.int64)
        luck = self._luck(batch)
        terms = dict.fromkeys(("mask", "iou"), neck.new_zeros(()))
        before: Tensor | None = None
        rounds = 1 + s.prompts.corrections
        for turn in range(rounds):
            if turn:
                assert before is not None
                point, label = correction(before > 0, target[:, 0], luck[turn - 1], s.student.crop_px)
                points = point if points is None else torch.cat([points, point], dim=1)
                labels = label if labels is None else torch.cat([labels, label], dim=1)
            logits, predicted_iou = self.student.decode(
                features,
                points_xy=points,
                labels=labels,
                boxes_xyxy=boxes,
                masks=None if before is None else before[:, None],
                multimask=turn == 0,
            )
            with torch.autocast(neck.device.type, enabled=False):
                before, best_iou = self._judge(terms, logits.float(), predicted_iou.float(), target, weights)
                if self.shortcut is not None:
                    if turn == 0:
                        vector = self.shortcut(neck.float(), (batch.points_xy + 0.5) / s.student.crop_px)
                        direct = torch.einsum("nc,nchw->nhw", vector, self._seen["map"].float())[:, None]
                        terms["shortcut"] = (mask_loss(direct, target.float(), s.loss)[:, 0] * weights).mean()
                    apart = distance(self._seen["vectors"].float(), vector.detach())
                    terms["shortcut"] = terms["shortcut"] + (apart * weights).mean() / rounds
        terms["miou"] = (best_iou * weights).sum() / weights.sum().clamp(min=1)
        terms["loss"] = terms["mask"] + s.loss.iou * terms["iou"] + s.loss.shortcut * terms.get("shortcut", 0.0)
        return terms

    def _judge(
        self, terms: dict[str, Tensor], logits: Tensor, predicted_iou: Tensor, target: Tensor, weights: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Add one round's mask and IoU terms; returns logits (N, L, L) and IoU (N,) of the best outputs."""
        iou = mask_iou(logits > 0, target)
        per_mask = mask_loss(logits, target.float(), self.settings.loss)
        best = per_mask.detach().argmin(dim=1, keepdim=True)  # (N, 1)
        rounds = 1 + self.settings.prompts.corrections
        terms["mask"] = terms["mask"] + (per_mask.gather(1, best)[:, 0] * weights).mean() / rounds
        terms["iou"] = terms["iou"] + ((predicted_iou - iou).square().mean(dim=1) * weights).mean() / rounds
        chosen = logits.detach().gather(1, best[..., None, None].expand(-1, -1, *logits.shape[2:]))
        return chosen[:, 0], iou.gather(1, best)[:, 0]

    def _luck(self, batch: Batch) -> Tensor:
        """(rounds, N) uniform in [0, 1), the same whichever process holds a sample."""
        s = self.settings
        n = (s.prompts.corrections, s.data.masks_per_image)
        drawn = [torch.from_numpy(rng(s.seed, PROMPT, batch.step, p + 1).random(n)) for p in batch.position.tolist()]
        return torch.cat(drawn, dim=1).float().to(batch.cube.device)

    def _augmented(self, x: Tensor, batch: Batch) -> tuple[Tensor, tuple[float, ...]]:
        """Input and its band centres after spectral jitter and band dropout, one draw for the batch."""
        data, bands = self.settings.data, self.wavelengths_nm[batch.camera]
        if not self.training or not (data.spectral_jitter or data.band_dropout):
            return x, bands
        random_ = rng(self.settings.seed, NETWORK, batch.step, 1)
        if data.spectral_jitter:
            knots = torch.from_numpy(random_.normal(0, data.spectral_jitter, (1, 1, 6))).float()
            gain = 1 + F.interpolate(knots, size=len(bands), mode="linear", align_corners=True)[0, 0]
            rank = torch.tensor(bands).argsort().argsort()
            x = x * gain[rank].clamp(min=0.1).to(x.device)[None, :, None, None]
        kept = sorted(
            random_.permutation(len(bands))[: len(bands) - int(random_.random() * data.band_dropout * len(bands))]
        )
        fewer = tuple(bands[k] for k in kept)
        return (x[:, kept], fewer) if choose_channels(fewer).key_channels else (x, bands)

    @torch.no_grad()
    def _move_centre(self, teacher: Tensor) -> None:
        mean = teacher.mean(dim=(0, 1, 2))
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(mean)
            mean /= torch.distributed.get_world_size()
        self.teacher_centre.lerp_(mean, 1 - CENTRE_MOMENTUM)


def watch(decoder: Any, seen: dict[str, Tensor]) -> None:
    """Keep what a SAM mask decoder makes in its last call: `map` (N, D/8, L, L) upscaled, `vectors` (N, M, D/8) of its tokens."""
    vectors: list[Tensor] = []

    def keep_map(_: nn.Module, __: Any, out: Tensor) -> None:
        seen["map"] = out
        vectors.clear()

    def keep_vector(_: nn.Module, __: Any, out: Tensor) -> None:
        vectors.append(out)
        seen["vectors"] = torch.stack(vectors, dim=1)

    decoder.output_upscaling[-1].register_forward_hook(keep_map)
    for hyper in decoder.output_hypernetworks_mlps:
        hyper.register_forward_hook(keep_vector)


class Shortcut(nn.Module):
    """A throw-away head: from the feature under the click straight to the vector that a mask token should arrive at.

    It trains encoder and upscaling at once, and shows the decoder's hypernetworks what to say: through prompts alone they
    would need many thousands of steps to find out.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.layers = nn.Sequential(nn.Linear(width, 96), nn.GELU(), nn.Linear(96, width // 8))
        nn.init.constant_(self.layers[2].bias[:1], -0.5)  # type: ignore[index]

    def forward(self, neck: Tensor, places: Tensor) -> Tensor:
        """(N, D/8) vectors of neck (B, D, g, g) at clicks (B, K, 2) in [0, 1] of the image, N = B * K."""
        under = F.grid_sample(neck, places[:, :, None] * 2 - 1, align_corners=False, padding_mode="border")[..., 0]
        return self.layers(self.norm(under.transpose(1, 2).flatten(0, 1)))


def distance(vectors: Tensor, wanted: Tensor) -> Tensor:
    """(N,) mean squared distance of vectors (N, M, E) from wanted (N, E), relative to the wanted ones' size."""
    apart = (vectors - wanted[:, None]).square().mean(dim=(1, 2))
    return apart / (wanted.square().mean(dim=1) + 1e-3)


def correction(mask: Tensor, target: Tensor, luck: Tensor, crop_px: int) -> tuple[Tensor, Tensor]:
    """A point (N, 1, 2) px of the network's input where the mask is wrong, and what is true there (N, 1): 1 object, 0 not.

    mask, target : (N, L, L) bool
    luck         : (N,) in [0, 1), which of the wrong pixels; where none is wrong, which of the target's
    """
    side = mask.shape[-1]
    wrong = (mask ^ target).flatten(1)
    wrong = torch.where(wrong.any(dim=1, keepdim=True), wrong, target.flatten(1))
    rank = wrong.cumsum(dim=1)  # (N, L * L)
    wanted = (luck * rank[:, -1]).floor() + 1
    place = torch.searchsorted(rank, wanted.long()[:, None]).clamp(max=rank.shape[1] - 1)  # (N, 1)
    xy = torch.stack([place % side, place // side], dim=-1).float()
    return (xy + 0.5) * (crop_px / side) - 0.5, target.flatten(1).gather(1, place).long()
