"""Frozen RGB networks as teachers: a picture of any size to a regular grid of tokens."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import torch

from hvlabel.config import DinoModel, TeacherSettings
from hvlabel.errors import WeightsError
from hvlabel.models.pictures import network_input
from hvlabel.models.sam import SamPredictor, sam_of


class Teacher(Protocol):
    """A frozen network."""

    def tokens(self, rgb: np.ndarray) -> np.ndarray:
        """(g, g, D) float32 tokens of an (H, W, 3) uint8 picture, which is resized to the network's square input."""


def load_teacher(settings: TeacherSettings, device: torch.device) -> Teacher:
    """The network that the settings name; WeightsError if it cannot be built."""
    if settings.backend == "sam2":
        from hvlabel.models.sam2 import Sam2Predictor, load_sam2  # only here: other teachers do without sam2

        assert settings.sam2 is not None  # the settings' validator
        return Sam2Predictor(load_sam2(settings.sam2, device))
    if settings.backend == "sam":
        return SamPredictor(sam_of(settings.sam).to(device))
    assert settings.dino is not None
    return DinoTeacher(settings.dino, device)


def picture_tokens(teacher: Teacher, rgb: np.ndarray, tile_px: int) -> np.ndarray:
    """(h, w, D) float32 tokens of a whole picture, cut into equal tiles of about tile_px without overlap.

    rgb : (H, W, 3) uint8
    """
    height, width = rgb.shape[:2]
    across = _tiles(width, tile_px)
    rows = []
    for y0, y1 in _tiles(height, tile_px):
        of_tiles = [teacher.tokens(rgb[y0:y1, x0:x1]) for x0, x1 in across]  # (g, g, D) each
        rows.append(np.concatenate(of_tiles, axis=1))
    return np.concatenate(rows)


def _tiles(n_px: int, tile_px: int) -> list[tuple[int, int]]:
    """(first, end) px of equal tiles along a side; with all of one size, all tokens show the same number of px."""
    n_tiles = max(1, round(n_px / tile_px))
    bounds = np.linspace(0, n_px, n_tiles + 1)
    whole = bounds.round().astype(int).tolist()
    return list(pairwise(whole))


class DinoTeacher:
    """DINOv2 or DINOv3 from a local folder, through `transformers`.

    WeightsError if the package is missing, the folder holds no such network, or the input is no multiple of its patch.
    """

    def __init__(self, model: DinoModel, device: torch.device) -> None:
        try:
            from transformers import AutoModel
        except ImportError as error:
            raise WeightsError(
                "teacher backend dino needs the package transformers, an optional extra; "
                "install it with: pip install 'hvlabel[dino]'"
            ) from error
        folder = model.files()[0].parent
        try:
            # neither pickled weights nor a module that lies in the folder
            safely = {"local_files_only": True, "use_safetensors": True, "trust_remote_code": False}
            network: Any = AutoModel.from_pretrained(str(folder), **safely)
            self.network = network.to(device).eval()
            self.patch_px = int(self.network.config.patch_size)
        except Exception as error:  # the library raises many kinds on foreign folders; each means the same to the user
            gist = " ".join(str(error).split())[:160]
            raise WeightsError(
                f"{folder}: no DINO network can be loaded ({gist}); save it anew with save_pretrained"
            ) from error
        if model.input_px % self.patch_px:
            raise WeightsError(
                f"teacher.dino.input_px {model.input_px} is no multiple of the network's patch of {self.patch_px} px; "
                f"set {model.input_px // self.patch_px * self.patch_px}"
            )
        self.input_px, self.device = model.input_px, device

    @torch.inference_mode()
    def tokens(self, rgb: np.ndarray) -> np.ndarray:
        """(g, g, D) float32 patch tokens, class and register tokens left out."""
        grid = self.input_px // self.patch_px
        x = network_input(rgb, self.input_px, self.device)
        states = self.network(pixel_values=x).last_hidden_state[0]
        patches = states[-grid * grid :]  # class and register tokens come first
        on_grid = patches.unflatten(0, (grid, grid))
        return on_grid.float().cpu().numpy()
