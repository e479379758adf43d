"""Training samples per second, 2 workers, 204 bands 512 x 512 crop 224: ours against loading the file for each sample,
and a memory map.

python bench/loading.py            samples per second, files in the page cache and not
python bench/loading.py waiting    share of step time in which the base model waits for data, on this machine's device
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import h5py
import ledger
import numpy as np
import scipy.io
import torch
from layouts import scene
from torch.utils.data import DataLoader, Dataset

from hvlabel.cache.features import write_features
from hvlabel.cache.index import Entry, StageIndex, publish_scan
from hvlabel.cache.publish import publish_bytes
from hvlabel.cache.receipt import read_attributes
from hvlabel.config import CubeSettings, PretrainSettings
from hvlabel.descriptors import Descriptor, WavelengthRange
from hvlabel.layout import Layout
from hvlabel.manifest import Image, Scan
from hvlabel.masks import Mask, MaskSet, dump_masks, encode
from hvlabel.stages.convert import convert_file
from hvtrain.data.corpus import read_corpus
from hvtrain.data.crops import Crops
from hvtrain.data.label_pack import open_pack
from hvtrain.data.loader import make_loader
from hvtrain.data.schedule import BatchOrder, Schedule
from hvtrain.engine.run_folder import RunFiles, read_metrics
from hvtrain.pretrain import pretrain

N_BANDS, SIDE_PX, CROP_PX, N_IMAGES, BATCH, N_MASKS = 204, 512, 224, 8, 8, 300
ROUNDS, BATCHES, SKIPPED, PREFETCH = 2, 20, 9, 4  # skipped: what the workers have ready at most, and one
SETTINGS = {
    "student": {"size": "b", "crop_px": CROP_PX},
    "data": {"holdout_share": 0.0},
    "optimiser": {"steps": 10_000, "batch_images": BATCH},
    "hardware": {"workers": 2, "threads": 2, "prefetch": PREFETCH},
}


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        layout = corpus_of(Path(name))
        if sys.argv[1:] == ["waiting"]:
            waiting(layout)
        else:
            for cold in (False, True):
                compare(Path(name), layout, cold=cold)


def corpus_of(folder: Path) -> Layout:
    """Cubes with 300 masks and teacher tokens each, and the same cubes as MATLAB files."""
    layout = Layout(folder / "results")
    cube = scene(N_BANDS, "uint16")
    descriptor = Descriptor(container="npy", wavelengths_nm=WavelengthRange(start_nm=400, stop_nm=1000, count=N_BANDS))
    rng = np.random.default_rng(0)
    entries: dict[str, dict[str, Entry]] = {"labels": {}, "teacher": {}}
    rows = []
    for k in range(N_IMAGES):
        image = np.roll(cube, 37 * k, axis=2)
        raw, key = folder / f"i{k}.npy", f"i{k}"
        np.save(raw, np.ascontiguousarray(image.transpose(1, 2, 0)))
        scipy.io.savemat(folder / f"i{k}.v5.mat", {"cube": image.transpose(1, 2, 0)})
        with h5py.File(folder / f"i{k}.v73.mat", "w") as file:
            file.create_dataset(
                "cube", data=image.transpose(0, 2, 1), chunks=True, compression="gzip", compression_opts=3
            )
        out = layout.cube("d", key)
        out.parent.mkdir(parents=True, exist_ok=True)
        convert_file(raw, descriptor, CubeSettings(), out, threads=2)
        cube_key = read_attributes(out)["key"]
        provenance = {"stage": "labels", "settings": {}, "branches": {}, "cube_key": cube_key}
        masks = MaskSet(SIDE_PX, SIDE_PX, tuple(blob(rng) for _ in range(N_MASKS)))
        content = dump_masks(masks, key, provenance)
        publish_bytes(layout.label("d", key), content)
        seal = json.loads(content)["provenance"]["content_sha256"]
        entries["labels"][key] = Entry("ok", f"labels/d/{key}.json", seal)
        attributes = {
            "model": {},
            "weights": [],
            "cube_key": cube_key,
            "stride_yx_px": [16.0, 16.0],
            "mean": [0.0] * 256,
        }
        write_features(layout.teacher("d", key), rng.normal(size=(32, 32, 256)), attributes)
        entries["teacher"][key] = Entry("ok", f"teacher/d/{key}.zarr", key)
        rows.append(Image("d", key, "0000", str(raw), "", ""))
    for stage, images in entries.items():
        publish_bytes(layout.index(stage, "d", "0000"), StageIndex(stage, "d", "0000", images).to_json())
    publish_scan(layout, Scan(tuple(rows), ()))
    return layout


def blob(rng: np.random.Generator) -> Mask:
    """An ellipse of 10 to 80 px."""
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX]
    centre, radius = rng.uniform(0, SIDE_PX, 2), rng.uniform(10, 80, 2)
    mask = ((y - centre[0]) / radius[0]) ** 2 + ((x - centre[1]) / radius[1]) ** 2 < 1
    return Mask(encode(mask), 1.0, "truth", (0.0, 0.0))


class WholeFile(Dataset[Any]):
    """The published way: for each sample the whole file is read, made float32 and stretched by its extremes, then
    cropped.

    kind : v5, v73, or map: only the crop's stored values, from a memory map
    """

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder, self.kind = folder, kind

    def __getitem__(self, place: tuple[int, int, int]) -> np.ndarray:
        step, position, k = place
        y, x = np.random.default_rng([step, position]).integers(0, SIDE_PX - CROP_PX, 2)
        box = np.s_[y : y + CROP_PX, x : x + CROP_PX]
        if self.kind == "map":
            return np.ascontiguousarray(np.load(self.folder / f"i{k}.npy", mmap_mode="r")[box])
        if self.kind == "v73":
            with h5py.File(self.folder / f"i{k}.v73.mat", "r") as file:
                cube = file["cube"][:].transpose(2, 1, 0).astype(np.float32)
        else:
            cube = scipy.io.loadmat(self.folder / f"i{k}.v5.mat")["cube"].astype(np.float32)
        low, high = cube.min(), cube.max()
        cube -= low
        cube *= 255 / (high - low)
        return np.ascontiguousarray(cube[box])


def compare(folder: Path, layout: Layout, *, cold: bool) -> None:
    settings = PretrainSettings.model_validate(SETTINGS)
    corpus = read_corpus(layout, settings.data, distill=True)
    images = corpus.of("train")
    pack = open_pack(layout.root / "pretrain", images)
    crops = Crops(corpus, images, pack, settings, frozenset({"masks", "teacher"}), grid=14, logits_px=56)
    order = BatchOrder(Schedule([list(range(N_IMAGES))], BATCH, BATCHES, 0, 1.0))

    def peer(kind: str) -> Any:
        loader: Any = DataLoader(
            WholeFile(folder, kind),
            batch_sampler=order,
            num_workers=2,
            prefetch_factor=PREFETCH,
            multiprocessing_context="forkserver",
        )
        return loader

    loaders = {
        "ours": lambda: make_loader(crops, order, settings.hardware, pin=False),
        "whole MATLAB v5 file": lambda: peer("v5"),
        "whole MATLAB v7.3 file": lambda: peer("v73"),
        "memory map, values alone": lambda: peer("map"),
    }
    best: dict[str, float] = {}
    for _ in range(ROUNDS):
        for name, make in loaders.items():
            if cold:
                forget(folder)
            best[name] = min(best.get(name, 1e9), seconds_per_crop(make()))
    where = "not in the page cache" if cold else "in the page cache"
    for name in list(loaders)[1:]:
        rates = f"{1 / best['ours']:.1f} crops/s against {1 / best[name]:.1f}"
        quality = f"{rates}; ours with 8 masks, prompts and teacher tokens"
        ledger.append("loading", f"204 bands, crop 224, 2 workers, {where}", best["ours"], name, best[name], quality)


def seconds_per_crop(loader: Any) -> float:
    """From when the first batches, which workers made while they started, are used up."""
    batches = iter(loader)
    for _ in range(SKIPPED):
        next(batches)
    start = time.perf_counter()
    n = sum(1 for _ in batches)
    return (time.perf_counter() - start) / (n * BATCH)


def forget(folder: Path) -> None:
    """Drop the files from the page cache."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def waiting(layout: Layout) -> None:
    gpu = torch.cuda.is_available()
    size, crop = ("l", 512) if gpu else ("b", CROP_PX)
    tree = {
        **SETTINGS,
        "student": {"size": size, "crop_px": crop},
        "optimiser": {"steps": 100 if gpu else 14, "batch_images": BATCH if gpu else 2, "warmup_steps": 5},
        "hardware": {"workers": 2, "log_every": 1, "precision": "bf16-mixed" if gpu else "32-true"},
    }
    folder = pretrain(layout, PretrainSettings.model_validate(tree), distill=True)
    rows = read_metrics(RunFiles(folder).metrics)[SKIPPED:]
    share = float(np.mean([float(r["waiting_share"]) for r in rows]))
    rate = float(np.mean([float(r["samples_per_s"]) for r in rows]))
    where = torch.cuda.get_device_name() if gpu else "CPU"
    ledger.append(
        "loading",
        f"{size} at {crop} px on {where}, 2 workers",
        1 / rate,
        "waiting for data",
        share / rate,
        f"waiting {share:.2%} of step time",
    )


if __name__ == "__main__":
    main()
