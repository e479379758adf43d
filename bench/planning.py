"""Starting a run of 15,000 images: processor time of snakemake until the first job would start.

python bench/planning.py [SHARD_SIZE]                      the code here
python bench/planning.py [SHARD_SIZE] against CHECKOUT     in turns with another checkout of this repository

Once with everything to do (a dry run), once with nothing to do: then indexes and outputs are stand-ins that only have
the names of real ones.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import ledger
import numpy as np
import yaml
from per_image import version

from hvlabel.cache.index import Entry, StageIndex, publish_scan
from hvlabel.config.tree import parse_config
from hvlabel.layout import Layout
from hvlabel.manifest import scan

ROOT = Path(__file__).resolve().parent.parent
SNAKEMAKE = Path(sys.executable).with_name("snakemake")
N_FOLDERS, N_IN_FOLDER, ROUNDS = 30, 500, 3
STAGES = ("cubes", "rgb", "sequence", "material", "labels")


def write_images(folder: Path, shard_size: int) -> None:
    """Tiny raw files and a configuration without networks."""
    first = folder / "first.npy"
    np.save(first, np.zeros((4, 4, 9), "uint16"))
    content = first.read_bytes()
    for k in range(N_FOLDERS):
        camera = folder / "raw" / f"d{k}"
        camera.mkdir(parents=True)
        for n in range(N_IN_FOLDER):
            (camera / f"s{n:05d}.npy").write_bytes(content)
    centres = {"start_nm": 450, "stop_nm": 650, "count": 9}
    descriptor = {"container": "npy", "files": "*.npy", "wavelengths_nm": centres}
    tree = {
        "results": "results",
        "datasets": {"d": {"root": "raw", "descriptor": descriptor}},
        **{branch: {"backend": "regions"} for branch in ("rgb", "sequence", "material")},
        "run": {"device": "cpu", "shard_size": shard_size},
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(tree))


def finish() -> None:
    """Stand-ins of all results, below the working directory."""
    config = parse_config(yaml.safe_load(Path("c.yaml").read_text()), "c.yaml").resolved()
    layout = Layout(Path(config.results))
    scanned = scan(config)
    publish_scan(layout, scanned)
    for stage in STAGES:
        for image in scanned.images:
            output = layout.output(stage, image.dataset, image.image_id)
            output.parent.mkdir(parents=True, exist_ok=True)
            output.touch()
        for dataset, shard in scanned.shards():
            entries = {}
            for image in scanned.in_shard(dataset, shard):
                output = layout.output(stage, dataset, image.image_id).relative_to(layout.root)
                entries[image.image_id] = Entry("ok", str(output), "0" * 64, 0.01, {"masks": 5})
            path = layout.index(stage, dataset, shard)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(StageIndex(stage, dataset, shard, entries).to_json())
    for path in (layout.report, layout.overview, layout.quality, layout.checked):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def start_s(checkout: Path, *options: str) -> float:
    """Processor time of a start with a checkout's workflow, user and system."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    snakefile = str(checkout / "workflow/Snakefile")
    command = [str(SNAKEMAKE), "-s", snakefile, "--configfile", "c.yaml", "--cores", "2", "--quiet", "all"]
    subprocess.run([*command, *options, "--", "pseudolabels"], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def compare(what: str, shard_size: int, other: Path | None, *options: str) -> None:
    """Append a row: starts by the code here, and by another checkout in turns."""
    ours_s, theirs_s = [], []
    for _ in range(ROUNDS):
        ours_s.append(start_s(ROOT, *options))
        theirs_s.append(start_s(other, *options) if other else ours_s[-1])
    ledger.append(
        "planning",
        f"{N_FOLDERS * N_IN_FOLDER} images, shards of {shard_size}, {what}: processor time",
        statistics.median(ours_s),
        f"checkout {version(other)}" if other else "-",
        statistics.median(theirs_s),
        f"{ROUNDS} rounds, {min(ours_s):.2f} to {max(ours_s):.2f} s; load {os.getloadavg()[0]:.0f}",
    )


def main() -> None:
    shard_size = int(sys.argv[1]) if len(sys.argv) > 1 else 64
    other = Path(sys.argv[3]).absolute() if sys.argv[2:3] == ["against"] else None
    with tempfile.TemporaryDirectory() as name:
        write_images(Path(name), shard_size)
        os.chdir(name)
        compare("everything to do (-n)", shard_size, other, "-n")
        finish()
        start_s(ROOT, "--touch")  # times in the order of the stages
        compare("nothing to do", shard_size, other)
        os.chdir(ROOT)


if __name__ == "__main__":
    main()
