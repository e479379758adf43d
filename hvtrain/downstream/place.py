"""Where a task finds its images and keeps what it makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hvlabel.layout import Layout


@dataclass(frozen=True)
class Place:
    """Folders of a task.

    layout : results folder of the pipeline: cubes that it made, and below `downstream` everything of tasks
    task   : name of the task, a folder in it
    data   : folder of the user's images and truth, or none where they are those of the results folder
    """

    layout: Layout
    task: str
    data: Path | None = None

    @property
    def root(self) -> Path:
        """Everything that downstream tasks make."""
        return self.layout.downstream

    @property
    def cubes(self) -> Path:
        """Cubes converted for the task from raw files."""
        return self.root / "cubes" / self.task

    @property
    def runs(self) -> Path:
        """Folder with one folder per run of the task."""
        return self.root / "runs" / self.task

    @property
    def lock(self) -> Path:
        """Held while cubes and maps of the task are made."""
        return self.root / f".{self.task}.lock"

    def features(self, backbone_sha256: str) -> Path:
        """Maps of the task's images by one backbone."""
        return self.root / "features" / backbone_sha256[:16] / self.task


def place_in(results: Path) -> Callable[[str, Path | None], Place]:
    """Places below a results folder: of a task's name and the folder of its data."""

    def place(task: str, data: Path | None) -> Place:
        return Place(Layout(results), task, data)

    return place
