"""Cubes to the masks of one branch."""

from __future__ import annotations

import time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hvlabel import __version__
from hvlabel.branches import material, rgb, sequence
from hvlabel.cache.index import Entry, read_index
from hvlabel.cache.key import cache_key
from hvlabel.cache.publish import publish_bytes
from hvlabel.cache.receipt import read_attributes
from hvlabel.config import Branch, MaterialSettings, RgbSettings, RunSettings, SequenceSettings
from hvlabel.cube import Cube, open_cube
from hvlabel.errors import CubeError
from hvlabel.layout import Layout
from hvlabel.manifest import Image
from hvlabel.masks import MaskSet, dump_masks, read_document
from hvlabel.models.weights import file_sha256, weights_sha256
from hvlabel.stages.convert import without_cube
from hvlabel.stages.mask_files import mask_entry, valid_document

if TYPE_CHECKING:
    from hvlabel.stages.network import BranchNetwork

BranchSettings = RgbSettings | SequenceSettings | MaterialSettings


class BranchRunner:
    """One branch with its settings; the network is loaded when the first image needs it, and torch's threads are then set as the run asks."""

    def __init__(self, branch: Branch, settings: BranchSettings, run: RunSettings | None = None) -> None:
        self.branch, self.settings, self._run = branch, settings.resolved(), run
        self.weights = self.settings.network()
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
        network = self._network
        model = network.model if network else None
        match self.settings:
            case RgbSettings():
                return rgb.run(cube, self.settings, model)
            case SequenceSettings():
                return sequence.run(cube, self.settings, model)
            case MaterialSettings():
                return material.run(cube, self.settings, model)

    def provenance(self, cube: Cube) -> dict[str, Any]:
        """What the masks were made from, as written into their file."""
        network = self._network
        return {
            "stage": self.branch,
            "key": self.key(cube.attributes["key"]),
            "backend": self.settings.backend,
            **({"fallback": self.settings.fallback} if self.settings.fallback else {}),
            "learned_model": self.weights is not None,
            "precision": network.precision if network else None,
            "untrained_weights": self.weights is not None and self.weights.seed is not None,
            "checkpoint": self.weights.checkpoint if self.weights else None,
            "weights_sha256": self.weights_sha256,
            "settings": self.settings.relevant(),
            "batches": network.ceilings.lowered() if network else {},
            "cube_key": cube.attributes["key"],
            "hvlabel_version": __version__,
        }

    @cached_property
    def _network(self) -> BranchNetwork | None:
        if self.weights is None:
            return None
        from hvlabel.stages.network import BranchNetwork  # only here: torch takes seconds to import

        return BranchNetwork(self.branch, self.settings, self.weights, self._run)


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
