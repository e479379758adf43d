"""Pictures of cubes to features of a frozen RGB network."""

from __future__ import annotations

import time
from functools import cached_property
from pathlib import Path
from typing import Any

from hvlabel import __version__
from hvlabel.cache.features import write_features
from hvlabel.cache.index import Entry
from hvlabel.cache.key import cache_key
from hvlabel.cache.receipt import valid_and_sealed
from hvlabel.config import TeacherSettings, Weights
from hvlabel.cube import open_cube
from hvlabel.errors import ConfigError, CubeError
from hvlabel.layout import Layout
from hvlabel.manifest import Image
from hvlabel.models.device import choose_device
from hvlabel.models.teacher import Teacher, load_teacher, picture_tokens
from hvlabel.models.weights import file_sha256, weights_sha256
from hvlabel.stages.contract import FromCubes


class TeacherRunner:
    """A teacher with its settings; the network is loaded when the first image needs it."""

    def __init__(self, settings: TeacherSettings, device: str = "auto") -> None:
        settings = settings.resolved()
        network = settings.chosen()
        if network is None:
            raise ConfigError("teacher.backend is none: there are no features to make; choose sam, sam2 or dino")
        self.settings = settings
        self._device = device
        self.weights = [file_sha256(path) for path in settings.files()]
        if isinstance(network, Weights):
            self.weights.append(str(weights_sha256(network)))  # also checks the expected hash

    def key(self, cube_key: str) -> str:
        """Cache key of the features of a cube."""
        return cache_key("teacher", [cube_key, *self.weights], self.settings.canonical(), None)

    def write(self, cube_path: Path, out: Path, key: str | None = None) -> dict[str, Any]:
        """Make and publish the features of a cube; returns their attributes, and their (h, w, D) as `shape`.

        key : of the features; None: it is made here
        """
        cube = open_cube(cube_path)
        if "key" not in cube.attributes:
            raise CubeError(f"{cube_path}: a cube without key and receipt; make it with `hvlabel convert`")
        start = time.monotonic()
        tokens = picture_tokens(self._teacher, cube.rgb, self.settings.tile_px)  # (h, w, D)
        height, width = tokens.shape[:2]
        attributes = {
            "key": self.key(cube.attributes["key"]) if key is None else key,
            "cube_key": cube.attributes["key"],
            "model": self.settings.relevant(),
            "weights": self.weights,
            "stride_yx_px": [cube.height_px / height, cube.width_px / width],
            "mean": tokens.mean(axis=(0, 1)).tolist(),  # (D,) of each channel
            "seconds": round(time.monotonic() - start, 3),
            "hvlabel_version": __version__,
        }
        write_features(out, tokens, attributes)
        return {**attributes, "shape": tokens.shape}

    @cached_property
    def _teacher(self) -> Teacher:
        return load_teacher(self.settings, choose_device(self._device))


class TeacherStage(FromCubes):
    """Cubes to teacher features."""

    name = "teacher"

    def __init__(self, layout: Layout, runner: TeacherRunner, dataset: str, shard: str) -> None:
        super().__init__(layout, dataset, shard)
        self.runner = runner

    def key(self, image: Image) -> str:
        """Key from the cube's key."""
        return self.runner.key(self.cube_key(image))

    def valid(self, image: Image, key: str) -> Entry | None:
        """The entry of whole features with this key."""
        path = self.layout.teacher(image.dataset, image.image_id)
        attributes = valid_and_sealed(path, key)
        return None if attributes is None else self._entry(path, attributes)

    def make(self, image: Image, key: str) -> Entry:
        """Run the network."""
        path = self.layout.teacher(image.dataset, image.image_id)
        return self._entry(path, self.runner.write(self.cube(image), path, key))

    def _entry(self, path: Path, attributes: dict[str, Any]) -> Entry:
        relative = str(path.relative_to(self.layout.root))  # results may be moved
        counts = {"channels": len(attributes["mean"])}
        return Entry("ok", relative, attributes["key"], attributes["seconds"], counts=counts)
