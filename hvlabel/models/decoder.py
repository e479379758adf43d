"""SAM's prompt encoder and two-way mask decoder with the published parameter names."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvlabel.models.blocks import BlockMlp, LayerNorm2d, Mlp

N_MULTIMASKS = 3  # for ambiguous prompts: whole, part and subpart


class PositionCode(nn.Module):
    """Random Fourier features of positions in [0, 1]."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, features))

    def forward(self, xy: Tensor) -> Tensor:
        """(..., 2) positions x, y in [0, 1] -> (..., 2 * features)."""
        with torch.autocast(xy.device.type, enabled=False):  # half precision would move a point by a pixel
            centred = 2 * xy - 1  # in [-1, 1]
            angle = 2 * math.pi * (centred @ self.positional_encoding_gaussian_matrix)
        return torch.cat([angle.sin(), angle.cos()], dim=-1)


class PromptEncoder(nn.Module):
    """Points, boxes and low-resolution masks to tokens and a dense map."""

    def __init__(self, dim: int, grid: int, image_size_px: int, mask_channels: int) -> None:
        super().__init__()
        self.grid, self.image_size_px = grid, image_size_px
        self.pe_layer = PositionCode(dim // 2)
        # background point, foreground point, two corners of a box
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, dim) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, dim)
        narrow = mask_channels // 4
        # two halvings: from the side 4g of the logits to the tokens' g
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, narrow, 2, stride=2),
            LayerNorm2d(narrow),
            nn.GELU(),
            nn.Conv2d(narrow, mask_channels, 2, stride=2),
            LayerNorm2d(mask_channels),
            nn.GELU(),
            nn.Conv2d(mask_channels, dim, 1),
        )
        self.no_mask_embed = nn.Embedding(1, dim)

    def forward(
        self, points_xy: Tensor | None, labels: Tensor | None, boxes_xyxy: Tensor | None, masks: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Sparse (N, P, D) and dense (N, D, g, g) prompts.

        points_xy  : (N, P, 2) px of the padded input, or None
        labels     : (N, P) 1 foreground, 0 background, -1 padding
        boxes_xyxy : (N, 4) px, or None
        masks      : (N, 1, 4g, 4g) logits, or None
        """
        given = [t for t in (points_xy, boxes_xyxy, masks) if t is not None]
        n = given[0].shape[0] if given else 1
        no_mask = self.no_mask_embed.weight  # (1, D)
        sparse: list[Tensor] = []
        if points_xy is not None and labels is not None:
            points = self._embed_points(points_xy, labels, pad=boxes_xyxy is None)  # (N, P, D)
            sparse.append(points)
        if boxes_xyxy is not None:
            corners = self._code(boxes_xyxy.reshape(-1, 2, 2))  # (N, 2, D)
            upper_left, lower_right = self._label_embedding(2), self._label_embedding(3)
            kinds = torch.cat([upper_left, lower_right])  # (2, D)
            sparse.append(corners + kinds)
        if not sparse:
            sparse.append(no_mask.new_zeros(n, 0, no_mask.shape[1]))
        if masks is not None:
            dense = self.mask_downscaling(masks)
        else:
            at_a_cell = no_mask.reshape(1, -1, 1, 1)
            dense = at_a_cell.expand(n, -1, self.grid, self.grid)  # a view: the same everywhere
        return torch.cat(sparse, dim=1), dense

    def dense_code(self) -> Tensor:
        """(1, D, g, g) position code of the token centres."""
        device = self.no_mask_embed.weight.device
        token = torch.arange(self.grid, dtype=torch.float32, device=device)
        centre = (token + 0.5) / self.grid
        y, x = torch.meshgrid(centre, centre, indexing="ij")
        centre_xy = torch.stack([x, y], dim=-1)  # (g, g, 2)
        code = self.pe_layer(centre_xy)  # (g, g, D)
        return code.permute(2, 0, 1)[None]

    def _code(self, xy_px: Tensor) -> Tensor:
        """(..., D) of positions (..., 2); a pixel's centre is half a pixel from its corner."""
        centre = (xy_px + 0.5).to(torch.float32)
        return self.pe_layer(centre / self.image_size_px)

    def _embed_points(self, points_xy: Tensor, labels: Tensor, *, pad: bool) -> Tensor:
        """(N, P, D), with one more token for padding, as published, where no box stands beside the points."""
        if pad:
            anywhere = points_xy.new_zeros(len(points_xy), 1, 2)
            no_point = -labels.new_ones(len(labels), 1)
            points_xy = torch.cat([points_xy, anywhere], dim=1)
            labels = torch.cat([labels, no_point], dim=1)
        code = self._code(points_xy)
        kind = labels[..., None]  # (N, P, 1)
        code = torch.where(kind == -1, self.not_a_point_embed.weight, code)  # padding has no position
        of_background = torch.where(kind == 0, self._label_embedding(0), 0.0)
        of_foreground = torch.where(kind == 1, self._label_embedding(1), 0.0)
        code = code + of_background
        return code + of_foreground

    def _label_embedding(self, kind: int) -> Tensor:
        """(1, D): 0 background point, 1 foreground point, 2 and 3 corners of a box."""
        embedding = self.point_embeddings[kind]
        assert isinstance(embedding, nn.Embedding)
        return embedding.weight


class DownAttention(nn.Module):
    """Attention whose inner width is the token width divided by `downsample`."""

    def __init__(self, dim: int, num_heads: int, downsample: int = 1) -> None:
        super().__init__()
        self.num_heads = num_heads
        inner = dim // downsample
        self.q_proj = nn.Linear(dim, inner)
        self.k_proj = nn.Linear(dim, inner)
        self.v_proj = nn.Linear(dim, inner)
        self.out_proj = nn.Linear(inner, dim)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, Nq, D), (B, Nk, D), (B, Nk, D) -> (B, Nq, D)."""
        queries = self._heads(self.q_proj(q))
        keys = self._heads(self.k_proj(k))
        values = self._heads(self.v_proj(v))
        context = F.scaled_dot_product_attention(queries, keys, values)  # (B, heads, Nq, d)
        merged = context.transpose(1, 2).flatten(2)  # (B, Nq, heads * d)
        return self.out_proj(merged)

    def _heads(self, x: Tensor) -> Tensor:
        """(B, N, heads * d) -> (B, heads, N, d)."""
        by_head = x.unflatten(-1, (self.num_heads, -1))  # (B, N, heads, d)
        return by_head.transpose(1, 2)


class TwoWayBlock(nn.Module):
    """Self-attention of the tokens, tokens to image, MLP, image to tokens."""

    def __init__(self, dim: int, num_heads: int, mlp_hidden: int, *, first: bool) -> None:
        super().__init__()
        self.first = first
        self.self_attn = DownAttention(dim, num_heads)
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn_token_to_image = DownAttention(dim, num_heads, downsample=2)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = BlockMlp(dim, mlp_hidden, nn.ReLU)
        self.norm3 = nn.LayerNorm(dim)
        self.norm4 = nn.LayerNorm(dim)
        self.cross_attn_image_to_token = DownAttention(dim, num_heads, downsample=2)

    def forward(self, tokens: Tensor, image: Tensor, token_code: Tensor, image_code: Tensor) -> tuple[Tensor, Tensor]:
        """tokens (N, T, D) and image (N or 1, g*g, D) -> both updated.

        The first block has no code and no residual in its self-attention.
        """
        if self.first:
            tokens = self.self_attn(tokens, tokens, tokens)
        else:
            coded = tokens + token_code
            tokens = tokens + self.self_attn(coded, coded, tokens)
        tokens = self.norm1(tokens)
        # codes go into queries and keys, never into values
        read = self.cross_attn_token_to_image(tokens + token_code, image + image_code, image)
        tokens = self.norm2(tokens + read)
        tokens = self.norm3(tokens + self.mlp(tokens))
        read_back = self.cross_attn_image_to_token(image + image_code, tokens + token_code, tokens)
        image = self.norm4(image + read_back)
        return tokens, image


class TwoWayTransformer(nn.Module):
    """Two blocks and a last attention from the tokens to the image."""

    def __init__(self, dim: int, num_heads: int, mlp_hidden: int, depth: int = 2) -> None:
        super().__init__()
        blocks = [TwoWayBlock(dim, num_heads, mlp_hidden, first=i == 0) for i in range(depth)]
        self.layers = nn.ModuleList(blocks)
        self.final_attn_token_to_image = DownAttention(dim, num_heads, downsample=2)
        self.norm_final_attn = nn.LayerNorm(dim)

    def forward(self, image: Tensor, image_code: Tensor, prompts: Tensor) -> tuple[Tensor, Tensor]:
        """image (N, D, g, g), image_code (1, D, g, g), prompts (N, T, D) -> tokens (N, T, D), image (N, g*g, D)."""
        source = image.flatten(2).transpose(1, 2)  # (N, g*g, D)
        code = image_code.flatten(2).transpose(1, 2)
        tokens = prompts
        for layer in self.layers:  # the prompts as they came are also the tokens' code
            tokens, source = layer(tokens, source, prompts, code)
        read = self.final_attn_token_to_image(tokens + prompts, source + code, source)
        return self.norm_final_attn(tokens + read), source


class MaskDecoder(nn.Module):
    """Prompts and image features to mask logits and predicted IoU."""

    def __init__(self, dim: int, num_heads: int, mlp_hidden: int, iou_hidden: int, n_classes: int = 0) -> None:
        super().__init__()
        n_tokens = N_MULTIMASKS + 1
        self.transformer = TwoWayTransformer(dim, num_heads, mlp_hidden)
        self.iou_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(n_tokens, dim)
        half_way, narrow = dim // 4, dim // 8
        # two doublings: from the tokens' side g to 4g
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose2d(dim, half_way, 2, stride=2),
            LayerNorm2d(half_way),
            nn.GELU(),
            nn.ConvTranspose2d(half_way, narrow, 2, stride=2),
            nn.GELU(),
        )
        # token of a mask -> vector whose products with the upscaled features are the mask's logits
        hypernetworks = [Mlp([dim, dim, dim, narrow]) for _ in range(n_tokens)]
        self.output_hypernetworks_mlps = nn.ModuleList(hypernetworks)
        self.iou_prediction_head = Mlp([dim, iou_hidden, iou_hidden, n_tokens])
        if n_classes:  # present in some state dicts; loaded, not used for masks
            self.class_seg_head = nn.Conv2d(narrow, n_classes, 3, padding=1)

    def forward(
        self, image: Tensor, image_code: Tensor, sparse: Tensor, dense: Tensor, *, multimask: bool
    ) -> tuple[Tensor, Tensor]:
        """Logits (N, M, 4g, 4g) and predicted IoU (N, M); M is 3 with multimask, else 1.

        image : (1 or N, D, g, g); one image serves all prompts, N images go with their prompts pairwise
        """
        n = sparse.shape[0]
        outputs = torch.cat([self.iou_token.weight, self.mask_tokens.weight])  # (1 + masks, D)
        outputs_of_each = outputs.expand(n, -1, -1)
        prompts = torch.cat([outputs_of_each, sparse], dim=1)  # (N, 1 + masks + P, D)
        tokens, source = self.transformer(image + dense, image_code, prompts)
        channels_first = source.transpose(1, 2)  # (N, D, g*g)
        grid = channels_first.unflatten(2, image.shape[-2:])  # (N, D, g, g)
        upscaled = self.output_upscaling(grid)  # (N, D/8, 4g, 4g)
        chosen = range(1, N_MULTIMASKS + 1) if multimask else range(1)  # mask 0 is the one for clear prompts
        # the IoU's token comes first, so that of mask k is the next but k
        vectors = [self.output_hypernetworks_mlps[k](tokens[:, 1 + k]) for k in chosen]
        of_masks = torch.stack(vectors, dim=1)  # (N, M, D/8)
        logits = torch.einsum("nmc,nchw->nmhw", of_masks, upscaled)
        iou = self.iou_prediction_head(tokens[:, 0])
        return logits, iou[:, list(chosen)]


class PromptedNetwork(nn.Module):
    """A network that answers prompts on its image features as SAM does; what makes the features is its own."""

    prompt_encoder: PromptEncoder
    mask_decoder: MaskDecoder

    def decode(
        self,
        features: Tensor,
        *,
        points_xy: Tensor | None = None,
        labels: Tensor | None = None,
        boxes_xyxy: Tensor | None = None,
        masks: Tensor | None = None,
        multimask: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """Logits (N, M, 4g, 4g) and predicted IoU (N, M) of N prompts on one image, or of N images with a prompt each.

        features : (1 or N, D, g, g), what `encode` gives last
        The prompts are those of PromptEncoder, px of the padded input.
        """
        sparse, dense = self.prompt_encoder(points_xy, labels, boxes_xyxy, masks)
        code = self.prompt_encoder.dense_code()
        return self.mask_decoder(features, code, sparse, dense, multimask=multimask)
