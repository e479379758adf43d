"""SAM2's memory, for many objects at once: what its tracking step computes on a frame without a prompt.

The same function of the same weights as SAM2Base.track_step of the sam2 package, arranged for a batch of objects on one
frame:

- What a frame owes to itself is computed once for the batch: the first self-attention, the queries made from it, its
  projection in the memory encoder.
- Of the three masks of an object only the best is made.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hvlabel.models.sam2.contract import Sam2Network
from hvlabel.models.sam2.memory_attention import MemoryAttention, Remembered
from hvlabel.models.sam2.memory_encoder import MemoryEncoder
from hvlabel.models.sam2.pointers import n_pointer_tokens, pointer_tokens
from hvlabel.models.sam2.published import require_published
from hvlabel.models.two_way import ImageSide, best_mask, finer_cells, output_tokens

NO_OBJECT_LOGIT = -1024.0  # of a mask whose object is not on the frame


@dataclass(frozen=True)
class FrameSide:
    """What the objects of a frame share.

    tokens  : (1, N, C) after the first self-attention; N = product of the grid
    queries : (1, heads, N, d) of the first look at the memory
    pixels  : (1, C, h, w) of the memory encoder
    finer   : finer features of the decoder, in the order of its cells
    """

    tokens: Tensor
    queries: Tensor
    pixels: Tensor
    finer: tuple[Tensor, ...]


@dataclass(frozen=True)
class FrameObjects:
    """Objects on a frame: logits (B, S/4, S/4) and pointer (B, C) in float32, present (B, 1) bool."""

    logits: Tensor
    pointer: Tensor
    present: Tensor


class MemoryNetwork:
    """The parts of a SAM2 that carry masks from frame to frame. WeightsError for settings that no published config has.

    decoder : the network's, in the precision that is wanted
    half    : compute in bfloat16, the predicted IoU and presence excepted; what comes out is cast to float32
    """

    def __init__(self, network: Sam2Network, decoder: Any, *, half: bool = False) -> None:
        require_published(network)
        self.network, self.decoder = network, decoder
        self.dtype = dtype = torch.bfloat16 if half else torch.float32
        attention: Any = network.memory_attention
        encoder: Any = network.memory_encoder
        if half:
            attention = copy.deepcopy(attention).to(dtype)
            encoder = copy.deepcopy(encoder).to(dtype)
        self.attention = MemoryAttention(network, attention, dtype)
        self.encoder = MemoryEncoder(network, encoder, dtype)
        self.grid_hw = self.attention.grid_hw
        sparse, dense = _no_prompt(network)
        self.no_prompt = sparse[0]  # (P, C)
        no_mask = dense.flatten(2).transpose(1, 2)  # (1, N, C)
        self.no_mask = no_mask.to(dtype)
        code_map = network.sam_prompt_encoder.get_dense_pe()[0]  # (C, g, g)
        self.code = code_map.flatten(1).T.to(dtype)  # (N, C)

    def frame_side(self, features: Sequence[Tensor], code: Tensor) -> FrameSide:
        """Of an image's features, per level (1, D, h, w), finest first, and the position code of the coarsest."""
        image = features[-1]
        tokens = image.flatten(2).transpose(1, 2)  # (1, N, C)
        if self.attention.parts.pos_enc_at_input:
            of_tokens = code.flatten(2).transpose(1, 2)  # (1, N, C)
            tokens = tokens + 0.1 * of_tokens  # the package's factor
        tokens, queries = self.attention.within_frame(tokens.to(self.dtype))
        finer = finer_cells(features[:-1], self.grid_hw, self.dtype)
        return FrameSide(tokens, queries, self.encoder.pixels(image), finer)

    def objects_on(
        self,
        frame: FrameSide,
        frames: Sequence[tuple[int, Remembered]],
        pointers: Sequence[tuple[int, Tensor]],
        longest: int,
        buffer: Tensor,
    ) -> FrameObjects:
        """The objects on a frame.

        frames   : (age, frame), 0 the youngest; the one that was prompted has the greatest age
        pointers : (distance in frames, (B, C))
        longest  : the distance that counts as one
        buffer   : of these objects and at least these frames; overwritten
        """
        coded, plain = pointer_tokens(self.network, pointers, longest)
        as_tokens = coded.to(self.dtype), plain.to(self.dtype)
        tokens = self.attention.read(frame.tokens, frame.queries, frames, as_tokens, buffer)
        logits, pointer_token, present = self._decoded(tokens, frame)
        pointer = self._pointer(pointer_token.float(), present)
        logits = torch.where(present[..., None], logits.float(), NO_OBJECT_LOGIT)
        return FrameObjects(logits, pointer, present)

    def remember(self, frame: FrameSide, objects: FrameObjects) -> Remembered:
        """A frame with its masks, as later frames read it."""
        features = self.encoder.features(frame.pixels, objects.logits, objects.present)
        return self.attention.remembered(features, objects.pointer)

    def buffer(self, n_objects: int, n_frames: int) -> Tensor:
        """Room for what a step reads: of that many remembered frames, and of all pointers."""
        return self.attention.buffer(n_objects, n_frames, n_pointer_tokens(self.network))

    def _pointer(self, token: Tensor, present: Tensor) -> Tensor:
        """(B, C) pointers of objects from their tokens; of those that are not on the frame, the network's own."""
        network = self.network
        pointer = network.obj_ptr_proj(token)
        if not network.pred_obj_scores:
            return pointer
        is_there = present.float()
        if network.fixed_no_obj_ptr:
            pointer = is_there * pointer
        return pointer + (1 - is_there) * network.no_obj_ptr

    def _decoded(self, tokens: Tensor, frame: FrameSide) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of each object's best mask, the token of its pointer, and whether it is on the frame."""
        image = tokens + self.no_mask  # (B, N, C), one image per object
        side = ImageSide(image, self.code, self.grid_hw, frame.finer)
        decoder = self.decoder
        logits, outputs, best = best_mask(decoder, side, self.no_prompt)
        # with its multimask tokens a network points by that of the best mask, else by that of the single one
        mask = best if decoder.use_multimask_token_for_obj_ptr else torch.zeros_like(best)
        _, first_mask = output_tokens(decoder)
        rows = torch.arange(len(outputs), device=outputs.device)
        pointer_token = outputs[rows, first_mask + mask]  # (B, C)
        present = best[:, None] > 0  # always, unless the network predicts it
        if decoder.pred_obj_scores:
            presence_tokens = outputs[:, 0].float()  # the head is float32, whatever the decoder is
            present = decoder.pred_obj_score_head(presence_tokens) > 0
        return logits, pointer_token, present


def _no_prompt(network: Sam2Network) -> tuple[Tensor, Tensor]:
    """What the decoder gets in place of a prompt: one point that is padding, as the package gives it.

    Sparse (1, P, C) and dense (1, C, g, g).
    """
    device = network.no_mem_embed.device
    point = torch.zeros(1, 1, 2, device=device)
    is_padding = -torch.ones(1, 1, dtype=torch.int32, device=device)
    return network.sam_prompt_encoder(points=(point, is_padding), boxes=None, masks=None)
