"""Streaming conversion of a raw image into a Zarr group, one shard in memory at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from hvlabel.config import CubeSettings
from hvlabel.cube.plan import chunk_plan, strips
from hvlabel.cube.render import Rendering, choose_rendering, stretch
from hvlabel.errors import RawFileError
from hvlabel.readers import RawImage, read_rgb

RENDERED_ROWS = 16
COMPRESSORS = (
    ZstdCodec(level=3),
    Crc32cCodec(),
)  # zstd as zarr writes it carries no checksum: a flipped bit would go unseen


def write_cube(
    path: Path, raw: RawImage, companion: Path | None, settings: CubeSettings, attributes: dict[str, Any]
) -> dict[str, Any]:
    """Write the group at `path` (which must not exist); returns the attributes it got.

    raw        : (C, H, W) lazy array; only one shard of it is computed at a time
    companion  : RGB file, used when settings.rgb is auto or companion
    attributes : what the caller knows about the source, stored as they are
    RawFileError on a cube without any finite value or with one single value, and on a missing companion.
    """
    n_bands, height, width = raw.array.shape
    wavelengths_nm = np.asarray(raw.wavelengths_nm)
    rgb = _companion_rgb(raw, companion, settings, height, width)
    rendering = None if rgb is not None else choose_rendering(wavelengths_nm, settings)
    plan = chunk_plan(n_bands, height, width, raw.array.dtype.itemsize, settings.shard_mib << 20)

    group = zarr.create_group(path)
    dtype = raw.array.dtype.newbyteorder("=")
    cube = group.create_array(
        "cube",
        shape=raw.array.shape,
        dtype=dtype,
        chunks=plan.chunk,
        shards=plan.shard,
        compressors=COMPRESSORS,
        dimension_names=("band", "y", "x"),
        attributes={"coordinates": "wavelength_nm"},
    )
    wavelength = group.create_array(
        "wavelength_nm",
        shape=(n_bands,),
        dtype="f8",
        compressors=COMPRESSORS,
        dimension_names=("band",),
        attributes={"units": "nm"},
    )
    wavelength[:] = wavelengths_nm

    linear = np.empty((height, width, 3), np.float32)
    statistics = _Statistics()
    for start, stop in strips(height, plan.shard[1]):
        block = _compute(raw, start, stop, dtype)  # (C, rows, W)
        cube[:, start:stop] = block
        statistics.add(block)
        if rendering is not None:
            linear[start:stop] = _render_block(block, rendering)
    statistics.require_image(raw.files[0])

    if rendering is not None:
        rgb = stretch(linear, settings.stretch_percentiles, joint=rendering.joint)
    assert rgb is not None  # from the companion or rendered
    picture = group.create_array(
        "rgb",
        shape=(height, width, 3),
        dtype="u1",
        chunks=(min(height, 512), min(width, 512), 3),
        compressors=COMPRESSORS,
        dimension_names=("y", "x", "channel"),
    )
    picture[:] = rgb
    full = {
        **attributes,
        "wavelengths_nm": list(raw.wavelengths_nm),
        "scale": raw.scale,
        "unit": raw.unit,
        "min": statistics.minimum,
        "max": statistics.maximum,
        "n_nonfinite": statistics.n_nonfinite,
        "rgb_source": rendering.kind if rendering else "companion",
    }
    group.attrs.update(full)
    return full


def _compute(raw: RawImage, start: int, stop: int, dtype: np.dtype[Any]) -> np.ndarray:
    """(C, rows, W) stored values of a strip of rows."""
    try:
        return np.ascontiguousarray(raw.array[:, start:stop].compute(scheduler="synchronous"), dtype=dtype)
    except Exception as error:  # libraries raise many kinds on damaged chunks; each means the same to the user
        raise RawFileError(
            f"{raw.files[0]}: rows {start}-{stop - 1} cannot be read ({' '.join(str(error).split())[:120]}); "
            "the file is damaged, copy it again"
        ) from error


class _Statistics:
    """Running minimum, maximum and count of non-finite values."""

    def __init__(self) -> None:
        self.minimum, self.maximum, self.n_nonfinite = np.inf, -np.inf, 0

    def add(self, block: np.ndarray) -> None:
        values = block
        if block.dtype.kind == "f":
            finite = np.isfinite(block)
            self.n_nonfinite += int(block.size - finite.sum())
            values = block if finite.all() else block[finite]
        if values.size:
            self.minimum = min(self.minimum, float(values.min()))
            self.maximum = max(self.maximum, float(values.max()))

    def require_image(self, path: Path) -> None:
        if self.minimum > self.maximum:
            raise RawFileError(
                f"{path}: the cube holds no finite value (all NaN or infinite), expected an image; leave the file out"
            )
        if self.minimum == self.maximum:
            raise RawFileError(
                f"{path}: every value of the cube is {self.minimum:g}, expected an image; leave the file out"
            )


def _companion_rgb(
    raw: RawImage, companion: Path | None, settings: CubeSettings, height: int, width: int
) -> np.ndarray | None:
    if settings.rgb == "companion" and companion is None:
        raise RawFileError(
            f"{raw.files[0]}: rgb: companion is set but the descriptor has no rgb_companion rule; add one or use rgb: auto"
        )
    if companion is None or settings.rgb not in ("auto", "companion"):
        return None
    return read_rgb(companion, height, width)


def _render_block(block: np.ndarray, rendering: Rendering) -> np.ndarray:
    """(rows, W, 3) float32 linear RGB of a (C, rows, W) block; unused bands are not touched."""
    used = np.flatnonzero(np.abs(rendering.weights).sum(axis=0))
    weights = rendering.weights[:, used]
    linear = np.empty((*block.shape[1:], 3), np.float32)
    for start, stop in strips(block.shape[1], RENDERED_ROWS):  # the float32 copy of the bands stays small
        linear[start:stop] = np.tensordot(block[used, start:stop].astype(np.float32), weights, axes=(0, 1))
    return linear
