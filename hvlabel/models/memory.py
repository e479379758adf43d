"""SAM2's memory, for many objects at once: what its tracking step computes on a frame without a prompt.

The same function of the same weights as SAM2Base.track_step of the sam2 package, arranged for a batch of objects on one frame:

- A frame's own part is computed once for the batch: the first self-attention, the queries made from it, the frame's
  projection in the memory encoder.
- A small network's frames are kept as the keys and values that later frames read, so each is projected and rotated once.
  The code of its age is added when it is read: a projection of a sum is the sum of projections. A large network's would
  take many times the memory of its features and save little; they are projected anew.
- Of the three masks of an object only the best is made.
- Channels of queries and keys are ordered so that the pairs which a rotation mixes lie in two halves.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hvlabel.errors import WeightsError
from hvlabel.models.two_way import ImageSide, best_mask, by_cell, own_tokens

MIN_CHANNELS_OF_KERNEL = 32  # below, torch's layer norm, which takes row after row of channels, is slow
MAX_KEPT_BYTES = 4 << 20  # of keys and values per object and frame, beyond which only features are kept
NO_OBJECT_LOGIT = -1024.0  # of a mask whose object is not on the frame
PUBLISHED = {
    "memory_temporal_stride_for_eval": 1,
    "non_overlap_masks_for_mem_enc": False,
    "use_obj_ptrs_in_encoder": True,
    "multimask_output_in_sam": True,
    "multimask_output_for_tracking": True,
    "multimask_min_pt_num": 0,
    "soft_no_obj_ptr": False,
}


@dataclass(frozen=True)
class FrameSide:
    """What the objects of a frame share.

    tokens : (1, N, C) after the first self-attention; N = product of the grid
    query  : (1, heads, N, d) of the first look at the memory
    pixels : (1, C, h, w) of the memory encoder
    finer  : finer features of the decoder, in the order of its cells
    """

    tokens: Tensor
    query: Tensor
    pixels: Tensor
    finer: tuple[Tensor, ...]


@dataclass(frozen=True)
class Remembered:
    """A frame as B objects remember it.

    features  : (B, N, mem) bfloat16, as the package keeps them
    pointer   : (B, C) float32
    projected : per layer keys and values (B, heads, N, d), without the code of its age; none for large networks
    """

    features: Tensor
    pointer: Tensor
    projected: list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Found:
    """Objects on a frame: logits (B, S/4, S/4) and pointer (B, C) in float32, present (B, 1) bool."""

    logits: Tensor
    pointer: Tensor
    present: Tensor


class Attention:
    """Weights of one of the package's rotary attentions, for (B, N, C) tokens."""

    def __init__(self, module: Any, grid_hw: tuple[int, int], dtype: torch.dtype) -> None:
        self.heads = int(module.num_heads)
        self.to_q, self.to_k = (self._in_halves(m, dtype) for m in (module.q_proj, module.k_proj))
        self.to_v, self.to_out = ((m.weight.to(dtype), m.bias.to(dtype)) for m in (module.v_proj, module.out_proj))
        turns = module.compute_cis(end_x=grid_hw[1], end_y=grid_hw[0]).to(module.q_proj.weight.device)  # (N, d/2)
        self.cos, self.sin = turns.real.to(dtype), turns.imag.to(dtype)

    def _in_halves(self, linear: nn.Linear, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Weight and bias with even channels of each head before odd ones."""
        weight, bias = (
            x.unflatten(0, (self.heads, -1, 2)).transpose(1, 2).flatten(0, 2) for x in (linear.weight, linear.bias)
        )
        return weight.to(dtype).contiguous(), bias.to(dtype)

    def split(self, x: Tensor) -> Tensor:
        """(B, N, heads * d) -> (B, heads, N, d)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def turned(self, x: Tensor) -> Tensor:
        """(B, heads, N, d) rotated by the place of each token."""
        a, b = x.chunk(2, dim=-1)
        turned = torch.empty_like(x)
        first, second = turned.chunk(2, dim=-1)
        torch.mul(a, self.cos, out=first).addcmul_(b, self.sin, value=-1)
        torch.mul(a, self.sin, out=second).addcmul_(b, self.cos)
        return turned

    def query(self, x: Tensor) -> Tensor:
        """(B, heads, N, d)."""
        return self.turned(self.split(F.linear(x, *self.to_q)))

    def seen(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(B, N, C) that the queries find."""
        found = F.scaled_dot_product_attention(query, key, value)
        return F.linear(found.transpose(1, 2).flatten(2), *self.to_out)


class MemoryNetwork:
    """The parts of a SAM2 that carry masks from frame to frame. WeightsError for settings that no published config has.

    decoder : the network's, in the precision that is wanted
    half    : compute in bfloat16, the predicted IoU and presence excepted; what comes out is cast to float32
    """

    def __init__(self, network: Any, decoder: Any, *, half: bool = False) -> None:
        layers = network.memory_attention.layers
        odd = _unpublished(network)
        if odd:
            raise WeightsError(
                f"masks cannot be carried with this SAM2 config: {', '.join(odd)} as in no published one; use a published config"
            )
        self.network, self.decoder = network, decoder
        self.dtype = dtype = torch.bfloat16 if half else torch.float32
        self.attention, self.encoder = (
            copy.deepcopy(m).to(dtype) if half else m for m in (network.memory_attention, network.memory_encoder)
        )
        side, width = network.sam_image_embedding_size, network.mem_dim
        self.grid_hw = (side, side)
        exact = [Attention(layer.cross_attn_image, self.grid_hw, torch.float32) for layer in layers]
        self.own = [Attention(layer.self_attn, self.grid_hw, dtype) for layer in layers]
        self.cross = [Attention(layer.cross_attn_image, self.grid_hw, dtype) for layer in layers] if half else exact
        device = network.no_mem_embed.device
        here = torch.zeros(1, width, side, side, device=device)
        place = network.memory_encoder.position_encoding(here)[0].flatten(1).T
        ages = network.maskmem_tpos_enc.view(-1, 1, width).expand(-1, side * side, -1)
        # per layer: what a key owes to its place, (1, heads, N, d), and to its age, (ages, heads, N, d)
        self.place = [a.turned(a.split(F.linear(place[None], *a.to_k))).to(dtype) for a in exact]
        self.age = [a.turned(a.split(F.linear(ages, a.to_k[0]))).to(dtype) for a in exact]
        kept_bytes = 2 * sum(p.numel() * p.element_size() for p in self.place)
        self.keeps_projections = kept_bytes <= MAX_KEPT_BYTES
        empty = torch.zeros(1, 1, 2, device=device), -torch.ones(1, 1, dtype=torch.int32, device=device)
        self.no_prompt, dense = network.sam_prompt_encoder(points=empty, boxes=None, masks=None)
        self.no_mask = dense.flatten(2).transpose(1, 2).to(dtype)  # (1, N, C)
        self.code = network.sam_prompt_encoder.get_dense_pe()[0].flatten(1).T.to(dtype)  # (N, C)

    def frame_side(self, features: Sequence[Tensor], code: Tensor) -> FrameSide:
        """Of an image's features, per level (1, D, h, w), finest first, and the position code of the coarsest."""
        image = features[-1]
        tokens = image.flatten(2).transpose(1, 2)
        if self.attention.pos_enc_at_input:
            tokens = tokens + 0.1 * code.flatten(2).transpose(1, 2)
        tokens = self._with_itself(0, tokens.to(self.dtype))
        pixels = self.encoder.pix_feat_proj(image.to(self.dtype)).contiguous(memory_format=torch.channels_last)
        finer = tuple(by_cell(f[0], self.grid_hw).to(self.dtype) for f in reversed(features[:-1]))
        return FrameSide(tokens, self.cross[0].query(self.attention.layers[0].norm2(tokens)), pixels, finer)

    def find(
        self,
        frame: FrameSide,
        frames: Sequence[tuple[int, Remembered]],
        pointers: Sequence[tuple[int, Tensor]],
        farthest: int,
        room: Tensor,
    ) -> Found:
        """The objects on a frame.

        frames   : (age, frame), 0 the youngest; the one that was prompted has the greatest age
        pointers : (distance in frames, (B, C)); distances are told in shares of `farthest`
        room     : of these objects and at least these frames; overwritten
        """
        tokens = self._with_memory(frame, frames, self._pointer_keys(pointers, farthest), room)
        logits, token, present = self._decoded(tokens, frame)
        network = self.network
        pointer = network.obj_ptr_proj(token.float())
        if network.pred_obj_scores:
            there = present.float()
            pointer = (there * pointer if network.fixed_no_obj_ptr else pointer) + (1 - there) * network.no_obj_ptr
        return Found(torch.where(present[..., None], logits.float(), NO_OBJECT_LOGIT), pointer, present)

    def remember(self, frame: FrameSide, found: Found) -> Remembered:
        """A frame with its masks, as later frames read it."""
        network, side = self.network, self.network.image_size
        mask = F.interpolate(found.logits[:, None], (side, side), mode="bilinear", align_corners=False).sigmoid_()
        mask = mask.mul_(network.sigmoid_scale_for_mem_enc).add_(network.sigmoid_bias_for_mem_enc).to(self.dtype)
        x = frame.pixels + self._downsampled(mask)
        for layer in self.encoder.fuser.layers:
            inner = layer.pwconv1(_channels_normed(layer.norm, layer.dwconv(x)).permute(0, 2, 3, 1))
            inner = layer.pwconv2(layer.act(inner))
            x = x + (inner if layer.gamma is None else inner.mul_(layer.gamma)).permute(0, 3, 1, 2)
        features = self.encoder.out_proj(x)
        if network.no_obj_embed_spatial is not None:
            absent = (~found.present)[..., None, None].to(self.dtype)
            features = features + absent * network.no_obj_embed_spatial[..., None, None].to(self.dtype)
        return self.as_memory(features, found.pointer)

    def as_memory(self, features: Tensor, pointer: Tensor) -> Remembered:
        """Memory features (B, mem, h, w), which the package keeps in bfloat16, and pointer (B, C)."""
        tokens = features.to(torch.bfloat16).flatten(2).transpose(1, 2).contiguous()
        layers = range(len(self.cross)) if self.keeps_projections else ()
        return Remembered(tokens, pointer, [self._projected(index, tokens) for index in layers])

    def _projected(self, index: int, features: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of a layer for features (B, N, mem)."""
        cross, features = self.cross[index], features.to(self.dtype)
        keys = cross.turned(cross.split(F.linear(features, cross.to_k[0]))).add_(self.place[index])
        return keys, cross.split(F.linear(features, *cross.to_v))

    def _downsampled(self, mask: Tensor) -> Tensor:
        """Masks (B, 1, S, S) -> (B, C, h, w), channels last in memory."""
        for layer in self.encoder.mask_downsampler.encoder:
            if isinstance(layer, nn.Conv2d):
                wide = layer.out_channels >= MIN_CHANNELS_OF_KERNEL
                mask = layer(mask.contiguous(memory_format=torch.channels_last if wide else torch.contiguous_format))
            else:
                mask = _channels_normed(layer, mask) if hasattr(layer, "eps") else layer(mask)
        return mask

    def _with_itself(self, index: int, tokens: Tensor) -> Tensor:
        attention, normed = self.own[index], self.attention.layers[index].norm1(tokens)
        key = attention.turned(attention.split(F.linear(normed, *attention.to_k)))
        value = attention.split(F.linear(normed, *attention.to_v))
        return tokens + attention.seen(attention.query(normed), key, value)

    def _with_memory(
        self,
        frame: FrameSide,
        frames: Sequence[tuple[int, Remembered]],
        pointers: list[tuple[Tensor, Tensor]],
        room: Tensor,
    ) -> Tensor:
        """(B, N, C) tokens of the frame that have seen each object's memory."""
        tokens = frame.tokens
        n_objects = len(frames[0][1].pointer)
        key, value = room[..., : len(frames) * tokens.shape[1] + pointers[0][0].shape[2], :]
        for index, layer in enumerate(self.attention.layers):
            cross, ages = self.cross[index], self.age[index]
            if index:
                tokens = self._with_itself(index, tokens)
                query = cross.query(layer.norm2(tokens))
            else:
                query = frame.query.expand(n_objects, -1, -1, -1)
            start = 0
            for age, seen in frames:
                k, v = seen.projected[index] if seen.projected else self._projected(index, seen.features)
                here = slice(start, start := start + k.shape[2])
                torch.add(k, ages[age], out=key[:, :, here])
                value[:, :, here] = v
            key[:, :, start:], value[:, :, start:] = pointers[index]
            tokens = tokens + cross.seen(query, key, value)
            tokens = tokens + layer.linear2(layer.activation(layer.linear1(layer.norm3(tokens))))
        return self.attention.norm(tokens)

    def room(self, n_objects: int, n_frames: int) -> Tensor:
        """(2, B, heads, tokens, d), to be filled with keys and values of that many remembered frames and all pointers.

        One allocation for all steps of a track: growing ones would break up the memory.
        """
        _, heads, n_tokens, width = self.place[0].shape
        of_pointers = self.network.max_obj_ptrs_in_encoder * self.network.hidden_dim // self.network.mem_dim
        shape = (2, n_objects, heads, n_frames * n_tokens + of_pointers, width)
        return torch.empty(shape, dtype=self.dtype, device=self.no_mask.device)

    def _pointer_keys(self, pointers: Sequence[tuple[int, Tensor]], farthest: int) -> list[tuple[Tensor, Tensor]]:
        """Per layer keys and values (B, heads, tokens, d); a pointer is cut into tokens as wide as the memory."""
        network = self.network
        stacked = torch.stack([p for _, p in pointers], dim=1)  # (B, P, C)
        tokens = stacked.unflatten(2, (-1, network.mem_dim)).flatten(1, 2)
        per_pointer = stacked.shape[2] // network.mem_dim
        coded = tokens
        if network.add_tpos_enc_to_obj_ptrs:
            width = stacked.shape[2] if network.proj_tpos_enc_in_obj_ptrs else network.mem_dim
            share = torch.tensor([distance for distance, _ in pointers], device=stacked.device) / farthest
            code = network.obj_ptr_tpos_proj(_waves(share, width))
            coded = tokens + code.repeat_interleave(per_pointer, dim=0)
        coded, tokens = coded.to(self.dtype), tokens.to(self.dtype)
        return [(a.split(F.linear(coded, *a.to_k)), a.split(F.linear(tokens, *a.to_v))) for a in self.cross]

    def _decoded(self, tokens: Tensor, frame: FrameSide) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of each object's best mask, the token of its pointer, and whether it is on the frame."""
        side = ImageSide(tokens + self.no_mask, self.code, self.grid_hw, frame.finer)
        decoder, (_, first_mask) = self.decoder, own_tokens(self.decoder)
        logits, out, best = best_mask(decoder, side, self.no_prompt[0])
        token = first_mask + (best if decoder.use_multimask_token_for_obj_ptr else torch.zeros_like(best))
        present = best[:, None] > 0  # always, unless the network tells
        if decoder.pred_obj_scores:
            present = decoder.pred_obj_score_head(out[:, 0].float()) > 0
        return logits, out[torch.arange(len(out), device=out.device), token], present


def _unpublished(network: Any) -> list[str]:
    """Settings of a SAM2 that this module does not know."""
    odd = [name for name, value in PUBLISHED.items() if getattr(network, name, value) != value]
    first = network.memory_attention.layers[0]
    wanted = {"pos_enc_at_attn": False, "pos_enc_at_cross_attn_queries": False, "pos_enc_at_cross_attn_keys": True}
    odd += [f"{name} of memory_attention" for name, value in wanted.items() if getattr(first, name) != value]
    if not all(hasattr(m, "compute_cis") for m in (first.self_attn, first.cross_attn_image)):
        odd.append("attention without rotary positions")
    if not isinstance(network.memory_encoder.fuser.proj, nn.Identity):
        odd.append("input_projection of the fuser")
    if network.num_maskmem < 1:
        odd.append("num_maskmem")
    return odd


def _channels_normed(norm: Any, x: Tensor) -> Tensor:
    """The package's LayerNorm2d over the channels of (B, C, h, w)."""
    if len(norm.weight) >= MIN_CHANNELS_OF_KERNEL:
        rows = x.permute(0, 2, 3, 1)  # contiguous where channels are last in memory
        return F.layer_norm(rows, norm.weight.shape, norm.weight, norm.bias, norm.eps).permute(0, 3, 1, 2)
    centred = x - x.mean(1, keepdim=True)
    scaled = centred.mul_((centred * centred).mean(1, keepdim=True).add_(norm.eps).rsqrt_())
    return torch.addcmul(norm.bias[:, None, None], scaled, norm.weight[:, None, None])


def _waves(x: Tensor, width: int) -> Tensor:
    """(P,) -> (P, width): sines, then cosines of wavelengths that grow to 10,000, as in the first Transformer."""
    half = width // 2
    pair = torch.arange(half, device=x.device) // 2
    angle = x[:, None] / 10000 ** (2 * pair / half)
    return torch.cat([angle.sin(), angle.cos()], dim=-1)
