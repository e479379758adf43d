"""Recipe of the embedded SAM2: a small network of the sam2 package, trained on generated photographs from scratch.

python -m hvtrain.embedded OUT   writes OUT/checkpoint.pt while it runs (and goes on from it), then OUT/sam2_embedded.safetensors

First at 256 px, where steps are cheap and a prompt learns to matter; then at the 512 px of the published config, on photographs of
several sizes and with clicks beside all objects, whose mask shall be told to be of no worth.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader, IterableDataset

from hvlabel.config import LossSettings, OptimiserSettings, Sam2Model
from hvlabel.demo.materials import MATERIALS
from hvlabel.demo.scenes import make_photo
from hvlabel.models.sam2 import load_sam2
from hvlabel.models.teacher import IMAGENET_MEAN, IMAGENET_STD
from hvtrain.losses import embedding_logits, mask_iou, mask_loss
from hvtrain.objective import Shortcut, correction, distance, watch
from hvtrain.optimiser import moving_average, parameter_groups
from hvtrain.samples import MIN_CELLS, box_of, point_in, to_logits
from hvtrain.student import export, listen_to_prompts

CONFIG = str(Path(__file__).resolve().parent.parent / "resources/models/sam2_embedded.yaml")


@dataclass(frozen=True)
class Stage:
    """A part of the training. The rate rises over warmup_steps, stays, and falls linearly over the last fifth.

    side_px  : of the network's input; photographs of the sides photo_px are resized to it
    objects  : prompts on objects per image
    grounds  : prompts per image beside all objects, in steps without boxes
    """

    steps: int
    side_px: int
    photo_px: tuple[int, ...]
    images: int
    objects: int
    grounds: int
    lr: float
    warmup_steps: int = 150

    def rate(self, step: int) -> float:
        """Factor on the peak rate at a step of this stage."""
        left = (self.steps - step) / max(1, self.steps // 5)
        return min(1.0, (step + 1) / self.warmup_steps, left)


STAGES = (
    Stage(2200, 256, (256,), images=6, objects=8, grounds=0, lr=1.5e-3),
    Stage(1200, 512, (192, 256, 256, 320, 384), images=4, objects=8, grounds=2, lr=8e-4),
)
LOSS = LossSettings(balanced=0.2)
# where the rate is lowered by decoder_lr
PROMPTED = tuple(
    f"network.{part}."
    for part in (
        "sam_prompt_encoder",
        "sam_mask_decoder.transformer",
        "sam_mask_decoder.iou_token",
        "sam_mask_decoder.mask_tokens",
    )
)
WEIGHTS = {"mask": 1.0, "iou": 2.0, "shortcut": 1.0, "dense": 0.3, "material": 0.5, "size": 0.3}
MAX_IMAGES = max(stage.images for stage in STAGES)  # so that no photograph is made twice
TRAIN_SEEDS = 1_000_000_000  # seeds of training scenes start here; evaluation uses smaller ones


class Photos(IterableDataset[dict[str, Any]]):
    """Batches of generated photographs with masks and prompts; worker k of n makes every n-th batch."""

    def __init__(self, stage: Stage, first_step: int, steps: range) -> None:
        self.stage, self.first_step, self.steps = stage, first_step, steps

    def __iter__(self) -> Iterator[dict[str, Any]]:
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
        info = torch.utils.data.get_worker_info()
        start, stride = (info.id, info.num_workers) if info else (0, 1)
        for step in self.steps[start::stride]:
            yield batch_of(self.stage, self.first_step + step)


def batch_of(stage: Stage, step: int) -> dict[str, Any]:
    """The batch of a step: rgb (B, S, S, 3) uint8, materials, and per prompt mask (empty beside all objects), point and box."""
    rng = np.random.default_rng([step, 77])
    boxed = bool(rng.random() < 0.25)
    n_objects, n_grounds = (stage.objects + stage.grounds, 0) if boxed else (stage.objects, stage.grounds)
    cells_side = stage.side_px // 4  # of the decoder's output
    found: dict[str, list[np.ndarray]] = defaultdict(list)
    for k in range(stage.images):
        size = int(rng.choice(stage.photo_px))
        photo = make_photo(size, TRAIN_SEEDS + step * MAX_IMAGES + k)
        gain = rng.uniform(0.85, 1.15, 3) * rng.uniform(0.7, 1.2)
        rgb = (np.clip((photo.rgb / 255.0) ** rng.uniform(0.7, 1.4) * gain, 0, 1) * 255).astype(np.uint8)
        turn, scale = int(rng.integers(8)), stage.side_px / size
        found["rgb"].append(_resized(_turned(rgb, turn), stage.side_px, cv2.INTER_LINEAR))
        materials = _resized(_turned(photo.materials, turn), cells_side, cv2.INTER_NEAREST)
        found["materials"].append(materials.astype(np.int64))
        masks = [_turned(i.mask, turn) for i in photo.instances]
        cells = {n: c for n, m in enumerate(masks) if (c := to_logits(m, cells_side)).sum() >= MIN_CELLS}
        nothing = ~np.logical_or.reduce(masks)
        chosen = [(masks[n], cells[n]) for n in rng.choice(list(cells), n_objects)]
        chosen += [(nothing, np.zeros_like(chosen[0][1]))] * n_grounds
        for mask, target in chosen:
            box = box_of(mask) + rng.normal(0, 0.05, 4) * np.ptp(box_of(mask).reshape(2, 2), axis=0).repeat(2)
            found["masks"].append(target)
            found["points_xy"].append(np.array(point_in(mask, rng), np.float32) * scale)
            found["boxes_xyxy"].append(np.clip(box * scale, 0, stage.side_px - 1).astype(np.float32))
    tensors = {k: torch.from_numpy(np.stack(v)) for k, v in found.items()}
    return {**tensors, "boxed": boxed, "luck": torch.from_numpy(rng.random(len(found["masks"]))).float()}


def _resized(picture: np.ndarray, side_px: int, how: int) -> np.ndarray:
    return picture if len(picture) == side_px else cv2.resize(picture, (side_px, side_px), interpolation=how)


def _turned(picture: np.ndarray, turn: int) -> np.ndarray:
    """One of the eight rotations and mirrorings."""
    turned = np.rot90(picture, turn % 4)
    return np.ascontiguousarray(turned[:, ::-1] if turn >= 4 else turned)


class Sam2Objective(nn.Module):
    """SAM2's image path with throw-away heads: pixel embedding, shortcut to the hypernetworks, material."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        width = network.hidden_dim
        self.seen: dict[str, Tensor] = {}
        watch(network.sam_mask_decoder, self.seen)
        self.shortcut = Shortcut(width)
        self.embed = nn.ModuleList(nn.Conv2d(c, 24, 1) for c in (width // 8, width // 4, width))
        self.gain = nn.Parameter(torch.tensor([8.0, -4.0]))
        self.material = nn.ModuleList(nn.Conv2d(c, len(MATERIALS), 1) for c in (width // 8, width // 4, width))

    @staticmethod
    def summed(head: Any, levels: list[Tensor], side: int) -> Tensor:
        """(B, E, side, side) float32: each level through its convolution, enlarged to the finest, added."""
        parts = [
            F.interpolate(c(f.float()), size=(side, side), mode="bilinear") for c, f in zip(head, levels, strict=True)
        ]
        return torch.stack(parts).sum(0)

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Terms of the loss, and of prompts on objects the IoU of the best mask and of the mask after a correction."""
        net = self.network
        x = batch["rgb"].permute(0, 3, 1, 2).float() / 255
        n_images, side, cells = len(x), x.shape[-1], x.shape[-1] // 4
        _set_side(net, side)
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
        levels = net.forward_image((x - mean) / std)["backbone_fpn"]
        image = levels[2] + net.no_mem_embed.permute(0, 2, 1)[..., None]
        target = batch["masks"][:, None]
        real = target.flatten(1).any(dim=1)  # (N,) prompts on objects

        def of_objects(values: Tensor) -> Tensor:
            return values[real].mean()

        points, labels = batch["points_xy"][:, None], torch.ones(len(target), 1, dtype=torch.int32)
        boxes = batch["boxes_xyxy"] if batch["boxed"] else None
        places = (batch["points_xy"].view(n_images, -1, 2) + 0.5) / side
        vector = self.shortcut(image.float(), places)
        each = [f.repeat_interleave(places.shape[1], dim=0) for f in (image, *levels[:2])]
        terms: dict[str, Tensor] = defaultdict(lambda: x.new_zeros(()))
        before: Tensor | None = None
        for turn in range(2):
            if before is not None:
                point, label = correction(before > 0, target[:, 0], batch["luck"], side)
                points = point if boxes is not None else torch.cat([points, point], dim=1)
                labels = label.int() if boxes is not None else torch.cat([labels, label.int()], dim=1)
            asked = None if boxes is not None and turn == 0 else (points, labels)
            sparse, dense = net.sam_prompt_encoder(
                points=asked, boxes=boxes, masks=None if before is None else before[:, None]
            )
            logits, iou, _, _ = net.sam_mask_decoder.predict_masks(
                image_embeddings=each[0],
                image_pe=net.sam_prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                repeat_image=False,
                high_res_features=each[1:],
            )
            chosen = slice(1, None) if turn == 0 and boxes is None else slice(0, 1)
            logits, iou = logits.float()[:, chosen], iou.float()[:, chosen]
            losses, truth = mask_loss(logits, target.float(), LOSS), mask_iou(logits > 0, target)
            best = losses.detach().argmin(dim=1, keepdim=True)
            terms["mask"] = terms["mask"] + of_objects(losses.gather(1, best)) / 2
            terms["iou"] = terms["iou"] + (iou - truth).square().mean() / 2
            terms["shortcut"] = (
                terms["shortcut"] + of_objects(distance(self.seen["vectors"].float(), vector.detach())) / 2
            )
            if turn == 0:
                direct = torch.einsum("nc,nchw->nhw", vector, self.seen["map"].float())[:, None]
                terms["shortcut"] = terms["shortcut"] + of_objects(mask_loss(direct, target.float(), LOSS))
                terms["best_iou"] = of_objects(truth.gather(1, best)).detach()
                ranked = truth.gather(1, iou.detach().argmax(dim=1, keepdim=True))
                terms["trusted_iou"] = of_objects(ranked).detach()
            before = logits.detach().gather(1, best[..., None, None].expand(-1, -1, cells, cells))[:, 0]
        terms["corrected_iou"] = of_objects(truth).detach()
        pixels, classes = (self.summed(head, levels, cells) for head in (self.embed, self.material))
        alike = embedding_logits(pixels, places, self.gain, cells)
        terms["dense"] = of_objects(mask_loss(alike, target.float(), LOSS))
        terms["material"] = F.cross_entropy(classes, batch["materials"])
        # without a norm in the neck features grow until they drown the position code
        terms["size"] = sum(
            (torch.relu(f.float().square().mean() - 1) for f in levels[:2]),
            3 * torch.relu(levels[2].float().square().mean() - 0.2),
        )
        terms["loss"] = sum((WEIGHTS[k] * terms[k] for k in WEIGHTS), x.new_zeros(()))
        return dict(terms)


def train(out: Path, threads: int, workers: int, stages: tuple[Stage, ...] = STAGES) -> None:
    """All stages, from the checkpoint in `out` if there is one."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    network = load_sam2(Sam2Model(config=CONFIG, checkpoint="random:0"), torch.device("cpu")).train()
    listen_to_prompts(network.sam_mask_decoder, network.sam_prompt_encoder)
    with torch.no_grad():
        for conv in network.image_encoder.neck.convs:
            conv.conv.weight.mul_(0.35)
    objective = Sam2Objective(network)
    run = Run(objective, out)
    run.resume()
    first_step = 0
    for stage in stages:
        if run.step < first_step + stage.steps:
            run.play(stage, first_step, threads, workers)
        first_step += stage.steps
    half = {k: v.half() if v.is_floating_point() else v for k, v in run.average.module.state_dict().items()}
    export(half, out / "sam2_embedded.safetensors")


class Run:
    """What a training has reached, in memory and in its folder."""

    def __init__(self, objective: Sam2Objective, out: Path) -> None:
        settings = OptimiserSettings(lr=1.0, lr_fan_in=96, decoder_lr=0.5, weight_decay=0.02, ema=0.998)
        self.objective, self.out = objective, out
        self.average = moving_average(objective.network, settings.ema)
        self.optimiser = torch.optim.AdamW(parameter_groups(objective, settings, PROMPTED), betas=(0.9, 0.98))
        self.step, self.seconds = 0, 0.0

    def resume(self) -> None:
        """Go on from the folder's checkpoint, if it has one."""
        path = self.out / "checkpoint.pt"
        if path.exists():
            state = torch.load(path, weights_only=True)
            self.step, self.seconds = state["step"], state["seconds"]
            for name in ("objective", "average", "optimiser"):
                getattr(self, name).load_state_dict(state[name])

    def save(self) -> None:
        """The checkpoint, at once or not at all."""
        state = {name: getattr(self, name).state_dict() for name in ("objective", "average", "optimiser")}
        path = self.out / "checkpoint.pt"
        torch.save({"step": self.step, "seconds": self.seconds, **state}, path.with_suffix(".tmp"))
        os.replace(path.with_suffix(".tmp"), path)

    def play(self, stage: Stage, first_step: int, threads: int, workers: int) -> None:
        """What is left of a stage, which begins at step first_step."""
        loader: Any = DataLoader(
            Photos(stage, first_step, range(self.step - first_step, stage.steps)),
            batch_size=None,
            num_workers=workers,
            prefetch_factor=4 if workers else None,
            multiprocessing_context="forkserver" if workers else None,
        )
        sums: dict[str, list[float]] = defaultdict(list)
        clock = time.monotonic()
        for batch in loader:
            for group in self.optimiser.param_groups:
                group["lr"] = group["peak_lr"] * stage.lr * stage.rate(self.step - first_step)
            terms = self.learn(batch)
            for name, value in terms.items():
                sums[name].append(float(value.detach()))
            if self.step % 50 == 0:
                self.seconds, clock = self.seconds + time.monotonic() - clock, time.monotonic()
                row = {"step": self.step, "minutes": round(self.seconds / 60, 2)}
                with (self.out / "log.jsonl").open("a") as file:
                    file.write(json.dumps({**row, **{k: round(float(np.mean(v)), 4) for k, v in sums.items()}}) + "\n")
                sums.clear()
            if self.step % 100 == 0:
                self.save()
        self.save()

    def learn(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """One step of the optimiser."""
        # small heads are slow in the CPU's flash kernel
        with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
            terms = self.objective(batch)
        terms["loss"].backward()
        terms["grad_norm"] = nn.utils.clip_grad_norm_(self.objective.parameters(), 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.average.update_parameters(self.objective.network)
        self.step += 1
        return terms


def _set_side(network: Any, side_px: int) -> None:
    """Another input side; no weight depends on it."""
    network.image_size = side_px
    network.sam_prompt_encoder.input_image_size = (side_px, side_px)
    network.sam_prompt_encoder.image_embedding_size = (side_px // 16, side_px // 16)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1)
    a = parser.parse_args()
    train(a.out, a.threads, a.workers)
