"""The images of a task: cubes, converted once where they are raw files, and the truth of each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from tqdm import tqdm

from hvlabel.config import CubeSettings, Dataset
from hvlabel.cube import Cube, open_cube
from hvlabel.demo.cameras import CAMERAS
from hvlabel.demo.files import write_scenes
from hvlabel.descriptors import Descriptor
from hvlabel.errors import ConfigError
from hvlabel.layout import Layout
from hvlabel.manifest import Image
from hvlabel.manifest.files import files_of
from hvlabel.models.weights import file_sha256
from hvlabel.stages.convert import CubeStage
from hvtrain.downstream.place import Place
from hvtrain.downstream.splits import PARTS, Parts
from hvtrain.downstream.task_file import ImagesSettings, TruthSettings
from hvtrain.downstream.truth import TruthFiles, truth_of


@dataclass(frozen=True)
class TaskImage:
    """One image.

    name  : without the parts of file names that images.remove names
    truth : path of its truth file; where that is a variable of the raw file, the raw file's
    """

    name: str
    cube: Cube
    truth: Path
    settings: ImagesSettings
    truth_settings: TruthSettings

    @cached_property
    def identity(self) -> str:
        """sha256 over the cube's content: sizes and checksums of its files, and its band centres."""
        return cube_identity(self.cube)

    @cached_property
    def truth_sha256(self) -> str:
        """Of the truth file and how it is read."""
        made_by = self.truth_settings.model_dump_json()
        content = f"{file_sha256(self.truth)}|{made_by}"
        return hashlib.sha256(content.encode()).hexdigest()

    def classes(self) -> np.ndarray:
        """(H, W) int64 mapped truth of the pixels that images.every_px leaves; RawFileError as truth_of."""
        size_px = (self.cube.height_px, self.cube.width_px)
        variable = self.truth_settings.variable
        whole = truth_of(self.name, self.truth, self.truth_settings, size_px, variable)
        every = self.settings.every_px
        return whole[::every, ::every]


def identity_rows(parts: Parts, images: Mapping[str, TaskImage]) -> list[list[str]]:
    """Part, name, and hashes of content and truth of every image of a task."""
    rows = []
    for part in PARTS:
        for name in parts[part]:
            image = images[name]
            rows.append([part, name, image.identity, image.truth_sha256])
    return rows


def cube_identity(cube: Cube) -> str:
    """sha256 (hex) over a cube's receipt, which holds a checksum of each of its files, and its band centres."""
    # not the key: cubes may be made by other versions, and what counts is what they hold
    receipt = cube.attributes.get("receipt")
    content = [receipt, cube.wavelengths_nm.tolist(), cube.shape]
    text = json.dumps(content, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class TaskImages:
    """All images of a task by name; only those that `prepared` names are converted.

    ConfigError where the folder of the data is not given or holds no image.
    """

    def __init__(self, settings: ImagesSettings, truth: TruthSettings, place: Place) -> None:
        self._settings, self._truth, self._place = settings, truth, place
        if settings.needs_data and place.data is None:
            raise ConfigError(f"task {place.task}: where are its images? give their folder with --data")
        self._stage: CubeStage | None = None
        self._raw: dict[str, Image] = {}  # by name: to be converted
        self._cubes: dict[str, Path] = {}  # by name: there
        if settings.demo is not None:
            self._generate(settings.demo)
        elif settings.descriptor is not None:
            # the user named the folder, so that links of his own may lead out of it
            dataset = Dataset(
                root=str(place.data), descriptor=settings.descriptor, glob=settings.glob, allow_outside=True
            )
            self._list_raw(dataset, dataset.described(place.task))
        else:
            folder = place.data
            if not settings.cubes:
                # all cubes of a data set lie in the folder of any of them
                folder = place.layout.cube(str(settings.dataset), "any").parent
            self._list_cubes(folder)

    @property
    def names(self) -> list[str]:
        """All of them, sorted."""
        return sorted(self._raw | self._cubes)

    def prepared(self, names: Sequence[str]) -> dict[str, TaskImage]:
        """Some images, by name in this order; what is no cube yet, or no longer a valid one, is converted."""
        images = {}
        for name in tqdm(names, desc="cubes", unit="image", disable=None):
            cube = open_cube(self._cube(name))
            truth = self._truth_file(name, cube)
            images[name] = TaskImage(name, cube, truth, self._settings, self._truth)
        return images

    def _generate(self, demo: Dataset) -> None:
        """Scenes of a simulated camera, whose files are known by their settings."""
        written = self._place.root / "scenes" / f"{self._place.task}.json"
        recipe = demo.model_dump_json()
        # equal settings give equal files: they are written once, and anew when the task file changes
        if not written.exists() or written.read_text() != recipe:
            write_scenes(self._place.task, demo, self._place.root)
            # noted last: a process that was killed meanwhile leaves no note, and the scenes are written again
            written.parent.mkdir(parents=True, exist_ok=True)
            written.write_text(recipe)
        assert demo.demo is not None  # the settings' validator
        self._list_raw(demo, CAMERAS[demo.demo].descriptor)

    def _list_raw(self, dataset: Dataset, descriptor: Descriptor) -> None:
        """Raw files below the folder of the data."""
        files, problems = files_of(self._place.task, dataset, self._place.root)
        if not files:
            raise ConfigError("; ".join(problems) or f"{self._place.data}: no image in it; correct --data")
        self._stage = CubeStage(Layout(self._place.root), descriptor, CubeSettings())
        for image_id, of_image in files.items():
            row = Image(self._place.task, image_id, "0000", *of_image)
            # an image is called as its file, in whatever folder it lies
            name = self._name(Path(row.raw))
            if name in self._raw:
                _refuse_twins(name, self._raw[name].raw, row.raw)
            self._raw[name] = row

    def _list_cubes(self, folder: Path | None) -> None:
        """Cubes in a folder."""
        paths = sorted(folder.rglob("*.zarr")) if folder is not None else []
        if not paths:
            raise ConfigError(f"{folder}: no cube (.zarr) in it; `hvlabel convert` makes cubes, or correct --data")
        for path in paths:
            name = self._name(path)
            if name in self._cubes:
                _refuse_twins(name, self._cubes[name], path)
            self._cubes[name] = path

    def _name(self, path: Path) -> str:
        name = path.stem
        for part in self._settings.remove:
            name = name.replace(part, "")
        return name

    def _cube(self, name: str) -> Path:
        """Path of a valid cube."""
        if name in self._cubes:
            return self._cubes[name]
        stage, row = self._stage, self._raw[name]
        assert stage is not None  # there are raw files
        stage.blocked(row)  # nothing of another image is at hand
        key = stage.key(row)
        # a key can be told without reading only where there is a cube: "" means that there is none
        if not key or stage.valid(row, key) is None:
            stage.make(row, key)
        return stage.layout.cube(row.dataset, row.image_id)

    @cached_property
    def _truth_files(self) -> TruthFiles:
        assert self._truth.file is not None
        folder = self._place.data or self._place.layout.root
        return TruthFiles(folder, self._truth.file)

    def _truth_file(self, name: str, cube: Cube) -> Path:
        if self._truth.demo:
            dataset = self._settings.dataset
            if dataset is not None:
                return self._place.layout.materials(dataset, cube.image_id)
            own = Layout(self._place.root)
            return own.materials(self._place.task, cube.image_id)
        if self._truth.file is not None:
            return self._truth_files.of(name)
        # the variable of a MATLAB file that holds the cube too
        source = cube.attributes.get("source")
        if source is None:
            raise ConfigError(
                f"image {name}: its cube does not say which raw file truth.variable is in; give truth.file as well"
            )
        return Path(source["path"])


def _refuse_twins(name: str, one: Path | str, other: Path | str) -> None:
    """ConfigError: lists and truth files know images by their names alone."""
    raise ConfigError(f"{one} and {other} would both be image {name}; correct images.remove or .glob, or rename one")
