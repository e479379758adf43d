"""The embedded SAM2, part one: masks of single photographs. Its memory is trained afterwards (`memory`).

First at 256 px, where steps are cheap and a prompt learns to matter; then at the 512 px of the published config, on
photographs of several sizes and with clicks beside all objects, whose predicted IoU shall be 0; at last, in two stages,
with a loss along outlines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hvlabel.config import Sam2Model
from hvlabel.models.pictures import IMAGENET_MEAN, IMAGENET_STD
from hvlabel.models.sam2 import load_sam2
from hvtrain.data.batch import Batch
from hvtrain.data.feature_maps import FeatureMaps
from hvtrain.heads.first_weights import listen_to_prompts
from hvtrain.heads.prompted import Prompts
from hvtrain.recipes.objectives import SceneObjective
from hvtrain.recipes.scenes import photo_batch
from hvtrain.recipes.stages import Stage
from hvtrain.recipes.training import LOG_EVERY, begin, play

CONFIG = str(Path(__file__).resolve().parents[2] / "resources/models/sam2_embedded.yaml")
SIZES_PX = (192, 256, 256, 320, 384)  # of photographs, all resized to the network's input: objects of many sizes
FULL_SIZE = Stage(1200, 512, 128, SIZES_PX, images=4, objects=8, grounds=2, lr=8e-4)
OUTLINES = replace(FULL_SIZE, lr=7e-4, warmup_steps=20, balanced=0.0, edge=0.3)
STAGES = (
    Stage(2200, 256, 64, (256,), images=6, objects=8, grounds=0, lr=1.5e-3),
    FULL_SIZE,
    replace(OUTLINES, steps=580, boxed=0.35, fall=0.6),
    replace(OUTLINES, steps=900, boxed=0.3, fall=0.7),
)
PROMPTED = (  # the rate of these is halved
    "student.sam_prompt_encoder.",
    "student.sam_mask_decoder.transformer.",
    "student.sam_mask_decoder.iou_token.",
    "student.sam_mask_decoder.mask_tokens.",
)
STRIDE_PX = 16  # px of the input along a side of a cell of the last map
MASK_STRIDE_PX = 4  # the same of a mask given as prompt
NECK_GAIN = 0.35  # of the neck's first weights: features begin small, see size_penalty
LAST_WEIGHT = 3  # of the last map's size beside the finer ones': it is what the position code is added to
MAX_LAST_SQUARE, MAX_FINER_SQUARE = 0.2, 1.0  # mean square of features that costs nothing


def make_objective(network: Any) -> SceneObjective:
    """SAM2's image path on photographs."""
    width = network.hidden_dim
    return SceneObjective(
        network,
        decoder=network.sam_mask_decoder,
        widths=(width // 8, width // 4, width),  # finest map first
        encode=encode,
        answer=partial(answer, network),
        first=STAGES[0],
        penalty=size_penalty,
    )


def encode(network: nn.Module, batch: Batch, training: bool) -> FeatureMaps:
    """Three maps of rgb (B, S, S, 3) uint8, finest first, as sam2's predictor makes them for a single picture."""
    net: Any = network
    x = normalised(batch.rgb)  # (B, 3, S, S)
    side_px = x.shape[-1]
    set_side(net, side_px)
    finest, middle, last = net.forward_image(x)["backbone_fpn"]
    # what the package adds where there is no memory to attend to
    no_memory = net.no_mem_embed.permute(0, 2, 1)[..., None]  # (1, D, 1, 1)
    return FeatureMaps.of([finest, middle, last + no_memory], side_px)


def answer(network: Any, maps: Sequence[Tensor], prompts: Prompts) -> tuple[Tensor, Tensor]:
    """By the package's modules; boxes go in as boxes, for which sam2's own predictor gives two labelled points."""
    encoder, decoder = network.sam_prompt_encoder, network.sam_mask_decoder
    points = None
    if prompts.points_xy is not None and prompts.labels is not None:
        points = prompts.points_xy, prompts.labels.int()
    sparse, dense = encoder(points=points, boxes=prompts.boxes_xyxy, masks=prompts.masks)
    logits, iou, _, _ = decoder.predict_masks(
        image_embeddings=maps[-1],
        image_pe=encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        repeat_image=False,
        high_res_features=maps[:-1],
    )
    chosen = slice(1, None) if prompts.multimask else slice(0, 1)  # of (N, 4, L, L): the single answer comes first
    return logits[:, chosen], iou[:, chosen]


def size_penalty(maps: Sequence[Tensor]) -> Tensor:
    """Scalar of maps (B, D, h, w): without a norm in the neck features grow until they drown the position code."""
    finer = maps[-1].new_zeros(())
    for level in maps[:-1]:
        finer = finer + torch.relu(_mean_square(level) - MAX_FINER_SQUARE)
    last = torch.relu(_mean_square(maps[-1]) - MAX_LAST_SQUARE)
    return finer + LAST_WEIGHT * last


def _mean_square(features: Tensor) -> Tensor:
    return features.float().square().mean()


def train(
    out: Path, threads: int, workers: int, stages: tuple[Stage, ...] = STAGES, *, log_every: int = LOG_EVERY
) -> None:
    """All stages, from the checkpoint in `out` if there is one; writes OUT/sam2_embedded.safetensors."""
    fabric = begin(threads)
    model = Sam2Model(config=CONFIG, checkpoint="random:0")
    network = load_sam2(model, torch.device("cpu")).train()
    listen_to_prompts(network.sam_mask_decoder, network.sam_prompt_encoder)
    with torch.no_grad():
        for conv in network.image_encoder.neck.convs:
            conv.conv.weight.mul_(NECK_GAIN)
    objective = make_objective(network)
    play(
        fabric,
        objective,
        network,
        out,
        recipe="sam2",
        make=photo_batch,
        stages=stages,
        workers=workers,
        weights="sam2_embedded.safetensors",
        prompted=PROMPTED,
        begin_stage=objective.begin_stage,
        names=objective.names,
        log_every=log_every,
    )


def normalised(rgb: Tensor) -> Tensor:
    """(B, 3, S, S) float32 network input of (B, S, S, 3) uint8."""
    of_channel = (1, 3, 1, 1)
    mean = torch.tensor(IMAGENET_MEAN).view(of_channel)
    std = torch.tensor(IMAGENET_STD).view(of_channel)
    channels_first = rgb.permute(0, 3, 1, 2)  # (B, 3, S, S)
    x = channels_first.float() / 255
    return (x - mean) / std


def set_side(network: Any, side_px: int) -> None:
    """Another input side; no weight depends on it."""
    grid = side_px // STRIDE_PX
    mask_side = side_px // MASK_STRIDE_PX
    network.image_size = side_px
    network.sam_image_embedding_size = grid
    prompts = network.sam_prompt_encoder
    prompts.input_image_size = (side_px, side_px)
    prompts.image_embedding_size = (grid, grid)
    prompts.mask_input_size = (mask_side, mask_side)
