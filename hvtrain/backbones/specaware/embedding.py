"""The patch embedding: a convolution whose kernels are generated for each sample and band."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvtrain.backbones.specaware.camera import Camera
from hvtrain.backbones.specaware.content import ContentExtractor
from hvtrain.backbones.specaware.fusion import Fusion
from hvtrain.backbones.specaware.generators import MatrixGenerator
from hvtrain.backbones.specaware.metadata import BandTransformer, SpectralEmbedding
from hvtrain.backbones.specaware.sizes import Sizes

FIRST_SCALE = 0.02  # of untrained tokens


class HyperEmbedding(nn.Module):
    """Cube of any camera to tokens.

    The published code multiplies each patch with U and V of its band, which holds a number for every token, band and
    channel of the width at once. U V is a kernel: one convolution per sample gives the same and holds a number for
    every band, channel and pixel of a patch.

    A network of one condition alone lacks the modules of the other: it is there to ask what each is worth.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        planes, patch_px = sizes.planes, sizes.patch_px
        self.patch_px = patch_px
        self.scaler = nn.Parameter(torch.tensor(FIRST_SCALE))
        self.condition_of = sizes.condition
        if sizes.condition != "content":
            self.spectral_embedding = SpectralEmbedding(planes)
            self.spectral_aware_transformer = BandTransformer(planes)
        if sizes.condition != "metadata":
            self.content_feature_extractor = ContentExtractor(planes, sizes.thumbnail_px)
        self.matrix_generator = MatrixGenerator(planes, rows=sizes.width, columns=patch_px**2, rank=sizes.rank)
        if sizes.condition == "both":
            self.feature_fusion = Fusion(planes)

    def forward(self, cube: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
        """Tokens (B, h * w, E), row-major, and the vectors of the bands (B, C, w) that a decoder reads.

        cube : (B, C, H, W) float32; rows and columns beyond whole patches are dropped
        Tokens are sums over bands: they grow with the number of bands, as published.
        """
        bands = None if self.condition_of == "content" else self.bands(camera, len(cube))
        condition = self.condition(cube, bands)
        kernels = self.kernels(condition)  # (B, E, C, k, k)
        batch, width, n_bands = kernels.shape[:3]
        # samples as groups of one image: each group meets its own kernels
        as_groups = cube.reshape(1, batch * n_bands, *cube.shape[-2:])
        maps = F.conv2d(as_groups, kernels.flatten(0, 1), stride=self.patch_px, groups=batch)  # (1, B * E, h, w)
        tokens = maps.reshape(batch, width, -1).transpose(1, 2)
        bias = self.matrix_generator.bias(condition.mean(dim=1))  # (B, E)
        return self.scaler * (tokens + bias[:, None]), condition if bands is None else bands

    def bands(self, camera: Camera, batch: int) -> Tensor:
        """(B, C, w): what is known of each band, each having looked at the others."""
        alone = self.spectral_embedding(camera, batch)
        return self.spectral_aware_transformer(alone)

    def condition(self, cube: Tensor, bands: Tensor | None) -> Tensor:
        """(B, C, w): what is known of each band (bands; none in a network of content alone) and what it shows."""
        if bands is not None and self.condition_of == "metadata":
            return bands
        content = self.content_feature_extractor(cube)
        return content if bands is None else self.feature_fusion(bands, content) + bands

    def kernels(self, condition: Tensor) -> Tensor:
        """(B, E, C, k, k) of (B, C, w)."""
        matrices = self.matrix_generator.matrices(condition)  # (B, C, E, k * k)
        return matrices.transpose(1, 2).unflatten(-1, (self.patch_px, self.patch_px))
