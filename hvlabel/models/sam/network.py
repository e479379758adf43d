"""SAM: an image encoder, the prompt encoder and the mask decoder."""

from __future__ import annotations

from torch import Tensor, nn

from hvlabel.models.decoder import MaskDecoder, PromptedNetwork, PromptEncoder
from hvlabel.models.sam.tiny_vit import OUT_DIM

STRIDE_PX = 16  # of the embedding, px of the input, in all published SAMs
MASK_CHANNELS, DECODER_HEADS, DECODER_MLP, IOU_HIDDEN = 16, 8, 2048, 256


class Sam(PromptedNetwork):
    """A promptable network; it keeps no state between calls.

    input_px : side of the padded input, px; a multiple of 16
    """

    def __init__(self, image_encoder: nn.Module, input_px: int) -> None:
        super().__init__()
        self.input_px = input_px
        self.image_encoder = image_encoder
        self.prompt_encoder = PromptEncoder(OUT_DIM, input_px // STRIDE_PX, input_px, MASK_CHANNELS)
        self.mask_decoder = MaskDecoder(OUT_DIM, DECODER_HEADS, DECODER_MLP, IOU_HIDDEN)

    def encode(self, pixels: Tensor) -> Tensor:
        """(B, 256, S/16, S/16) embedding of (B, 3, S, S) float32 normalised pictures."""
        return self.image_encoder(pixels)
