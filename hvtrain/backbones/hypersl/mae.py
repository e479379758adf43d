"""The masked autoencoder: a decoder that spreads a vector over the kept bands, and its loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvtrain.backbones.hypersl.encoder import HyperSlEncoder, Wavelengths, flat
from hvtrain.backbones.hypersl.layers import EPS, Spreading, repeated
from hvtrain.backbones.hypersl.sizes import Sizes
from hvtrain.backbones.parts.masking import Masking, Reconstruction, masking
from hvtrain.backbones.parts.transformer import Block

MASK_RATIO = 0.95
LAST_KERNEL = 3  # bands


class HyperSl(HyperSlEncoder):
    """The encoder with the decoder that it was pre-trained through."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__(sizes)
        width = sizes.width
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.corss_attn = Spreading(width, sizes.heads)  # the published spelling
        self.norm1 = nn.LayerNorm(width, eps=EPS)
        blocks = [Block(width, sizes.heads, eps=EPS) for _ in range(sizes.decoder_depth - 1)]
        self.decoder_blocks = nn.ModuleList(blocks)
        self.norm2 = nn.LayerNorm(width, eps=EPS)
        last = nn.Conv1d(width, 1, LAST_KERNEL, padding=LAST_KERNEL // 2)
        self.decoder_layer = nn.Sequential(last, nn.Sigmoid())

    def reconstruct(
        self,
        x: Tensor,
        wavelengths_nm: Wavelengths,
        *,
        mask_ratio: float = MASK_RATIO,
        noise: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Reconstruction:
        """Prediction (N, 1, L) of all bands, in (0, 1), and its loss over all of them, kept and removed alike.

        x, wavelengths_nm : as in `features`
        noise, mask       : (N, L), see `masking`
        terms             : squared_error, and cosine, one less the cosine of the spectra
        In training mode batch norms learn the statistics of the call, as published.
        """
        spectra = flat(x)
        choice = _drawn(spectra, mask_ratio, noise, mask)
        positions = repeated(self.codes(x, wavelengths_nm), len(spectra))
        tokens = self.tokens(spectra) + positions  # of all bands: some are removed after the kernels
        z, k, v = self.encoded(tokens, choice)
        prediction = self.decoded(z, k, v, positions, choice)
        predicted = prediction[:, 0]  # (N, L)
        squared_error = F.mse_loss(predicted, spectra)
        similarity = F.cosine_similarity(predicted, spectra, dim=-1)
        cosine = (1 - similarity).mean()
        terms = {"squared_error": squared_error, "cosine": cosine}
        return Reconstruction(prediction, squared_error + cosine, terms, choice.removed)

    def masked_features(
        self,
        x: Tensor,
        wavelengths_nm: Wavelengths,
        *,
        mask_ratio: float = MASK_RATIO,
        noise: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """(N, 1, D) as `features`, of the kept bands alone."""
        spectra = flat(x)
        choice = _drawn(spectra, mask_ratio, noise, mask)
        positions = repeated(self.codes(x, wavelengths_nm), len(spectra))
        tokens = self.tokens(spectra) + positions
        z, _, _ = self.encoded(tokens, choice)
        return z

    def decoded(self, z: Tensor, k: Tensor, v: Tensor, positions: Tensor, choice: Masking) -> Tensor:
        """(N, 1, L) of vectors (N, 1, D), and of keys and values (N, heads, K, c) of the kept bands."""
        spread = self.norm1(self.corss_attn(z, k, v))
        x = choice.restored(spread, self.mask_token) + positions
        for block in self.decoder_blocks:
            x = block(x)
        channels_first = self.norm2(x).transpose(1, 2)  # (N, D, L), as convolutions take it
        return self.decoder_layer(channels_first)


def _drawn(spectra: Tensor, mask_ratio: float, noise: Tensor | None, mask: Tensor | None) -> Masking:
    """Which bands of spectra (N, L) are kept; noise and mask as in `masking`."""
    n_spectra, n_bands = spectra.shape
    return masking(
        n_bands, n_spectra, mask_ratio=mask_ratio, noise=noise, mask=mask, device=spectra.device, what="bands"
    )
