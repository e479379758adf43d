"""Rules for files that belong to a raw file: its RGB picture, and what people drew on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from hvlabel.settings import Settings


class Companion(Settings):
    """Where the RGB picture of a raw file lies."""

    path: str = Field(
        description="beside the raw file (inside it, if it is a folder), with {stem} of the raw name, "
        "e.g. ../rgb/{stem}.png"
    )
    folders: dict[str, str | None] = Field(
        {},
        description="folder names on the way to the raw file that differ for the picture; null: left out, "
        "if it lies below the others. Of equal names the last counts",
    )
    remove: tuple[str, ...] = Field((), description="parts of the raw name that {stem} goes without")
    optional: bool = Field(
        False, description="images without the file do without: they are rendered from their bands, or have no prompts"
    )
    transpose: bool = Field(False, description="the picture's rows are the columns of the upright cube")

    @model_validator(mode="after")
    def _names_the_stem_only(self) -> Self:
        try:
            self.path.format(stem="")  # any other name in braces raises here, not at the first image
        except (KeyError, IndexError, ValueError) as error:
            raise ValueError(f"rgb_companion {self.path!r} may use {{stem}} only") from error
        return self

    def of(self, raw: Path, folder: Path) -> Path:
        """Path of the picture. folder: the raw file's folder, or the raw folder itself."""
        stem = raw.stem
        for part in self.remove:  # scene_hsi.mat goes with scene.png
            stem = stem.replace(part, "")
        return self._other_folder(folder) / self.path.format(stem=stem)

    def _other_folder(self, folder: Path) -> Path:
        """A folder with the names on its way replaced or left out."""
        parts = list(folder.parts)
        positions = {name: _last(parts, name) for name in self.folders if name in parts}
        instead_of = {name: instead for name, instead in self.folders.items() if instead is not None}
        replaced = [position for name, position in positions.items() if name in instead_of]
        top = min(replaced, default=0)  # none is replaced: any folder may be left out
        # from the end, so that what is left out moves nothing that comes later
        from_the_end = sorted(positions.items(), key=lambda item: -item[1])
        for name, position in from_the_end:
            instead = self.folders[name]
            if instead is not None:
                parts[position] = instead
            elif position >= top:  # a folder of that name above the data set is none of ours
                del parts[position]
        return Path(*parts)


def as_rule(given: Any) -> Any:
    """A companion's rule from a mere path."""
    return {"path": given} if isinstance(given, str) else given


def _last(parts: Sequence[str], name: str) -> int:
    """Position of the last part of this name."""
    return max(k for k, part in enumerate(parts) if part == name)
