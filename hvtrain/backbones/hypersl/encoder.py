"""The encoder: a token per band, a wavelength code, a transformer, one vector per spectrum."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hvlabel.errors import BandError
from hvtrain.backbones.hypersl.layers import EPS, KERNELS, LastLayer, branch, through
from hvtrain.backbones.hypersl.sizes import Sizes
from hvtrain.backbones.parts.masking import Masking
from hvtrain.backbones.parts.transformer import Block

LONGEST_WAVE = 100.0  # of the code, in its units
FIRST_NM, UNIT_NM = 400.0, 10.0
CHUNK_PIXELS = 4096
CHUNK_TOKENS = 65_536  # bands of all spectra that are encoded at once: 1.0 to 1.3 GiB at width 256

Wavelengths = Tensor | Sequence[float]


class HyperSlEncoder(nn.Module):
    """Spectrum of any camera to a vector.

    chunk_pixels : most spectra that are encoded at once; fewer where a camera has so many bands that they come to more
                   than CHUNK_TOKENS. Memory is bounded by both, not by the size of an image
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        width = sizes.width
        self.topology, self.chunk_pixels = sizes, CHUNK_PIXELS
        self.recompute = False  # in training: chunks keep no activations and are computed again in the backward pass
        self.global_token = nn.Parameter(torch.zeros(1, 1, width))
        # published files hold both: the code's factors, and a table of zeros that nothing reads
        even = torch.arange(0, width, 2, dtype=torch.float32)
        factors = torch.exp(even * (-math.log(LONGEST_WAVE) / width))  # (D / 2,)
        self.div_term = nn.Parameter(factors, requires_grad=False)
        table = torch.zeros(1, sizes.table_bands, width)
        self.pe = nn.Parameter(table, requires_grad=False)
        self.embedding_layer_1, self.embedding_layer_2, self.embedding_layer_3 = (
            branch(1, width, kernel) for kernel in KERNELS
        )
        self.embedding_layer_4 = branch(len(KERNELS) * width, width, 1)
        blocks = [Block(width, sizes.heads, eps=EPS) for _ in range(sizes.depth - 1)]
        self.encoder_blocks = nn.ModuleList(blocks)
        self.transformer_encoder_layer = LastLayer(width, sizes.heads)

    def branches(self, spectra: Tensor, *, frozen: bool = False) -> list[Tensor]:
        """(N, D, L) of each width of kernel, of spectra (N, L)."""
        layers = (self.embedding_layer_1, self.embedding_layer_2, self.embedding_layer_3)
        one_channel = spectra[:, None]  # (N, 1, L)
        return [through(layer, one_channel, frozen=frozen) for layer in layers]

    def tokens(self, spectra: Tensor, *, frozen: bool = False) -> Tensor:
        """(N, L, D) of spectra (N, L), without positions.

        The kernels count bands and know no wavelengths: bands must rise. frozen: batch norms keep to their statistics
        """
        joined = torch.cat(self.branches(spectra, frozen=frozen), dim=1)  # (N, 3 D, L)
        mixed = through(self.embedding_layer_4, joined, frozen=frozen)
        return mixed.transpose(1, 2)

    def positions(self, wavelengths_nm: Wavelengths) -> Tensor:
        """(..., L, D) code of band centres (..., L), nm: sines in even places, cosines in odd ones."""
        centres_nm = torch.as_tensor(wavelengths_nm, dtype=torch.float32, device=self.div_term.device)
        places = (centres_nm - FIRST_NM) / UNIT_NM
        angle = places[..., None] * self.div_term  # (..., L, D / 2)
        in_turn = torch.stack([angle.sin(), angle.cos()], dim=-1)  # (..., L, D / 2, 2)
        return in_turn.flatten(-2)

    def features(self, x: Tensor, wavelengths_nm: Wavelengths) -> Tensor:
        """(N, 1, D): a vector for each spectrum, of all its bands.

        x              : (N, L) or (N, 1, L) spectra, or (B, H, W, L) images, read row by row; in [0, 1]
        wavelengths_nm : (L,), or (1, L), or (B, L) where the samples have bands of their own
        Chunk by chunk, but for training mode, in which batch norms see the whole call.
        """
        spectra, codes = flat(x), self.codes(x, wavelengths_nm)
        n_at_once = len(spectra) if self.training else self._at_once(spectra)
        per_sample = len(spectra) // len(codes)
        parts = []
        for chunk in torch.arange(len(spectra), device=x.device).split(n_at_once):
            tokens = self.tokens(spectra[chunk]) + codes[chunk // per_sample]
            z, _, _ = self.encoded(tokens)
            parts.append(z)
        return torch.cat(parts)

    def maps(self, cube: Tensor, wavelengths_nm: Wavelengths, *, pixel_stride: int = 1) -> Tensor:
        """(B, D, h, w) of (B, C, H, W): of each pixel, or of every pixel_stride-th row and column.

        wavelengths_nm : (C,) in any order; the bands are sorted
        Chunk by chunk, with batch norms that keep to their statistics: in training too a pixel's vector depends on no
        other pixel.
        """
        thinned = cube[:, :, ::pixel_stride, ::pixel_stride]
        picked = thinned.permute(0, 2, 3, 1)  # (B, h, w, C)
        # rising, as the kernels along the bands count on
        centres_nm, order = torch.as_tensor(wavelengths_nm, dtype=torch.float64).sort()
        rising = picked[..., order.to(cube.device)]
        spectra = rising.flatten(0, 2)  # (B * h * w, C)
        positions = self.positions(centres_nm)
        parts = []
        # one code for all pixels: a table of it per pixel would be as large as the activations
        for chunk in spectra.split(self._at_once(spectra)):
            if self.recompute and self.training:
                vectors = checkpoint(self._vectors, chunk, positions, use_reentrant=False)
            else:
                vectors = self._vectors(chunk, positions)
            parts.append(vectors)
        maps = torch.cat(parts).unflatten(0, picked.shape[:3])  # (B, h, w, D)
        return maps.permute(0, 3, 1, 2)

    def _at_once(self, spectra: Tensor) -> int:
        """How many of spectra (N, L) make a chunk."""
        fitting = CHUNK_TOKENS // spectra.shape[1]
        return max(1, min(self.chunk_pixels, fitting))

    def _vectors(self, spectra: Tensor, positions: Tensor) -> Tensor:
        """(N, D) of spectra (N, L) and codes (L, D)."""
        tokens = self.tokens(spectra, frozen=True)
        z, _, _ = self.encoded(tokens + positions)
        return z[:, 0]

    def encoded(self, tokens: Tensor, choice: Masking | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """A vector (N, 1, D) of tokens with positions (N, L, D), and keys and values (N, heads, K, c) of its bands.

        choice : the bands that are kept; none: all
        """
        kept = tokens if choice is None else choice.kept(tokens)
        global_token = self.global_token.expand(len(kept), -1, -1)
        x = torch.cat([global_token, kept], dim=1)
        for block in self.encoder_blocks:
            x = block(x)
        y, k, v = self.transformer_encoder_layer(x)
        of_bands = y[:, 1:].mean(dim=1, keepdim=True)
        z = y[:, :1] + of_bands  # the global token, and the mean of the bands
        return z, k[:, :, 1:], v[:, :, 1:]  # the decoder reads bands only

    def codes(self, x: Tensor, wavelengths_nm: Wavelengths) -> Tensor:
        """(1 or B, L, D) codes of the bands of x; BandError if they are not as many as its bands."""
        positions = self.positions(wavelengths_nm)
        positions = positions[None] if positions.ndim == 2 else positions
        if positions.shape[1] != x.shape[-1]:
            raise BandError(f"{positions.shape[1]} wavelengths for {x.shape[-1]} bands; they must be equal")
        if len(positions) not in (1, len(x)):
            raise BandError(f"{len(positions)} lists of wavelengths for {len(x)} samples; give one, or one for each")
        return positions


def flat(x: Tensor) -> Tensor:
    """(N, L) spectra of (N, L), (N, 1, L) or (B, H, W, L)."""
    return x.reshape(-1, x.shape[-1])
