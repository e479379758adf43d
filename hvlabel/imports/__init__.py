"""Masks that other tools or people made, taken into a results folder: as ground truth, or as marks for a branch."""

from hvlabel.imports.taking_in import Taken, import_prompts, import_truth

__all__ = ["Taken", "import_prompts", "import_truth"]
