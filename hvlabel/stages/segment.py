"""Cubes to the masks of one branch."""

from __future__ import annotations

import sys
import time
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from hvlabel import __version__
from hvlabel.branches import material, rgb, sequence
from hvlabel.cache.index import Entry, read_index
from hvlabel.cache.key import cache_key
from hvlabel.cache.publish import publish_bytes
from hvlabel.cache.receipt import read_attributes
from hvlabel.config import Branch, HyperFreeModel, MaterialSettings, RgbSettings, Sam2Model, SequenceSettings
from hvlabel.cube import Cube, open_cube
from hvlabel.errors import CubeError
from hvlabel.layout import Layout
from hvlabel.manifest import Image
from hvlabel.masks import MaskSet, dump_masks, read_document
from hvlabel.models.batches import Ceilings, bytes_per_point, plan_points
from hvlabel.models.device import choose_device, computes_in_bfloat16
from hvlabel.models.hyperfree import HyperFree, Topology, load_hyperfree
from hvlabel.models.weights import file_sha256, read_state_dict, weights_sha256
from hvlabel.stages.convert import without_cube
from hvlabel.stages.mask_files import mask_entry, valid_document

BranchSettings = RgbSettings | SequenceSettings | MaterialSettings
# the network of untrained weights: small enough for a laptop
SMALL_HYPERFREE = Topology(
    image_size_px=256,
    patch_px=16,
    embed_dim=64,
    depth=4,
    num_heads=4,
    window_px=7,
    global_blocks=(1, 3),
    out_dim=64,
    decoder_mlp=256,
    iou_hidden=64,
)


class BranchRunner:
    """One branch with its settings; the network is loaded when the first image needs it."""

    def __init__(self, branch: Branch, settings: BranchSettings, device: str = "auto") -> None:
        self.branch, self.settings, self._device = branch, settings, device
        self._ceilings = Ceilings()
        self.weights = settings.network()
        self.weights_sha256 = weights_sha256(self.weights)
        # a network's config file counts as much as its weights
        self._config_sha256 = (
            [file_sha256(p) for p in self.weights.files() if p != self.weights.path()] if self.weights else []
        )

    def key(self, cube_key: str) -> str:
        """Cache key of this branch's masks of a cube."""
        return cache_key(self.branch, [cube_key, *self._config_sha256], self.settings.canonical(), self.weights_sha256)

    def masks(self, cube: Cube) -> MaskSet:
        """Masks of a cube."""
        match self.settings:
            case RgbSettings():
                return rgb.run(cube, self.settings, self._model)
            case SequenceSettings():
                return sequence.run(cube, self.settings, self._model)
            case MaterialSettings():
                half = self.weights is not None and self._half
                return material.run(cube, self.settings, self._model, half=half, ceilings=self._ceilings)

    def provenance(self, cube: Cube) -> dict[str, Any]:
        """What the masks were made from, as written into their file."""
        return {
            "stage": self.branch,
            "key": self.key(cube.attributes["key"]),
            "backend": self.settings.backend,
            "learned_model": self.weights is not None,
            "precision": ("bfloat16" if self._half else "float32") if self.weights else None,
            "untrained_weights": self.weights is not None and self.weights.seed is not None,
            "checkpoint": self.weights.checkpoint if self.weights else None,
            "weights_sha256": self.weights_sha256,
            "settings": self.settings.relevant(),
            "batches": self._ceilings.lowered(),
            "cube_key": cube.attributes["key"],
            "hvlabel_version": __version__,
        }

    @cached_property
    def _model(self) -> Any:
        if self.weights is None:
            return None
        device = self._chosen_device
        if isinstance(self.weights, HyperFreeModel):
            hyperfree = _load_hyperfree(self.weights).to(device)
            topology = hyperfree.topology
            self._plan(hyperfree.mask_decoder, topology.decoder_grid, topology.image_size_px)
            return hyperfree
        assert isinstance(self.weights, Sam2Model)
        from hvlabel.models.sam2 import Sam2Predictor, load_sam2  # only here: a machine without sam2 runs all else

        sam2 = load_sam2(self.weights, device)
        self._plan(sam2.sam_mask_decoder, sam2.sam_image_embedding_size, sam2.image_size)
        objects = self.settings.objects_per_batch if isinstance(self.settings, SequenceSettings) else 1
        return Sam2Predictor(sam2, objects, half=self._half, ceilings=self._ceilings)

    def _plan(self, decoder: Any, grid: int, side_px: int) -> None:
        asked = self.settings.generator.points_per_batch
        sentence = plan_points(asked, bytes_per_point(decoder, grid, side_px), self._chosen_device, self._ceilings)
        if sentence:
            print(f"{self.branch}: {sentence}", file=sys.stderr, flush=True)  # noqa: T201 (the log of the job)

    @cached_property
    def _chosen_device(self) -> torch.device:
        return choose_device(self._device)

    @cached_property
    def _half(self) -> bool:
        return self.settings.generator.wants_half and computes_in_bfloat16(self._chosen_device)


def _load_hyperfree(model: HyperFreeModel) -> HyperFree:
    path = model.path()
    if path is not None:
        return load_hyperfree(
            read_state_dict(path),
            image_size_px=model.image_size_px,
            merge_blocks=model.merge_blocks,
            decoder_heads=model.decoder_heads,
            source=model.checkpoint,
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(model.seed or 0)
        return HyperFree(SMALL_HYPERFREE).eval()


class BranchStage:
    """Cubes to the masks of one branch."""

    def __init__(self, layout: Layout, runner: BranchRunner, dataset: str, shard: str) -> None:
        self.name: str = runner.branch
        self.layout, self.runner = layout, runner
        self._cubes = read_index(layout.index("cubes", dataset, shard)).images

    def blocked(self, image: Image) -> str | None:
        """The conversion's failure."""
        return without_cube(self._cubes, image)

    def key(self, image: Image) -> str:
        """Key from the cube's key."""
        return self.runner.key(str(read_attributes(self.layout.cube(image.dataset, image.image_id)).get("key")))

    def valid(self, image: Image, key: str) -> Entry | None:
        """The entry of a whole mask file with this key."""
        path = self.layout.masks(self.runner.branch, image.dataset, image.image_id)
        document = valid_document(path, key)
        return None if document is None else mask_entry(path, self.layout, document)

    def make(self, image: Image, key: str) -> Entry:
        """Run the branch."""
        path = self.layout.masks(self.runner.branch, image.dataset, image.image_id)
        segment_file(self.runner, self.layout.cube(image.dataset, image.image_id), path)
        return mask_entry(path, self.layout, read_document(path))

    def discard(self, image: Image) -> None:
        """Older masks stay: they were costly, and nothing reads them while the index says failed."""


def segment_file(runner: BranchRunner, cube_path: Path, out: Path) -> MaskSet:
    """Masks of one cube, published as an SA-1B JSON file."""
    cube = open_cube(cube_path)
    if "key" not in cube.attributes:
        raise CubeError(f"{cube_path}: a cube without key and receipt; make it with `hvlabel convert`")
    start = time.monotonic()
    masks = runner.masks(cube)
    provenance = {**runner.provenance(cube), "seconds": round(time.monotonic() - start, 3)}
    publish_bytes(out, dump_masks(masks, cube.image_id, provenance))
    return masks
