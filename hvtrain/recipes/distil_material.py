"""The distilled material network: a small encoder for cubes of any camera before SAM's frozen decoder.

python -m hvtrain.recipes.distil_material OUT [--seconds 420] [--images 16] [--prompts 16] [--workers 15]

It learns from two sides at once. Its embedding shall be SAM's own of the scene's flat picture; that weighs less and
less. And SAM's decoder, which never changes, shall answer points and boxes on it with the scene's objects. The rate
follows the clock, so that a training ends well whatever the machine makes of its time.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvlabel.cache.publish import publish_bytes, temporary_beside
from hvlabel.config import LossSettings, SamModel
from hvlabel.models.device import choose_device
from hvlabel.models.sam import Sam, sam_of
from hvlabel.models.sam.predictor import PIXEL_MEAN, PIXEL_STD
from hvlabel.models.sam.spectral import SpectralEncoder, SpectralTopology
from hvtrain.engine.optimiser import moving_average
from hvtrain.objectives.losses import mask_loss
from hvtrain.recipes.frozen_decoder import FrozenDecoder
from hvtrain.recipes.material_plans import BOX, NOTHING, Plan, Shape, plan_loader
from hvtrain.recipes.material_rendering import Rendered, flat_picture, render

WEIGHTS, CHECKPOINT, LOG = "material_distilled.safetensors", "checkpoint.pt", "log.jsonl"
SEED = 0
PEAK_RATE, BETAS, WEIGHT_DECAY, CLIP = 1e-3, (0.9, 0.98), 0.05, 1.0
WARM_UP = 0.04  # of the training
AVERAGED = 0.998
LOSS = LossSettings(edge=0.3)  # the others as in SAM
IOU_WEIGHT = 2.0
DISTILLED = (1.0, 0.05)  # weight of the distillation, at first and at last
TAUGHT_PART = 2  # one image in so many has a teacher: its time
LOG_EVERY_STEPS, SAVE_EVERY_S = 25, 60.0


def rate(share: float) -> float:
    """Factor on the peak rate after a share of the training: a linear rise, then half a cosine to zero."""
    if share < WARM_UP:
        return (share + 1e-3) / WARM_UP
    after = min(1.0, (share - WARM_UP) / (1 - WARM_UP))
    return 0.5 * (1 + math.cos(math.pi * after))


def distilled(share: float) -> float:
    """Weight of the distillation after a share of the training."""
    first, last = DISTILLED
    left = 1 - min(1.0, share)
    return last + (first - last) * left**2


class Objective(nn.Module):
    """The encoder in training, `network`, and SAM, which is not trained."""

    def __init__(self, encoder: SpectralEncoder, sam: Sam) -> None:
        super().__init__()
        self.network = encoder
        self.decoder = FrozenDecoder(sam)
        self._teacher = (sam.requires_grad_(False).eval(),)  # in a tuple: no part of this module

    def forward(self, scene: Rendered, plan: Plan, distil_weight: float) -> dict[str, Tensor]:
        """Terms of the loss of a batch and their sum; of prompts on objects also the IoU with what was asked for."""
        with _bfloat16(scene.spectra):
            features = self.network(scene.spectra, scene.light, scene.valid, scene.centres_nm).float()
        terms = self.answers(features, scene.masks, plan)
        taught = slice(0, max(1, len(features) // TAUGHT_PART))
        ours, target = features[taught], self.teach(scene, taught)
        cosine = F.cosine_similarity(ours, target, dim=1)
        error = (ours - target).square().mean()
        terms["distil"] = error / target.var()  # 1: no better than the mean
        terms["cosine"] = cosine.mean().detach()
        terms["loss"] = terms["mask"] + IOU_WEIGHT * terms["iou"] + distil_weight * terms["distil"]
        return terms

    @torch.no_grad()
    def teach(self, scene: Rendered, taught: slice) -> Tensor:
        """(B, 256, g, g) float32 SAM's embedding of the flat pictures of some images."""
        sam = self._teacher[0]
        picture = flat_picture(scene)[taught] * 255  # as SAM takes colours
        mean = picture.new_tensor(PIXEL_MEAN).view(3, 1, 1)
        std = picture.new_tensor(PIXEL_STD).view(3, 1, 1)
        normal = (picture - mean) / std * scene.valid[taught, None]  # SAM pads after this: with zeros
        enlarged = F.interpolate(normal, (sam.input_px, sam.input_px), mode="bilinear")
        with _bfloat16(picture):
            return sam.encode(enlarged).float()

    def answers(self, features: Tensor, masks: Tensor, plan: Plan) -> dict[str, Tensor]:
        """Terms of the prompts on an embedding. features : (B, 256, g, g); masks : (B, M, P, P) bool."""
        is_box = plan["kinds"] == BOX  # (B, K)
        logits, iou = self.decoder.masks(features, plan["points_xy"], plan["boxes_xyxy"], is_box)  # (B*K, 4, P, P)
        target_idx = plan["targets"].clamp(min=0)  # of prompts without a target any: they do not count
        px_of_target = target_idx[..., None, None].expand(-1, -1, *masks.shape[2:])
        target = masks.gather(1, px_of_target)  # (B, K, P, P)
        each = target.flatten(0, 1)[:, None]  # (B*K, 1, P, P): one target for all four answers
        losses = mask_loss(logits, each.float(), LOSS)  # (B*K, 4)

        is_box, target_idx = is_box.flatten(), target_idx.flatten()  # (B*K,)
        on_object = (plan["targets"] != NOTHING).flatten()
        # a box has one answer, the first; a point the three others
        best_loss, best = losses[:, 1:].min(dim=1)
        of_prompt = torch.where(is_box, losses[:, 0], best_loss)
        is_point = ~is_box[:, None]  # (B*K, 1)
        counts = torch.cat([is_box[:, None], is_point.expand(-1, 3)], dim=1)  # (B*K, 4)

        with_all = _iou_with_all(logits, masks)  # (B*K, 4, M)
        of_target = target_idx[:, None, None].expand(-1, 4, 1)
        with_target = with_all.gather(2, of_target)[..., 0]  # (B*K, 4)
        with_target = with_target * on_object[:, None]  # beside all objects there is nothing to meet
        # a point may mean whatever it lies on, a box one object alone
        with_any = with_all.amax(dim=2)  # (B*K, 4)
        true_iou = torch.where(is_box[:, None], with_target, with_any)
        of_three = with_target[:, 1:]
        trusted = iou[:, 1:].argmax(dim=1)
        is_click = on_object & ~is_box
        return {
            "mask": _mean(of_prompt, on_object),
            "iou": _mean((iou - true_iou).square(), counts),
            "best_of_three": _mean(_at(of_three, best), is_click),
            "trusted": _mean(_at(of_three, trusted), is_click),
            "boxed": _mean(with_target[:, 0], on_object & is_box),
        }


class Training:
    """What a training has reached, in memory and in its folder.

    out : gets WEIGHTS, the averaged encoder in half precision, CHECKPOINT and LOG
    """

    def __init__(self, out: Path, sam: Sam, topology: SpectralTopology | None = None) -> None:
        torch.manual_seed(SEED)
        out.mkdir(parents=True, exist_ok=True)
        self.out, self.device = out, next(sam.parameters()).device
        encoder = SpectralEncoder(topology).to(self.device)
        self.objective = Objective(encoder, sam)
        self.average = moving_average(self.objective.network, AVERAGED)
        self.optimiser = _optimiser(self.objective.network)
        self.step, self.seconds = 0, 0.0
        self.resume()

    def run(self, shape: Shape, seconds: float, workers: int, max_steps: int | None = None) -> None:
        """Steps until so many seconds were trained in all, or so many steps; then the weights are saved."""
        noise = torch.Generator(self.device).manual_seed(self.step)
        batches = iter(plan_loader(shape, self.step, workers))
        sums: dict[str, list[Tensor]] = defaultdict(list)
        before = saved = time.monotonic()
        while self.seconds < seconds and self.step != max_steps:
            made = next(batches)
            plan = {name: tensor.to(self.device) for name, tensor in made.items()}
            scene = render(plan, shape.input_px, noise)
            terms = self.learn(scene, plan, self.seconds / seconds)
            for name, value in terms.items():
                sums[name].append(value)  # on the device: reading one would wait for the step
            now = time.monotonic()
            self.seconds, before = self.seconds + now - before, now
            if self.step % LOG_EVERY_STEPS == 0:
                self._log(sums)
                sums.clear()
            if now - saved > SAVE_EVERY_S:
                self.save()
                saved = now
        self.save()

    def learn(self, scene: Rendered, plan: Plan, share: float) -> dict[str, Tensor]:
        """Terms of one step of the optimiser, after a share of the training."""
        for group in self.optimiser.param_groups:
            group["lr"] = PEAK_RATE * rate(share)
        terms: dict[str, Tensor] = self.objective(scene, plan, distilled(share))
        terms["loss"].backward()
        terms["grad_norm"] = nn.utils.clip_grad_norm_(self.objective.network.parameters(), CLIP)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.average.update_parameters(self.objective.network)
        self.step += 1
        return {name: value.detach() for name, value in terms.items()}

    def resume(self) -> None:
        """Go on from the folder's checkpoint, if it has one."""
        path = self.out / CHECKPOINT
        if not path.exists():
            return
        state = torch.load(path, weights_only=True, map_location=self.device)
        self.step, self.seconds = state["step"], state["seconds"]
        self.objective.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])

    def save(self) -> None:
        """The checkpoint and the averaged weights, each at once or not at all."""
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "network": self.objective.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        path = self.out / CHECKPOINT
        temporary = temporary_beside(path)
        torch.save(state, temporary)
        temporary.replace(path)
        averaged: Any = self.average.module.state_dict()
        half = {}
        for name, tensor in averaged.items():
            half[name] = tensor.half().cpu().contiguous()
        content = safetensors.torch.save(half)
        publish_bytes(self.out / WEIGHTS, content)

    def _log(self, sums: dict[str, list[Tensor]]) -> None:
        """Means since the last row."""
        row: dict[str, float] = {"step": self.step, "seconds": round(self.seconds, 1)}
        for name, values in sums.items():
            mean = torch.stack(values).mean()
            row[name] = round(float(mean), 4)
        with (self.out / LOG).open("a") as file:
            file.write(json.dumps(row) + "\n")


def _optimiser(network: nn.Module) -> torch.optim.AdamW:
    """AdamW without decay on vectors."""
    parameters = list(network.parameters())
    matrices = [parameter for parameter in parameters if parameter.ndim > 1]
    vectors = [parameter for parameter in parameters if parameter.ndim <= 1]
    groups = [
        {"params": matrices, "weight_decay": WEIGHT_DECAY},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=PEAK_RATE, betas=BETAS, fused=matrices[0].is_cuda)


@torch.no_grad()
def _iou_with_all(logits: Tensor, masks: Tensor) -> Tensor:
    """(B*K, A, M) IoU of answers (B*K, A, P, P) with all masks (B, M, P, P) of their image."""
    n_answers, n_objects = logits.shape[1], masks.shape[1]
    n_px = masks[0, 0].numel()
    is_in = logits > 0  # (B*K, A, P, P)
    answers = is_in.view(len(masks), -1, n_px).float()  # (B, K*A, P*P)
    objects = masks.flatten(2).float()  # (B, M, P*P)
    common = answers @ objects.mT  # (B, K*A, M) px; exact up to 2**24
    answer_px = answers.sum(dim=2)[..., None]  # (B, K*A, 1)
    object_px = objects.sum(dim=2)[:, None]  # (B, 1, M)
    areas = answer_px + object_px
    union = areas - common
    iou = common / union.clamp(min=1)
    return iou.view(-1, n_answers, n_objects)


def _at(values: Tensor, index: Tensor) -> Tensor:
    """(N,) one of each row of (N, M)."""
    return values.gather(1, index[:, None])[:, 0]


def _mean(values: Tensor, where: Tensor) -> Tensor:
    """Of the values where it is true; 0 if nowhere."""
    total = (values * where).sum()
    n = where.sum().clamp(min=1)
    return total / n


def _bfloat16(x: Tensor) -> torch.autocast:
    return torch.autocast(x.device.type, torch.bfloat16)


def main() -> None:
    """Train, from the folder's checkpoint if there is one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=420.0)
    parser.add_argument("--max-steps", type=int)
    parser.add_argument("--images", type=int, default=16, help="in a step")
    parser.add_argument("--prompts", type=int, default=16, help="on each of them")
    parser.add_argument("--workers", type=int, default=15, help="processes that lay out scenes")
    arguments = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    sam = sam_of(SamModel()).to(choose_device("auto"))
    shape = Shape(arguments.images, arguments.prompts)
    training = Training(arguments.out, sam)
    training.run(shape, arguments.seconds, arguments.workers, arguments.max_steps)


if __name__ == "__main__":
    main()
