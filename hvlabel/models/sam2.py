"""SAM2 through the sam2 package: image prompts, and its memory along in-memory frames. The only file that imports it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import sam2
import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from omegaconf import OmegaConf
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor
from yaml import YAMLError

from hvlabel.config import Sam2Model
from hvlabel.errors import WeightsError
from hvlabel.models.batches import Ceilings, halved
from hvlabel.models.memory import Found, MemoryNetwork, Remembered
from hvlabel.models.teacher import network_input
from hvlabel.models.two_way import ImageSide, Masks, confident_masks, embeddable, half_precision, image_side
from hvlabel.models.weights import read_state_dict

# What the package's own builders set at inference: a single unstable mask falls back to the best of three,
# and masks given as prompts enter the memory binarised.
INFERENCE_SETTINGS = {
    "sam_mask_decoder_extra_args.dynamic_multimask_via_stability": True,
    "sam_mask_decoder_extra_args.dynamic_multimask_stability_delta": 0.05,
    "sam_mask_decoder_extra_args.dynamic_multimask_stability_thresh": 0.98,
    "binarize_mask_from_pts_for_mem_enc": True,
}


def load_sam2(model: Sam2Model, device: torch.device) -> SAM2Base:
    """The network of a config and a checkpoint, in evaluation mode; WeightsError if they do not fit each other."""
    name = model.architecture()
    config = _read_config(name)
    path = model.path()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(model.seed or 0)
        try:
            network = instantiate(config, _recursive_=True)
        except Exception as error:  # hydra raises what the named classes raise; each means a wrong config
            raise WeightsError(
                f"{name}: no SAM2 can be built from it ({' '.join(str(error).split())[:160]}); mend the config"
            ) from error
    if path is not None:
        state = read_state_dict(path)
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            raise WeightsError(
                f"{path}: does not fit {name} ({' '.join(str(error).split())[:160]}); choose the config of this checkpoint"
            ) from error
    return network.to(device).eval()


def _read_config(name: str) -> Any:
    path = next((p for p in (Path(name), Path(sam2.__path__[0]) / name) if p.is_file()), None)
    if path is None:
        known = sorted(
            str(p.relative_to(sam2.__path__[0]))
            for p in Path(sam2.__path__[0], "configs").glob("sam2*/sam2*hiera*.yaml")
        )
        raise WeightsError(f"no SAM2 config {name!r}; give the path of a YAML file or one of: {', '.join(known)}")
    try:
        config = OmegaConf.load(path)
    except (OSError, YAMLError) as error:
        raise WeightsError(
            f"{path}: not a readable SAM2 config ({' '.join(str(error).split())[:100]}); mend the file"
        ) from error
    if "model" not in config:
        raise WeightsError(f"{path}: no top-level key `model`; expected a SAM2 model config")
    for key, value in INFERENCE_SETTINGS.items():
        OmegaConf.update(config.model, key, value, force_add=True)
    OmegaConf.resolve(config)
    return config.model


@dataclass(frozen=True)
class Embedding:
    """One image's features.

    features, codes : per level (1, D, h, w), finest first, as the package's forward_image gives them
    original_hw     : (height, width) px of the image
    """

    features: list[Tensor]
    codes: list[Tensor]
    original_hw: tuple[int, int]


@dataclass(frozen=True)
class _Track:
    """A batch of objects on its way.

    start, prompted : the frame it began on, and its memory
    room            : for the keys and values of a step
    seen, pointers  : memory of other frames that a later step reads, and the objects' pointers of all
    """

    start: int
    prompted: Remembered
    room: Tensor
    seen: dict[int, Remembered] = field(default_factory=dict)
    pointers: dict[int, Tensor] = field(default_factory=dict)


class Sam2Predictor:
    """Prompts on one image, and masks carried along frames.

    half          : compute embeddings, prompts and tracks in bfloat16; what comes out is float32 all the same, logits of decode_above excepted
    memory_frames : that a track remembers beside the one it started on, at most what the network's config says, which None means
    """

    slack_cells = 0.0  # logits are resized in one step

    def __init__(
        self,
        network: SAM2Base,
        objects_per_batch: int = 16,
        *,
        half: bool = False,
        memory_frames: int | None = None,
        ceilings: Ceilings | None = None,
    ) -> None:
        self.network, self.half = network, half
        self.ceilings = ceilings or Ceilings()
        self._decoder = half_precision(network.sam_mask_decoder) if half else network.sam_mask_decoder
        self.objects_per_batch = objects_per_batch
        most = network.num_maskmem - 1
        self.memory_frames = most if memory_frames is None else min(memory_frames, most)
        self._side: tuple[Embedding, ImageSide] | None = None  # of the image decoded last

    @torch.inference_mode()
    def embed(self, image: np.ndarray) -> Embedding:
        """Embedding of an (H, W, 3) image, uint8 or float in [0, 1]."""
        x = network_input(image, self.network.image_size, self.network.device)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.half):
            out = self.network.forward_image(x)
        levels = self.network.num_feature_levels
        features, codes = ([f.float() for f in out[name][-levels:]] for name in ("backbone_fpn", "vision_pos_enc"))
        return Embedding(features, codes, (image.shape[0], image.shape[1]))

    def tokens(self, rgb: np.ndarray) -> np.ndarray:
        """(g, g, D) float32 features of the image encoder's coarsest level, stride 16 of its input."""
        return self.embed(rgb).features[-1][0].permute(1, 2, 0).float().cpu().numpy()

    @torch.inference_mode()
    def decode(
        self,
        embedding: Embedding,
        points_xy: np.ndarray | None,
        masks: Tensor | None = None,
        *,
        labels: np.ndarray | None = None,
        boxes_xyxy: np.ndarray | None = None,
        multimask: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """Low-resolution logits (N, M, S/4, S/4) and predicted IoU (N, M) of N prompts.

        points_xy  : (N, 2) or (N, P, 2) float64 px of the original image, or None
        masks      : (N, 1, S/4, S/4) logits, or None
        labels     : (N, P) 1 foreground, 0 background; None: all foreground
        boxes_xyxy : (N, 4) px of the original image, or None
        """
        network = self.network
        sparse, dense = self._prompts(embedding, points_xy, masks, labels, boxes_xyxy)
        logits, iou, _, _ = network.sam_mask_decoder(
            image_embeddings=self._image(embedding),
            image_pe=network.sam_prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask,
            repeat_image=len(sparse) > 1,
            high_res_features=embedding.features[:-1] or None,
        )
        return logits, iou

    def decode_clear(self, embedding: Embedding, boxes_xyxy: np.ndarray) -> tuple[Tensor, Tensor]:
        """One mask per box (N, 4), px of the original image: logits (N, S/4, S/4) and predicted IoU (N,)."""
        logits, iou = self.decode(embedding, None, boxes_xyxy=boxes_xyxy, multimask=False)
        return logits[:, 0], iou[:, 0]

    @torch.inference_mode()
    def decode_above(self, embedding: Embedding, points_xy: np.ndarray, min_iou: float | None) -> Masks:
        """Like decode with multimask, but only masks above a predicted IoU (None: all); prompts without one are never upscaled."""
        network, decoder = self.network, self._decoder
        sparse, dense = self._prompts(embedding, embeddable(points_xy), None)
        if self._side is None or self._side[0] is not embedding:
            code = network.sam_prompt_encoder.get_dense_pe()
            self._side = (
                embedding,
                image_side(decoder, self._image(embedding) + dense[:1], code, embedding.features[:-1]),
            )
        return confident_masks(decoder, self._side[1], sparse[: len(points_xy)], min_iou)

    def _image(self, embedding: Embedding) -> Tensor:
        """(1, D, g, g) features as the decoder takes them."""
        image = embedding.features[-1]
        if self.network.directly_add_no_mem_embed:
            image = image + self.network.no_mem_embed.reshape(1, -1, 1, 1)
        return image

    def _prompts(
        self,
        embedding: Embedding,
        points_xy: np.ndarray | None,
        masks: Tensor | None,
        labels: np.ndarray | None = None,
        boxes_xyxy: np.ndarray | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Sparse and dense embedding of N prompts, as `decode` takes them."""
        points = boxes = None
        if points_xy is not None:
            xy = self._scaled(embedding, points_xy if points_xy.ndim == 3 else points_xy[:, None])
            kinds = np.ones(xy.shape[:2]) if labels is None else labels
            points = (xy, torch.as_tensor(kinds, dtype=torch.int32, device=xy.device))
        if boxes_xyxy is not None:
            boxes = self._scaled(embedding, boxes_xyxy.reshape(-1, 2, 2)).reshape(-1, 4)
        return self.network.sam_prompt_encoder(points=points, boxes=boxes, masks=masks)

    def _scaled(self, embedding: Embedding, xy: np.ndarray) -> Tensor:
        """(..., 2) px of the original image -> px of the network's input."""
        height, width = embedding.original_hw
        there = torch.as_tensor(xy, dtype=torch.float32, device=self.network.device)
        return there / there.new_tensor([width, height]) * self.network.image_size

    def upscale(self, logits: Tensor, embedding: Embedding) -> Tensor:
        """(N, h, w) low-resolution logits -> (N, H, W) of the original image."""
        return F.interpolate(logits[:, None].float(), embedding.original_hw, mode="bilinear", align_corners=False)[:, 0]

    def covered_hw(self, logits: Tensor, embedding: Embedding) -> tuple[float, float]:
        """Rows and columns of low-resolution logits that the image takes: all, it was stretched."""
        return logits.shape[-2], logits.shape[-1]

    @torch.inference_mode()
    def track(
        self, embeddings: list[Embedding], start: int, masks: Tensor
    ) -> Iterator[tuple[int, slice, Tensor, Tensor]]:
        """Masks carried from frame `start` forwards to the last frame, then backwards to the first.

        embeddings : one per frame
        masks      : (N, H, W) bool on frame `start`
        Yields (frame, objects, logits (n, H, W) of the image, object present (n,) bool) for every frame and every batch of
        objects; when the device's memory runs out, some of them a second time. Each object sees its own memory only, as in
        the package's video predictor.
        """
        _ = self._memory  # refuses what it cannot carry before any work
        first = 0
        while first < len(masks):
            size = min(self.objects_per_batch, self.ceilings.objects or self.objects_per_batch)
            objects, shortage = slice(first, min(first + size, len(masks))), None
            try:
                yield from self._track_batch(embeddings, start, masks, objects)
            except torch.OutOfMemoryError as error:
                shortage = str(error)
            if shortage is not None:
                self.ceilings.objects = halved(objects.stop - objects.start, "objects", shortage)
            else:
                first = objects.stop

    def _track_batch(
        self, embeddings: list[Embedding], start: int, masks: Tensor, objects: slice
    ) -> Iterator[tuple[int, slice, Tensor, Tensor]]:
        n, prompts = objects.stop - objects.start, masks[objects]
        if n == 1 < len(masks) and self.network.device.type == "cpu":
            prompts = prompts.expand(2, -1, -1)  # one row goes through other products, which round otherwise
        logits, present, prompted = self._start(embeddings, start, prompts)
        yield start, objects, self.upscale(logits[:n], embeddings[start]), present[:n]
        frames = min(self.memory_frames, len(embeddings) - 1)
        track = _Track(start, prompted, self._memory.room(len(prompts), 1 + frames))
        for frame in [*range(start + 1, len(embeddings)), *range(start - 1, -1, -1)]:
            found = self._step(embeddings, frame, track)
            yield frame, objects, self.upscale(found.logits[:n], embeddings[frame]), found.present[:n, 0]
            self._forget(track, frame)

    def _start(self, embeddings: list[Embedding], frame: int, masks: Tensor) -> tuple[Tensor, Tensor, Remembered]:
        """Logits, presence and memory of the prompted frame, encoded as the package does once the user's prompts are final."""
        side = self.network.image_size
        prompt = masks[:, None].float().to(self.network.device)
        if prompt.shape[-2:] != (side, side):
            prompt = (
                F.interpolate(prompt, (side, side), mode="bilinear", align_corners=False, antialias=True) >= 0.5
            ).float()
        arguments = self._frame_arguments(embeddings[frame], len(masks))
        out = self.network.track_step(
            frame_idx=frame,
            is_init_cond_frame=True,
            point_inputs=None,
            mask_inputs=prompt,
            output_dict={"cond_frame_outputs": {}, "non_cond_frame_outputs": {}},
            num_frames=len(embeddings),
            run_mem_encoder=False,
            **arguments,
        )
        features, _ = self.network._encode_new_memory(
            current_vision_feats=arguments["current_vision_feats"],
            feat_sizes=arguments["feat_sizes"],
            pred_masks_high_res=F.interpolate(out["pred_masks"], (side, side), mode="bilinear", align_corners=False),
            object_score_logits=out["object_score_logits"],
            is_mask_from_pts=True,
        )
        present = (out["object_score_logits"] > 0).reshape(-1)
        return out["pred_masks"][:, 0], present, self._memory.as_memory(features, out["obj_ptr"])

    def _step(self, embeddings: list[Embedding], frame: int, track: _Track) -> Found:
        """The objects on a frame, which may be remembered."""
        embedding, start, back = embeddings[frame], track.start, 1 if frame > track.start else -1
        read = [(self.network.num_maskmem - 1, track.prompted)]
        read += [
            (age, track.seen[k]) for age in range(self.memory_frames) if (k := frame - back * (age + 1)) in track.seen
        ]
        told = [(abs(frame - start), track.prompted.pointer)]
        n_pointers = min(len(embeddings), self.network.max_obj_ptrs_in_encoder)
        told += [(d, track.pointers[k]) for d in range(1, n_pointers) if (k := frame - back * d) in track.pointers]
        side = self._memory.frame_side(embedding.features, embedding.codes[-1])
        found = self._memory.find(side, read, told, n_pointers - 1, track.room)
        track.pointers[frame] = found.pointer
        if self.memory_frames:
            track.seen[frame] = self._memory.remember(side, found)
        return found

    def _forget(self, track: _Track, frame: int) -> None:
        """Drop the frames that no later step reads: steps see a few frames back, the way back also those after its start."""
        for k in list(track.seen):
            on_the_way_back = frame > track.start > 0 and k - track.start < self.memory_frames
            if abs(k - frame) >= self.memory_frames and not on_the_way_back:
                del track.seen[k]

    @cached_property
    def _memory(self) -> MemoryNetwork:
        return MemoryNetwork(self.network, self._decoder, half=self.half)

    def _frame_arguments(self, embedding: Embedding, n_objects: int) -> dict[str, Any]:
        """A frame's features in the package's (h*w, objects, D) layout."""
        expanded = {
            "backbone_fpn": [f.expand(n_objects, -1, -1, -1) for f in embedding.features],
            "vision_pos_enc": [c.expand(n_objects, -1, -1, -1) for c in embedding.codes],
        }
        _, features, codes, sizes = self.network._prepare_backbone_features(expanded)
        return {"current_vision_feats": features, "current_vision_pos_embeds": codes, "feat_sizes": sizes}
