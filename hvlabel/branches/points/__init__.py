"""Points to the masks of one crop that survive its filters and its suppression: exactly as published, and faster."""

from hvlabel.branches.points.boxes import outer_boxes
from hvlabel.branches.points.contract import CropBox, CropRun, PromptModel, Survivors
from hvlabel.branches.points.exact import exact_masks
from hvlabel.branches.points.fast import fast_masks

__all__ = ["CropBox", "CropRun", "PromptModel", "Survivors", "exact_masks", "fast_masks", "outer_boxes"]
