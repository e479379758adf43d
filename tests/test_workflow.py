"""The whole workflow as a user runs it: Snakemake on small images, good and bad."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import yaml

from hvlabel.layout import Layout
from hvlabel.manifest import read_manifest
from hvlabel.masks import read_document, read_masks

SIDE = 40
NM = {"start_nm": 450, "stop_nm": 650, "count": 9}


def image(seed):
    """(H, W, C) uint16 with two rectangles."""
    rng = np.random.default_rng(seed)
    cube = np.full((SIDE, SIDE, 9), 1000.0)
    cube[5:20, 5:22] = 2500
    cube[24:36, 18:34, 4:] = 1800
    return (cube + rng.normal(0, 15, cube.shape)).astype("uint16")


def snakemake(repository, folder, *arguments):
    """Exit status and everything printed."""
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        str(repository / "workflow/Snakefile"),
        "--cores",
        "2",
    ]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=900, cwd=folder)
    return done.returncode, done.stdout + done.stderr


def done_lines(text):
    """What each job said: {'labels mine/0000': (made, kept, failed, left out)}."""
    found = re.findall(r"^(\w+ [\w-]+/\d+): (\d+) made, (\d+) kept, (\d+) failed, (\d+) left out", text, re.MULTILINE)
    return {name: tuple(map(int, counts)) for name, *counts in found}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Raw files of two data sets, one of them mostly damaged, and a configuration."""
    folder = tmp_path_factory.mktemp("run")
    mine, bad = folder / "raw" / "mine", folder / "raw" / "bad"
    mine.mkdir(parents=True)
    bad.mkdir()
    for k in range(2):
        np.save(mine / f"scene{k}.npy", image(k))
    np.save(bad / "good.npy", image(9))
    cv2.imwrite(str(bad / "good_rgb.png"), (image(9)[:, :, [7, 4, 1]] / 12).astype(np.uint8))
    np.save(bad / "no_companion.npy", image(3))
    for name, array in {
        "flat": np.zeros((SIDE, SIDE)),
        "text": np.full((3, 3, 9), "x"),
        "nan": np.full((8, 8, 9), np.nan),
        "constant": np.ones((8, 8, 9)),
        "bands": np.ones((8, 8, 7)),
    }.items():
        np.save(bad / f"{name}.npy", array)
        cv2.imwrite(str(bad / f"{name}_rgb.png"), np.zeros((8, 8, 3), np.uint8))
    (bad / "truncated.npy").write_bytes((mine / "scene0.npy").read_bytes()[:4000])
    with h5py.File(folder / "raw" / "wrong.h5", "w") as file:
        file["data"] = image(4)
    tree = {
        "results": "results",
        "datasets": {
            "mine": {"root": "raw/mine", "glob": "*.npy", "descriptor": {"container": "npy", "wavelengths_nm": NM}},
            "bad": {
                "root": "raw/bad",
                "glob": "*.npy",
                "descriptor": {"container": "npy", "wavelengths_nm": NM, "rgb_companion": "{stem}_rgb.png"},
            },
            "wrong": {
                "root": "raw",
                "glob": "wrong.h5",
                "descriptor": {"container": "hdf5", "variable": "cube", "wavelengths_nm": NM},
            },
            "gone": {"root": "raw/gone", "glob": "*", "descriptor": {"container": "envi"}},
            "empty": {"root": "raw", "glob": "*.hdr", "descriptor": {"container": "envi"}},
        },
        "sequence": {"max_frames": 2},
        "run": {"max_failed_share": 1.0},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(tree))
    return folder


@pytest.fixture(scope="module")
def first_run(repository, folder):
    status, text = snakemake(repository, folder, "--configfile", "config.yaml")
    assert status == 0, text[-3000:]
    return text


def test_good_images_get_labels_and_the_run_says_where(first_run, folder):
    assert "3 of 11 images labelled with" in first_run
    assert "No learned model was used" in first_run
    assert "report:   results/report/index.html" in first_run
    layout = Layout(folder / "results")
    for name in ("scene0", "scene1"):
        label = read_masks(layout.label("mine", name))
        assert len(label) >= 2
        assert (layout.root / "labels" / "mine" / f"{name}.png").is_file()
        provenance = read_document(layout.label("mine", name))["provenance"]
        assert provenance["learned_model"] is False
        assert {b["backend"] for b in provenance["branches"].values()} == {"regions"}


def test_bad_images_are_one_sentence_each(first_run, folder):
    index = json.loads((folder / "results/index/cubes/bad/0000.json").read_text())["images"]
    reasons = {name: entry["reason"] for name, entry in index.items() if entry["status"] == "failed"}
    expected = {
        "flat": "expected three axes",
        "text": "expected numbers",
        "nan": "no finite value",
        "constant": "every value of the cube is 1",
        "bands": "9 wavelengths for 7 bands",
        "truncated": "truncated.npy: 4000 bytes, but the header promises",
        "no_companion": "the RGB companion of no_companion.npy is missing",
    }
    assert reasons.keys() == expected.keys()
    for name, message in expected.items():
        assert message in reasons[name]
        assert "\n" not in reasons[name]
    assert index["good"]["status"] == "ok"
    wrong = json.loads((folder / "results/index/cubes/wrong/0000.json").read_text())["images"]["wrong"]
    assert "no variable 'cube'; it holds data 40x40x9 uint16; set descriptor.variable" in wrong["reason"]
    assert "data set gone: root raw/gone is no folder" in first_run
    assert "data set empty: nothing below raw matches '*.hdr'" in first_run
    report = (folder / "results/report/index.html").read_text()
    for message in (*expected.values(), "root raw/gone is no folder"):
        assert message in report.replace("&#39;", "'")
    assert "Traceback" not in "".join(p.read_text() for p in (folder / "results/logs").rglob("*.log"))


def test_a_second_run_does_nothing_and_says_so(repository, first_run, folder):
    status, text = snakemake(repository, folder, "--configfile", "config.yaml")
    assert status == 0
    assert "Nothing to be done" in text


def test_a_deleted_and_a_damaged_label_are_found_and_remade_alone(repository, first_run, folder):
    layout = Layout(folder / "results")
    before = read_masks(layout.label("mine", "scene0"))
    layout.label("mine", "scene0").unlink()
    verify = [sys.executable, "-m", "hvlabel", "verify", "--results", "results"]
    found = subprocess.run(verify, cwd=folder, capture_output=True, text=True)
    assert found.returncode == 1
    assert "results/labels/mine/scene0.json: missing" in found.stdout
    status, text = snakemake(repository, folder, "--configfile", "config.yaml")
    assert status == 0
    assert done_lines(text) == {"labels mine/0000": (1, 1, 0, 0)}
    assert read_masks(layout.label("mine", "scene0")) == before

    path = layout.masks("rgb", "mine", "scene1")
    path.write_text(path.read_text().replace('"score": ', '"score":  ', 1).replace("0.", "1.", 3))
    found = subprocess.run([*verify, "--repair", "--deep"], cwd=folder, capture_output=True, text=True)
    assert "does not match its seal" in found.stdout
    status, text = snakemake(repository, folder, "--configfile", "config.yaml")
    assert status == 0
    assert done_lines(text)["rgb mine/0000"] == (1, 1, 0, 0)
    assert done_lines(text)["labels mine/0000"][0] == 0  # the remade masks are equal, so the label is still valid
    assert subprocess.run(verify, cwd=folder).returncode == 0


def test_a_changed_setting_reruns_only_what_depends_on_it(repository, first_run, folder):
    tree = yaml.safe_load((folder / "config.yaml").read_text())
    tree["fusion"] = {"iou_threshold": 0.6}
    (folder / "changed.yaml").write_text(yaml.safe_dump(tree))
    status, text = snakemake(repository, folder, "--configfile", "changed.yaml")
    assert status == 0
    lines = done_lines(text)
    assert {name.split()[0] for name in lines} == {"labels"}
    assert lines["labels mine/0000"] == (2, 0, 0, 0)


def test_a_new_image_is_added_to_its_shard(repository, first_run, folder):
    np.save(folder / "raw" / "mine" / "another.npy", image(5))
    status, text = snakemake(repository, folder, "--configfile", "changed.yaml")
    assert status == 0
    assert done_lines(text)["cubes mine/0000"] == (1, 2, 0, 0)
    assert done_lines(text)["labels mine/0000"] == (1, 2, 0, 0)
    assert not any("bad/" in name for name in done_lines(text))
    assert [i.image_id for i in read_manifest(folder / "results/manifest.tsv") if i.dataset == "mine"] == [
        "scene0",
        "scene1",
        "another",
    ]


def test_a_deleted_cube_is_made_again_and_nothing_else(repository, first_run, folder):
    layout = Layout(folder / "results")
    shutil.rmtree(layout.cube("mine", "scene1"))
    status, text = snakemake(repository, folder, "--configfile", "changed.yaml", "-n")
    assert status == 0
    assert "cubes/mine/0000.json: 1 missing, e.g. cubes/mine/scene1.zarr; will be made again" in text
    assert layout.index("cubes", "mine", "0000").exists()  # a dry run changes nothing
    status, text = snakemake(repository, folder, "--configfile", "changed.yaml")
    assert status == 0
    lines = done_lines(text)
    assert lines["cubes mine/0000"] == (1, 2, 0, 0)
    assert {lines[f"{s} mine/0000"] for s in ("rgb", "sequence", "material", "labels")} == {(0, 3, 0, 0)}


def test_too_many_failures_fail_the_run_after_everything_else_is_done(repository, first_run, folder):
    """The same files under a stricter limit: the labels are there, the exit status tells."""
    tree = yaml.safe_load((folder / "changed.yaml").read_text())
    tree["run"] = {"max_failed_share": 0.5}
    (folder / "strict.yaml").write_text(yaml.safe_dump(tree))
    (folder / "results/index/checked").unlink()
    status, text = snakemake(repository, folder, "--configfile", "strict.yaml")
    assert status != 0
    assert "8 failures" in text
    assert "more than run.max_failed_share 0.5 allows" in (folder / "results/logs/check.log").read_text()
    assert Layout(folder / "results").label("mine", "scene0").exists()
    assert Layout(folder / "results").report.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fusoin": {}}, "unknown key 'fusoin'; did you mean 'fusion'?"),
        (
            {"rgb": {"backend": "sam2", "sam2": {"config": "x", "checkpoint": "/nowhere/sam2.pt"}}},
            "/nowhere/sam2.pt: no such checkpoint",
        ),
        (
            {"datasets": {"gone": {"root": "nowhere", "glob": "*", "descriptor": {"container": "envi"}}}},
            "no image to work on: data set gone",
        ),
        ({"results": "raw/mine/scene0.npy"}, "cannot make the folder|cannot read the manifest|Not a directory"),
    ],
)
def test_a_wrong_configuration_stops_at_once_in_one_sentence(repository, folder, change, message):
    tree = {**yaml.safe_load((folder / "config.yaml").read_text()), **change}
    (folder / "wrong.yaml").write_text(yaml.safe_dump(tree))
    status, text = snakemake(repository, folder, "--configfile", "wrong.yaml")
    assert status != 0
    assert re.search(message if "|" in message else re.escape(message), text)
    assert "Traceback" not in text


def test_a_descriptor_lies_beside_the_configuration_that_names_it(repository, folder, tmp_path):
    place = tmp_path / "settings"
    place.mkdir()
    (place / "camera.yaml").write_text(yaml.safe_dump({"container": "npy", "files": "*.npy", "wavelengths_nm": NM}))
    data = {"root": str(folder / "raw/mine"), "descriptor": "camera.yaml"}
    tree = {"results": str(tmp_path / "results"), "datasets": {"mine": data}}
    (place / "c.yaml").write_text(yaml.safe_dump(tree))
    status, text = snakemake(repository, tmp_path, "--dry-run", "--configfile", "settings/c.yaml")
    assert status == 0, text[-2000:]
    assert "convert" in text
    (place / "camera.yaml").unlink()
    status, text = snakemake(repository, tmp_path, "--dry-run", "--configfile", "settings/c.yaml")
    assert status != 0
    assert "no descriptor 'camera.yaml'" in text


def test_a_replaced_data_file_under_an_added_header_is_noticed(repository, tmp_path):
    """s0.raw with s0.raw.hdr: the manifest's stamp has to see the data file, not only what shares the header's stem."""
    raw = tmp_path / "raw"
    raw.mkdir()
    centres = ", ".join(str(w) for w in np.linspace(450, 650, 9))
    (raw / "s0.raw.hdr").write_text(
        f"ENVI\nsamples = {SIDE}\nlines = {SIDE}\nbands = 9\ndata type = 12\ninterleave = bip\nbyte order = 0\nwavelength = {{{centres}}}\n"
    )
    image(0).tofile(raw / "s0.raw")
    data = {"root": str(raw), "glob": "*.hdr", "descriptor": {"container": "envi"}}
    regions = {b: {"backend": "regions"} for b in ("rgb", "material")}
    tree = {
        "results": "results",
        "datasets": {"d": data},
        "sequence": {"backend": "regions", "max_frames": 2},
        **regions,
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
    assert snakemake(repository, tmp_path, "--configfile", "c.yaml")[0] == 0
    before = read_document(Layout(tmp_path / "results").label("d", "s0.raw"))["provenance"]["cube_key"]
    image(1).tofile(raw / "s0.raw")
    status, text = snakemake(repository, tmp_path, "--configfile", "c.yaml")
    assert status == 0, text[-2000:]
    assert done_lines(text)["cubes d/0000"] == (1, 0, 0, 0)
    assert read_document(Layout(tmp_path / "results").label("d", "s0.raw"))["provenance"]["cube_key"] != before


def test_rules_are_lint_clean_and_formatted(repository):
    lint = subprocess.run([sys.executable, "-m", "snakemake", "--lint"], cwd=repository, capture_output=True, text=True)
    assert lint.returncode == 0, lint.stderr[-2000:]
    formatted = subprocess.run(
        [Path(sys.executable).with_name("snakefmt"), "--check", "workflow"],
        cwd=repository,
        capture_output=True,
        text=True,
    )
    assert formatted.returncode == 0, formatted.stderr


def test_untrained_networks_run_all_twelve_scenes_through_every_learned_path(repository, tmp_path):
    """SAM2 on RGB and along the sequence, HyperFree on the spectra, as config/random.yaml sets them up."""
    tree = yaml.safe_load((repository / "config/random.yaml").read_text())
    tree["results"] = str(tmp_path / "results")
    for branch in ("rgb", "sequence"):
        tree[branch]["sam2"]["config"] = str(repository / "resources/models/sam2_nano.yaml")
    (tmp_path / "random.yaml").write_text(yaml.safe_dump(tree))
    status, text = snakemake(repository, tmp_path, "--configfile", "random.yaml")
    assert status == 0, text[-3000:]
    assert "12 of 12 images labelled" in text
    assert "0 failures" in text
    assert "these masks mean nothing" in text
    layout = Layout(tmp_path / "results")
    for row in read_manifest(layout.manifest):
        for branch, backend in (("rgb", "sam2"), ("sequence", "sam2"), ("material", "hyperfree")):
            document = read_document(layout.masks(branch, row.dataset, row.image_id))
            assert document["provenance"]["backend"] == backend
            assert document["provenance"]["untrained_weights"] is True
            assert document["annotations"]
            assert all((a["frame"] is not None) == (branch == "sequence") for a in document["annotations"])
    assert "these masks mean nothing" in layout.report.read_text()


def test_pretraining_follows_the_same_law(repository, tmp_path):
    tree = {
        "results": "out",
        "datasets": {
            "vis": {"demo": "vis31", "demo_scenes": 3, "demo_size_px": 96},
            "new": {"demo": "nir25", "demo_scenes": 2, "demo_size_px": 96},
        },
        "sequence": {"max_frames": 2},
        "teacher": {
            "backend": "sam2",
            "sam2": {"config": str(repository / "resources/models/sam2_nano.yaml"), "checkpoint": "random:1"},
        },
        "pretrain": {
            "student": {"size": "small", "crop_px": 64},
            "data": {"unseen": ["new"], "masks_per_image": 2},
            "optimiser": {"steps": 3, "batch_images": 2},
            "evaluation": {"max_images": 1, "probe_images": 1, "max_masks": 2, "clicks": [1, 2]},
            "hardware": {"workers": 1, "threads": 1},
        },
    }
    layout = Layout(tmp_path / "out")

    def run(**changes):
        for group, values in changes.items():
            tree["pretrain"][group] |= values
        (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
        status, out = snakemake(repository, tmp_path, "--configfile", "c.yaml", "--", "pretrain")
        assert status == 0, out
        return out, re.findall(r"^(?:local)?rule (\w+):", out, re.MULTILINE)

    out, rules = run()
    assert {"teacher", "fit", "evaluate", "report"} <= set(rules)
    assert "| probe mIoU: trained |" in out
    assert "| 2-click mIoU |" in out
    folder = layout.pretrain("default")
    for name in ("run.json", "metrics.csv", "curves.png", "student.safetensors", "evaluation.md", "evaluation.tsv"):
        assert (folder / name).stat().st_size > 0, name
    assert json.loads((folder / "run.json").read_text())["distilled"]
    assert run(hardware={"threads": 2, "log_every": 1})[1] == []  # how a run is computed is no part of it
    assert run(evaluation={"max_masks": 1})[1] == ["evaluate", "pretrain"]
    weights = (folder / "student.safetensors").read_bytes()
    out, rules = run(optimiser={"lr": 1e-4})
    assert rules == ["fit", "evaluate", "pretrain"]
    assert (folder / "student.safetensors").read_bytes() != weights
    assert [p.name for p in folder.parent.glob("default-*")] != []
