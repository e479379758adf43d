"""`snakemake downstream` from nothing: scenes, labels, a backbone of a few steps, heads, the table."""

import csv

import pytest
import yaml
from verbs import snakemake

from hvlabel.layout import Layout


@pytest.mark.slow
def test_a_run_from_scenes_to_the_table(tmp_path):
    demo = {"demo": "vis31", "demo_scenes": 2, "demo_size_px": 64}
    task = {
        "kind": "segment", "title": "t", "images": {"demo": demo | {"demo_scenes": 4}}, "truth": {"demo": True},
        "split": {"shares": {"train": 0.5, "test": 0.5}}, "classes": [f"c{k}" for k in range(12)], "head": "linear",
        "recipe": {"steps": 2, "batch_images": 2, "validate_every": 2},
    }  # fmt: skip
    (tmp_path / "t.yaml").write_text(yaml.safe_dump(task))
    tree = {
        "results": str(tmp_path / "results"),
        "datasets": {"d": demo},
        "rgb": {"backend": "regions"}, "material": {"backend": "regions"}, "sequence": {"backend": "regions", "max_frames": 2},
        "pretrain": {
            "run": "tiny", "student": {"size": "small", "crop_px": 64}, "optimiser": {"steps": 1, "batch_images": 1},
            "hardware": {"workers": 0, "threads": 1, "accelerator": "cpu"}, "evaluation": {"max_images": 1},
        },
        "downstream": {"tasks": [{"file": str(tmp_path / "t.yaml")}], "labels": [50, 100]},
    }  # fmt: skip
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
    said = snakemake(tmp_path, "--configfile", tmp_path / "c.yaml", "--", "downstream")
    assert said.status == 0, said.text[-3000:]
    table = Layout(tmp_path / "results").downstream / "runs" / "compare.tsv"
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert sorted({row["backbone"] for row in rows}) == ["none", "tiny", "untrained-tiny"]
    assert len(rows) == 3 * 2
