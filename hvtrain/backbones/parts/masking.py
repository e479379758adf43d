"""Which tokens a masked autoencoder sees, and what it says about the others."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hvlabel.errors import BandError, ConfigError


@dataclass(frozen=True)
class Masking:
    """A choice of tokens of a batch.

    order   : (B, N) int64, the tokens with the K kept ones first
    n_kept  : K
    removed : (B, N) float32, 1 where a token is removed
    """

    order: Tensor
    n_kept: int

    @property
    def removed(self) -> Tensor:
        """As the class says."""
        ranks = self.order.argsort(dim=1)  # (B, N): the place of each token in the order
        return (ranks >= self.n_kept).float()

    def kept(self, tokens: Tensor) -> Tensor:
        """(B, K, D) of (B, N, D), in the order of the choice."""
        chosen = self.order[:, : self.n_kept, None]  # (B, K, 1)
        of_channels = chosen.expand(-1, -1, tokens.shape[-1])
        return tokens.gather(1, of_channels)

    def restored(self, kept: Tensor, mask_token: Tensor) -> Tensor:
        """(B, N, D): the kept tokens (B, K, D) at their places, the mask token (1, 1, D) at all others."""
        batch, n_tokens = self.order.shape
        filling = mask_token.expand(batch, n_tokens - self.n_kept, -1)
        shuffled = torch.cat([kept, filling], dim=1)  # (B, N, D), the kept ones first, as in `order`
        ranks = self.order.argsort(dim=1)[..., None]  # the inverse of a permutation is its argsort
        return shuffled.gather(1, ranks.expand_as(shuffled))


def masking(
    n_tokens: int,
    batch: int,
    *,
    mask_ratio: float,
    noise: Tensor | None = None,
    mask: Tensor | None = None,
    device: torch.device | None = None,
    what: str = "tokens",
) -> Masking:
    """Of each sample the tokens of least noise, or those that a mask leaves.

    mask_ratio : share of tokens that are removed; n_tokens * (1 - mask_ratio) are kept, rounded down as published
    noise      : (B, N) float; none: drawn from torch's generator
    mask       : (B, N), 1 where a token is removed, equally many in every sample; instead of noise and ratio
    device     : where noise is drawn
    what       : the tokens' name in errors
    BandError if none would be kept; ConfigError for a mask of another shape or with unequal counts.
    """
    if mask is not None:
        return _given(mask, (batch, n_tokens))
    n_kept = int(n_tokens * (1 - mask_ratio))
    if n_kept == 0:
        # in hundredths, rounded down: the product may miss a whole number by a rounding
        most = int(100 * (n_tokens - 1) / n_tokens - 1e-9) / 100
        raise BandError(
            f"a mask ratio of {mask_ratio:g} keeps none of {n_tokens} {what}, and a network that sees nothing learns "
            f"nothing; choose a ratio of at most {most:g}"
        )
    if noise is None:
        noise = torch.rand(batch, n_tokens, device=device)
    if noise.shape != (batch, n_tokens):
        raise ConfigError(f"noise of shape {tuple(noise.shape)}; expected {(batch, n_tokens)}: one value per token")
    # kept tokens stay in the order of their noise: attention does not mind, and published orders are this one
    return Masking(noise.argsort(dim=1, stable=True), n_kept)


def _given(mask: Tensor, shape: tuple[int, int]) -> Masking:
    """The choice that a mask is."""
    if mask.shape != shape:
        raise ConfigError(f"a mask of shape {tuple(mask.shape)}; expected {shape}: one value per token")
    removed = mask != 0
    counts = (~removed).sum(dim=1)
    n_kept = int(counts[0])
    if n_kept == 0 or (counts != n_kept).any():
        raise ConfigError(
            f"a mask keeps {counts.tolist()} tokens of its samples; every sample must keep equally many, at least one"
        )
    # 0 before 1; stable: kept tokens stay in their order
    order = removed.to(torch.uint8).argsort(dim=1, stable=True)
    return Masking(order, n_kept)


@dataclass(frozen=True)
class Reconstruction:
    """What a masked autoencoder says about a batch.

    prediction : as its network says
    loss       : scalar
    terms      : scalars that the loss is made of, by their names
    removed    : (B, N) float32, 1 where a token was removed
    """

    prediction: Tensor
    loss: Tensor
    terms: dict[str, Tensor]
    removed: Tensor


def normalised(target: Tensor) -> Tensor:
    """Tokens (B, N, P) with their own mean and (unbiased) variance taken out, as MAE's norm_pix does."""
    mean = target.mean(dim=-1, keepdim=True)
    variance = target.var(dim=-1, keepdim=True)
    deviation = (variance + 1e-6).sqrt()  # also of a token of one value
    return (target - mean) / deviation


def masked_mean(per_token: Tensor, removed: Tensor) -> Tensor:
    """Mean of (B, N) over the removed tokens of the batch."""
    return (per_token * removed).sum() / removed.sum()
