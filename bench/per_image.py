"""What an image costs besides its networks: processor time, files, changes on the disk, of tiny images.

python bench/per_image.py                      the code here
python bench/per_image.py against CHECKOUT     in turns with another checkout of this repository

Rows hold the processor time of 50 images, user and system, of all threads of one process: the machine is shared, and
its clock says little. Rounds alternate between the two checkouts; the medians are compared.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import ledger

ROUNDS = 3
N_IMAGES = 50
CODE = """
import json, os, sys, time
from pathlib import Path
import numpy as np
from hvlabel.cache.features import open_features, write_features
from hvlabel.cache.publish import publish_bytes
from hvlabel.config import CubeSettings
from hvlabel.config.fusion import FusionSettings
from hvlabel.cube import open_cube
from hvlabel.descriptors import Descriptor, WavelengthRange
from hvlabel.masks import Mask, MaskSet, dump_masks, encode, read_document, read_masks
from hvlabel.stages.convert import convert_file
from hvlabel.stages.fuse import fuse_files, fusion_entry

folder, n_images = Path(sys.argv[1]), int(sys.argv[2])
SIDE_PX, N_BANDS, N_MASKS, CHANNELS = 64, 16, 20, 56
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir"}
n_changes = 0
branches = ("rgb", "sequence", "material")
rng = np.random.default_rng(0)
centres = WavelengthRange(start_nm=450, stop_nm=650, count=N_BANDS)
descriptor = Descriptor(container="npy", wavelengths_nm=centres)


def count(event, args):
    global n_changes
    writes = event == "open" and isinstance(args[2], int) and args[2] & WRITING
    n_changes += bool(writes or event in CHANGES)


def raw(k):
    return folder / f"{k}.npy"


def cube(k):
    return folder / "cubes" / f"{k}.zarr"


def masks_file(k, branch="rgb"):
    return folder / branch / f"{k}.json"


def masks(branch):
    found = []
    for x, y in rng.integers(0, SIDE_PX - 16, (N_MASKS, 2)):
        mask = np.zeros((SIDE_PX, SIDE_PX), bool)
        mask[y : y + 16, x : x + 12] = True
        found.append(Mask(encode(mask), float(rng.random()), branch, (float(x + 5), float(y + 5))))
    return MaskSet(SIDE_PX, SIDE_PX, tuple(found))


def write_masks(k, branch="rgb"):
    key = open_cube(cube(k)).attributes["key"]
    content = dump_masks(SETS[branch], str(k), {"stage": branch, "cube_key": key, "key": "k", "seconds": 0.0})
    publish_bytes(masks_file(k, branch), content)


def write_label(k):
    fuse_files([masks_file(k, b) for b in branches], VOTES, folder / "labels" / f"{k}.json", cube(k))


def fuse_in_memory(k):
    if not documents:
        documents.extend(read_document(masks_file(0, b)) for b in branches)
    fusion_entry(documents, VOTES, None).fused()


VOTES = FusionSettings(ranking="votes")  # asks no predictor
documents = []
SETS = {branch: masks(branch) for branch in branches}
tokens = rng.normal(size=(2, 2, CHANNELS))
STEPS = {
    "convert": lambda k: convert_file(raw(k), descriptor, CubeSettings(), cube(k)),
    "open cube, read picture": lambda k: open_cube(cube(k)).rgb,
    "write masks": write_masks,
    "read masks": lambda k: read_masks(masks_file(k)),
    "fuse, write label": write_label,
    "fuse in memory": fuse_in_memory,
    "check label": lambda k: read_document(folder / "labels" / f"{k}.json"),
    "write features": lambda k: write_features(folder / f"{k}.feat", tokens, {"stride_yx_px": [32.0, 32.0]}),
    "read features": lambda k: open_features(folder / f"{k}.feat").read(slice(0, 2), slice(0, 2)),
}
for k in range(n_images + 1):
    np.save(raw(k), (rng.random((SIDE_PX, SIDE_PX, N_BANDS)) * 4095).astype("<u2"))
sys.addaudithook(count)
said = {}
for name, step in STEPS.items():
    if name == "fuse, write label":
        for k in range(n_images + 1):
            for branch in branches[1:]:
                write_masks(k, branch)
    step(0)  # what happens once in a process
    n_changes, start = 0, time.process_time()
    for k in range(1, n_images + 1):
        step(k)
    said[name] = [time.process_time() - start, n_changes / n_images]
stored = [p.stat().st_size for p in (folder / "1.feat").rglob("*") if p.is_file()]
said["write features"].append(sum(stored))
print(json.dumps(said))
"""

Said = dict[str, list[float]]  # step -> seconds of all images, changes per image, and for features their bytes


def measure(checkout: Path) -> Said:
    """What a process with a checkout's code says."""
    with tempfile.TemporaryDirectory(dir=".") as name:
        command = [sys.executable, "-c", CODE, str(Path(name).absolute()), str(N_IMAGES)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=checkout)
    said: Said = json.loads(done.stdout)
    return said


def version(checkout: Path) -> str:
    """Short commit of a checkout."""
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    here = Path(__file__).resolve().parent.parent
    other = Path(sys.argv[2]).absolute() if sys.argv[1:2] == ["against"] else None
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(measure(here))
        theirs.append(measure(other) if other else ours[-1])
    for step in ours[0]:
        mine_s = [said[step][0] for said in ours]
        peer_s = [said[step][0] for said in theirs]
        ratios = sorted(b / a for a, b in zip(mine_s, peer_s, strict=True))
        quality = f"{ours[0][step][1]:g} changes on disk per image against {theirs[0][step][1]:g}"
        if len(ours[0][step]) > 2:
            quality += f"; {ours[0][step][2]:g} bytes against {theirs[0][step][2]:g}"
        ledger.append(
            "per_image",
            f"{step}: processor time of {N_IMAGES} images of 64x64, 16 bands uint16",
            statistics.median(mine_s),
            f"checkout {version(other)}" if other else "-",
            statistics.median(peer_s),
            f"{quality}; ratios of {ROUNDS} rounds {ratios[0]:.2f} to {ratios[-1]:.2f}",
        )


if __name__ == "__main__":
    main()
