"""All masks of a corpus in a few memory-mapped arrays: a sample decodes its own masks and parses nothing."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
from tqdm import tqdm

from hvlabel.cache.publish import publish_folder, temporary_beside
from hvlabel.cache.receipt import read_attributes
from hvlabel.errors import ResultsError
from hvlabel.masks import Rle, masks_of, read_document
from hvlabel.masks.rle import boxes_xywh
from hvtrain.data.corpus import TrainImage

ARRAYS = ("starts", "sizes", "boxes_xywh", "offsets", "counts")


class LabelPack:
    """Masks of many images, best first within an image. Copies in other processes map the same files.

    starts     : (M + 1,) int64, masks of image i are starts[i]:starts[i + 1]
    sizes      : (M, 2) int64 height and width of each image, px
    boxes_xywh : (N, 4) float32 px
    offsets    : (N + 1,) int64 into counts
    counts     : uint8, COCO compressed run lengths
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.starts, self.sizes, self.boxes_xywh, self.offsets, self.counts = (
            np.load(path / f"{name}.npy", mmap_mode="r") for name in ARRAYS
        )

    def __reduce__(self) -> tuple[type[LabelPack], tuple[Path]]:
        return LabelPack, (self.path,)

    def boxes(self, image: int) -> np.ndarray:
        """(n, 4) float32 boxes of an image's masks."""
        return self.boxes_xywh[self.starts[image] : self.starts[image + 1]]

    def rle(self, image: int, mask: int) -> Rle:
        """Run lengths of an image's mask."""
        n = self.starts[image] + mask
        counts = self.counts[self.offsets[n] : self.offsets[n + 1]].tobytes()
        return {"size": self.sizes[image].tolist(), "counts": counts}


def open_pack(folder: Path, images: list[TrainImage]) -> LabelPack:
    """The pack of these images' labels below `folder`, made at first use.

    ResultsError if a label does not belong to its cube, its index, or the run of the others; MaskFileError if one is
    damaged.
    """
    digest = hashlib.sha256("\n".join(f"{i.name} {i.label_digest}" for i in images).encode()).hexdigest()
    path = folder / f"labels-{digest[:16]}"
    if not path.is_dir():
        _write(path, images)
    return LabelPack(path)


def _write(path: Path, images: list[TrainImage]) -> None:
    starts, sizes, boxes, lengths, counts = [0], [], [], [], []
    settings: dict[str, object] = {}
    for image in tqdm(images, desc="labels", unit="image", disable=None):
        document = read_document(image.label)
        provenance = document["provenance"]
        made_with = {
            "settings": provenance["settings"],
            "branches": {b: (v["backend"], v.get("recipe")) for b, v in provenance["branches"].items()},
        }
        settings = settings or made_with
        cube = read_attributes(image.cube)
        if provenance["content_sha256"] != image.label_digest or provenance.get("cube_key", cube["key"]) != cube["key"]:
            raise ResultsError(
                f"{image.label}: not the label that its index lists, or of another cube; "
                "run `snakemake pseudolabels` again"
            )
        if made_with != settings:
            raise ResultsError(
                f"{image.label}: made with other settings or branches than the label of {images[0].name}; "
                "run `snakemake pseudolabels` again, it makes all labels alike"
            )
        masks = masks_of(document)
        starts.append(starts[-1] + len(masks))
        sizes.append((masks.height_px, masks.width_px))
        boxes.append(boxes_xywh(masks.rles))
        lengths += [len(r["counts"]) for r in masks.rles]
        counts += [r["counts"] for r in masks.rles]
    temporary = temporary_beside(path)
    try:
        temporary.mkdir()
        arrays: tuple[np.ndarray, ...] = (
            np.array(starts, np.int64),
            np.array(sizes, np.int64),
            np.concatenate(boxes).astype(np.float32),
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            np.frombuffer(b"".join(counts), np.uint8),
        )
        for name, array in zip(ARRAYS, arrays, strict=True):
            np.save(temporary / f"{name}.npy", array)
        publish_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
