"""What a task file of kind `segment` says, and the classes that a network then tells apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from hvlabel.errors import ConfigError
from hvlabel.settings import Settings
from hvtrain.downstream.contract import TaskSettings
from hvtrain.downstream.dense_inputs import PseudoRgbSettings
from hvtrain.downstream.task_file import ImagesSettings, SplitSettings, TruthSettings
from hvtrain.downstream.truth import require_classes

Level = Annotated[int, Field(ge=0, le=255)]
Colour = tuple[Level, Level, Level]
IGNORED = 255  # of a label that does not count, where no output stands for it
PALETTE_STEP = 97  # hues of classes without a colour: coprime to 256, so that neighbours differ


class LossSettings(Settings):
    """Cross entropy and what may stand beside it."""

    over: Literal["labelled", "all"] = Field(
        "labelled", description="mean over labelled pixels; all: HS3-Bench's, where images with few labels count less"
    )
    class_weights: Literal["none", "sqrt_inverse"] = Field(
        "none", description="sqrt_inverse: rare classes weigh more, by the root of their share in the training part"
    )
    dice: float = Field(0.0, ge=0, description="weight of a soft dice loss over the classes of a batch")


class AugmentSettings(Settings):
    """Changes of training samples. Cached maps can only be mirrored."""

    flip: float = Field(0.5, ge=0, le=1, description="share of samples mirrored along x")
    gain_sd: float = Field(0.03, ge=0, description="of a factor on each band of a picture at full size")


class SegmentSettings(TaskSettings):
    """Semantic segmentation."""

    kind: Literal["segment"]
    images: ImagesSettings
    truth: TruthSettings
    split: SplitSettings = SplitSettings()
    classes: dict[str, Colour] | tuple[str, ...] = Field(
        min_length=2,
        max_length=IGNORED,  # labels are bytes, and one of them stands for what does not count
        description="names in the order of the mapped values, with colours or without",
    )
    void: int | None = Field(None, ge=0, description="which of the classes is void: it is never a target")
    hs3bench_compat: bool = Field(
        False, description="an output for void as in HS3-Bench, whose predictions then count as errors"
    )
    metrics: Literal["hs3bench"] = Field("hs3bench", description="acc_micro, acc_macro, f1_macro, jaccard, all pixels")
    pseudo_rgb: PseudoRgbSettings | None = Field(None, description="of input rgb; none: the cube's own picture")
    pooled_px: int = Field(8, ge=1, description="side of the cells that `linear` sees of a picture, px")
    loss: LossSettings = LossSettings()
    augment: AugmentSettings = AugmentSettings()

    @model_validator(mode="after")
    def _void_is_a_class(self) -> Self:
        if self.void is not None and self.void >= len(self.classes):
            raise ValueError(f"void {self.void} is none of the {len(self.classes)} classes; count from 0")
        if self.hs3bench_compat and self.void is None:
            raise ValueError("hs3bench_compat needs void: the class that gets an output")
        if self.void is not None and len(self.classes) < 3:
            raise ValueError("beside void there is one class only: nothing is to be told apart; name more classes")
        times = Counter(tuple(self.classes))
        twice = [name for name, n in times.items() if n > 1]
        if twice:
            raise ValueError(f"classes name {twice[0]!r} twice; each needs a name of its own")
        return self


@dataclass(frozen=True)
class Classes:
    """What a network tells apart.

    names, colours : of its K outputs
    ignored        : label of pixels that do not count: IGNORED, or the void output
    """

    names: tuple[str, ...]
    colours: tuple[Colour, ...]
    ignored: int
    _output_of: np.ndarray  # (classes of the file,) label of each

    @classmethod
    def of(cls, settings: SegmentSettings) -> Classes:
        """Of a task file: void has an output only where the task file asks for the benchmark's own behaviour."""
        names = tuple(settings.classes)
        colours = _colours(settings)
        void = settings.void
        if void is None or settings.hs3bench_compat:
            ignored = IGNORED if void is None else void
            return cls(names, colours, ignored, np.arange(len(names)))
        kept = [k for k in range(len(names)) if k != void]
        # outputs are numbered without a gap: classes behind void move up by one
        output_of = np.full(len(names), IGNORED)
        output_of[kept] = np.arange(len(kept))
        kept_names = tuple(names[k] for k in kept)
        kept_colours = tuple(colours[k] for k in kept)
        return cls(kept_names, kept_colours, IGNORED, output_of)

    def labels(self, name: str, mapped: np.ndarray, ignore_index: int) -> np.ndarray:
        """(H, W) uint8 labels of a mapped truth; RawFileError for a value that is no class. name: of the image."""
        require_classes(name, mapped, len(self._output_of), (ignore_index,))
        labels = np.full(mapped.shape, self.ignored, np.uint8)
        counts = mapped != ignore_index
        labels[counts] = self._output_of[mapped[counts]]
        return labels

    def require_work(self, train: Sequence[np.ndarray], test: Sequence[np.ndarray]) -> None:
        """ConfigError unless training labels (H, W) tell classes apart and test labels can be scored."""
        present = self._present(train)
        # a loss over nothing would be 0 at every step, which looks like success
        if not present:
            raise ConfigError("no pixel of the training part is labelled; correct truth.mapping or the split")
        if len(present) == 1:
            raise ConfigError(
                f"the training part holds one class only, {self.names[present.pop()]}: nothing is to be told apart; "
                "correct truth.mapping or the split"
            )
        if not self._present(test):
            raise ConfigError("no pixel of the test part is labelled: nothing could be scored; correct the split")

    def _present(self, labels: Sequence[np.ndarray]) -> set[int]:
        """Classes that occur in some labels."""
        present: set[int] = set()
        for of_image in labels:
            present |= set(np.unique(of_image).tolist())
        return present - {self.ignored}


def _colours(settings: SegmentSettings) -> tuple[Colour, ...]:
    """Of all classes; made up where the file names none."""
    if isinstance(settings.classes, dict):
        return tuple(settings.classes.values())
    made_up = []
    for k in range(len(settings.classes)):
        step = k * PALETTE_STEP
        red, green, blue = step, step * 3 + 80, step * 7 + 160
        made_up.append((red % 256, green % 256, blue % 256))
    return tuple(made_up)
