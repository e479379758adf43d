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
        self.layout = Layout(Path(results))
        self.max_masks = max_masks
        self.images: list[tuple[str, str]] = []  # data set and image
        for index in all_indexes(self.layout, "labels"):
            for image_id, entry in index.images.items():
                if entry.status == "ok":
                    self.images.append((index.dataset, image_id))
        if not self.images:
            raise ResultsError(f"{results}: no labels to train on; run `snakemake pseudolabels` first")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, k: int) -> LabelledImage:
        dataset, image_id = self.images[k]
        cube = open_cube(self.layout.cube(dataset, image_id))
        label = read_masks(self.layout.label(dataset, image_id))
        best = label.masks[: self.max_masks]
        masks = np.zeros((0, cube.height_px, cube.width_px), bool)  # what an image without a mask has
        if best:
            masks = np.stack([decode(mask.rle) for mask in best])
        return LabelledImage(
            image_id=image_id,
            cube=cube.values(),
            wavelengths_nm=cube.wavelengths_nm,
            masks=masks,
            scores=np.array([mask.score for mask in best], np.float32),
        )

    @staticmethod
    def collate(items: Sequence[LabelledImage]) -> LabelledBatch:
        """Items as a batch, for a DataLoader."""
        return LabelledBatch(
            image_ids=[item.image_id for item in items],
            cubes=[torch.from_numpy(item.cube) for item in items],
            wavelengths_nm=[torch.from_numpy(item.wavelengths_nm) for item in items],
            masks=[torch.from_numpy(item.masks) for item in items],
            scores=[torch.from_numpy(item.scores) for item in items],
        )
