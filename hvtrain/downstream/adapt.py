"""From what a user asks for to one run: its task, backbone, choice and folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from lightning_fabric import Fabric

from hvlabel.cache.publish import make_folder, publish_bytes
from hvlabel.config import HardwareSettings
from hvlabel.config.downstream import NO_BACKBONE, run_name
from hvlabel.errors import ConfigError
from hvlabel.settings import validated
from hvtrain.downstream.contract import Choice, RecipeSettings, Task, TaskSettings
from hvtrain.downstream.frozen import Frozen, load_frozen
from hvtrain.downstream.head_run import HeadFiles, HeadRun, Plan
from hvtrain.downstream.place import Place
from hvtrain.downstream.table import Row, kind_row
from hvtrain.downstream.task_file import read_task, task_path
from hvtrain.engine.checkpoint import sweep
from hvtrain.engine.devices import keep_sums_the_same, launched
from hvtrain.engine.run_folder import is_complete, move_aside, only_one, pretty, read_identity

VERSION = 1  # raised by hand when runs of equal settings give other heads


@dataclass(frozen=True)
class Request:
    """What the user asks for; none: the task file's."""

    task: str
    backbone: str | None = None
    head: str | None = None
    input: str | None = None
    labels: float = 100.0
    seed: int = 0
    steps: int | None = None
    data: Path | None = None


def adapt(
    request: Request, place_of: Callable[[str, Path | None], Place], *, device: str = "auto", threads: int = 2
) -> Path:
    """Train to the last step, keep the best head, score it; returns the run's folder.

    place_of : (name of the task, folder of the data) -> Place
    A finished run of the same settings, images and backbone is left as it is; one of others is moved aside.
    ConfigError, RawFileError, BandError, WeightsError for what is wrong before the start; TrainingError if the loss is
    no number or the backbone did not stay as it was.
    """
    path = task_path(request.task)
    row, settings = open_file(path, request.steps)
    head = request.head or settings.head
    input_name = request.input or settings.input
    choice = Choice(head, input_name, request.labels, request.seed)
    place = place_of(path.stem, request.data)
    keep_sums_the_same()
    one_device = {"accelerator": device, "threads": threads, "devices": 1}
    fabric = launched(HardwareSettings.model_validate(one_device))
    needs_backbone = row.needs_backbone(settings, choice)
    backbone = _backbone(request.backbone, needs_backbone, choice, fabric)
    make_folder(place.root)
    # runs of one task share its cubes and maps: the first of them makes them, others wait
    with FileLock(place.lock):
        task = row.open(settings, place, backbone, choice)
    files = HeadFiles(place.runs / _folder_name(backbone, choice))
    key = _key(settings, choice, backbone, task)
    make_folder(files.folder.parent)
    with only_one(files, first=True, agree=lambda holder: holder):  # a single process agrees with itself
        move_aside(files, key)
        if is_complete(files, key):
            # killed in between, a run has its facts in the identity and no file of them
            facts = read_identity(files)["facts"]
            publish_bytes(files.facts, pretty(facts))
            return files.folder
        make_folder(files.folder)
        sweep(files.checkpoint)
        unfinished = {"key": key, "facts": None}
        publish_bytes(files.identity, pretty(unfinished))
        source = None if backbone is None else backbone.source
        plan = Plan(key, path.stem, settings, choice, backbone, source)
        HeadRun(fabric, files, task, plan).finish()
    return files.folder


def open_file(path: Path, steps: int | None = None) -> tuple[Row, TaskSettings]:
    """Kind and settings of a task file; ConfigError says in one sentence what is wrong.

    steps : of the training, instead of the file's
    """
    tree = read_task(path)
    row = kind_row(tree.get("kind"))
    settings = validated(row.settings, tree, str(path))
    if steps is not None:
        of_recipe = settings.recipe.model_dump() | {"steps": steps}
        # validated again: model_copy would take any number
        recipe = validated(RecipeSettings, of_recipe, "--steps")
        settings = settings.model_copy(update={"recipe": recipe})
    return row, settings


def _backbone(source: str | None, needed: bool, choice: Choice, fabric: Fabric) -> Frozen | None:
    """The backbone on the device that computes, or none where the input needs none."""
    if not needed:
        return None
    if source is None:
        raise ConfigError(
            f"input {choice.input} needs a backbone: give --backbone (folder of a run, or a .safetensors file), or "
            "choose input cube, pca1, mean or rgb"
        )
    backbone = load_frozen(source, choice.seed)
    backbone.network.to(fabric.device)
    return backbone


def _folder_name(backbone: Frozen | None, choice: Choice) -> str:
    """Of a run."""
    name = backbone.name if backbone else NO_BACKBONE
    return run_name(name, choice.head, choice.input, choice.labels, choice.seed)


def _key(settings: TaskSettings, choice: Choice, backbone: Frozen | None, task: Task) -> str:
    """Identity of a run. Where images and lists lie is no part of it: what they hold is, by the task's hashes."""
    # a run may be moved with its data; a title is for people
    places: Any = {"title": True, "split": True, "images": {"descriptor", "glob", "cubes", "dataset"}}
    of_settings = settings.model_dump(mode="json", exclude=places)
    weights = backbone.sha256 if backbone else None
    depends_on = [VERSION, of_settings, asdict(choice), weights, task.identity()]
    content = json.dumps(depends_on, sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()
