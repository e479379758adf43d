"""Frozen RGB networks as teachers: a picture of any size to a regular grid of tokens."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.functional import normalize, resize

from hvlabel.config import DinoModel, TeacherSettings
from hvlabel.errors import WeightsError
from hvlabel.models.sam import SamPredictor, sam_of

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Teacher(Protocol):
    """A frozen network."""

    def tokens(self, rgb: np.ndarray) -> np.ndarray:
        """(g, g, D) float32 tokens of an (H, W, 3) uint8 picture, which is resized to the network's square input."""


def load_teacher(settings: TeacherSettings, device: torch.device) -> Teacher:
    """The network that the settings name; WeightsError if it cannot be built."""
    if settings.backend == "sam2":
        from hvlabel.models.sam2 import Sam2Predictor, load_sam2  # only here: other teachers do without sam2

        assert settings.sam2 is not None  # the validator
        return Sam2Predictor(load_sam2(settings.sam2, device))
    if settings.backend == "sam":
        return SamPredictor(sam_of(settings.sam).to(device))
    assert settings.dino is not None
    return DinoTeacher(settings.dino, device)


def picture_tokens(teacher: Teacher, rgb: np.ndarray, tile_px: int) -> np.ndarray:
    """(h, w, D) float32 tokens of a whole (H, W, 3) uint8 picture, cut into equal tiles of about tile_px without overlap."""
    bounds = [np.linspace(0, n, max(1, round(n / tile_px)) + 1).round().astype(int) for n in rgb.shape[:2]]
    rows = [
        np.concatenate(
            [teacher.tokens(rgb[y0:y1, x0:x1]) for x0, x1 in zip(bounds[1], bounds[1][1:], strict=False)], axis=1
        )
        for y0, y1 in zip(bounds[0], bounds[0][1:], strict=False)
    ]
    return np.concatenate(rows)


def network_input(rgb: np.ndarray, side_px: int, device: torch.device) -> Tensor:
    """(1, 3, side, side) float32 with ImageNet statistics of an (H, W, 3) picture, uint8 or float in [0, 1]."""
    x = torch.as_tensor(np.ascontiguousarray(rgb), device=device).permute(2, 0, 1)
    x = x.float() / 255 if rgb.dtype == np.uint8 else x.float()
    return normalize(resize(x, [side_px, side_px], antialias=True), list(IMAGENET_MEAN), list(IMAGENET_STD))[None]


class DinoTeacher:
    """DINOv2 or DINOv3 from a local folder, through `transformers`."""

    def __init__(self, model: DinoModel, device: torch.device) -> None:
        try:
            from transformers import AutoModel
        except ImportError as error:
            raise WeightsError(
                "teacher backend dino needs the package transformers, an optional extra; install it with: pip install 'hvlabel[dino]'"
            ) from error
        folder = model.files()[0].parent
        try:
            self.network: Any = AutoModel.from_pretrained(str(folder), local_files_only=True).to(device).eval()
            self.patch_px = int(self.network.config.patch_size)
        except Exception as error:  # the library raises many kinds on foreign folders; each means the same to the user
            raise WeightsError(
                f"{folder}: no DINO network can be loaded ({' '.join(str(error).split())[:160]}); save it anew with save_pretrained"
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
        states = self.network(pixel_values=network_input(rgb, self.input_px, self.device)).last_hidden_state[0]
        return states[-grid * grid :].unflatten(0, (grid, grid)).float().cpu().numpy()
