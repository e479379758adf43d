"""A random full-spectrum crop: our cube against the whole raw file, a memory map, zarr-python with and without it."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import ledger
import numpy as np
import scipy.io
import zarr
from layouts import scene

from hvlabel.config import CubeSettings
from hvlabel.cube import open_cube
from hvlabel.descriptors import Descriptor, WavelengthRange
from hvlabel.stages.convert import convert_file

CROP_PX, N_BANDS, CROPS, ROUNDS = 224, 204, 8, 3


def main() -> None:
    if sys.argv[1:2] == ["zarrs"]:  # a process of its own: the pipeline is chosen once
        zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})
        print(median_s(lambda y, x: zarr_crop(Path(sys.argv[2]), y, x)))
        return
    for dtype in ("float32", "uint16"):
        with tempfile.TemporaryDirectory() as name:
            compare(Path(name), scene(N_BANDS, dtype), dtype)


def zarr_crop(path: Path, y: int, x: int) -> np.ndarray:
    return zarr.open_group(path, mode="r")["cube"][:, y : y + CROP_PX, x : x + CROP_PX]


def median_s(read: Callable[[int, int], object]) -> float:
    """Median seconds of a crop at the same random places for everyone."""
    places = np.random.default_rng(2).integers(0, 512 - CROP_PX, (CROPS, 2))
    times = []
    for y, x in places:
        start = time.perf_counter()
        read(int(y), int(x))
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def compare(folder: Path, cube: np.ndarray, dtype: str) -> None:
    upright = np.ascontiguousarray(cube.transpose(1, 2, 0))
    np.save(folder / "a.npy", upright)
    scipy.io.savemat(folder / "v5.mat", {"cube": upright})
    scipy.io.savemat(folder / "v5z.mat", {"cube": upright}, do_compression=True)
    with h5py.File(folder / "v73.mat", "w") as file:
        file.create_dataset(
            "cube", data=upright.transpose(2, 1, 0), chunks=True, compression="gzip", compression_opts=3
        )
    descriptor = Descriptor(container="npy", wavelengths_nm=WavelengthRange(start_nm=400, stop_nm=1000, count=N_BANDS))
    out = folder / "a.zarr"
    convert_file(folder / "a.npy", descriptor, CubeSettings(), out, threads=2)
    crop = (slice(None),)

    def box(y: int, x: int) -> tuple[slice, slice]:
        return slice(y, y + CROP_PX), slice(x, x + CROP_PX)

    def ours(y: int, x: int) -> np.ndarray:
        rows, columns = box(y, x)
        return open_cube(out).read(rows, columns)

    def v5(file: str) -> np.ndarray:  # to float32, as readers of such data sets do
        return scipy.io.loadmat(folder / file)["cube"].astype(np.float32)

    def v73(y: int, x: int) -> np.ndarray:
        with h5py.File(folder / "v73.mat", "r") as file:
            return file["cube"][:].astype(np.float32).transpose(2, 1, 0)[box(y, x)]

    def zarrs(*_: int) -> None:
        raise NotImplementedError

    peers = {
        "MATLAB v5, loaded whole": lambda y, x: v5("v5.mat")[box(y, x)],
        "MATLAB v5 compressed, loaded whole": lambda y, x: v5("v5z.mat")[box(y, x)],
        "MATLAB v7.3 gzip, loaded whole": v73,
        "memory map of a npy": lambda y, x: np.array(np.load(folder / "a.npy", mmap_mode="r")[box(y, x)]),
        "zarr-python": lambda y, x: zarr_crop(out, y, x),
        "zarr-python with zarrs": zarrs,
    }
    np.testing.assert_array_equal(ours(3, 100), cube[(*crop, *box(3, 100))])
    times = {name: [] for name in ("ours", *peers)}
    for _ in range(ROUNDS):
        times["ours"].append(median_s(ours))
        for name, read in peers.items():
            if read is zarrs:
                done = subprocess.run([sys.executable, __file__, "zarrs", str(out)], capture_output=True, text=True)
                times[name].append(float(done.stdout) if done.returncode == 0 else float("nan"))
            else:
                times[name].append(median_s(read))
    for name in peers:
        ledger.append(
            "crops",
            f"{CROP_PX}x{CROP_PX} of 512x512, {N_BANDS} bands {dtype}",
            min(times["ours"]),
            name,
            min(times[name]),
            f"equal values; chunks of {open_cube(out).chunk_side_px} px",
        )


if __name__ == "__main__":
    main()
