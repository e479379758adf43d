"""The workflow with networks: untrained ones make masks, and a student is trained on them."""

import json

import pytest
import yaml
from verbs import rules_of, snakemake

from hvlabel.layout import Layout
from hvlabel.manifest import read_manifest
from hvlabel.masks import read_document

BACKENDS = {"rgb": "sam2", "sequence": "sam2", "material": "hyperfree"}


def random_networks(repository, results):
    """config/random.yaml (SAM2 on RGB and along the sequence, HyperFree on the spectra), and the SAM2 network of it."""
    tree = yaml.safe_load((repository / "config/random.yaml").read_text())
    network = {"config": str(repository / "resources/models/sam2_nano.yaml"), "checkpoint": "random:1"}
    for branch in ("rgb", "sequence"):
        tree[branch]["sam2"] = network
    return tree | {"results": str(results)}, network


def assert_branches_ran_on_networks(layout, branches):
    for row in read_manifest(layout.manifest):
        for branch in branches:
            document = read_document(layout.masks(branch, row.dataset, row.image_id))
            assert document["provenance"]["backend"] == BACKENDS[branch]
            assert document["provenance"]["untrained_weights"] is True
            assert document["annotations"]
            assert all((a["frame"] is not None) == (branch == "sequence") for a in document["annotations"])
    assert "these masks mean nothing" in layout.report.read_text()


@pytest.mark.slow
def test_untrained_networks_run_all_twelve_scenes_through_every_learned_path(repository, tmp_path):
    tree, _ = random_networks(repository, tmp_path / "results")
    (tmp_path / "random.yaml").write_text(yaml.safe_dump(tree))
    said = snakemake(tmp_path, "--configfile", "random.yaml")
    assert said.status == 0, said.text[-3000:]
    assert "12 of 12 images labelled" in said.text
    assert "0 failures" in said.text
    assert_branches_ran_on_networks(Layout(tmp_path / "results"), BACKENDS)


def test_networks_make_masks_and_a_student_is_trained_on_them(repository, tmp_path):
    """The sequence is off: verbs run it on the same network, and the slow test above on all scenes."""
    tree, network = random_networks(repository, tmp_path / "out")
    tree["datasets"] = {"vis": {"demo": "vis31", "demo_scenes": 3, "demo_size_px": 64}}
    tree["sequence"] = "off"
    for branch in ("rgb", "material"):
        tree[branch]["generator"] = tree[branch]["generator"] | {"points_per_side": 3}
    tree["teacher"] = {"backend": "sam2", "sam2": network, "tile_px": 64}
    tree["pretrain"] = {
        "student": {"size": "small", "crop_px": 64},
        "data": {"masks_per_image": 2},
        "optimiser": {"steps": 2, "batch_images": 2},
        "evaluation": {"max_images": 1, "probe_images": 1, "max_masks": 2, "clicks": [1, 2]},
        "hardware": {"workers": 1, "threads": 1},
    }
    layout = Layout(tmp_path / "out")

    def run(*options, **changes):
        for group, values in changes.items():
            tree["pretrain"][group] |= values
        (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
        said = snakemake(tmp_path, *options, "--configfile", "c.yaml", "--", "pretrain")
        assert said.status == 0, said.text[-3000:]
        return said

    said = run()
    assert {"segment", "teacher", "fit", "evaluate", "report"} <= set(rules_of(said))
    assert "3 of 3 images labelled" in said.text
    assert "these masks mean nothing" in said.text
    assert_branches_ran_on_networks(layout, ("rgb", "material"))
    assert "| probe mIoU: trained |" in said.text
    assert "| 2-click mIoU |" in said.text
    folder = layout.pretrain("default")
    for name in ("run.json", "metrics.csv", "curves.png", "student.safetensors", "evaluation.md", "evaluation.tsv"):
        assert (folder / name).stat().st_size > 0, name
    assert json.loads((folder / "run.json").read_text())["distilled"]
    # how a run is computed is no part of it: that alone would start nothing
    asked_otherwise = run("-n", hardware={"threads": 2, "log_every": 1}, evaluation={"max_masks": 1})
    assert rules_of(asked_otherwise) == ["evaluate", "pretrain"]
    assert rules_of(run("-n", optimiser={"lr": 1e-4})) == ["fit", "evaluate", "pretrain"]
