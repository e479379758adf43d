"""Raw files of demo scenes, whether or not they exist yet.

Apart from the cameras, since the scan lists them before they are made and should import nothing heavy for it.
"""

from __future__ import annotations

from pathlib import Path

from hvlabel.config import Dataset
from hvlabel.layout import Layout

# camera -> suffix of the file that it writes, and that its reader is given
SUFFIXES = {"mosaic16": ".png", "nir25": ".npy", "vis31": ".mat", "vnir61": ".tif", "vnir128": ".hdr"}


def demo_paths(name: str, dataset: Dataset, results: Path) -> list[Path]:
    """Raw files of a demo data set. name: of the data set; results: the results folder."""
    assert dataset.demo is not None
    folder = Layout(results).demo(name) / "raw"
    suffix = SUFFIXES[dataset.demo]
    return [folder / f"{dataset.demo}_{k:02d}{suffix}" for k in range(dataset.demo_scenes)]
