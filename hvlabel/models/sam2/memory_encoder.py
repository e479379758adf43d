"""A frame's masks to the features that later frames read: SAM2's memory encoder for many objects on one frame."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvlabel.models.sam2.contract import MemoryEncoderParts, Sam2Network
from hvlabel.models.two_way.contract import ChannelNorm

MIN_CHANNELS_OF_KERNEL = 32  # below, torch's layer norm, which takes row after row of channels, is slow


class MemoryEncoder:
    """A network's memory encoder. parts: the network's, in the precision that is wanted."""

    def __init__(self, network: Sam2Network, parts: MemoryEncoderParts, dtype: torch.dtype) -> None:
        self.network, self.parts, self.dtype = network, parts, dtype

    def pixels(self, image: Tensor) -> Tensor:
        """(1, C, h, w) of a frame's coarsest features, the same for all objects; channels last in memory."""
        projected = self.parts.pix_feat_proj(image.to(self.dtype))
        return projected.contiguous(memory_format=torch.channels_last)

    def features(self, pixels: Tensor, logits: Tensor, present: Tensor) -> Tensor:
        """(B, mem, h, w) of objects on a frame.

        pixels  : (1, C, h, w), as `pixels` gives them
        logits  : (B, S/4, S/4) float32
        present : (B, 1) bool, whether an object is on the frame
        """
        x = pixels + self._downsampled(self._soft_masks(logits))
        for block in self.parts.fuser.layers:
            normed = _channels_normed(block.norm, block.dwconv(x))
            channels_last = normed.permute(0, 2, 3, 1)  # (B, h, w, C), as linear layers take it
            hidden = block.act(block.pwconv1(channels_last))
            inner = block.pwconv2(hidden)
            scaled = inner if block.gamma is None else inner.mul_(block.gamma)
            x = x + scaled.permute(0, 3, 1, 2)
        features = self.parts.out_proj(x)
        no_object = self.network.no_obj_embed_spatial
        if no_object is not None:
            absent = (~present)[..., None, None].to(self.dtype)  # (B, 1, 1, 1)
            embedding = no_object[..., None, None].to(self.dtype)  # (1, mem, 1, 1)
            features = features + absent * embedding
        return features

    def _soft_masks(self, logits: Tensor) -> Tensor:
        """(B, 1, S, S) masks between bounds that the network was trained with."""
        side = self.network.image_size
        scale = self.network.sigmoid_scale_for_mem_enc
        bias = self.network.sigmoid_bias_for_mem_enc
        enlarged = F.interpolate(logits[:, None], (side, side), mode="bilinear", align_corners=False)
        # in place: at the input's size these are the largest tensors of a step
        return enlarged.sigmoid_().mul_(scale).add_(bias).to(self.dtype)

    def _downsampled(self, masks: Tensor) -> Tensor:
        """(B, 1, S, S) masks -> (B, C, h, w), channels last in memory."""
        x = masks
        for layer in self.parts.mask_downsampler.encoder:
            if isinstance(layer, nn.Conv2d):
                # norms over many channels want them last, those over few want them first
                wide = layer.out_channels >= MIN_CHANNELS_OF_KERNEL
                order = torch.channels_last if wide else torch.contiguous_format
                x = layer(x.contiguous(memory_format=order))
            elif hasattr(layer, "eps"):
                x = _channels_normed(layer, x)
            else:
                x = layer(x)
        return x


def _channels_normed(norm: ChannelNorm, x: Tensor) -> Tensor:
    """The package's LayerNorm2d over the channels of (B, C, h, w)."""
    if len(norm.weight) >= MIN_CHANNELS_OF_KERNEL:
        rows = x.permute(0, 2, 3, 1)  # contiguous where channels are last in memory
        normed = F.layer_norm(rows, norm.weight.shape, norm.weight, norm.bias, norm.eps)
        return normed.permute(0, 3, 1, 2)
    centred = x - x.mean(1, keepdim=True)
    variance = (centred * centred).mean(1, keepdim=True)
    scaled = centred.mul_(variance.add_(norm.eps).rsqrt_())
    weight = norm.weight[:, None, None]  # (C, 1, 1)
    bias = norm.bias[:, None, None]
    return torch.addcmul(bias, scaled, weight)
