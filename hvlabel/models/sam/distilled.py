"""The distilled material network: a spectral encoder before SAM's frozen decoder, and prompts on a cube through it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hvlabel.errors import BandError, WeightsError
from hvlabel.models.batches import Ceilings
from hvlabel.models.decoder import PromptedNetwork
from hvlabel.models.hyperfree.spectral import CUBE_SLOTS_NM, TOLERANCE_NM
from hvlabel.models.padding import fitted, padded
from hvlabel.models.prompts import PaddedEmbedding, PaddedPredictor
from hvlabel.models.sam.conditioning import conditioned, grouped
from hvlabel.models.sam.network import STRIDE_PX, Sam
from hvlabel.models.sam.spectral import SpectralEncoder
from hvlabel.models.weights import read_state_dict

VALID_SHARE = 0.5  # of a resized pixel that must have values
DARKEST = 1e-30  # a cube of zeros is not divided by its maximum
REASON_CHARACTERS = 200  # of PyTorch's own sentence on weights that do not fit


class SpectralSam(PromptedNetwork):
    """A spectral encoder before the prompt encoder and the mask decoder of a SAM, which stay its own.

    WeightsError where the encoder's grid is not the decoder's.
    """

    def __init__(self, encoder: SpectralEncoder, sam: Sam) -> None:
        super().__init__()
        made, taken = encoder.topology.grid, sam.prompt_encoder.grid
        if made != taken:
            raise WeightsError(
                f"the distilled encoder makes {made} x {made} tokens, SAM's decoder takes {taken} x {taken}; "
                f"set sam.input_px to {made * STRIDE_PX}"
            )
        self.image_encoder = encoder
        self.prompt_encoder, self.mask_decoder = sam.prompt_encoder, sam.mask_decoder


class Inputs(NamedTuple):
    """What the encoder takes, a batch of one; see SpectralEncoder.forward."""

    spectra: Tensor
    light: Tensor
    valid: Tensor
    wavelengths_nm: Tensor


class SpectralPredictor(PaddedPredictor):
    """Embeds images of one camera and decodes prompts on them, in one pass of the encoder per image.

    wavelengths_nm : (C,) band centres in channel order; BandError if none lies in the dictionary's range
    half           : compute in bfloat16; what comes out is float32 all the same, logits of decode_above excepted
    ceilings       : of batches, kept from image to image
    """

    network: SpectralSam

    def __init__(
        self,
        network: SpectralSam,
        wavelengths_nm: Sequence[float],
        *,
        half: bool = False,
        ceilings: Ceilings | None = None,
    ) -> None:
        super().__init__(network, half=half, ceilings=ceilings)
        self.wavelengths_nm = [float(nm) for nm in wavelengths_nm]
        lowest_nm = CUBE_SLOTS_NM[0] - TOLERANCE_NM
        highest_nm = CUBE_SLOTS_NM[-1] + TOLERANCE_NM
        if not any(lowest_nm <= nm <= highest_nm for nm in self.wavelengths_nm):
            raise BandError(
                f"no band lies in the dictionary's range {lowest_nm:g}-{highest_nm:g} nm "
                f"(bands: {min(self.wavelengths_nm):g}-{max(self.wavelengths_nm):g} nm); use another backend"
            )

    @torch.inference_mode()
    def embed(self, image: np.ndarray, valid: np.ndarray | None = None) -> PaddedEmbedding:
        """PaddedEmbedding of an image; both as in `prepare`."""
        inputs, (rows, columns) = self.prepare(image, valid)
        with torch.autocast(inputs.spectra.device.type, torch.bfloat16, enabled=self.half):
            features = self.network.image_encoder(*inputs)
        # prompts are px of SAM's input, a whole multiple of the encoder's
        scale = self.side_px // self.network.image_encoder.topology.input_px
        original_hw = (image.shape[0], image.shape[1])
        resized_hw = (rows * scale, columns * scale)
        return PaddedEmbedding(features.float(), original_hw, resized_hw)

    def prepare(self, image: np.ndarray, valid: np.ndarray | None = None) -> tuple[Inputs, tuple[int, int]]:
        """The network's input and the size of the image in it.

        image : (H, W, C), any unit, finite; bands are grouped, then resized (antialiased), conditioned and padded
        valid : (H, W) bool, pixels with values; None: all
        BandError if there are not as many channels as wavelengths.
        """
        n_bands = image.shape[2]
        if n_bands != len(self.wavelengths_nm):
            raise BandError(f"{len(self.wavelengths_nm)} wavelengths for {n_bands} channels; they must be equal")
        side = self.network.image_encoder.topology.input_px
        device = next(self.network.parameters()).device

        by_band = image.transpose(2, 0, 1)  # (C, H, W)
        groups, centres_nm = grouped(by_band, self.wavelengths_nm)
        whole = torch.from_numpy(groups).to(device)[None]  # (1, G, H, W)
        known = torch.ones(1, 1, *whole.shape[2:], device=device)  # (1, 1, H, W)
        if valid is not None:
            has_value = torch.from_numpy(valid).to(device)
            known = has_value[None, None].float()
        values, size = fitted(whole * known, side)
        share, _ = fitted(known, side)
        inside = (share > VALID_SHARE).float()
        # what a pixel without values took from its neighbours' mean is given back
        values = values / share.clamp(min=VALID_SHARE) * inside
        values = values / values.abs().amax().clamp(min=DARKEST)
        spectra, light = conditioned(values, inside[0] > 0)

        wavelengths_nm = torch.tensor(centres_nm, dtype=torch.float32, device=device)[None]  # (1, G)
        valid_px = padded(inside, side)[0] > 0  # (1, S, S)
        inputs = Inputs(padded(spectra, side), padded(light, side), valid_px, wavelengths_nm)
        return inputs, size


def load_spectral(path: Path, sam: Sam) -> SpectralSam:
    """The network of a file of encoder weights, in evaluation mode, on the CPU; WeightsError where they do not fit."""
    with torch.device("meta"):
        encoder = SpectralEncoder()
    stored = read_state_dict(path)
    state = {name: tensor.float() for name, tensor in stored.items()}
    try:
        encoder.load_state_dict(state, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:REASON_CHARACTERS]
        raise WeightsError(f"{path}: no weights of the distilled encoder ({reason}); fetch the file again") from error
    return SpectralSam(encoder, sam).eval()
