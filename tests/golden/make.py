"""Writes the golden files of this version: python tests/golden/make.py VERSION

They are made once per version, by that version, and never again: later versions have to open them. A folder that is
there
already is left alone.

results.zip   : a run of one tiny image: raw file, cubes, masks of every branch, teacher features, labels, indexes
run.zip       : a pre-training of one step on them: checkpoint, exported student and what it started from
expected.json : what lies in them, as this version read it
keys.json     : settings of every stage, with and without networks, and the cache keys that follow from them
"""

import json
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
import yaml

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
sys.path[:0] = [str(HERE.parent), str(HERE)]

from recorded import FEW_WEIGHTS, contents, few_weights, key_of, scales, versions, working_directory  # noqa: E402
from verbs import hvlabel, hvtrain  # noqa: E402

from hvlabel.layout import STAGES, Layout  # noqa: E402
from hvlabel.models.hyperfree import HyperFree  # noqa: E402

N_BANDS, HEIGHT, WIDTH = 4, 32, 40
NAMES = ("one",)
EPOCH = (2026, 1, 1, 0, 0, 0)
KEPT = ("manifest.tsv", "cubes", "masks", "labels", "teacher", "index")
LEFT_OUT = (".lock", ".tfevents")
NANO = {"config": "resources/models/sam2_nano.yaml", "checkpoint": "random:1"}
CONFIG = {
    "results": "results",
    "datasets": {
        "d": {
            "root": "raw",
            "glob": "*.npy",
            "descriptor": {"container": "npy", "wavelengths_nm": [450, 520, 590, 660], "prompts": "../boxes/{stem}.json"},
            "allow_outside": True,
        }
    },
    "rgb": {"backend": "regions"},
    "sequence": {"backend": "regions"},
    "material": {"backend": "regions", "n_components": 3},
    "regions": {"backend": "regions"},
    "prompts": {"backend": "sam2", "sam2": NANO, "n_composites": 0},
    "teacher": {"backend": "sam2", "sam2": NANO},
    "fusion": {"branches": ["rgb", "sequence", "material", "regions", "prompts"]},
    "pretrain": {
        "student": {"size": "small", "crop_px": 64, "checkpoint": "start.safetensors"},
        "data": {"masks_per_image": 2, "holdout_share": 0},
        "loss": {"distill": 0},
        "optimiser": {"steps": 1, "batch_images": 1, "warmup_steps": 1},
        "hardware": {"workers": 0, "threads": 1, "accelerator": "cpu"},
    },
}  # fmt: skip
VERBS = {stage: ("segment", stage) for stage in STAGES} | {
    "cubes": ("convert",),
    "teacher": ("teacher",),
    "labels": ("fuse",),
}
# settings as a user writes them, by stage: what only a network's branch uses counts as well as what regions use
KEYS = [
    ("rgb", {"backend": "regions"}),
    ("rgb", {"backend": "sam2", "sam2": NANO}),
    ("rgb", {"backend": "sam2", "sam2": NANO, "generator": {"mode": "exact", "points_per_side": 8}}),
    ("rgb", {"backend": "sam", "sam": {"checkpoint": "random:1"}}),
    ("sequence", {"backend": "regions", "max_frames": 5}),
    ("sequence", {"backend": "sam2", "sam2": NANO, "memory_frames": 2}),
    ("sequence", {"backend": "sam", "sam": {"checkpoint": "random:1"}}),
    ("material", {"backend": "regions"}),
    ("material", {"backend": "hyperfree", "hyperfree": {"checkpoint": "random:2"}}),
    ("material", {"backend": "sam", "sam": {"checkpoint": "random:1"}}),
    ("regions", {"backend": "regions"}),
    ("prompts", {"backend": "sam", "sam": {"checkpoint": "random:1"}}),
    ("prompts", {"backend": "sam2", "sam2": NANO}),
    ("teacher", {"backend": "sam2", "sam2": NANO}),
    ("teacher", {"backend": "sam", "sam": {"checkpoint": "random:1"}}),
]  # fmt: skip


def scene(seed):
    """(C, H, W) uint16 with two rectangles."""
    rng = np.random.default_rng(seed)
    cube = rng.integers(1000, 1008, (N_BANDS, HEIGHT, WIDTH))
    cube[:, 4:17, 5:18] += 1500
    cube[2:, 20:30, 14 + 4 * seed : 30 + 4 * seed] += 900
    return cube.astype("u2")


def write_results(folder):
    """Raw files, boxes and configuration; every stage run."""
    for name in ("raw", "boxes"):
        (folder / name).mkdir()
    for seed, name in enumerate(NAMES):
        np.save(folder / "raw" / f"{name}.npy", scene(seed).transpose(1, 2, 0))
        (folder / "boxes" / f"{name}.json").write_text('{"boxes": [[5, 4, 18, 17]]}')
    (folder / "c.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False))
    must(hvlabel("scan", "--config", "c.yaml"))
    for stage in STAGES:
        must(hvlabel(*VERBS[stage], "--shard", "d/0000", "--config", "c.yaml"))


def write_run(folder):
    """A student of few weights, trained for one step. Its first weights are coarse, so that the files shrink well."""
    with few_weights():
        torch.manual_seed(0)
        start = HyperFree(FEW_WEIGHTS).state_dict()
        # the modules for contrastive learning are large by construction, and never trained here
        coarse = {k: torch.zeros_like(v) if "contras" in k else (v * 8).round() / 8 for k, v in start.items()}
        safetensors.torch.save_file(coarse, folder / "start.safetensors")
        must(hvtrain("fit", "--config", "c.yaml"))
    student = "results/pretrain/default/student.safetensors"
    must(hvtrain("features", "results/cubes/d/one.zarr", "features.zarr", "--checkpoint", student))


def must(said):
    """Stop where a verb failed."""
    if said.status:
        sys.exit(said.out + said.err)


def pack(folder, names, out):
    """An archive of files and folders below a folder; equal content gives equal archives."""
    found = [p for name in names for p in (folder / name, *(folder / name).rglob("*"))]
    with zipfile.ZipFile(out, "w") as archive:
        for path in sorted(p for p in found if p.is_file() and p.suffix not in LEFT_OUT):
            info = zipfile.ZipInfo(str(path.relative_to(folder)), EPOCH)
            info.compress_type = zipfile.ZIP_LZMA
            archive.writestr(info, path.read_bytes())


def write_json(path, content):
    """For people to read, too."""
    path.write_text(json.dumps(content, indent=1) + "\n")


def main(version):
    """Make everything in a scratch folder, then put it where it belongs."""
    out = HERE / version
    if out.exists():
        sys.exit(f"{out}: there already; golden files are never made anew, name another version")
    with tempfile.TemporaryDirectory() as scratch, working_directory(Path(scratch)):
        folder = Path(scratch)
        (folder / "resources").symlink_to(REPOSITORY / "resources")
        write_results(folder)
        write_run(folder)
        out.mkdir()
        pack(folder, ("c.yaml", "raw", "boxes", *(f"results/{name}" for name in KEPT)), out / "results.zip")
        pack(folder, ("start.safetensors", "results/pretrain/default"), out / "run.zip")
        recorded = {"results": contents(Layout(Path("results")), NAMES), "features": scales("features.zarr")}
        write_json(out / "expected.json", recorded)
        keys = [{"stage": stage, "settings": given, "key": key_of(stage, given)} for stage, given in KEYS]
        write_json(out / "keys.json", {"versions": versions(), "keys": keys})


if __name__ == "__main__":
    main(sys.argv[1])
