"""What an export of a format promises, and what it may say about what the format cannot hold."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from hvlabel.errors import ConfigError
from hvlabel.exports.image import ExportImage


@dataclass
class Remarks:
    """What was written and what was lost on the way.

    hidden    : masks of which no pixel is visible, in formats where each pixel has one mask
    holes     : masks whose holes are filled, in formats of one polygon per mask
    notes     : further sentences
    """

    n_images: int = 0
    n_masks: int = 0
    hidden: int = 0
    holes: int = 0
    notes: list[str] = field(default_factory=list)

    def add(self, image: ExportImage) -> None:
        """Count an image."""
        self.n_images += 1
        self.n_masks += len(image.masks)

    def note(self, sentence: str) -> None:
        """A sentence, once however often it is said."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def sentences(self) -> list[str]:
        """Everything that somebody should know."""
        said = list(self.notes)
        if self.hidden:
            said.append(f"{self.hidden} masks are hidden: each pixel shows the best mask there")
        if self.holes:
            said.append(f"the holes of {self.holes} masks are filled: this format has one polygon per object")
        return said


class Write(Protocol):
    """A format."""

    def __call__(self, images: Iterable[ExportImage], categories: Sequence[str], folder: Path) -> Remarks:
        """Write all images below an empty folder. Images come one at a time and may be many: none is kept.

        categories : names; a mask's category is its position there
        """


def needed(module: str, extra: str) -> Any:
    """An optional package; ConfigError says how to install it where it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"an export needs {module.split('.')[0]}, which is not installed; pip install 'hvlabel[{extra}]'"
        ) from error
