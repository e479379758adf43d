"""Recipe of the embedded SAM2: a small network of the sam2 package, trained on generated photographs from scratch.

python -m hvtrain.embedded OUT [--steps N]   writes OUT/checkpoint.pt while it runs (and goes on from it), then OUT/sam2_nano.safetensors
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import defaultdict
from collections.abc import Iterator
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
from hvtrain.optimiser import moving_average, parameter_groups, rate
from hvtrain.samples import MIN_CELLS, box_of, point_in, to_logits
from hvtrain.student import export, listen_to_prompts

CONFIG = str(Path(__file__).resolve().parent.parent / "resources/models/sam2_nano.yaml")
SIDE_PX, CELLS = 256, 64  # input and decoder output
IMAGES, PROMPTS = 6, 8  # per step
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
WEIGHTS = {"mask": 1.0, "iou": 1.0, "shortcut": 1.0, "dense": 0.3, "material": 0.5, "size": 0.3}
TRAIN_SEEDS = 1_000_000_000  # seeds of training scenes start here; evaluation uses smaller ones


class Photos(IterableDataset[dict[str, Any]]):
    """Batches of generated photographs with masks and prompts; worker k of n makes every n-th batch."""

    def __init__(self, first: int, steps: int) -> None:
        self.first, self.steps = first, steps

    def __iter__(self) -> Iterator[dict[str, Any]]:
        torch.set_num_threads(1)
        cv2.setNumThreads(1)
        info = torch.utils.data.get_worker_info()
        start, stride = (info.id, info.num_workers) if info else (0, 1)
        for step in range(self.first + start, self.steps, stride):
            yield batch_of(step)


def batch_of(step: int) -> dict[str, Any]:
    """The batch of a step: rgb (B, S, S, 3) uint8, materials, and per prompt mask, point and box."""
    rng = np.random.default_rng([step, 77])
    found: dict[str, list[np.ndarray]] = defaultdict(list)
    for k in range(IMAGES):
        photo = make_photo(SIDE_PX, TRAIN_SEEDS + step * IMAGES + k)
        gain = rng.uniform(0.85, 1.15, 3) * rng.uniform(0.7, 1.2)
        rgb = (np.clip((photo.rgb / 255.0) ** rng.uniform(0.7, 1.4) * gain, 0, 1) * 255).astype(np.uint8)
        turn = int(rng.integers(8))
        masks = [_turned(i.mask, turn) for i in photo.instances]
        found["rgb"].append(_turned(rgb, turn))
        found["materials"].append(_turned(photo.materials, turn)[2::4, 2::4].astype(np.int64))
        cells = {n: c for n, m in enumerate(masks) if (c := to_logits(m, CELLS)).sum() >= MIN_CELLS}
        for n in rng.choice(list(cells), PROMPTS):
            box = box_of(masks[n]) + rng.normal(0, 0.05, 4) * np.ptp(box_of(masks[n]).reshape(2, 2), axis=0).repeat(2)
            found["masks"].append(cells[n])
            found["points_xy"].append(np.array(point_in(masks[n], rng), np.float32))
            found["boxes_xyxy"].append(np.clip(box, 0, SIDE_PX - 1).astype(np.float32))
    tensors = {k: torch.from_numpy(np.stack(v)) for k, v in found.items()}
    return {
        **tensors,
        "boxed": bool(rng.random() < 0.25),
        "luck": torch.from_numpy(rng.random(IMAGES * PROMPTS)).float(),
    }


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

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Terms of the loss, and the IoU of the best mask for the first prompt and of the mask after a correction."""
        net = self.network
        x = batch["rgb"].permute(0, 3, 1, 2).float() / 255
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
        levels = net.forward_image((x - mean) / std)["backbone_fpn"]
        image = levels[2] + net.no_mem_embed.permute(0, 2, 1)[..., None]
        target = batch["masks"][:, None]
        points, labels = batch["points_xy"][:, None], torch.ones(len(target), 1, dtype=torch.int32)
        boxes = batch["boxes_xyxy"] if batch["boxed"] else None
        places = (batch["points_xy"].view(IMAGES, PROMPTS, 2) + 0.5) / SIDE_PX
        vector = self.shortcut(image.float(), places)
        each = [f.repeat_interleave(PROMPTS, dim=0) for f in (image, *levels[:2])]
        terms: dict[str, Tensor] = defaultdict(lambda: x.new_zeros(()))
        before: Tensor | None = None
        for turn in range(2):
            if before is not None:
                point, label = correction(before > 0, target[:, 0], batch["luck"], SIDE_PX)
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
            terms["mask"] = terms["mask"] + losses.gather(1, best).mean() / 2
            terms["iou"] = terms["iou"] + (iou - truth).square().mean() / 2
            terms["shortcut"] = terms["shortcut"] + distance(self.seen["vectors"].float(), vector.detach()).mean() / 2
            if turn == 0:
                direct = torch.einsum("nc,nchw->nhw", vector, self.seen["map"].float())[:, None]
                terms["shortcut"] = terms["shortcut"] + mask_loss(direct, target.float(), LOSS).mean()
                terms["best_iou"] = truth.gather(1, best).mean().detach()
            before = logits.detach().gather(1, best[..., None, None].expand(-1, -1, CELLS, CELLS))[:, 0]
        terms["corrected_iou"] = truth.mean().detach()
        finest = (CELLS, CELLS)
        pixels = sum(
            F.interpolate(c(f.float()), size=finest, mode="bilinear") for c, f in zip(self.embed, levels, strict=True)
        )
        classes = sum(
            F.interpolate(c(f.float()), size=finest, mode="bilinear")
            for c, f in zip(self.material, levels, strict=True)
        )
        assert isinstance(pixels, Tensor)
        assert isinstance(classes, Tensor)
        terms["dense"] = mask_loss(embedding_logits(pixels, places, self.gain, CELLS), target.float(), LOSS).mean()
        terms["material"] = F.cross_entropy(classes, batch["materials"])
        # without a norm in the neck features grow until they drown the position code
        terms["size"] = sum(
            (torch.relu(f.float().square().mean() - 1) for f in levels[:2]),
            3 * torch.relu(levels[2].float().square().mean() - 0.2),
        )
        terms["loss"] = sum((WEIGHTS[k] * terms[k] for k in WEIGHTS), x.new_zeros(()))
        return dict(terms)


def train(out: Path, steps: int, threads: int, workers: int) -> None:
    """All steps, from the checkpoint in `out` if there is one."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    out.mkdir(parents=True, exist_ok=True)
    settings = OptimiserSettings(
        steps=steps,
        lr=1.5e-3,
        lr_fan_in=96,
        decoder_lr=0.5,
        warmup_steps=min(150, steps - 1),
        weight_decay=0.02,
        ema=0.998,
    )
    torch.manual_seed(0)
    network = load_sam2(Sam2Model(config=CONFIG, checkpoint="random:0"), torch.device("cpu")).train()
    listen_to_prompts(network.sam_mask_decoder, network.sam_prompt_encoder)
    with torch.no_grad():
        for conv in network.image_encoder.neck.convs:
            conv.conv.weight.mul_(0.35)
    objective = Sam2Objective(network)
    average = moving_average(network, settings.ema)
    optimiser = torch.optim.AdamW(parameter_groups(objective, settings, PROMPTED), betas=(0.9, 0.98))
    step, seconds, path = 0, 0.0, out / "checkpoint.pt"
    if path.exists():
        state = torch.load(path, weights_only=True)
        objective.load_state_dict(state["objective"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        step, seconds = state["step"], state["seconds"]
    loader: Any = DataLoader(
        Photos(step, steps),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        multiprocessing_context="forkserver" if workers else None,
    )
    sums: dict[str, list[float]] = defaultdict(list)
    clock = time.monotonic()
    for batch in loader:
        for group in optimiser.param_groups:
            group["lr"] = group["peak_lr"] * rate(step, settings)
        with (
            torch.autocast("cpu", torch.bfloat16),
            sdpa_kernel(SDPBackend.MATH),
        ):  # small heads are slow in the CPU's flash kernel
            terms = objective(batch)
        terms["loss"].backward()
        sums["grad_norm"].append(float(nn.utils.clip_grad_norm_(objective.parameters(), 1.0)))
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        average.update_parameters(network)
        step += 1
        for name, value in terms.items():
            sums[name].append(float(value.detach()))
        if step % 50 == 0:
            seconds, clock = seconds + time.monotonic() - clock, time.monotonic()
            row = {
                "step": step,
                "minutes": round(seconds / 60, 2),
                **{k: round(float(np.mean(v)), 4) for k, v in sums.items()},
            }
            with (out / "log.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")
            sums.clear()
        if step % 250 == 0 or step == steps:
            state = {
                "step": step,
                "seconds": seconds,
                "objective": objective.state_dict(),
                "average": average.state_dict(),
                "optimiser": optimiser.state_dict(),
            }
            torch.save(state, path.with_suffix(".tmp"))
            os.replace(path.with_suffix(".tmp"), path)
    half = {k: v.half() if v.is_floating_point() else v for k, v in average.module.state_dict().items()}
    export(half, out / "sam2_nano.safetensors")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1)
    a = parser.parse_args()
    train(a.out, a.steps, a.threads, a.workers)
