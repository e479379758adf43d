"""SAM: an image encoder, the prompt encoder and the mask decoder."""

from __future__ import annotations

from torch import Tensor, nn

from hvlabel.models.hyperfree.decoder import MaskDecoder, PromptEncoder
from hvlabel.models.sam.tiny_vit import OUT_DIM

STRIDE_PX = 16  # of the embedding, px of the input, in all published SAMs
MASK_CHANNELS, DECODER_HEADS, DECODER_MLP, IOU_HIDDEN = 16, 8, 2048, 256


class Sam(nn.Module):
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

    def decode(
        self,
        features: Tensor,
        *,
        points_xy: Tensor | None = None,
        labels: Tensor | None = None,
        boxes_xyxy: Tensor | None = None,
        masks: Tensor | None = None,
        multimask: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """Logits (N, M, S/4, S/4) and predicted IoU (N, M) of N prompts on one embedding; M is 3 with multimask, else 1.

        The prompts are those of PromptEncoder, px of the padded input.
        """
        sparse, dense = self.prompt_encoder(points_xy, labels, boxes_xyxy, masks)
        return self.mask_decoder(features, self.prompt_encoder.dense_code(), sparse, dense, multimask=multimask)
