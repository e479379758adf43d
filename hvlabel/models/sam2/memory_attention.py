"""A frame's tokens look at what each object remembers: SAM2's memory attention for many objects on one frame.

B objects, N tokens of a frame. A small network's frames are kept as the keys and values that later frames read, so each
is projected and rotated once. The code of its age is added when it is read: a projection of a sum is the sum of
projections. A large network's would take many times the memory of its features and save little; they are projected
anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hvlabel.models.sam2.contract import MemoryAttentionParts, Sam2Network
from hvlabel.models.sam2.rotary import RotaryAttention

MAX_KEPT_BYTES = 4 << 20  # of keys and values per object and frame, beyond which only features are kept

KeysAndValues = tuple[Tensor, Tensor]  # (B, heads, tokens, d) each


@dataclass(frozen=True)
class Remembered:
    """A frame as B objects remember it.

    features  : (B, N, mem) bfloat16, as the package keeps them
    pointer   : (B, C) float32
    projected : per layer keys and values (B, heads, N, d), without the code of its age; none for large networks
    """

    features: Tensor
    pointer: Tensor
    projected: list[KeysAndValues]


class MemoryAttention:
    """The layers of a network's memory attention.

    parts : the network's, in the precision that is wanted; norms and MLPs are taken from here, the attentions from the
            network's own float32 weights
    """

    def __init__(self, network: Sam2Network, parts: MemoryAttentionParts, dtype: torch.dtype) -> None:
        layers = network.memory_attention.layers
        side = network.sam_image_embedding_size
        self.parts, self.dtype = parts, dtype
        self.grid_hw = (side, side)
        self._within = [RotaryAttention(layer.self_attn, self.grid_hw, dtype) for layer in layers]
        self._across = [RotaryAttention(layer.cross_attn_image, self.grid_hw, dtype) for layer in layers]
        exact = self._across  # codes are projected in float32, and rounded once
        if dtype != torch.float32:
            exact = [RotaryAttention(layer.cross_attn_image, self.grid_hw, torch.float32) for layer in layers]
        place, age = _codes(network, self.grid_hw)
        # per layer: what a key owes to its place, (1, heads, N, d), and to its age, (ages, heads, N, d)
        of_place = [across.rotated(across.keys(place)) for across in exact]
        of_age = [across.rotated(across.keys(age, with_bias=False)) for across in exact]
        self._place = [keys.to(dtype) for keys in of_place]
        self._age = [keys.to(dtype) for keys in of_age]
        # a frame's keys are as large as what they owe to their place, and its values too
        kept_bytes = 2 * sum(keys.numel() * keys.element_size() for keys in self._place)
        self._keeps_projections = kept_bytes <= MAX_KEPT_BYTES

    def within_frame(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(1, N, C) tokens after the first self-attention, and (1, heads, N, d) of their first look at the memory.

        The same for all objects: they begin to differ where they read their memories.
        """
        tokens = self._self_attended(0, tokens)
        normed = self.parts.layers[0].norm2(tokens)
        queries = self._across[0].queries(normed)
        return tokens, queries

    def remembered(self, features: Tensor, pointer: Tensor) -> Remembered:
        """A frame from its memory features (B, mem, h, w) and its pointers (B, C)."""
        # rounded as in the package, which keeps its memory in bfloat16
        rounded = features.to(torch.bfloat16).flatten(2)  # (B, mem, N)
        tokens = rounded.transpose(1, 2).contiguous()  # (B, N, mem)
        layers = range(len(self._across)) if self._keeps_projections else ()
        projected = [self._projected(index, tokens) for index in layers]
        return Remembered(tokens, pointer, projected)

    def buffer(self, n_objects: int, n_frames: int, n_pointer_tokens: int) -> Tensor:
        """(2, B, heads, tokens, d), for keys and values of that many remembered frames and of pointers.

        One allocation for all steps of a track: growing ones would break up the memory.
        """
        _, heads, n_tokens, width = self._place[0].shape
        n_keys = n_frames * n_tokens + n_pointer_tokens
        shape = (2, n_objects, heads, n_keys, width)
        return torch.empty(shape, dtype=self.dtype, device=self._place[0].device)

    def read(
        self,
        tokens: Tensor,
        queries: Tensor,
        frames: Sequence[tuple[int, Remembered]],
        pointers: tuple[Tensor, Tensor],
        buffer: Tensor,
    ) -> Tensor:
        """(B, N, C) tokens of a frame that have read each object's memory.

        tokens, queries : as `within_frame` gives them
        frames          : (age, frame), 0 the youngest
        pointers        : (B, tokens, mem) with the code of their age, for keys, and without, for values
        buffer          : for these objects and at least these frames; overwritten
        """
        _, prompted = frames[0]
        n_objects = len(prompted.pointer)
        n_frame_keys = len(frames) * tokens.shape[1]
        n_keys = n_frame_keys + pointers[0].shape[1]
        keys, values = buffer[..., :n_keys, :]  # (B, heads, n_keys, d) each
        for index, layer in enumerate(self.parts.layers):
            across = self._across[index]
            if index == 0:
                queries = queries.expand(n_objects, -1, -1, -1)
            else:
                tokens = self._self_attended(index, tokens)
                queries = across.queries(layer.norm2(tokens))
            self._gather(index, frames, pointers, keys, values)
            tokens = tokens + across.read(queries, keys, values)
            hidden = layer.activation(layer.linear1(layer.norm3(tokens)))
            tokens = tokens + layer.linear2(hidden)
        return self.parts.norm(tokens)

    def _gather(
        self,
        index: int,
        frames: Sequence[tuple[int, Remembered]],
        pointers: tuple[Tensor, Tensor],
        keys: Tensor,
        values: Tensor,
    ) -> None:
        """Fill keys and values of a layer: frame after frame, then the pointers, which have no place."""
        across, ages = self._across[index], self._age[index]
        start = 0
        for age, frame in frames:
            kept = frame.projected[index] if frame.projected else self._projected(index, frame.features)
            frame_keys, frame_values = kept
            stop = start + frame_keys.shape[2]
            torch.add(frame_keys, ages[age], out=keys[:, :, start:stop])
            values[:, :, start:stop] = frame_values
            start = stop
        coded, plain = pointers
        keys[:, :, start:] = across.keys(coded)
        values[:, :, start:] = across.values(plain)

    def _projected(self, index: int, features: Tensor) -> KeysAndValues:
        """Keys and values of a layer for features (B, N, mem)."""
        across = self._across[index]
        features = features.to(self.dtype)
        # the bias of the keys is in what they owe to their place
        keys = across.rotated(across.keys(features, with_bias=False))
        return keys.add_(self._place[index]), across.values(features)

    def _self_attended(self, index: int, tokens: Tensor) -> Tensor:
        """(B, N, C) tokens after a layer's self-attention."""
        within = self._within[index]
        normed = self.parts.layers[index].norm1(tokens)
        keys = within.rotated(within.keys(normed))
        attended = within.read(within.queries(normed), keys, within.values(normed))
        return tokens + attended


def _codes(network: Sam2Network, grid_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """(1, N, mem) the code of a token's place, and (ages, N, mem) that of its frame's age, the same at all places."""
    width, (rows, columns) = network.mem_dim, grid_hw
    # of the image the package's encoding reads the shape alone
    empty = torch.zeros(1, width, rows, columns, device=network.no_mem_embed.device)
    code_map = network.memory_encoder.position_encoding(empty)[0]  # (mem, rows, columns)
    place = code_map.flatten(1).T  # (N, mem)
    age = network.maskmem_tpos_enc.view(-1, 1, width)
    return place[None], age.expand(-1, rows * columns, -1)
