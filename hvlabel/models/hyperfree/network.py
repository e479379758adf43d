"""The whole network: image encoder, prompt encoder, mask decoder, and the numbers that shape them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hvlabel.errors import BandError
from hvlabel.models.decoder import MaskDecoder, PromptedNetwork, PromptEncoder
from hvlabel.models.hyperfree.encoder import ImageEncoder
from hvlabel.models.hyperfree.spectral import choose_channels


@dataclass(frozen=True)
class Topology:
    """Sizes of a network.

    image_size_px : side of the padded input
    window_px     : side of a window, tokens of the grid (the published name)
    global_blocks : those that attend over the whole grid
    merge_blocks  : after which the grid is halved, or None
    n_classes     : of a head that some files hold and masks do not need
    """

    image_size_px: int
    patch_px: int
    embed_dim: int
    depth: int
    num_heads: int
    window_px: int
    global_blocks: tuple[int, ...]
    merge_blocks: tuple[int, ...] | None = None
    mlp_ratio: int = 4
    out_dim: int = 256
    mask_channels: int = 16
    decoder_heads: int = 8
    decoder_mlp: int = 2048
    iou_hidden: int = 256
    n_classes: int = 0

    @property
    def grid(self) -> int:
        """Tokens along a side before merging."""
        return self.image_size_px // self.patch_px

    @property
    def decoder_grid(self) -> int:
        """Tokens along a side where prompts are decoded: each merge that is reached halves the grid."""
        merges = sum(b < self.depth for b in self.merge_blocks or ())
        return self.grid // 2**merges


class HyperFree(PromptedNetwork):
    """Channel-adaptive ViT with prompt decoder; it keeps no state between calls."""

    def __init__(self, topology: Topology) -> None:
        super().__init__()
        t = topology
        self.topology = topology
        self.image_encoder = ImageEncoder(
            image_size_px=t.image_size_px,
            patch_px=t.patch_px,
            embed_dim=t.embed_dim,
            depth=t.depth,
            num_heads=t.num_heads,
            mlp_ratio=t.mlp_ratio,
            window_px=t.window_px,
            global_blocks=t.global_blocks,
            merge_blocks=t.merge_blocks,
            out_dim=t.out_dim,
        )
        # published models keep the unmerged grid here, and cannot decode prompts after merging
        self.prompt_encoder = PromptEncoder(t.out_dim, t.decoder_grid, t.image_size_px, t.mask_channels)
        self.mask_decoder = MaskDecoder(t.out_dim, t.decoder_heads, t.decoder_mlp, t.iou_hidden, t.n_classes)

    def encode(
        self,
        image: Tensor,
        wavelengths_nm: Sequence[float],
        gsd_m: Sequence[float] = (1.0,),
        *,
        test_mode: bool = True,
        rng: random.Random | None = None,
    ) -> list[Tensor]:
        """Multi-scale maps of (B, C, S, S) float32 images of one camera; the last one feeds `decode`.

        wavelengths_nm : (C,) band centres in channel order, nm; any sequence
        gsd_m          : one ground sampling distance per image, m per pixel of the input
        test_mode      : True is deterministic; False draws cube slots at random as in training, from `rng` if given
        BandError if the wavelengths do not fit the channels or none is in the dictionary (390-2510 nm).
        """
        if len(wavelengths_nm) != image.shape[1]:
            raise BandError(f"{len(wavelengths_nm)} wavelengths for {image.shape[1]} channels; they must be equal")
        drawing = None if test_mode else rng or random.Random()
        channels = choose_channels(wavelengths_nm, drawing)
        if not channels.key_channels and not channels.cube_channels:
            raise BandError(
                "no band lies in the dictionary's range 390-2510 nm "
                f"(bands: {min(wavelengths_nm):g}-{max(wavelengths_nm):g} nm)"
            )
        gsd = torch.as_tensor(list(gsd_m), dtype=torch.float32, device=image.device)
        return self.image_encoder(image, channels, gsd)
