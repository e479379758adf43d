"""The two masked autoencoders. Both have full attention, and add no positions to what their encoder sees."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hvlabel.errors import ConfigError
from hvtrain.backbones.hypersigma.sizes import EPS, DecoderSizes, Sizes, drop_path, square_side
from hvtrain.backbones.hypersigma.spatial import PatchEmbed
from hvtrain.backbones.hypersigma.spectral import TOKENS, BandGroups
from hvtrain.backbones.parts.masking import Masking, Reconstruction, masked_mean, masking, normalised
from hvtrain.backbones.parts.patches import patches
from hvtrain.backbones.parts.positions import grid_code
from hvtrain.backbones.parts.transformer import Block

MASK_RATIO = 0.75


class Mae(nn.Module):
    """An encoder of some tokens and a decoder of all.

    n_tokens   : of a sample
    n_numbers  : that are predicted of each
    mask_ratio : share of tokens that are removed, where a call says nothing else
    """

    def __init__(self, sizes: Sizes, decoder: DecoderSizes, n_tokens: int, n_numbers: int, mask_ratio: float) -> None:
        super().__init__()
        self.topology, self.decoder_topology = sizes, decoder
        self.n_tokens, self.mask_ratio = n_tokens, mask_ratio
        # in published files, where it never learns: nothing adds it
        self.pos_embed = nn.Parameter(torch.zeros(1, n_tokens, sizes.width))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder.width))
        positions = torch.zeros(1, n_tokens, decoder.width)
        self.decoder_pos_embed = nn.Parameter(positions, requires_grad=False)
        self.blocks = sizes.blocks()
        self.norm = nn.LayerNorm(sizes.width, eps=EPS)
        self.decoder_embed = nn.Linear(sizes.width, decoder.width)
        self.decoder_blocks = nn.ModuleList(
            # as published, the schedule is the encoder's
            Block(decoder.width, decoder.heads, eps=EPS, drop_path=drop_path(i, sizes.depth))
            for i in range(decoder.depth)
        )
        self.decoder_norm = nn.LayerNorm(decoder.width, eps=EPS)
        self.decoder_pred = nn.Linear(decoder.width, n_numbers)

    def tokens(self, cube: Tensor) -> Tensor:
        """(B, N, D) of (B, C, H, W), without positions."""
        raise NotImplementedError

    def targets(self, cube: Tensor) -> Tensor:
        """(B, N, numbers) that are to be predicted of (B, C, H, W)."""
        raise NotImplementedError

    def reconstruct(
        self,
        cube: Tensor,
        *,
        mask_ratio: float | None = None,
        noise: Tensor | None = None,
        mask: Tensor | None = None,
        norm_pix: bool = False,
    ) -> Reconstruction:
        """Prediction (B, N, numbers) and the mean squared error of the removed tokens.

        cube        : (B, C, H, W) float32
        noise, mask : (B, N), see `masking`
        norm_pix    : compare with tokens whose own mean and variance are taken out
        """
        ratio = self.mask_ratio if mask_ratio is None else mask_ratio
        tokens = self.tokens(cube)
        n_samples, n_tokens = tokens.shape[:2]
        choice = masking(n_tokens, n_samples, mask_ratio=ratio, noise=noise, mask=mask, device=cube.device)
        latent = self.latent(tokens, choice)
        prediction = self.decoded(latent, choice)
        target = self.targets(cube)
        if norm_pix:
            target = normalised(target)
        error = prediction - target  # (B, N, numbers)
        per_token = error.square().mean(dim=-1)  # (B, N)
        loss = masked_mean(per_token, choice.removed)
        return Reconstruction(prediction, loss, {"squared_error": loss}, choice.removed)

    def latent(self, tokens: Tensor, choice: Masking) -> Tensor:
        """(B, K, D) of the kept tokens, normed."""
        x = choice.kept(tokens)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def decoded(self, latent: Tensor, choice: Masking) -> Tensor:
        """(B, N, numbers) of (B, K, D)."""
        kept = self.decoder_embed(latent)
        x = choice.restored(kept, self.mask_token) + self.decoder_pos_embed
        for block in self.decoder_blocks:
            x = block(x)
        return self.decoder_pred(self.decoder_norm(x))


class SpatMae(Mae):
    """Of the spatial transformer: predicts the pixels of patches (row, column, band) of square images."""

    def __init__(
        self,
        sizes: Sizes,
        decoder: DecoderSizes,
        n_bands: int,
        side_px: int,
        patch_px: int = 8,
        mask_ratio: float = MASK_RATIO,
    ) -> None:
        grid = side_px // patch_px
        n_numbers = patch_px**2 * n_bands
        super().__init__(sizes, decoder, grid**2, n_numbers, mask_ratio)
        self.patch_px = patch_px
        self.patch_embed = PatchEmbed(n_bands, sizes.width, patch_px)
        places = torch.arange(grid, dtype=torch.float32)
        with torch.no_grad():
            # fixed, unlike the spectral one's
            code = grid_code(places, places, decoder.width)
            self.decoder_pos_embed.copy_(code[None])

    def tokens(self, cube: Tensor) -> Tensor:
        """As the base says; ConfigError for an image of another size."""
        tokens = self.patch_embed(cube)
        if tokens.shape[1] != self.n_tokens:
            height_px, width_px = cube.shape[-2:]
            side_px = square_side(self.n_tokens) * self.patch_px
            raise ConfigError(
                f"an image of {height_px} x {width_px} px; this autoencoder reads {side_px} x {side_px} px: "
                "resize it or cut it"
            )
        return tokens

    def targets(self, cube: Tensor) -> Tensor:
        """As the base says."""
        return patches(cube, self.patch_px)


class SpecMae(Mae, BandGroups):
    """Of the spectral transformer: predicts whole groups of bands (band, row, column).

    Published are decoder positions of zero. All removed groups of a sample then get one and the same prediction.
    """

    def __init__(
        self,
        sizes: Sizes,
        decoder: DecoderSizes,
        n_bands: int,
        side_px: int,
        n_tokens: int = TOKENS,
        mask_ratio: float = MASK_RATIO,
    ) -> None:
        if n_bands % n_tokens:
            raise ConfigError(
                f"{n_bands} bands cannot be shared by {n_tokens} tokens equally; choose a multiple of {n_tokens}"
            )
        n_numbers = n_bands // n_tokens * side_px**2
        super().__init__(sizes, decoder, n_tokens, n_numbers, mask_ratio)
        self.spat_map = nn.Linear(side_px**2, sizes.width)

    def tokens(self, cube: Tensor) -> Tensor:
        """As the base says; ConfigError for an image of another size."""
        return self.mapped(cube)

    def targets(self, cube: Tensor) -> Tensor:
        """As the base says."""
        return cube.reshape(len(cube), self.n_tokens, -1)
