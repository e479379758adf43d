"""Streaming conversion of a raw image into a Zarr group: strips are read, cut into chunks and encoded side by side."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from zarr.codecs import BytesCodec, ShardingCodec

from hvlabel.config import CubeSettings
from hvlabel.cube import shard
from hvlabel.cube.chunks import Encoded, Place, Statistics, cut, encode_chunk, render_linear
from hvlabel.cube.picture import Linear, create_layer, flat_picture, stretch_into
from hvlabel.cube.plan import chunk_side_px
from hvlabel.cube.render import Rendering, choose_rendering
from hvlabel.readers import RawImage, fit
from hvlabel.readers.missing import missing_values

SHARD_FILE = "cube/c/0/0/0"


def write_cube(
    path: Path,
    raw: RawImage,
    rgb: np.ndarray | None,
    settings: CubeSettings,
    threads: int = 1,
    *,
    invented: bool = False,
) -> tuple[dict[str, Any], dict[str, int]]:
    """Write the group at `path` (which must not exist); returns its facts for the attributes, and CRC32Cs of its large files.

    raw      : strips of it are in memory, never the whole, see CubeSettings.memory_mib
    rgb      : (h, w, 3) uint8 native picture of any size, or None: rendered from the bands
    threads  : encoding threads besides the one that reads and writes
    invented : the band centres are placeholders
    RawFileError on a cube in which no band has two different values, and on a picture of one single colour.
    """
    n_bands, height, width = raw.shape
    memory_bytes = settings.memory_mib << 20
    wavelengths_nm = np.asarray(raw.wavelengths_nm)
    rendering = None if rgb is not None else choose_rendering(wavelengths_nm, settings, invented=invented)
    side = chunk_side_px(n_bands, raw.dtype.itemsize)
    grid = (-(-height // side), -(-width // side))
    _create_arrays(path, raw, side, grid)

    linear = None
    if rendering is not None:
        linear = Linear(path, height, width, memory_bytes // 4)
    statistics = Statistics(n_bands)
    valid = Valid(height, width)
    target = path / SHARD_FILE
    target.parent.mkdir(parents=True)
    # one BLAS thread: the products are small, and chunks are worked on side by side already
    with (
        target.open("wb") as file,
        threadpool_limits(1, "blas"),
        ThreadPoolExecutor(threads) as pool,
        ThreadPoolExecutor(1) as disk,
    ):
        writer = shard.ShardWriter(file, grid[0] * grid[1])
        synced: Future[None] = disk.submit(os.fdatasync, file.fileno())

        def drain(pending: list[tuple[Place, Future[Encoded]]]) -> None:
            for place, future in pending:
                done = future.result()
                writer.write(place.row * grid[1] + place.column, done.content)
                statistics.add(done)
                if done.invalid is not None:
                    valid.exclude(place.row * side, place.column * side, done.invalid)
                if linear is not None and done.linear is not None:
                    linear.put(place.row * side, place.column * side, done.linear)

        pending: list[tuple[Place, Future[Encoded]]] = []
        for strip in raw.strips(
            side, memory_bytes, path, threads
        ):  # the next strip is read while the last one is encoded
            drain(pending)
            if synced.done():  # the disk works along; publishing will have little left to wait for
                synced.result()
                synced = disk.submit(os.fdatasync, file.fileno())
            pending = [
                (place, pool.submit(encode_chunk, view, side, raw, rendering, wavelengths_nm))
                for place, view in cut(strip, side)
            ]
        drain(pending)
        writer.close()
        syncs = (synced, disk.submit(os.fdatasync, file.fileno()))

        statistics.require_image(raw.files[0])
        dead = statistics.dead
        # only now is it known which bands are dead: did they show in the picture, or pass for values where all others are missing?
        had_weight = rendering is not None and bool((np.abs(rendering.weights).sum(axis=0) > 0)[dead].any())
        stuck = dead & np.isfinite(statistics.low)
        if had_weight or (stuck.any() and statistics.n_missing):
            if rendering is not None and linear is not None:
                rendering = choose_rendering(wavelengths_nm, settings, dead, invented=invented)
                linear.restart()
            _look_again(path, raw, side, dead, rendering, linear, valid)
        if rendering is not None and linear is not None:
            picture = create_layer(path, "rgb", (height, width, 3), "u1")
            has_contrast = stretch_into(picture, linear, rendering, settings.stretch_percentiles, pool)
            linear.close()
            if not has_contrast:
                raise flat_picture(raw.files[0], "the picture of its bands")
        elif rgb is not None:
            if not (rgb != rgb[0, 0]).any():
                raise flat_picture(raw.files[0], "its RGB companion, or the picture inside it,")
            create_layer(path, "rgb", (height, width, 3), "u1")[:] = fit(rgb, height, width)
        if valid.mask is not None:
            create_layer(path, "valid", (height, width), "bool")[:] = valid.mask
        for sync in syncs:
            sync.result()  # a disk error is told only once
    facts = {
        "wavelengths_nm": list(raw.wavelengths_nm),
        "wavelengths_from": raw.wavelengths_from,
        **({"fwhm_nm": list(raw.fwhm_nm)} if raw.fwhm_nm is not None else {}),
        "scale": raw.scale,
        "unit": raw.unit,
        "gains_applied": raw.gain is not None,
        "min": float(statistics.low[~dead].min()),
        "max": float(statistics.high[~dead].max()),
        "n_nonfinite": statistics.n_nonfinite,
        "ignore_values": list(raw.ignore_values),
        "n_ignored": statistics.n_ignored,
        "n_invalid_px": valid.n_excluded,
        "bad_bands": list(raw.bad_bands),
        "dead_bands": np.flatnonzero(dead).tolist(),
        "rgb_source": rendering.kind if rendering else "companion",
        **({"georeference": raw.georeference.to_json()} if raw.georeference is not None else {}),
    }
    return facts, {SHARD_FILE: writer.crc32c}


class Valid:
    """Pixels that hold a value; an array only where some do not."""

    def __init__(self, height: int, width: int) -> None:
        self._shape = (height, width)
        self.mask: np.ndarray | None = None

    def exclude(self, y: int, x: int, invalid: np.ndarray) -> None:
        """Mark the pixels of an (h, w) block whose first one is (y, x)."""
        if self.mask is None:
            self.mask = np.ones(self._shape, bool)
        self.mask[y : y + invalid.shape[0], x : x + invalid.shape[1]] &= ~invalid

    @property
    def n_excluded(self) -> int:
        """Pixels without any value."""
        return 0 if self.mask is None else int(np.count_nonzero(~self.mask))


def _look_again(
    path: Path,
    raw: RawImage,
    side: int,
    dead: np.ndarray,
    rendering: Rendering | None,
    linear: Linear | None,
    valid: Valid,
) -> None:
    """Make the linear picture and the valid pixels anew from the chunks just written, without the dead bands."""
    n_bands, height, width = raw.shape
    wavelengths_nm = np.asarray(raw.wavelengths_nm)
    columns = -(-width // side)
    index = shard.read_index(path / SHARD_FILE, -(-height // side) * columns)
    chunk = np.empty((n_bands, side, side), raw.dtype)
    with (path / SHARD_FILE).open("rb", buffering=0) as file:
        for number, (offset, n_bytes) in enumerate(index.tolist()):
            y, x = number // columns * side, number % columns * side
            shard.decode(path, np.frombuffer(os.pread(file.fileno(), n_bytes, offset), np.uint8), chunk)
            values = chunk[:, : height - y, : width - x]
            missing = missing_values(values, raw.ignore_values)
            if missing is not None:
                missing[dead] = True
                invalid = np.asarray(missing.all(axis=0))
                if invalid.any():
                    valid.exclude(y, x, invalid)
            if rendering is not None and linear is not None:
                linear.put(y, x, render_linear(values, missing, rendering, wavelengths_nm))


def _create_arrays(path: Path, raw: RawImage, side: int, grid: tuple[int, int]) -> None:
    n_bands = raw.shape[0]
    group = zarr.create_group(path)
    group.create_array(
        "cube",
        shape=raw.shape,
        dtype=raw.dtype,
        chunks=(n_bands, grid[0] * side, grid[1] * side),
        serializer=ShardingCodec(
            chunk_shape=(n_bands, side, side), codecs=(BytesCodec(), *shard.codecs(raw.dtype.itemsize))
        ),
        filters=(),
        compressors=(),
        dimension_names=("band", "y", "x"),
        attributes={"coordinates": "wavelength_nm"},
    )
    wavelength = group.create_array(
        "wavelength_nm",
        shape=(n_bands,),
        dtype="f8",
        compressors=shard.codecs(8),
        dimension_names=("band",),
        attributes={"units": "nm"},
    )
    wavelength[:] = np.asarray(raw.wavelengths_nm)
