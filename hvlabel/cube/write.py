"""Streaming conversion of a raw image into a Zarr group: strips are read, cut into chunks and encoded side by side.

Three things go on at once. The calling thread reads the next strip while `pool` encodes the chunks of the last one, and
`disk` pushes out what is written, so that publishing has little left to wait for. All chunks of a strip are in the file
before the strip after the next is asked for, so no more than two strips are in memory.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from hvlabel.config import CubeSettings
from hvlabel.cube import chunk_file
from hvlabel.cube.chunk_file import CHUNK_FILE, ChunkFileWriter
from hvlabel.cube.chunks import Encoded, Place, cut, encode_chunk, invalid_pixels, render_linear
from hvlabel.cube.collected import Statistics, Valid
from hvlabel.cube.picture import Linear, flat_picture, layer_layout, stretch_into, write_layer
from hvlabel.cube.plan import Grid, grid_of
from hvlabel.cube.render import Rendering, choose_rendering
from hvlabel.readers import RawImage, fit
from hvlabel.readers.missing import missing_values
from hvlabel.zarr_files import ArrayLayout, GroupFiles

WORTH_PUSHING_BYTES = 8 << 20  # of a cube's file: below, a thread costs more than it saves
Pending = list[tuple[Place, Future[Encoded]]]  # chunks of one strip that are being encoded


def write_cube(
    path: Path,
    raw: RawImage,
    rgb: np.ndarray | None,
    settings: CubeSettings,
    threads: int = 1,
    *,
    invented: bool = False,
) -> tuple[dict[str, Any], dict[str, int]]:
    """Write the group at `path`; returns its facts for the attributes, and CRC32Cs of its files.

    path     : must not exist
    raw      : strips of it are in memory, never the whole, see CubeSettings.memory_mib
    rgb      : (h, w, 3) uint8 native picture of any size, or None: rendered from the bands
    threads  : encoding threads besides the one that reads and writes
    invented : the band centres are placeholders
    RawFileError on a cube in which no band has two different values, and on a picture of one single colour.
    """
    n_bands, height, width = raw.shape
    memory_bytes = settings.memory_mib << 20
    choose = partial(choose_rendering, np.asarray(raw.wavelengths_nm), settings, invented=invented)
    rendering = choose() if rgb is None else None  # refused before anything is written, if it cannot be had
    grid = grid_of(raw.shape, raw.dtype.itemsize)
    group = GroupFiles(path)
    _create_arrays(group, raw, grid)
    image = _Image(
        group=group,
        raw=raw,
        grid=grid,
        statistics=Statistics(n_bands),
        valid=Valid(height, width),
        rendering=rendering,
        linear=None if rendering is None else Linear(path, height, width, memory_bytes // 4),
    )
    with (
        group.place(CHUNK_FILE).open("wb") as file,
        _blas().limit(limits=1, user_api="blas"),  # the products are small, and chunks already go side by side
        ThreadPoolExecutor(threads) as pool,
        ThreadPoolExecutor(1) as disk,
    ):
        syncs = _Syncs(disk, file)  # dirty pages pile up otherwise, and the end waits for all of them
        crc32c = _encode_all(image, file, memory_bytes, threads, pool, syncs)
        syncs.start_last()
        image.statistics.require_image(raw.files[0])
        image.leave_out_dead_bands(choose)
        _write_picture(image, rgb, settings, pool)
        if image.valid.mask is not None:
            write_layer(group, "valid", image.valid.mask)
        syncs.finish()
    group.checksums[CHUNK_FILE] = crc32c
    return _facts(image), group.checksums


@dataclass
class _Image:
    """What is known of an image while it is written, more with every chunk.

    rendering, linear : how its picture is made of the bands, and what of it is made; both None: it is given
    """

    group: GroupFiles
    raw: RawImage
    grid: Grid
    statistics: Statistics
    valid: Valid
    rendering: Rendering | None
    linear: Linear | None

    @property
    def wavelengths_nm(self) -> np.ndarray:
        """(C,) float64 band centres."""
        return np.asarray(self.raw.wavelengths_nm)

    def take(self, writer: ChunkFileWriter, pending: Pending) -> None:
        """Wait for the chunks of a strip one by one and take them in."""
        for place, future in pending:
            encoded = future.result()
            y = place.row * self.grid.side_px
            x = place.column * self.grid.side_px
            number = place.row * self.grid.n_columns + place.column  # C order of the grid
            writer.write(number, encoded.content)
            self.statistics.add(encoded)
            self.valid.exclude(y, x, encoded.invalid)
            if self.linear is not None and encoded.linear is not None:
                self.linear.put(y, x, encoded.linear)

    def leave_out_dead_bands(self, choose: Callable[[np.ndarray], Rendering]) -> None:
        """Once the last chunk was measured: make picture and valid pixels anew, if dead bands had a part in them.

        Only now is it known which bands are dead. They may show in the picture, and a stuck one may have passed for a
        value of pixels that miss all others.
        """
        dead = self.statistics.dead
        shows = self.rendering is not None and bool(self.rendering.uses[dead].any())
        passes = bool(self.statistics.stuck.any()) and self.statistics.n_missing > 0
        if not shows and not passes:
            return  # most images
        if self.rendering is not None and self.linear is not None:
            self.rendering = choose(dead)
            self.linear.restart()
        self._look_again(dead)

    def _look_again(self, dead: np.ndarray) -> None:
        """Take picture and valid pixels from the chunks just written. dead: (C,) bool, bands that count as missing."""
        n_bands, height, width = self.raw.shape
        side = self.grid.side_px
        target = self.group.path / CHUNK_FILE
        index = chunk_file.read_index(target, self.grid.n_chunks)
        chunk = np.empty((n_bands, side, side), self.raw.dtype)
        with target.open("rb", buffering=0) as file:
            for number, (offset, n_bytes) in enumerate(index.tolist()):
                row, column = divmod(number, self.grid.n_columns)
                y, x = row * side, column * side
                stored = os.pread(file.fileno(), n_bytes, offset)
                as_bytes = np.frombuffer(stored, np.uint8)
                chunk_file.decode(self.group.path, as_bytes, chunk)
                values = chunk[:, : height - y, : width - x]  # without what fills up chunks at the edge
                missing = missing_values(values, self.raw.ignore_values)
                if missing is not None:
                    missing[dead] = True
                    self.valid.exclude(y, x, invalid_pixels(missing))
                if self.rendering is not None and self.linear is not None:
                    self.linear.put(y, x, render_linear(values, missing, self.rendering, self.wavelengths_nm))


class _Syncs:
    """Pushes a growing file to the disk, in a thread of its own, again as soon as the last push is done.

    A small file is never pushed: publishing it waits no longer for that.
    """

    def __init__(self, disk: ThreadPoolExecutor, file: BinaryIO) -> None:
        self._disk = disk
        self._file = file
        self._pushes: list[Future[None]] = []

    def go_on(self) -> None:
        """Push what was written since; never waits."""
        if self._file.tell() < WORTH_PUSHING_BYTES:
            return
        is_idle = not self._pushes or self._pushes[-1].done()
        if is_idle:  # else the disk is slower than we are: more pushes would only queue
            self._push()

    def start_last(self) -> None:
        """Push the whole file, behind the push that may still run."""
        if self._pushes:
            self._push()

    def finish(self) -> None:
        """Wait for all pushes. Each is asked for its result: a disk error is told only once."""
        for push in self._pushes:
            push.result()

    def _push(self) -> None:
        push = self._disk.submit(os.fdatasync, self._file.fileno())
        self._pushes.append(push)


@cache
def _blas() -> ThreadpoolController:
    """The process's libraries for products: looking for them again costs more than converting a small image."""
    return ThreadpoolController()


def _encode_all(
    image: _Image, file: BinaryIO, memory_bytes: int, threads: int, pool: ThreadPoolExecutor, syncs: _Syncs
) -> int:
    """Write all chunks; returns the CRC32C of the file."""
    raw, side = image.raw, image.grid.side_px
    writer = ChunkFileWriter(file, image.grid.n_chunks)
    encode = partial(encode_chunk, side=side, raw=raw, rendering=image.rendering, wavelengths_nm=image.wavelengths_nm)
    pending: Pending = []  # of the strip before
    for strip in raw.strips(side, memory_bytes, image.group.path, threads):  # read while the last one is encoded
        image.take(writer, pending)  # in order: equal images give equal files
        syncs.go_on()
        pending = [(place, pool.submit(encode, view)) for place, view in cut(strip, side)]
    image.take(writer, pending)
    writer.close()
    return writer.crc32c


def _write_picture(image: _Image, rgb: np.ndarray | None, settings: CubeSettings, pool: ThreadPoolExecutor) -> None:
    """The array `rgb`: made of the bands or given; RawFileError on one single colour. rgb: see write_cube."""
    _, height, width = image.raw.shape
    path = image.raw.files[0]
    if image.rendering is not None and image.linear is not None:
        layout = layer_layout("rgb", (height, width, 3), "u1")
        image.group.add(layout)
        has_contrast = stretch_into(
            image.group, layout, image.linear, image.rendering, settings.stretch_percentiles, pool
        )
        image.linear.close()  # before the folder is sealed: its file is no part of the cube
        if not has_contrast:
            raise flat_picture(path, "the picture of its bands")
    elif rgb is not None:
        if not (rgb != rgb[0, 0]).any():
            raise flat_picture(path, "its RGB companion, or the picture inside it,")
        write_layer(image.group, "rgb", fit(rgb, height, width))


def _facts(image: _Image) -> dict[str, Any]:
    """What a cube knows about itself, see docs/FORMATS.md; the order is that of the file."""
    raw, statistics = image.raw, image.statistics
    alive = ~statistics.dead  # a stuck band must not widen the range
    georeference = raw.georeference
    return {
        "wavelengths_nm": list(raw.wavelengths_nm),
        "wavelengths_from": raw.wavelengths_from,
        **({"fwhm_nm": list(raw.fwhm_nm)} if raw.fwhm_nm is not None else {}),
        "scale": raw.scale,
        "unit": raw.unit,
        "gains_applied": raw.gain is not None,
        "min": float(statistics.low[alive].min()),
        "max": float(statistics.high[alive].max()),
        "n_nonfinite": statistics.n_nonfinite,
        "ignore_values": list(raw.ignore_values),
        "n_ignored": statistics.n_ignored,
        "n_invalid_px": image.valid.n_excluded,
        "bad_bands": list(raw.bad_bands),
        "dead_bands": np.flatnonzero(statistics.dead).tolist(),
        "rgb_source": "companion" if image.rendering is None else image.rendering.kind,
        **({"georeference": georeference.to_json()} if georeference is not None else {}),
    }


def _create_arrays(group: GroupFiles, raw: RawImage, grid: Grid) -> None:
    """The array `cube`, without chunks yet, and its band centres."""
    n_bands = raw.shape[0]
    side = grid.side_px
    sharding = chunk_file.sharding_codec((n_bands, side, side), raw.dtype.itemsize)
    cube = ArrayLayout(
        "cube",
        shape=raw.shape,
        dtype=raw.dtype,
        chunk_shape=(n_bands, grid.n_rows * side, grid.n_columns * side),  # Zarr's outer chunk: the whole file
        codecs=(sharding,),
        dimension_names=("band", "y", "x"),
        attributes={"coordinates": "wavelength_nm"},
    )
    centres_nm = np.asarray(raw.wavelengths_nm, np.float64)  # (C,)
    wavelength = ArrayLayout(
        "wavelength_nm",
        shape=(n_bands,),
        dtype=centres_nm.dtype,
        chunk_shape=(n_bands,),
        codecs=chunk_file.codecs(8),
        dimension_names=("band",),
        attributes={"units": "nm"},
    )
    group.add(cube)
    group.add(wavelength)
    group.write(wavelength.chunk_file(0), chunk_file.encode(centres_nm))
