"""Masks carried along in-memory frames by SAM2's memory, batch after batch of objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hvlabel.models.batches import Ceilings, halved
from hvlabel.models.sam2.contract import Sam2Network
from hvlabel.models.sam2.embedding import Sam2Embedding
from hvlabel.models.sam2.memory import FrameObjects, MemoryNetwork
from hvlabel.models.sam2.memory_attention import Remembered


@dataclass(frozen=True)
class _Track:
    """A batch of objects on its way.

    start, prompted : the frame it began on, and its memory
    buffer          : for the keys and values of a step
    remembered      : memory of other frames that a later step reads
    pointers        : the objects' pointers (B, C) on all frames so far
    """

    start: int
    prompted: Remembered
    buffer: Tensor
    remembered: dict[int, Remembered] = field(default_factory=dict)
    pointers: dict[int, Tensor] = field(default_factory=dict)


class Sam2Tracker:
    """Carries masks along frames. WeightsError for a config of no published kind.

    decoder           : the network's, in the precision that is wanted
    half              : compute in bfloat16; what comes out is float32 all the same
    objects_per_batch : objects carried at once
    memory_frames     : that a track remembers beside the one it started on
    ceilings          : of batches, lowered where memory runs out
    """

    @torch.inference_mode()  # what is projected beforehand carries no graph
    def __init__(
        self,
        network: Sam2Network,
        decoder: Any,
        *,
        half: bool,
        objects_per_batch: int,
        memory_frames: int,
        ceilings: Ceilings,
    ) -> None:
        self.network = network
        self.memory = MemoryNetwork(network, decoder, half=half)
        self.objects_per_batch, self.memory_frames = objects_per_batch, memory_frames
        self.ceilings = ceilings

    @torch.inference_mode()
    def track(
        self, embeddings: Sequence[Sam2Embedding], start: int, masks: Tensor
    ) -> Iterator[tuple[int, slice, Tensor, Tensor]]:
        """Masks carried from frame `start` forwards to the last frame, then backwards to the first.

        embeddings : one per frame
        masks      : (N, H, W) bool on frame `start`
        Yields (frame, objects, logits (n, H, W) of the image, object present (n,) bool) for every frame and every batch
        of objects; when the device's memory runs out, some of them a second time. Each object sees its own memory only,
        as in the package's video predictor.
        """
        first = 0
        while first < len(masks):
            ceiling = self.ceilings.objects or self.objects_per_batch
            size = min(self.objects_per_batch, ceiling)
            stop = min(first + size, len(masks))
            objects = slice(first, stop)
            shortage = None
            try:
                yield from self._track_batch(embeddings, start, masks, objects)
            except torch.OutOfMemoryError as error:
                shortage = str(error)
            if shortage is None:
                first = objects.stop
            else:  # outside the handler, which keeps what the failed attempt had allocated
                self.ceilings.objects = halved(objects.stop - objects.start, "objects", shortage)

    def _track_batch(
        self, embeddings: Sequence[Sam2Embedding], start: int, masks: Tensor, objects: slice
    ) -> Iterator[tuple[int, slice, Tensor, Tensor]]:
        """All frames of one batch of objects."""
        n = objects.stop - objects.start
        prompts = masks[objects]
        if n == 1 < len(masks) and self.network.device.type == "cpu":
            prompts = prompts.expand(2, -1, -1)  # one row goes through other products, which round otherwise
        logits, present, prompted = self._start(embeddings[start], start, prompts, len(embeddings))
        yield start, objects, embeddings[start].upscaled(logits[:n]), present[:n]
        n_remembered = min(self.memory_frames, len(embeddings) - 1)  # beside the prompted one
        buffer = self.memory.buffer(len(prompts), 1 + n_remembered)
        track = _Track(start, prompted, buffer)
        forwards = range(start + 1, len(embeddings))
        backwards = range(start - 1, -1, -1)
        for frame in [*forwards, *backwards]:
            carried = self._step(embeddings, frame, track)
            # :n, without the row that was added; no name for the full size, which would keep it for another step
            yield frame, objects, embeddings[frame].upscaled(carried.logits[:n]), carried.present[:n, 0]
            self._forget(track, frame)

    def _start(
        self, embedding: Sam2Embedding, frame: int, masks: Tensor, n_frames: int
    ) -> tuple[Tensor, Tensor, Remembered]:
        """Logits, presence and memory of the prompted frame.

        The package's own code encodes it, as it does once the user's prompts are final.
        """
        side = self.network.image_size
        arguments = self._frame_arguments(embedding, len(masks))
        out = self.network.track_step(
            frame_idx=frame,
            is_init_cond_frame=True,
            point_inputs=None,
            mask_inputs=self._mask_inputs(masks),
            output_dict={"cond_frame_outputs": {}, "non_cond_frame_outputs": {}},
            num_frames=n_frames,
            run_mem_encoder=False,
            **arguments,
        )
        logits, presence = out["pred_masks"], out["object_score_logits"]
        features, _ = self.network._encode_new_memory(
            current_vision_feats=arguments["current_vision_feats"],
            feat_sizes=arguments["feat_sizes"],
            pred_masks_high_res=F.interpolate(logits, (side, side), mode="bilinear", align_corners=False),
            object_score_logits=presence,
            is_mask_from_pts=True,
        )
        remembered = self.memory.attention.remembered(features, out["obj_ptr"])
        return logits[:, 0], (presence > 0).reshape(-1), remembered

    def _mask_inputs(self, masks: Tensor) -> Tensor:
        """(N, 1, S, S) float32, 0 or 1, of the network's input, from (N, H, W) bool."""
        side = self.network.image_size
        inputs = masks[:, None].float().to(self.network.device)
        if inputs.shape[-2:] == (side, side):
            return inputs
        # as the package's video predictor does with masks of another size
        share = F.interpolate(inputs, (side, side), mode="bilinear", align_corners=False, antialias=True)
        return (share >= 0.5).float()

    def _frame_arguments(self, embedding: Sam2Embedding, n_objects: int) -> dict[str, Any]:
        """A frame's features in the package's (h*w, objects, D) layout."""
        # expanded tensors share their memory: no copies for the objects
        expanded = {
            "backbone_fpn": [f.expand(n_objects, -1, -1, -1) for f in embedding.features],
            "vision_pos_enc": [c.expand(n_objects, -1, -1, -1) for c in embedding.codes],
        }
        _, features, codes, sizes = self.network._prepare_backbone_features(expanded)
        return {"current_vision_feats": features, "current_vision_pos_embeds": codes, "feat_sizes": sizes}

    def _step(self, embeddings: Sequence[Sam2Embedding], frame: int, track: _Track) -> FrameObjects:
        """The objects on a frame, which may be remembered."""
        embedding = embeddings[frame]
        side = self.memory.frame_side(embedding.features, embedding.codes[-1])
        n_pointers = min(len(embeddings), self.network.max_obj_ptrs_in_encoder)
        objects = self.memory.objects_on(
            side,
            self._frames_read(track, frame),
            _pointers_read(track, frame, n_pointers),
            longest=n_pointers - 1,
            buffer=track.buffer,
        )
        track.pointers[frame] = objects.pointer
        if self.memory_frames:  # else the start is all that is read, and the memory encoder is spared
            track.remembered[frame] = self.memory.remember(side, objects)
        return objects

    def _frames_read(self, track: _Track, frame: int) -> list[tuple[int, Remembered]]:
        """(age, frame) of those that a step reads: the prompted one, counted as the oldest, and those just passed."""
        read = [(self.network.num_maskmem - 1, track.prompted)]
        for age in range(self.memory_frames):
            passed = frame - _direction(track, frame) * (age + 1)
            if passed in track.remembered:
                read.append((age, track.remembered[passed]))
        return read

    def _forget(self, track: _Track, frame: int) -> None:
        """Drop the frames that no later step reads.

        Steps see a few frames back; those on the way back also the ones just after the start.
        """
        for k in list(track.remembered):
            on_the_way_back = frame > track.start > 0 and k - track.start < self.memory_frames
            if abs(k - frame) >= self.memory_frames and not on_the_way_back:
                del track.remembered[k]


def _pointers_read(track: _Track, frame: int, n_pointers: int) -> list[tuple[int, Tensor]]:
    """(distance, pointer) of those that a step reads: the prompted one at any distance, and the nearest ones passed."""
    read = [(abs(frame - track.start), track.prompted.pointer)]
    for distance in range(1, n_pointers):
        passed = frame - _direction(track, frame) * distance
        if passed in track.pointers:
            read.append((distance, track.pointers[passed]))
    return read


def _direction(track: _Track, frame: int) -> int:
    """1 on the way to the last frame, -1 on the way back to the first."""
    return 1 if frame > track.start else -1
