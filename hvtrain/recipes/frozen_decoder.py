"""SAM's mask decoder as a fixed part of an objective: gradients pass through it, its weights stay."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hvlabel.models.sam import Sam

N_MASKS = 4  # the single answer, then the three of an ambiguous prompt


class FrozenDecoder:
    """All four masks of prompts on many images at once, in bfloat16.

    sam : its prompt encoder is used as it is, of its mask decoder a copy is made
    """

    def __init__(self, sam: Sam, dtype: torch.dtype = torch.bfloat16) -> None:
        self.prompts: Any = sam.prompt_encoder.requires_grad_(False)
        # a copy: SAM's own decoder keeps its precision
        decoder = copy.deepcopy(sam.mask_decoder)
        self.decoder: Any = decoder.requires_grad_(False).to(dtype)
        self.dtype = dtype

    @property
    def px_per_cell(self) -> float:
        """Pixels of SAM's input along a cell of the masks."""
        return self.prompts.image_size_px / (4 * self.prompts.grid)

    def masks(self, features: Tensor, points_xy: Tensor, boxes_xyxy: Tensor, boxed: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B*K, 4, 4g, 4g) and predicted IoU (B*K, 4), float32.

        features   : (B, D, g, g)
        points_xy  : (B, K, 2), and boxes_xyxy (B, K, 4), in cells of the masks
        boxed      : (B, K) bool, which of the two is asked
        """
        n_prompts = boxed.shape[1]
        _, dense = self.prompts(None, None, None, None)  # of no mask prompt
        image = (features + dense).to(self.dtype)
        per_prompt = image.repeat_interleave(n_prompts, dim=0)  # (B*K, D, g, g)
        code = self.prompts.dense_code().to(self.dtype)
        tokens = self._tokens(points_xy, boxes_xyxy, boxed)
        tokens, source = self.decoder.transformer(per_prompt, code, tokens)
        iou_token = tokens[:, 0]
        mask_tokens = tokens[:, 1 : 1 + N_MASKS]
        hypernetworks = self.decoder.output_hypernetworks_mlps
        vectors = [mlp(mask_tokens[:, k]) for k, mlp in enumerate(hypernetworks)]
        of_masks = torch.stack(vectors, dim=2)  # (B*K, D/8, 4)
        logits = self._cells(source) @ of_masks  # (B*K, g*g*16, 4)
        iou = self.decoder.iou_prediction_head(iou_token)
        masks = _side_by_side(logits, self.prompts.grid)
        return masks.float(), iou.float()

    def _tokens(self, points_xy: Tensor, boxes_xyxy: Tensor, boxed: Tensor) -> Tensor:
        """(B*K, T, D): the decoder's own tokens, then two of the prompt, either a point and a filler or two corners."""
        # the prompt encoder takes px of SAM's input
        points = points_xy.flatten(0, 1)[:, None] * self.px_per_cell  # (B*K, 1, 2)
        boxes = boxes_xyxy.flatten(0, 1) * self.px_per_cell  # (B*K, 4)
        labels = torch.ones(len(points), 1, dtype=torch.int32, device=points.device)  # 1: of the object
        by_point, _ = self.prompts(points, labels, None, None)  # (B*K, 2, D)
        by_box, _ = self.prompts(None, None, boxes, None)
        is_boxed = boxed.flatten()[:, None, None]
        # both are computed and one is taken: prompts of either kind go through the decoder together
        prompt = torch.where(is_boxed, by_box, by_point)
        sparse = prompt.to(self.dtype)
        own = torch.cat([self.decoder.iou_token.weight, self.decoder.mask_tokens.weight])  # (5, D)
        of_all = own.expand(len(sparse), -1, -1)
        return torch.cat([of_all, sparse], dim=1)

    def _cells(self, source: Tensor) -> Tensor:
        """(N, g*g, D) -> (N, g*g*16, D/8) upscaled features.

        Transposed convolutions that do not overlap are matrix products. Cells stay behind the token that they come
        from, so that nothing of the masks' size is moved before the masks are made.
        """
        up1, norm, _, up2, _ = self.decoder.output_upscaling
        cells = _doubled(up1, source)  # (N, g*g, 4, D/4)
        width = cells.shape[-1:]  # a norm over channels, which are last here
        normed = F.layer_norm(cells, width, norm.weight, norm.bias, norm.eps)
        cells = _doubled(up2, F.gelu(normed))  # (N, g*g, 4, 4, D/8)
        return F.gelu(cells).flatten(1, 3)


def _side_by_side(logits: Tensor, grid: int) -> Tensor:
    """(N, 4, 4g, 4g) masks of logits (N, g*g*16, 4) whose cells lie behind their token."""
    # a token's cells: row and column of the first doubling, then of the second
    apart = logits.view(-1, grid, grid, 2, 2, 2, 2, N_MASKS)
    rows_then_columns = apart.permute(0, 7, 1, 3, 5, 2, 4, 6)
    return rows_then_columns.reshape(-1, N_MASKS, 4 * grid, 4 * grid)


def _doubled(conv: Any, x: Tensor) -> Tensor:
    """(..., C) through a transposed convolution of 2x2 and stride 2: (..., 4, C'), the four cells row by row."""
    weight = conv.weight.permute(2, 3, 1, 0).flatten(0, 2)  # (4 * C', C)
    bias = conv.bias.repeat(4)
    cells = F.linear(x, weight, bias)
    return cells.unflatten(-1, (4, -1))
