"""Chunk shape and codec of a cube: speed of writing and of three ways of reading, and size, through plain zarr-python.

python bench/layouts.py  prints one table per cube and appends the chosen layout against the others to the ledger.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import ledger
import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from hvlabel.cube import chunk_file
from hvlabel.cube.plan import chunk_side_px

SIDE_PX, CROP_PX = 512, 224
CUBES = [(31, "uint16"), (31, "float32"), (128, "uint16"), (128, "float32"), (204, "uint16"), (204, "float32")]
CODECS = {
    "none": (),
    "zstd 3": (ZstdCodec(level=3),),
    "zstd 1 bitshuffle": (BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle"),),
    "lz4 shuffle": (BloscCodec(cname="lz4", clevel=5, shuffle="shuffle"),),
    "lz4 bitshuffle": (BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle"),),
}


def scene(n_bands: int, dtype: str) -> np.ndarray:
    """(C, H, W): smooth spectra of some materials, texture, photon noise; 12-bit counts or reflectance."""
    rng = np.random.default_rng(0)
    spectra = np.clip(
        np.cumsum(rng.normal(0, 3.0 / n_bands, (12, n_bands)), axis=1) + rng.uniform(0.1, 0.6, (12, 1)), 0.02, 1
    )
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX]
    signal = spectra.T[:, (y // 40 * 5 + x // 90 * 3) % 12] * (1 + 0.15 * np.sin(y / 17) * np.cos(x / 23))
    signal += rng.standard_normal(signal.shape) * 0.004 * np.sqrt(signal + 0.05)
    return np.clip(signal * 4095, 0, 4095).astype(dtype) if dtype == "uint16" else signal.astype(dtype)


def best_of(n: int, work: Callable[[], object]) -> float:
    times = []
    for _ in range(n):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def measure(folder: Path, cube: np.ndarray, chunk: tuple[int, int, int], codec: str) -> dict[str, float]:
    n_bands = cube.shape[0]
    shard = tuple(-(-n // c) * c for n, c in zip(cube.shape, chunk, strict=True))

    def write() -> zarr.Array:
        return zarr.create_array(
            folder / "a.zarr",
            data=cube,
            chunks=chunk,
            shards=shard,
            compressors=(*CODECS[codec], Crc32cCodec()),
            overwrite=True,
        )

    write_s = best_of(2, write)
    array = zarr.open_array(folder / "a.zarr", mode="r")
    places = np.random.default_rng(1).integers(0, SIDE_PX - CROP_PX, (6, 2))

    def crops() -> None:
        for y, x in places:
            array[:, y : y + CROP_PX, x : x + CROP_PX]

    def frame() -> None:
        for band in (n_bands // 6, n_bands // 2, 5 * n_bands // 6):
            array[band]

    return {
        "write MB/s": cube.nbytes / write_s / 1e6,
        "crop ms": best_of(2, crops) / len(places) * 1e3,
        "3 bands ms": best_of(2, frame) * 1e3,
        "whole ms": best_of(2, lambda: array[:]) * 1e3,
        "size %": 100 * sum(p.stat().st_size for p in (folder / "a.zarr").rglob("*") if p.is_file()) / cube.nbytes,
    }


def main() -> None:
    for n_bands, dtype in CUBES:
        cube = scene(n_bands, dtype)
        chosen = "lz4 shuffle" if cube.itemsize >= chunk_file.BYTE_SHUFFLED else "lz4 bitshuffle"
        side = chunk_side_px(n_bands, cube.itemsize)
        shapes = [(n_bands, s, s) for s in (16, 32, 64, 128)] + [(min(32, n_bands), 128, 128), (1, 256, 256)]
        cases = [(shape, chosen) for shape in shapes] + [((n_bands, side, side), c) for c in CODECS if c != chosen]
        print(f"\n{n_bands} bands {dtype}, {cube.nbytes >> 20} MiB")
        results = {}
        with tempfile.TemporaryDirectory() as folder:
            for shape, codec in cases:
                results[shape, codec] = r = measure(Path(folder), cube, shape, codec)
                mark = "*" if (shape, codec) == ((n_bands, side, side), chosen) else " "
                print(
                    f"{mark} {'x'.join(map(str, shape)):12} {codec:18}",
                    "  ".join(f"{k} {v:7.1f}" for k, v in r.items()),
                )
                sys.stdout.flush()
        ours = results[(n_bands, side, side), chosen]
        before = results[(n_bands, side, side), "zstd 3"]
        ledger.append(
            "layouts",
            f"write, {n_bands} bands {dtype} {SIDE_PX} px, chunk {side} px, {chosen}",
            cube.nbytes / ours["write MB/s"] / 1e6,
            "zstd 3",
            cube.nbytes / before["write MB/s"] / 1e6,
            f"size {ours['size %']:.0f}% against {before['size %']:.0f}%, "
            f"crop {ours['crop ms']:.1f} against {before['crop ms']:.1f} ms",
        )


if __name__ == "__main__":
    main()
