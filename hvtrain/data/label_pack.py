"""All masks of a corpus in a few memory-mapped arrays: a sample decodes its own masks and parses nothing."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from hvlabel.cache.publish import publish_folder, temporary_beside
from hvlabel.cache.receipt import read_attributes
from hvlabel.errors import ResultsError
from hvlabel.masks import Rle, masks_of, read_document
from hvlabel.masks.rle import boxes_xywh
from hvtrain.data.corpus import TrainImage

FORMAT = "2: with qualities"  # of the files of a pack; part of its name, so that packs of another one are left alone
DIGEST_DIGITS = 16  # of the name of a pack: 64 bits, which no two lists of labels will share by chance


class LabelPack:
    """Masks of many images, best first within an image. Copies in other processes map the same files.

    M images, N masks of all of them.

    starts     : (M + 1,) int64, masks of image i are starts[i]:starts[i + 1]
    sizes      : (M, 2) int64 height and width of each image, px
    boxes_xywh : (N, 4) float32 px
    qualities  : (N,) float32 in [0, 1], the IoU with an object that the label expects of a mask, or else its score
    offsets    : (N + 1,) int64 into counts
    counts     : uint8, COCO compressed run lengths
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.starts = self._mapped("starts")
        self.sizes = self._mapped("sizes")
        self.boxes_xywh = self._mapped("boxes_xywh")
        self.qualities = self._mapped("qualities")
        self.offsets = self._mapped("offsets")
        self.counts = self._mapped("counts")

    def _mapped(self, name: str) -> np.ndarray:
        return np.load(self.path / f"{name}.npy", mmap_mode="r")

    def __reduce__(self) -> tuple[type[LabelPack], tuple[Path]]:
        # pickled for a worker, a memory map would become a copy of its content
        return LabelPack, (self.path,)

    def boxes(self, image: int) -> np.ndarray:
        """(n, 4) float32 xywh px of an image's masks."""
        return self.boxes_xywh[self._of(image)]

    def quality(self, image: int) -> np.ndarray:
        """(n,) float32 in [0, 1] of an image's masks."""
        return self.qualities[self._of(image)]

    def _of(self, image: int) -> slice:
        """Where an image's masks are among those of all images."""
        first, end = self.starts[image], self.starts[image + 1]
        return slice(int(first), int(end))

    def rle(self, image: int, mask: int) -> Rle:
        """Run lengths of an image's mask, counted from 0 within the image."""
        n = self.starts[image] + mask  # among the masks of all images
        first, end = self.offsets[n], self.offsets[n + 1]
        counts = self.counts[first:end].tobytes()
        return {"size": self.sizes[image].tolist(), "counts": counts}


def open_pack(folder: Path, images: list[TrainImage]) -> LabelPack:
    """The pack of these images' labels below `folder`, made at first use.

    ResultsError if a label does not belong to its cube, its index, or the run of the others; MaskFileError if one is
    damaged.
    """
    rows = [f"{image.name} {image.label_digest}" for image in images]
    content = "\n".join([FORMAT, *rows])
    digest = hashlib.sha256(content.encode()).hexdigest()
    path = folder / f"labels-{digest[:DIGEST_DIGITS]}"
    if not path.is_dir():
        _write(path, images)
    return LabelPack(path)


def _write(path: Path, images: list[TrainImage]) -> None:
    """Publish the pack of these labels as a folder; errors as open_pack."""
    starts = [0]
    sizes: list[tuple[int, int]] = []
    boxes: list[np.ndarray] = []
    qualities: list[float] = []
    counts: list[bytes] = []
    first_recipe: dict[str, object] = {}
    for image in tqdm(images, desc="labels", unit="image", disable=None):
        document = read_document(image.label)
        provenance = document["provenance"]
        _require_listed(image, provenance)
        recipe = _recipe(provenance)
        first_recipe = first_recipe or recipe
        if recipe != first_recipe:
            raise ResultsError(
                f"{image.label}: made with other settings or branches than the label of {images[0].name}; "
                "run `snakemake pseudolabels` again, it makes all labels alike"
            )
        masks = masks_of(document)
        starts.append(starts[-1] + len(masks))
        sizes.append((masks.height_px, masks.width_px))
        boxes.append(boxes_xywh(masks.rles))
        for mask in masks.masks:
            expected = mask.extra.get("quality", mask.score)
            qualities.append(float(expected))
        counts += [rle["counts"] for rle in masks.rles]
    lengths = [len(of_mask) for of_mask in counts]
    ends = np.cumsum(lengths)
    offsets = np.concatenate([[0], ends])  # (N + 1,): each mask begins where the one before ends
    arrays: dict[str, np.ndarray] = {
        "starts": np.array(starts, np.int64),
        "sizes": np.array(sizes, np.int64),
        "boxes_xywh": np.concatenate(boxes).astype(np.float32),
        "qualities": np.array(qualities, np.float32),
        "offsets": offsets.astype(np.int64),
        "counts": np.frombuffer(b"".join(counts), np.uint8),
    }
    temporary = temporary_beside(path)
    try:
        temporary.mkdir()
        for name, array in arrays.items():
            np.save(temporary / f"{name}.npy", array)
        publish_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _require_listed(image: TrainImage, provenance: Mapping[str, Any]) -> None:
    """ResultsError if a label is another than its index lists, or was made of another cube."""
    cube_key = read_attributes(image.cube)["key"]
    made_of = provenance.get("cube_key", cube_key)  # a label need not say
    if provenance["content_sha256"] != image.label_digest or made_of != cube_key:
        raise ResultsError(
            f"{image.label}: not the label that its index lists, or of another cube; run `snakemake pseudolabels` again"
        )


def _recipe(provenance: Mapping[str, Any]) -> dict[str, object]:
    """How a label was made, as far as all labels of a pack must agree."""
    branches = {}
    for name, made in provenance["branches"].items():
        branches[name] = (made["backend"], made.get("recipe"))
    return {"settings": provenance["settings"], "branches": branches}
