"""What a task file of kind `saliency` says, and the truth and split that follow from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from PIL import Image as Picture
from pydantic import Field, model_serializer, model_validator

from hvlabel.errors import ConfigError, RawFileError
from hvlabel.settings import Settings
from hvtrain.downstream.contract import TaskSettings
from hvtrain.downstream.splits import PARTS, Parts, split_of
from hvtrain.downstream.task_file import ImagesSettings, SplitSettings, require_name_only
from hvtrain.metrics.saliency import Variant

MIDDLE = 128  # of grey values: what is brighter is the object


class SaliencyTruthSettings(Settings):
    """Where the truth of an image lies: a picture, 255 for the object and 0 for the rest."""

    file: str = Field(
        description="end of the path of its picture below the folder of the data, with {name} of the image"
    )

    @model_validator(mode="after")
    def _name_only(self) -> Self:
        require_name_only(self.file)
        return self


class SaliencyAugmentSettings(Settings):
    """Changes of training samples. Cached maps can only be mirrored: anything else encodes every sample anew."""

    flip: float = Field(0.5, ge=0, le=1, description="share of samples mirrored along x")
    crop: float = Field(
        1.0, gt=0, le=1, description="smallest share of height and width that is cut out: uniform from it to 1; 1: none"
    )
    gain_sd: float = Field(0.0, ge=0, lt=1, description="of a factor on each band; 0: none")

    @property
    def encodes(self) -> bool:
        """Whether samples are no longer those of the cache."""
        return self.crop < 1 or self.gain_sd > 0


class SaliencySettings(TaskSettings):
    """Salient objects."""

    kind: Literal["saliency"]
    images: ImagesSettings
    truth: SaliencyTruthSettings
    split: SplitSettings = SplitSettings()
    folds: int | None = Field(
        None,
        ge=2,
        description="instead of the split: images are dealt to so many folds in the order of their names, and the seed "
        "says which one is tested, so that runs of as many seeds test each image once",
    )
    decoder: Literal["auto", "sam", "random"] = Field(
        "auto", description="first weights of the decoder: SAM's from the model cache; auto: where they are there"
    )
    variant: Variant = Field("smn", description="program whose way of counting the scores follow")
    augment: SaliencyAugmentSettings = SaliencyAugmentSettings()

    @model_validator(mode="before")
    @classmethod
    def _with_flip_in_its_group(cls, tree: Any) -> Any:
        """Older files say `flip` beside the groups."""
        if not isinstance(tree, dict) or "flip" not in tree:
            return tree
        groups = {name: group for name, group in tree.items() if name != "flip"}
        augment = groups.get("augment", {})
        if not isinstance(augment, dict) or "flip" in augment:
            raise ValueError("flip is part of augment: give it once, there")
        return groups | {"augment": augment | {"flip": tree["flip"]}}

    @model_serializer(mode="wrap")
    def _as_before_the_group(self, written: Callable[[Self], dict[str, Any]]) -> dict[str, Any]:
        """A run is known by what this gives: one without new settings is still the run that it was."""
        tree = written(self)
        augment = tree.pop("augment")
        tree["flip"] = augment.pop("flip")
        return tree | {"augment": augment} if self.augment.encodes else tree


def parts_of(names: Sequence[str], settings: SaliencySettings, seed: int) -> Parts:
    """Names of images by part; ConfigError as split_of, and for fewer images than folds."""
    if settings.folds is None:
        return split_of(names, settings.split)
    if len(names) < settings.folds:
        raise ConfigError(f"folds: {settings.folds} of {len(names)} images; give more images, or set fewer folds")
    parts: Parts = {part: [] for part in PARTS}
    tested = seed % settings.folds
    for k, name in enumerate(sorted(names)):
        part = parts["test"] if k % settings.folds == tested else parts["train"]
        part.append(name)
    return parts


def read_truth(name: str, path: Path, size_px: tuple[int, int]) -> np.ndarray:
    """(H, W) uint8 grey values of the truth of an image of this size.

    RawFileError for what is missing or damaged, or of another size.
    """
    if not path.is_file():
        raise RawFileError(f"image {name}: no truth {path}; restore it, or take the image out of the split")
    try:
        with Picture.open(path) as picture:
            grey = np.asarray(picture.convert("L"))  # an indexed or coloured picture by its brightness
    except Exception as error:  # decoders raise many kinds on damaged files; each means the same
        raise RawFileError(f"{path}: not a readable picture ({str(error)[:80]}); restore it") from error
    if grey.shape != size_px:
        raise RawFileError(
            f"{path}: the truth of {name} is {grey.shape[0]} x {grey.shape[1]} px, its cube {size_px[0]} x "
            f"{size_px[1]} px; correct truth.file"
        )
    return grey


def require_objects(truths: Sequence[np.ndarray]) -> None:
    """ConfigError unless truths (H, W) uint8 of a training part show both an object and what is none."""
    is_object = [truth > MIDDLE for truth in truths]
    if not any(mask.any() for mask in is_object):
        raise ConfigError(
            f"no truth of the training part is above {MIDDLE} anywhere: give 255 for the object, 0 elsewhere"
        )
    if all(mask.all() for mask in is_object):
        raise ConfigError(f"every truth of the training part is above {MIDDLE} everywhere: give 0 beside the object")
