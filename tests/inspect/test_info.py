"""`hvlabel info` of everything that a run and a training write: named, and damage told, never a traceback."""

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import zarr
from verbs import hvlabel

from hvlabel.inspect.info import info_of

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
NEWEST = max((p.parent for p in GOLDEN.glob("*/run.zip")), key=lambda p: [int(n) for n in p.name.split(".")])
KINDS = {
    "results": "a results folder",
    "results/manifest.tsv": "the manifest of a run",
    "results/index/problems.txt": "data sets without images",
    "results/index/rgb/d/0000.json": "the index of a shard",
    "results/cubes/d/one.zarr": "a cube",
    "results/teacher/d/one.zarr": "features of a frozen teacher",
    "results/masks/rgb/d/one.json": "masks of branch rgb",
    "results/labels/d/one.json": "a label",
    "results/labels/d/one.png": "the picture of a label",
    "results/pretrain/default": "a training run",
    "results/pretrain/default/run.json": "facts of a run",
    "results/pretrain/default/identity.json": "which run this is",
    "results/pretrain/default/metrics.csv": "metrics of a training run",
    "results/pretrain/default/curves.png": "a picture",
    "results/pretrain/default/student.safetensors": "exported weights",
    "results/pretrain/default/checkpoint.pt": "a checkpoint",
}
SEALED = ("cubes/d/one.zarr", "teacher/d/one.zarr", "masks/rgb/d/one.json", "labels/d/one.json", "labels/d/one.png",
          "index/rgb/d/0000.json", "manifest.tsv", "pretrain/default", "pretrain/default/student.safetensors")  # fmt: skip
DAMAGE = ("cubes/d/one.zarr/zarr.json", "teacher/d/one.zarr/zarr.json", "masks/rgb/d/one.json", "labels/d/one.json",
          "labels/d/one.png", "index/rgb/d/0000.json", "manifest.tsv", "pretrain/default/student.safetensors",
          "pretrain/default/checkpoint.pt", "pretrain/default/run.json", "cubes/d/one.zarr/cube/c/0/0/0")  # fmt: skip


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A run and a training, as the newest recorded version wrote them."""
    folder = tmp_path_factory.mktemp("info")
    for name in ("results.zip", "run.zip"):
        with zipfile.ZipFile(NEWEST / name) as archive:
            archive.extractall(folder)
    return folder


@pytest.mark.parametrize("name", KINDS)
def test_everything_is_named(written, name):
    answer = info_of(str(written / name))  # a text is a path too
    assert answer.kind == KINDS[name]
    assert answer.text().startswith(f"{written / name}: {KINDS[name]}\n")


@pytest.mark.parametrize("name", SEALED)
def test_what_is_sealed_is_whole(written, name):
    assert info_of(written / "results" / name).health.startswith("whole")


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_told(written, tmp_path, name):
    shutil.copytree(written / "results", tmp_path / "results")
    path = tmp_path / "results" / name
    path.write_bytes(path.read_bytes()[:-40])
    # a part of a folder is asked by its folder
    parts = path.relative_to(tmp_path).parts
    whole = next((p for p in path.parents if p.suffix == ".zarr"), path)
    shown = whole.parent if parts[-1] == "run.json" else whole
    assert not info_of(shown).health.startswith(("whole", "readable"))


def test_tables_are_named(written, tmp_path, demo_run):
    results = tmp_path / "results"
    shutil.copytree(demo_run / "results", results)
    for verb in ("quality", "evaluate"):
        assert hvlabel(verb, "--results", results).status == 0
    kinds = {
        name: info_of(results / name).kind
        for name in ("quality.tsv", "quality.parquet", "evaluation.tsv", "calibration.tsv")
    }
    assert kinds == {
        "quality.tsv": "labels in numbers, worst first (hvlabel quality)",
        "quality.parquet": "a Parquet table",
        "evaluation.tsv": "scores against ground truth (hvlabel evaluate)",
        "calibration.tsv": "what scores promise and what they hold (hvlabel evaluate)",
    }
    assert info_of(results / "demo/d/truth/vis31_00.json").kind == "ground truth"
    assert hvlabel("export", tmp_path / "out", "--to", "parquet", "--results", results).status == 0
    assert info_of(tmp_path / "out").kind == "an export (hvlabel export)"
    assert info_of(tmp_path / "out/masks.parquet").kind == "a Parquet table"
    (tmp_path / "scenes.json").write_text('{"dataset": "d", "scenes": 2}')
    assert info_of(tmp_path / "scenes.json").kind == "the index of generated scenes"


def test_maps_and_packed_labels_are_named(tmp_path):
    group = zarr.create_group(tmp_path / "maps.zarr")
    group.create_array("scale0", data=np.zeros((2, 3, 4), np.float32))
    group.attrs.update({"stride_px": [4.0], "checkpoint_sha256": "0" * 64})
    answer = info_of(tmp_path / "maps.zarr")
    assert answer.kind == "feature maps of a backbone (hvtrain features)"
    assert "2x3x4" in answer.text()
    (tmp_path / "pack").mkdir()
    for name in ("starts", "sizes", "boxes_xywh", "offsets", "counts"):
        np.save(tmp_path / "pack" / f"{name}.npy", np.arange(3))
    assert info_of(tmp_path / "pack").facts["images"] == 2


def test_a_label_says_what_it_was_made_from(written):
    said = hvlabel("info", written / "results/labels/d/one.json")
    assert said.status == 0
    for word in ("masks:", "quality:", "found by:", "suppressed:", "iou_threshold", "health:"):
        assert word in said.out


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b'{"a": 1}', b"a\tb\n1\t2\n"])
@pytest.mark.parametrize(
    "suffix", [".json", ".tsv", ".csv", ".parquet", ".png", ".safetensors", ".pt", ".npy", ".md", ".txt"]
)
def test_foreign_files_are_one_sentence_or_damaged(tmp_path, content, suffix):
    path = tmp_path / f"thing{suffix}"
    path.write_bytes(content)
    said = hvlabel("info", path)
    assert said.status in (0, 2)
    assert said.status == 0 or said.err.count("\n") == 1


def test_what_is_not_there_is_refused(tmp_path):
    assert "no such file or folder" in hvlabel("info", tmp_path / "gone").err
    assert "no file that is written here" in hvlabel("info", tmp_path).err
