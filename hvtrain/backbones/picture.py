"""A network for photographs as a frozen backbone: what a cube's spectra add is measured against it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor

from hvlabel.config import SamModel
from hvlabel.errors import BandError
from hvlabel.models.sam import Sam, sam_of
from hvlabel.models.sam.network import STRIDE_PX
from hvlabel.models.sam.tiny_vit import OUT_DIM
from hvtrain.backbones.contract import Backbone
from hvtrain.data.feature_maps import FeatureMaps
from hvtrain.data.inputs import PICTURE_NM, InputRange


class SamPicture(Backbone):
    """SAM's image encoder. It is no row of the table, since nothing here trains it: it keeps the weights it came with.

    Its one map is the embedding that SAM decodes prompts on, 256 channels at stride 16.
    """

    name: ClassVar[str] = "sam"
    input_range: ClassVar[InputRange] = "photograph"

    def __init__(self, network: Sam) -> None:
        super().__init__()
        self.network = network.image_encoder
        self.dim, self.stride_px = OUT_DIM, STRIDE_PX
        self.side_px = network.input_px

    def encode(
        self,
        cube: Tensor,
        wavelengths_nm: Sequence[float],
        gsd_m: Sequence[float],
        *,
        rng: random.Random | None = None,
    ) -> FeatureMaps:
        """One map (B, 256, S/16, S/16) of normalised pictures (B, 3, S, S)."""
        self.require_bands(wavelengths_nm)
        return FeatureMaps.of([self.network(cube)], self.side_px)

    def require_bands(self, wavelengths_nm: Sequence[float]) -> None:
        """BandError for anything but a picture: three bands of physical values would be no grey levels."""
        if tuple(wavelengths_nm) != PICTURE_NM:
            raise BandError(
                f"backbone sam sees pictures, not a cube of {len(wavelengths_nm)} bands; choose input features-rgb"
            )

    def sizes(self) -> dict[str, Any]:
        """None: no run exports it."""
        return {}


def sam_picture(model: SamModel) -> SamPicture:
    """SAM's image encoder in evaluation mode; WeightsError where its file is missing or does not fit."""
    return SamPicture(sam_of(model)).eval()
