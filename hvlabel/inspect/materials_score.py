"""Material groups against the true classes of pixels, where generated scenes bring some."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from hvlabel.inspect.clusters import adjusted_rand, purity
from hvlabel.inspect.materials import UNKNOWN, Materials
from hvlabel.layout import Layout
from hvlabel.masks import decode, read_masks

NO_CLASS = 255
PURE_SHARE = 0.8  # of a mask's pixels that are of one class: what lies across things is of none


class MaterialScore(NamedTuple):
    """How groups and true classes agree, over masks that lie in one class."""

    n_masks: int
    n_classes: int
    purity: float
    adjusted_rand: float

    def sentence(self) -> str:
        """Both figures."""
        return f"purity {self.purity:.2f}, adjusted Rand {self.adjusted_rand:.2f}, {self.n_classes} classes"


def material_score(layout: Layout, materials: Materials) -> MaterialScore | None:
    """The agreement; None without true classes."""
    groups: list[int] = []
    classes: list[int] = []
    for image, of_masks in materials.groups.items():
        path = layout.materials(materials.dataset, image)
        if not path.is_file():
            continue
        truth = np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))  # (H, W) uint8
        label = read_masks(layout.label(materials.dataset, image))
        for group, rle in zip(of_masks, label.rles, strict=True):
            true_class = class_of(truth[decode(rle)])
            if true_class is not None and group != UNKNOWN:
                groups.append(group)
                classes.append(true_class)
    if not groups:
        return None
    of_groups, of_classes = np.array(groups), np.array(classes)
    agreement = adjusted_rand(of_groups, of_classes)
    return MaterialScore(len(groups), len(set(classes)), purity(of_groups, of_classes), agreement)


def class_of(pixels: np.ndarray) -> int | None:
    """The class that most of a mask's pixels are of; None where no class has PURE_SHARE of them. pixels: (n,) uint8."""
    if not len(pixels):
        return None
    counts = np.bincount(pixels, minlength=256)
    commonest = int(counts.argmax())
    is_pure = counts[commonest] >= PURE_SHARE * len(pixels)
    return commonest if is_pure and commonest != NO_CLASS else None
