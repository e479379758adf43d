"""Sine and cosine codes of positions in a grid."""

from __future__ import annotations

import torch
from torch import Tensor

LONGEST_WAVE = 10_000


def sines_and_cosines(places: Tensor, width: int) -> Tensor:
    """(..., width) float64: all sines, then all cosines, of float32 places (...)."""
    octaves = torch.arange(width // 2, dtype=torch.float64, device=places.device)
    omega = 1.0 / LONGEST_WAVE ** (octaves / (width / 2))  # (width / 2,)
    angle = places[..., None].double() * omega
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


def grid_code(rows: Tensor, columns: Tensor, width: int) -> Tensor:
    """(..., h * w, width) float64: of each cell, row-major, its column in the first half, then its row.

    rows    : (..., h) float32 places of the rows
    columns : (..., w) float32 places of the columns
    """
    half = width // 2
    of_rows = sines_and_cosines(rows, half)  # (..., h, width / 2)
    of_columns = sines_and_cosines(columns, half)  # (..., w, width / 2)
    of_cell = (*rows.shape[:-1], rows.shape[-1], columns.shape[-1], half)  # (..., h, w, width / 2)
    of_rows = of_rows.unsqueeze(-2).expand(of_cell)
    of_columns = of_columns.unsqueeze(-3).expand(of_cell)
    code = torch.cat([of_columns, of_rows], dim=-1)
    return code.flatten(-3, -2)
