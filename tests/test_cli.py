"""Verbs on single files, and for people."""

import shutil

import numpy as np
import pytest
import torch
import yaml
from verbs import hvlabel

from hvlabel.branches.rgb import RgbSettings
from hvlabel.cache.index import all_indexes
from hvlabel.errors import ResultsError, WeightsError
from hvlabel.layout import Layout
from hvlabel.masks import read_document, read_masks
from hvlabel.models.hyperfree import HyperFree, Topology
from hvlabel.models.weights import read_state_dict
from hvlabel.stages.segment import BranchRunner
from hvtrain.data.labelled_images import LabelledImages

REGIONS = "rgb: {backend: regions}\n"


@pytest.fixture(scope="module")
def results(demo_run, tmp_path_factory):
    """A finished small demo run, made by the verbs alone."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    shutil.copytree(demo_run, folder)
    return folder / "results"


@pytest.fixture
def torch_threads():
    """As many threads as before when a test is over."""
    n_threads = torch.get_num_threads()
    yield
    torch.set_num_threads(n_threads)


def test_threads_and_batch_sizes_change_no_file(results, repository, tmp_path, torch_threads):
    """A trained network on CPUs: masks of two branches have the same seal."""
    cube = next((results / "cubes").rglob("*.zarr"))
    models = repository / "resources/models"
    network = {"config": str(models / "sam2_nano.yaml"), "checkpoint": str(models / "sam2_nano.safetensors")}
    generator = {"points_per_side": 8, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.1}
    seals = []
    for threads, points, objects in ((1, 64, 16), (2, 17, 3)):
        own = {**generator, "points_per_batch": points}
        branch = {"backend": "sam2", "sam2": network, "generator": own}
        frames = {"max_frames": 3, "key_frames": 1, "max_objects": 20}
        tree = {
            "datasets": {"d": {"demo": "vis31"}},
            "run": {"threads": threads},
            "rgb": {**branch, "generator": {**own, "half_precision": False}},
            "sequence": {**branch, **frames, "objects_per_batch": objects},
        }
        folder = tmp_path / str(threads)
        folder.mkdir()
        (folder / "c.yaml").write_text(yaml.safe_dump(tree))
        for name in ("rgb", "sequence"):
            said = hvlabel("segment", name, cube, folder / f"{name}.json", "--config", folder / "c.yaml")
            assert said.status == 0, said.err
            assert torch.get_num_threads() == threads
        documents = [read_document(folder / f"{name}.json") for name in ("rgb", "sequence")]
        seals.append([document["provenance"]["content_sha256"] for document in documents])
        assert min(len(document["annotations"]) for document in documents) > 10
    assert seals[0] == seals[1]


def test_single_files_without_a_workflow(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    cube = rng.normal(100, 2, (30, 34, 8))
    cube[5:15, 6:20] += 60
    np.save(tmp_path / "a.npy", cube)
    (tmp_path / "d.yaml").write_text("container: npy\nwavelengths_nm: {start_nm: 450, stop_nm: 650, count: 8}\n")
    monkeypatch.chdir(tmp_path)
    status, out, _ = hvlabel("convert", "--dataset", "d.yaml", "a.npy", "a.zarr")
    assert (status, out) == (0, "a.zarr: 8 bands, rgb from triplet\n")
    for branch in ("rgb", "sequence", "material"):
        assert hvlabel("segment", branch, "a.zarr", f"{branch}.json")[0] == 0
        assert read_document(tmp_path / f"{branch}.json")["provenance"]["backend"] == "regions"
    status, out, _ = hvlabel("fuse", "rgb.json", "sequence.json", "material.json", "label.json", "--cube", "a.zarr")
    assert status == 0
    assert (tmp_path / "label.png").is_file()
    assert read_masks(tmp_path / "label.json").masks
    np.save(tmp_path / "b.npy", cube[::-1] + 1)
    hvlabel("convert", "--dataset", "d.yaml", "b.npy", "b.zarr")
    hvlabel("segment", "rgb", "b.zarr", "other.json")
    status, _, err = hvlabel("fuse", "other.json", "sequence.json", "mixed.json")
    assert status == 2
    assert "not of one cube: other.json of b, sequence.json of a" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["convert"], "convert needs --dataset NAME RAW OUT.zarr"),
        (["convert", "--dataset", "nothing", "a.npy", "b.zarr"], "no descriptor 'nothing'"),
        (["segment", "rgb", "gone.zarr", "b.json"], "gone.zarr: no such cube; make it with `hvlabel convert`"),
        (["segment", "rgb"], "segment rgb needs CUBE.zarr OUT.json"),
        (["fuse", "a.json"], "fuse needs MASKS.json ... OUT.json"),
        (["fuse", "gone.json", "out.json"], "gone.json: cannot read the mask file"),
        (["fuse", "--shard", "d"], "expected DATASET/SHARD"),
        (["show", "thing"], "0 images are called 'thing', expected one; there are none"),
        (["evaluate"], "results: no results here (no manifest)"),
        (["summary"], "results: no results here (no manifest)"),
        (["report"], "results: no results here (no manifest)"),
        (["verify"], "results: no results here (no manifest)"),
        (["scan", "--config", "gone.yaml"], "gone.yaml: cannot read the file"),
    ],
)
def test_mistakes_are_one_line_and_status_two(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    status, out, err = hvlabel(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("hvlabel: error: ")
    assert err.count("\n") == 1
    assert message in err


def test_a_learned_branch_by_checkpoint_through_the_same_verb(tmp_path, results):
    topology = Topology(
        image_size_px=64,
        patch_px=8,
        embed_dim=32,
        depth=2,
        num_heads=2,
        window_px=4,
        global_blocks=(1,),
        out_dim=32,
        decoder_mlp=32,
        iou_hidden=32,
    )
    torch.manual_seed(0)
    torch.save(HyperFree(topology).state_dict(), tmp_path / "small.pth")
    tree = {
        "datasets": {"d": {"demo": "vis31"}},
        "material": {
            "backend": "hyperfree",
            "hyperfree": {"checkpoint": str(tmp_path / "small.pth")},
            "generator": {
                "points_per_side": 3,
                "pred_iou_thresh": 0,
                "stability_score_thresh": 0,
                "box_nms_thresh": 1.0,
            },
        },
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
    cube = Layout(results).cube("d", "vis31_00")
    status, _, err = hvlabel("segment", "material", cube, tmp_path / "m.json", "--config", tmp_path / "c.yaml")
    assert status == 0, err
    provenance = read_document(tmp_path / "m.json")["provenance"]
    assert (provenance["learned_model"], provenance["untrained_weights"]) == (True, False)
    assert len(provenance["weights_sha256"]) == 64

    tree["material"]["hyperfree"]["sha256"] = "0" * 64
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
    status, _, err = hvlabel("segment", "material", cube, tmp_path / "m.json", "--config", tmp_path / "c.yaml")
    assert status == 2
    assert "the configuration expects 0000" in err
    (tmp_path / "small.pth").write_bytes(b"no checkpoint")
    tree["material"]["hyperfree"].pop("sha256")
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
    status, _, err = hvlabel("segment", "material", cube, tmp_path / "m.json", "--config", tmp_path / "c.yaml")
    assert (status, err.count("\n")) == (2, 1)
    assert "small.pth: not a readable checkpoint" in err


def test_show_report_evaluate_summary(tmp_path, monkeypatch, results):
    monkeypatch.chdir(tmp_path)
    assert hvlabel("show", "vis31_01", "one.png", "--results", results)[:2] == (0, "one.png\n")
    import cv2

    picture = cv2.imread(str(tmp_path / "one.png"))
    assert min(picture.shape[:2]) > 600  # larger than the panels of the report
    Layout(results).problems.write_text("data set x: <gone>\n")
    assert hvlabel("report", "--results", results, "--max-pages", 1)[:2] == (
        0,
        f"{results}/report/index.html: 2 pictures, 1 pages\n",
    )
    page = (results / "report/index.html").read_text()
    assert "No learned model was used" in page
    assert "data set x: &lt;gone&gt;" in page
    assert len(list((results / "report/pages/d").iterdir())) == 1
    assert "spectral-only recall@.5" in page
    assert "http" not in page.replace("http-equiv", "")
    status, out, _ = hvlabel("evaluate", "--results", results)
    assert status == 0
    assert [line.split("|")[2].strip() for line in out.splitlines()[2:6]] == ["rgb", "sequence", "material", "fused"]
    assert (results / "evaluation.tsv").read_text().startswith("data set\tmasks of\timages")
    status, out, _ = hvlabel("summary", "--results", results)
    assert out.startswith("2 of 2 images labelled with ")
    assert f"report:   {results}/report/index.html" in out


def test_verify_finds_what_was_changed(results):
    layout = Layout(results)
    assert hvlabel("verify", "--deep", "--results", results)[:2] == (
        0,
        "10 files checked, 0 missing or damaged\n",
    )
    shard = layout.cube("d", "vis31_00") / "cube" / "c" / "0" / "0" / "0"
    content = shard.read_bytes()
    picture = layout.label("d", "vis31_01").with_suffix(".png")
    png = picture.read_bytes()
    shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    picture.write_bytes(png[:-1])
    assert "vis31_01.json: vis31_01.png was changed" in hvlabel("verify", "--results", results)[1]
    status, out, _ = hvlabel("verify", "--deep", "--results", results)
    assert status == 1
    assert "cube/c/0/0/0 was changed" in out
    shard.write_bytes(content)
    picture.write_bytes(png)


def test_labels_feed_training(results):
    data = LabelledImages(str(results), max_masks=5)
    assert len(data) == 2
    sample = data[0]
    assert sample.cube.shape == (31, 64, 64)
    assert sample.masks.shape == (5, 64, 64)
    assert (np.diff(sample.scores) <= 0).all()
    assert len(sample.wavelengths_nm) == 31
    assert len(list(all_indexes(Layout(results), "labels"))) == 1
    (batch,) = torch.utils.data.DataLoader(data, batch_size=2, collate_fn=data.collate)
    assert batch.image_ids == ["vis31_00", "vis31_01"]
    assert torch.equal(batch.cubes[1], torch.from_numpy(data[1].cube))
    assert [m.shape for m in batch.masks] == [(5, 64, 64), (5, 64, 64)]
    with pytest.raises(ResultsError, match="no labels to train on"):
        LabelledImages(results / "nothing")


def test_a_networks_config_file_is_part_of_the_key(tmp_path, repository):
    config = tmp_path / "net.yaml"
    keys = []
    for text in ("image_size: 256", "image_size: 512"):
        config.write_text((repository / "resources/models/sam2_nano.yaml").read_text().replace("image_size: 256", text))
        settings = RgbSettings(backend="sam2", sam2={"config": str(config), "checkpoint": "random:1"})
        keys.append(BranchRunner("rgb", settings).key("cube"))
    assert len(set(keys)) == 2


@pytest.mark.parametrize("content", [b"hello world", b"", b"\x80\x04K\x01.", bytes(range(256))])
def test_files_that_are_no_checkpoints(tmp_path, content):
    for suffix in (".pt", ".safetensors"):
        path = tmp_path / f"a{suffix}"
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=r"not a readable checkpoint|holds no state dict"):
            read_state_dict(path)
