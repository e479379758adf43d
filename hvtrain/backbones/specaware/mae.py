"""The masked autoencoder: a decoder whose last layer is generated for each band, and its loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvtrain.backbones.parts.masking import Masking, Reconstruction, masking, normalised
from hvtrain.backbones.parts.patches import patches
from hvtrain.backbones.parts.transformer import Block
from hvtrain.backbones.specaware.camera import Camera
from hvtrain.backbones.specaware.encoder import BLOCK_EPS, SpecAwareEncoder
from hvtrain.backbones.specaware.fusion import Fusion
from hvtrain.backbones.specaware.generators import MatrixGenerator
from hvtrain.backbones.specaware.sizes import Sizes

POOL_WIDTH = 64
MASK_RATIO = 0.75
CHARBONNIER_WEIGHT = 2.0
PER_PIXEL_EPS = 1e-6


class AttentionPool(nn.Module):
    """One vector of all tokens: what the mean token asks for."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query_proj = nn.Linear(width, POOL_WIDTH, bias=False)
        self.key_proj = nn.Linear(width, POOL_WIDTH, bias=False)
        self.value_proj = nn.Linear(width, width, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, D) of (B, N, D)."""
        query = self.query_proj(tokens.mean(dim=1, keepdim=True))
        keys, values = self.key_proj(tokens), self.value_proj(tokens)
        pooled = F.scaled_dot_product_attention(query, keys, values)  # (B, 1, D)
        return pooled[:, 0]


class HyperLinear(nn.Module):
    """The last layer: from tokens to the pixels of each band, by generated matrices."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        planes, width = sizes.planes, sizes.decoder_width
        self.x_attention_pool = AttentionPool(width)
        self.x_feature_extractor = nn.Sequential(nn.Linear(width, planes), nn.GELU(), nn.Linear(planes, planes))
        self.matrix_generator = MatrixGenerator(planes, rows=sizes.patch_px**2, columns=width, rank=sizes.rank)
        self.feature_fusion = Fusion(planes)

    def forward(self, tokens: Tensor, bands: Tensor) -> Tensor:
        """(B, N, k * k * C) pixels, bands fastest, of tokens (B, N, D) and of what is known of each band (B, C, w).

        The class token is one of the tokens: it takes part in the pooling.
        """
        condition = self.condition(tokens, bands)
        matrices = self.matrix_generator.matrices(condition)  # (B, C, k * k, D)
        bias = self.matrix_generator.bias(condition)  # (B, C, k * k)
        weight = matrices.transpose(1, 2).flatten(1, 2)  # (B, k * k * C, D)
        bias = bias.transpose(1, 2).flatten(1)  # (B, k * k * C)
        return tokens @ weight.transpose(1, 2) + bias[:, None]

    def condition(self, tokens: Tensor, bands: Tensor) -> Tensor:
        """(B, C, w); here, unlike in the embedding, the residual is what the tokens say."""
        content = self.x_feature_extractor(self.x_attention_pool(tokens))  # (B, w)
        content = content[:, None].expand_as(bands)
        return self.feature_fusion(bands, content) + content


class SpecAwareMae(SpecAwareEncoder):
    """The encoder with the decoder that it was pre-trained through."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        width = sizes.decoder_width
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.decoder_embed = nn.Linear(sizes.width, width)
        self.decoder_blocks = nn.ModuleList(
            Block(width, sizes.decoder_heads, eps=BLOCK_EPS) for _ in range(sizes.decoder_depth)
        )
        self.decoder_norm = nn.LayerNorm(width, eps=BLOCK_EPS)
        self.decoder_pred = HyperLinear(sizes)

    def reconstruct(
        self,
        cube: Tensor,
        camera: Camera,
        *,
        mask_ratio: float = MASK_RATIO,
        noise: Tensor | None = None,
        mask: Tensor | None = None,
        norm_pix: bool = False,
    ) -> Reconstruction:
        """Prediction (B, N, k * k * C), bands fastest, and the loss of the removed tokens.

        cube              : (B, C, H, W) float32
        noise, mask       : (B, N), see `masking`
        norm_pix          : compare with patches whose own mean and variance are taken out
        terms of the loss : spectral, and charbonnier with its weight
        """
        tokens, bands = self.patch_embed(cube, camera)
        n_samples, n_tokens = tokens.shape[:2]
        grid = self.grid(cube)
        choice = masking(n_tokens, n_samples, mask_ratio=mask_ratio, noise=noise, mask=mask, device=cube.device)
        latent = self.latent(tokens, camera, grid, choice)
        prediction = self.decoded(latent, bands, camera, grid, choice)
        target = patches(cube, self.topology.patch_px)
        if norm_pix:
            target = normalised(target)
        terms = robust_terms(prediction, target, choice.removed, n_bands=cube.shape[1])
        loss = terms["spectral"] + terms["charbonnier"]
        return Reconstruction(prediction, loss, terms, choice.removed)

    def latent(self, tokens: Tensor, camera: Camera, grid: tuple[int, int], choice: Masking) -> Tensor:
        """(B, 1 + K, E) of the kept tokens of (B, N, E), class token first, normed."""
        positions = self.positions(camera, len(tokens), grid, tokens.shape[-1])
        placed = tokens + positions.to(tokens)
        x = self.with_class_token(choice.kept(placed))
        for block in self.blocks:
            x = self.passed(block, x)
        return self.norm(x)

    def decoded(self, latent: Tensor, bands: Tensor, camera: Camera, grid: tuple[int, int], choice: Masking) -> Tensor:
        """(B, N, k * k * C) pixels of all tokens."""
        x = self.decoder_embed(latent)
        class_token, kept = x[:, :1], x[:, 1:]
        tokens = choice.restored(kept, self.mask_token)
        positions = self.positions(camera, len(tokens), grid, tokens.shape[-1])
        placed = tokens + positions.to(tokens)
        x = torch.cat([class_token, placed], dim=1)
        for block in self.decoder_blocks:
            x = self.passed(block, x)
        pixels = self.decoder_pred(self.decoder_norm(x), bands)
        return pixels[:, 1:]  # the class token is cut off last: the layer's pooling sees it


def robust_terms(prediction: Tensor, target: Tensor, removed: Tensor, n_bands: int) -> dict[str, Tensor]:
    """Spectral and (weighted) Charbonnier term of (B, N, k * k * C), over the pixels of removed tokens (B, N).

    An empty target spectrum counts as a right angle.
    """
    predicted = prediction.unflatten(-1, (-1, n_bands))  # (B, N, k * k, C)
    true = target.unflatten(-1, (-1, n_bands))
    counts = removed[..., None].expand(predicted.shape[:-1])  # (B, N, k * k)
    n_pixels = counts.sum() + PER_PIXEL_EPS
    angles = 1 - F.cosine_similarity(predicted, true, dim=-1)
    distances = ((predicted - true).square() + 1).sqrt() - 1
    spectral = (angles * counts).sum() / n_pixels
    charbonnier = (distances.mean(dim=-1) * counts).sum() / n_pixels
    return {"spectral": spectral, "charbonnier": CHARBONNIER_WEIGHT * charbonnier}
