"""SAM's mask decoder as a head that is asked nothing: the salient object of the whole picture."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvlabel.models.blocks import LayerNorm2d
from hvlabel.models.decoder import MaskDecoder, PromptEncoder
from hvtrain.heads.views import View, at_image_size

# SAM's sizes, so that its weights fit
WIDTH, HEADS = 256, 8
MLP, IOU_HIDDEN = 2048, 256
MASK_CHANNELS = 16
PARTS = ("prompt_encoder.", "mask_decoder.")  # starts of names in a SAM's state dict
FINER = 4  # cells of the decoder's output per cell of the map, along a side
L1_WEIGHT = 0.5
DICE_ROOM = 1e-5  # added to both sides of the dice: an image without an object has no error for an empty answer


class SaliencyHead(nn.Module):
    """A neck to SAM's width where the map has another one, and SAM's decoder without a prompt.

    What learns: the neck, the decoder, and the token that stands for "no mask given". The position code stays.

    width : channels of the backbone's last map
    grid  : cells along a side of that map for a square picture, which the position code counts by
    """

    def __init__(self, width: int, grid: int) -> None:
        super().__init__()
        self.width, self.grid = width, grid
        # SAM's own neck ends in such a norm: the decoder knows no other scale
        self.neck: nn.Module = nn.Identity()
        if width != WIDTH:
            to_width = nn.Conv2d(width, WIDTH, 1)
            self.neck = nn.Sequential(to_width, LayerNorm2d(WIDTH))
        self.prompt_encoder = PromptEncoder(WIDTH, grid, grid, MASK_CHANNELS)  # it sees no position in px
        self.mask_decoder = MaskDecoder(WIDTH, HEADS, MLP, IOU_HIDDEN)
        self.prompt_encoder.requires_grad_(False)
        self.prompt_encoder.no_mask_embed.requires_grad_(True)
        self.mask_decoder.iou_prediction_head.requires_grad_(False)  # nobody asks how good the mask is

    def start_from(self, state: Mapping[str, Tensor]) -> None:
        """Take the decoder and the position code of a SAM's state dict; the neck stays as it is."""
        own = self.state_dict()
        taken = {}
        for name, tensor in state.items():
            if name.startswith(PARTS) and name in own:
                taken[name] = tensor.float()
        self.load_state_dict(own | taken)

    def forward(self, view: View) -> Tensor:
        """Logits (B, 1, 4h, 4w) over all that the cells of the last map (B, D, h, w) cover."""
        last = self.neck(view.maps[-1])  # (B, 256, h, w)
        n, _, rows, columns = last.shape
        no_prompt = last.new_zeros(n, 0, WIDTH)
        token = self.prompt_encoder.no_mask_embed.weight[:, :, None, None]  # (1, 256, 1, 1)
        no_mask = token.expand(n, -1, rows, columns)
        whole = self.prompt_encoder.dense_code()  # (1, 256, g, g)
        code = whole[:, :, :rows, :columns]  # a picture that is no square fills the grid along one side only
        logits, _ = self.mask_decoder(last, code, no_prompt, no_mask, multimask=False)
        return logits


def saliency(logits: Tensor, view: View) -> Tensor:
    """(B, H, W) probabilities in [0, 1] of a head's logits, at the size of the images."""
    return at_image_size(logits, view)[:, 0].sigmoid()


def saliency_losses(logits: Tensor, view: View, truth: Tensor) -> dict[str, Tensor]:
    """Cross entropy, dice and half the mean absolute error, and their sum as `loss`; scalars.

    logits : (B, 1, 4h, 4w), what the head gives
    truth  : (B, H, W) float32 in [0, 1], averaged over the logits' cells rather than sampled
    """
    size = (logits.shape[2], logits.shape[3])
    target, weight = on_cells(truth, view, size)  # (B, 4h, 4w) and (4h, 4w)
    logits = logits[:, 0]
    p = logits.sigmoid()
    total = len(truth) * weight.sum()  # cells of the batch: a loss must not grow with it
    per_cell = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    bce = (per_cell * weight).sum() / total
    both = (p * target * weight).sum(dim=(1, 2))  # (B,)
    either = ((p + target) * weight).sum(dim=(1, 2))
    alike = (2 * both + DICE_ROOM) / (either + DICE_ROOM)
    dice = (1 - alike).mean()
    error = (p - target).abs()
    l1 = (error * weight).sum() / total
    loss = bce + dice + L1_WEIGHT * l1
    return {"loss": loss, "bce": bce, "dice": dice, "l1": l1}


def on_cells(truth: Tensor, view: View, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Mean truth (B, h, w) of the image's pixels in each cell, and the share of the cell (h, w) that they fill.

    truth : (B, H, W)
    size  : cells over all that the maps cover, of which the last may reach beyond the image
    """
    height, width = view.size_px
    covered_height, covered_width = view.covered_px
    missing = (0, covered_width - width, 0, covered_height - height)
    of_image = torch.ones_like(truth[:1])[None]  # (1, 1, H, W)
    inside = F.interpolate(F.pad(of_image, missing), size=size, mode="area")[0, 0]
    enlarged = F.pad(truth, missing)[:, None]  # (B, 1, H', W')
    # zeros beyond the image count here as well; dividing by the share takes them out
    of_cell = F.interpolate(enlarged, size=size, mode="area")[:, 0]
    mean = of_cell / inside.clamp(min=1e-6)
    return mean.clamp(0, 1), inside
