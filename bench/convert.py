"""Converting large cubes: time against copying the file or merely reading it, and peak memory of the process.

python bench/convert.py [GiB] [envi|npy|mat73 ...]
python bench/convert.py against CHECKOUT [GiB] [envi|npy|mat73 ...]     the same conversion by another checkout of this
repository

Once with the file on the disk alone, as data sets lie there, and once with all of it in the page cache. Rows hold
medians: what
fresh memory costs, and so one copy beside the next, differs several times over on a virtual machine.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import ledger
import numpy as np

BANDS, COLUMNS = 128, 2048
ROUNDS = 5
CODE = """
import re, sys, time
from pathlib import Path
from hvlabel.config import CubeSettings
from hvlabel.descriptors import Descriptor, WavelengthRange
from hvlabel.stages.convert import convert_file
centres = WavelengthRange(start_nm=400, stop_nm=1000, count=int(sys.argv[4]))
descriptor = Descriptor(container=sys.argv[3], wavelengths_nm=centres)
start = time.perf_counter()
convert_file(Path(sys.argv[1]), descriptor, CubeSettings(), Path(sys.argv[2]), threads=2)
seconds = time.perf_counter() - start
print(seconds, int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024)
"""


def block(rows: int, seed: int) -> np.ndarray:
    """(rows, bands, columns) uint16 of 12-bit counts: smooth spectra of some materials, texture, photon noise."""
    rng = np.random.default_rng(seed)
    spectra = np.clip(np.cumsum(rng.normal(0, 0.03, (12, BANDS)), axis=1) + rng.uniform(0.1, 0.6, (12, 1)), 0.02, 1)
    y, x = np.mgrid[:rows, :COLUMNS]
    material = (y // 40 * 5 + x // 90 * 3) % 12
    texture = 1 + 0.15 * np.sin(y / 17) * np.cos(x / 23)
    signal = (spectra[material] * texture[..., None]).transpose(0, 2, 1).astype(np.float32)
    noise = rng.standard_normal(signal.shape, dtype=np.float32) * np.float32(0.004) * np.sqrt(signal + 0.05)
    return (np.clip(signal + noise, 0, 1) * 4095).astype("<u2")


def write(folder: Path, kind: str, gib: float) -> Path:
    rows = int(gib * 2**30) // (BANDS * COLUMNS * 2) // 64 * 64
    tile = block(64, 0)
    if kind == "envi":
        with (folder / "a.raw").open("wb") as file:
            for k in range(rows // 64):
                file.write(np.roll(tile, 37 * k, axis=2).tobytes())
        (folder / "a.hdr").write_text(
            f"ENVI\nsamples = {COLUMNS}\nlines = {rows}\nbands = {BANDS}\ndata type = 12\ninterleave = bil\n"
        )
        return folder / "a.raw"
    if kind == "npy":
        array = np.lib.format.open_memmap(folder / "a.npy", "w+", "<u2", (rows, COLUMNS, BANDS))
        for start in range(0, rows, 64):
            array[start : start + 64] = np.roll(tile, start, axis=2).transpose(0, 2, 1)
        array.flush()
        return folder / "a.npy"
    with h5py.File(folder / "a.mat", "w", userblock_size=512) as file:
        cube = file.create_dataset(
            "cube", (BANDS, COLUMNS, rows), "<u2", chunks=True, compression="gzip", compression_opts=3
        )
        for start in range(0, rows, 256):  # shifted copies of a tile: neither too even nor slow to make
            parts = [np.roll(tile, 37 * k, axis=2) for k in range(start // 64, min(start + 256, rows) // 64)]
            cube[:, :, start : start + 64 * len(parts)] = np.concatenate(parts).transpose(1, 2, 0)
    with (folder / "a.mat").open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file")
    return folder / "a.mat"


def seconds(*command: object) -> float:
    start = time.perf_counter()
    subprocess.run([str(c) for c in command], check=True)
    return time.perf_counter() - start


def place(path: Path, where: str) -> None:
    """Leave the file on the disk alone, or have all of it in the page cache too."""
    with path.open("rb", buffering=0) as file:
        if where == "disk":
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        else:
            while file.read(1 << 24):
                pass


def read_hdf5(path: Path) -> float:
    """Reading the data set once in slabs of whole chunks."""
    start = time.perf_counter()
    with h5py.File(path, "r") as file:
        cube = file["cube"]
        step = cube.chunks[1]
        for at in range(0, cube.shape[1], step):
            cube[:, at : at + step]
    return time.perf_counter() - start


def against(checkout: Path, gib: float, kinds: list[str]) -> None:
    """Append a row per kind: conversion by the code here and by another checkout, in turns, from the page cache."""
    for kind in kinds or ["envi", "npy", "mat73"]:
        with tempfile.TemporaryDirectory(dir=".") as name:
            folder = Path(name).absolute()
            raw = write(folder, kind, gib)
            container = {"envi": "envi", "npy": "npy", "mat73": "matlab"}[kind]
            took: dict[Path, list[float]] = {Path.cwd(): [], checkout.absolute(): []}
            for _ in range(2 * ROUNDS):
                for place_of_code, seconds_taken in took.items():
                    place(raw, "page cache")
                    shutil.rmtree(folder / "a.zarr", ignore_errors=True)
                    command = [sys.executable, "-c", CODE, raw, folder / "a.zarr", container, str(BANDS)]
                    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=place_of_code)
                    seconds_taken.append(float(done.stdout.split()[0]))
            ours, theirs = took.values()
            ratios = sorted(b / a for a, b in zip(ours, theirs, strict=True))
            ledger.append(
                "convert",
                f"{kind} uint16 {gib:g} GiB",
                statistics.median(ours),
                f"checkout {version(checkout)}",
                statistics.median(theirs),
                f"ratios of {len(ratios)} rounds {ratios[0]:.2f} to {ratios[-1]:.2f}",
            )


def version(checkout: Path) -> str:
    """Short commit of a checkout."""
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    if sys.argv[1:2] == ["against"]:
        against(Path(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else 1.0, sys.argv[4:])
        return
    gib = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    for kind in sys.argv[2:] or ["envi", "npy", "mat73"]:
        with tempfile.TemporaryDirectory(dir=".") as name:
            folder = Path(name)
            raw = write(folder, kind, gib)
            seconds("sync")
            for where in ("disk", "page cache"):
                compare(folder, raw, kind, where, gib)


def compare(folder: Path, raw: Path, kind: str, where: str, gib: float) -> None:
    """Append rows: our conversion against each peer, the file in one place; medians, and ratios of single rounds."""
    container = {"envi": "envi", "npy": "npy", "mat73": "matlab"}[kind]
    out = folder / "a.zarr"
    peer: dict[str, list[float]] = {}
    ours, peaks = [], []
    for _ in range(ROUNDS):  # interleaved: the machine is shared
        if kind == "mat73":
            place(raw, where)
            peer.setdefault("reading it with h5py", []).append(read_hdf5(raw))
        place(raw, where)
        copied = seconds("cp", raw, folder / "copy")
        peer.setdefault("cp of the file", []).append(copied)
        peer.setdefault("cp and sync of the file", []).append(copied + seconds("sync", folder / "copy"))
        (folder / "copy").unlink()
        place(raw, where)
        shutil.rmtree(out, ignore_errors=True)
        command = [sys.executable, "-c", CODE, raw, out, container, str(BANDS)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        took, peak = map(float, done.stdout.split())
        ours.append(took)
        peaks.append(peak)
    stored = sum(p.stat().st_size for p in out.rglob("*") if p.is_file()) / 2**30
    size = raw.stat().st_size / 2**30
    for what, times in peer.items():
        ratios = sorted(theirs / mine for theirs, mine in zip(times, ours, strict=True))
        ledger.append(
            "convert",
            f"{kind} uint16 {gib:g} GiB of values, {size:.2f} GiB on disk, from the {where}",
            statistics.median(ours),
            what,
            statistics.median(times),
            f"rounds {ratios[0]:.2f}-{ratios[-1]:.2f}, peak memory {max(peaks):.0f} MiB, {stored:.2f} GiB as cube",
        )


if __name__ == "__main__":
    main()
