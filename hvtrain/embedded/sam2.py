"""The embedded SAM2, part one: masks of single photographs. Its memory is trained afterwards (`memory`).

First at 256 px, where steps are cheap and a prompt learns to matter; then at the 512 px of the published config, on photographs of
several sizes and with clicks beside all objects, whose mask shall be told to be of no worth; at last, in two stages, with a loss
along outlines.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hvlabel.config import Sam2Model
from hvlabel.models.sam2 import load_sam2
from hvlabel.models.teacher import IMAGENET_MEAN, IMAGENET_STD
from hvtrain.embedded.batches import photo_batch
from hvtrain.embedded.objective import PromptObjective, Prompts
from hvtrain.embedded.run import Run, begin
from hvtrain.embedded.stages import Batch, Stage
from hvtrain.student import listen_to_prompts

CONFIG = str(Path(__file__).resolve().parents[2] / "resources/models/sam2_embedded.yaml")
SIZES_PX = (192, 256, 256, 320, 384)
FULL_SIZE = Stage(1200, 512, 128, SIZES_PX, images=4, objects=8, grounds=2, lr=8e-4)
OUTLINES = replace(FULL_SIZE, lr=7e-4, warmup_steps=20, balanced=0.0, edge=0.3)
STAGES = (
    Stage(2200, 256, 64, (256,), images=6, objects=8, grounds=0, lr=1.5e-3),
    FULL_SIZE,
    replace(OUTLINES, steps=580, boxed=0.35, fall=0.6),
    replace(OUTLINES, steps=900, boxed=0.3, fall=0.7),
)
# the rate of these is halved
PROMPTED = tuple(
    f"network.{part}."
    for part in (
        "sam_prompt_encoder",
        "sam_mask_decoder.transformer",
        "sam_mask_decoder.iou_token",
        "sam_mask_decoder.mask_tokens",
    )
)


class Sam2Objective(PromptObjective):
    """SAM2's image path."""

    def __init__(self, network: Any) -> None:
        width = network.hidden_dim
        super().__init__(network, network.sam_mask_decoder, (width // 8, width // 4, width))

    def encode(self, batch: Batch) -> tuple[list[Tensor], int]:
        """Of rgb (B, S, S, 3) uint8."""
        x = normalised(batch["rgb"])
        set_side(self.network, x.shape[-1])
        levels = self.network.forward_image(x)["backbone_fpn"]
        return [*levels[:2], levels[2] + self.network.no_mem_embed.permute(0, 2, 1)[..., None]], x.shape[-1]

    def decode(self, levels: list[Tensor], asked: Prompts) -> tuple[Tensor, Tensor]:
        """By the package's modules; boxes go in as boxes, for which sam2's own predictor gives two labelled points."""
        prompts, decoder = self.network.sam_prompt_encoder, self.network.sam_mask_decoder
        sparse, dense = prompts(points=asked.points, boxes=asked.boxes, masks=asked.masks)
        logits, iou, _, _ = decoder.predict_masks(
            image_embeddings=levels[-1],
            image_pe=prompts.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            repeat_image=False,
            high_res_features=levels[:-1],
        )
        wanted = slice(0, 1) if asked.single else slice(1, None)
        return logits[:, wanted], iou[:, wanted]

    def size_of(self, levels: list[Tensor]) -> Tensor | float:
        """Without a norm in the neck features grow until they drown the position code."""
        finer = sum((torch.relu(f.float().square().mean() - 1) for f in levels[:-1]), levels[0].new_zeros(()))
        return finer + 3 * torch.relu(levels[-1].float().square().mean() - 0.2)


def train(out: Path, threads: int, workers: int, stages: tuple[Stage, ...] = STAGES) -> None:
    """All stages, from the checkpoint in `out` if there is one; writes OUT/sam2_embedded.safetensors."""
    begin(threads)
    network = load_sam2(Sam2Model(config=CONFIG, checkpoint="random:0"), torch.device("cpu")).train()
    listen_to_prompts(network.sam_mask_decoder, network.sam_prompt_encoder)
    with torch.no_grad():
        for conv in network.image_encoder.neck.convs:
            conv.conv.weight.mul_(0.35)
    Run(Sam2Objective(network), out, "sam2", PROMPTED).train(photo_batch, stages, workers, "sam2_embedded.safetensors")


def normalised(rgb: Tensor) -> Tensor:
    """(B, 3, S, S) float32 network input of (B, S, S, 3) uint8."""
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return (rgb.permute(0, 3, 1, 2).float() / 255 - mean) / std


def set_side(network: Any, side_px: int) -> None:
    """Another input side; no weight depends on it."""
    network.image_size = side_px
    network.sam_image_embedding_size = side_px // 16
    network.sam_prompt_encoder.input_image_size = (side_px, side_px)
    network.sam_prompt_encoder.image_embedding_size = (side_px // 16, side_px // 16)
    network.sam_prompt_encoder.mask_input_size = (side_px // 4, side_px // 4)
