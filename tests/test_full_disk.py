"""A disk that is full, or cannot be written, in the middle of a run: with space again the next run ends as if nothing
had been.
"""

import contextlib
import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import raw_files
import yaml
from verbs import snakemake

from hvlabel.layout import Layout

N_IMAGES, SIDE, N_BANDS = 6, 64, 12
CONFIG = "c.yaml"

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def disk_of(size_bytes, path):
    """A small disk of its own at a path."""
    path.mkdir()
    said = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", path], capture_output=True, text=True
    )
    if said.returncode:
        pytest.skip(f"no disk can be mounted here: {said.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", path], check=True)


def remount(path, option):
    subprocess.run(["mount", "-o", f"remount,{option}", path], check=True)


def write_raw(folder):
    (folder / "raw").mkdir()
    rng = np.random.default_rng(0)
    for k in range(N_IMAGES):
        cube = np.full((SIDE, SIDE, N_BANDS), 1000.0)
        cube[5 + k : 30, 5:28] = 2500
        cube[34:56, 18 : 50 - k, 4:] = 1800
        raw_files.npy(folder / "raw" / f"scene{k}.npy", (cube + rng.normal(0, 15, cube.shape)).astype("uint16"))
    wavelengths = {"start_nm": 450, "stop_nm": 650, "count": N_BANDS}
    dataset = {"root": "raw", "descriptor": {"container": "npy", "files": "*.npy", "wavelengths_nm": wavelengths}}
    regions = {branch: {"backend": "regions"} for branch in ("rgb", "sequence", "material")}
    tree = {"results": "results", "datasets": {"d": dataset}, **regions, "run": {"shard_size": 2}}
    (folder / CONFIG).write_text(yaml.safe_dump(tree))


def seals(results):
    """Content of every label, and the pixels of every cube."""
    labels = {
        p.name: json.loads(p.read_bytes())["provenance"]["content_sha256"] for p in results.glob("labels/*/*.json")
    }
    cubes = {p.parts[-6]: p.read_bytes() for p in results.glob("cubes/*/*.zarr/cube/c/0/0/0")}
    return labels, cubes


def left_overs(results):
    return [p for p in results.rglob(".*") if p.suffix in (".tmp", ".old")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What a run without trouble makes, and how many bytes that takes."""
    folder = tmp_path_factory.mktemp("whole")
    write_raw(folder)
    said = snakemake(folder, "--configfile", CONFIG)
    assert said.status == 0, said.text[-3000:]
    results = folder / "results"
    block = os.statvfs(results).f_bsize
    size = sum(-(-p.stat().st_size // block) * block for p in results.rglob("*") if p.is_file())
    labels, cubes = seals(results)
    assert len(labels) == N_IMAGES
    return labels, cubes, size


def run(folder):
    """A run beside whose results the disk may be full; what it said never holds a traceback."""
    said = snakemake(folder, "--configfile", CONFIG)
    logs = "".join(p.read_text(errors="replace") for p in Path(folder, "results").rglob("*.log"))
    assert "Traceback" not in said.text + logs, (said.text + logs)[-4000:]
    return said


@pytest.mark.parametrize("share", [0.15, 0.4, 0.6, 0.8])
def test_a_full_disk_costs_nothing_but_a_second_run(tmp_path, whole, share):
    labels, cubes, size_bytes = whole
    write_raw(tmp_path)
    results = tmp_path / "results"
    with disk_of(int(share * size_bytes), results):
        assert run(tmp_path).status != 0
        remount(results, f"size={4 * size_bytes}")
        said = run(tmp_path)
        assert said.status == 0, said.text[-3000:]
        assert seals(results) == (labels, cubes)
        assert not left_overs(results)
        assert "Nothing to be done" in snakemake(tmp_path, "--configfile", CONFIG).text


def test_a_disk_that_becomes_read_only(tmp_path, whole):
    labels, cubes, size_bytes = whole
    write_raw(tmp_path)
    results = tmp_path / "results"
    with disk_of(4 * size_bytes, results):
        remount(results, "ro")
        said = run(tmp_path)
        assert said.status != 0
        assert "Read-only file system" in said.text
        remount(results, "rw")
        said = run(tmp_path)
        assert said.status == 0, said.text[-3000:]
        assert seals(results) == (labels, cubes)
    assert not Layout(results).manifest.exists()  # it lay on the disk that is gone
