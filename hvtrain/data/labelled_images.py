"""What the label pipeline hands to training: labelled cubes as a map-style data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from hvlabel.cache.index import all_indexes
from hvlabel.cube import open_cube
from hvlabel.errors import ResultsError
from hvlabel.layout import Layout
from hvlabel.masks import decode, read_masks


@dataclass(frozen=True)
class LabelledImage:
    """One image with its pseudo-labels.

    cube           : (C, H, W) float32 physical values, bands in file order
    wavelengths_nm : (C,) float64, band centres
    masks          : (N, H, W) bool, best first
    scores         : (N,) float32 in [0, 1]
    """

    image_id: str
    cube: np.ndarray
    wavelengths_nm: np.ndarray
    masks: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class LabelledBatch:
    """Several images as lists of tensors, since sizes, bands and numbers of masks differ; see LabelledImage."""

    image_ids: list[str]
    cubes: list[Tensor]
    wavelengths_nm: list[Tensor]
    masks: list[Tensor]
    scores: list[Tensor]


class LabelledImages(Dataset[LabelledImage]):
    """All labelled images of a results folder, in index order.

    In batches: torch.utils.data.DataLoader(images, batch_size=4, collate_fn=images.collate).

    max_masks : masks decoded per image, best first
    ResultsError if the folder holds no label.
    """

    def __init__(self, results: Path | str, max_masks: int = 64) -> None:
        self.layout, self.max_masks = Layout(Path(results)), max_masks
        self.images = [
            (index.dataset, name)
            for index in all_indexes(self.layout, "labels")
            for name, entry in index.images.items()
            if entry.status == "ok"
        ]
        if not self.images:
            raise ResultsError(f"{results}: no labels to train on; run `snakemake pseudolabels` first")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, k: int) -> LabelledImage:
        dataset, image_id = self.images[k]
        cube = open_cube(self.layout.cube(dataset, image_id))
        label = read_masks(self.layout.label(dataset, image_id))
        best = label.masks[: self.max_masks]
        masks = np.stack([decode(m.rle) for m in best]) if best else np.zeros((0, cube.height_px, cube.width_px), bool)
        scores = np.array([m.score for m in best], np.float32)
        return LabelledImage(image_id, cube.values(), cube.wavelengths_nm, masks, scores)

    @staticmethod
    def collate(items: Sequence[LabelledImage]) -> LabelledBatch:
        """Items as a batch, for a DataLoader."""
        arrays = [[torch.from_numpy(a) for a in (i.cube, i.wavelengths_nm, i.masks, i.scores)] for i in items]
        cubes, wavelengths_nm, masks, scores = (list(column) for column in zip(*arrays, strict=True))
        return LabelledBatch([i.image_id for i in items], cubes, wavelengths_nm, masks, scores)
