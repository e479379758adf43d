"""The whole workflow as a user runs it: Snakemake on small images, good and bad.

What a stage keeps and makes anew is shown in laws/test_stages.py, in one process. Here are the laws that only
whole runs obey: which jobs Snakemake starts, what a run says, and how it ends.
"""

import contextlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import raw_files
import yaml
from small_scenes import NM, SIDE_PX, image
from verbs import counts_of, ended, hvlabel, snakemake, starting

from hvlabel.layout import Layout
from hvlabel.manifest import read_manifest
from hvlabel.masks import read_document, read_masks

CONFIG = "settings/config.yaml"
REFUSED = {
    "flat": "expected three axes",
    "text": "expected numbers",
    "nan": "no finite value",
    "constant": "every value of the cube is 1",
    "bands": "9 wavelengths for 7 bands",
    "truncated": "truncated.npy: 4000 bytes, but the header promises",
    "no_companion": "the RGB companion of no_companion.npy is missing",
}


def write_bad_images(folder):
    """One good image with its companion, and one of every kind that is refused."""
    folder.mkdir()
    raw_files.npy(folder / "good.npy", image(9))
    cv2.imwrite(str(folder / "good_rgb.png"), (image(9)[:, :, [7, 4, 1]] / 12).astype(np.uint8))
    raw_files.npy(folder / "no_companion.npy", image(3))
    refused = {
        "flat": np.zeros((SIDE_PX, SIDE_PX)),
        "text": np.full((3, 3, 9), "x"),
        "nan": np.full((8, 8, 9), np.nan),
        "constant": np.ones((8, 8, 9)),
        "bands": np.ones((8, 8, 7)),
    }
    for name, array in refused.items():
        raw_files.npy(folder / f"{name}.npy", array)
        cv2.imwrite(str(folder / f"{name}_rgb.png"), np.zeros((8, 8, 3), np.uint8))
    (folder / "truncated.npy").write_bytes((folder / "good.npy").read_bytes()[:4000])


def write_config(folder, name=CONFIG, **changes):
    """The configuration of the folder with some groups changed. Its descriptor lies beside it."""
    companion = {"container": "npy", "wavelengths_nm": NM, "rgb_companion": "{stem}_rgb.png"}
    tree = {
        "results": "results",
        "datasets": {
            "mine": {"root": "raw/mine", "descriptor": "camera.yaml"},
            "bad": {"root": "raw/bad", "glob": "*.npy", "descriptor": companion},
            "gone": {"root": "raw/gone", "glob": "*", "descriptor": {"container": "envi"}},
            "empty": {"root": "raw", "glob": "*.hdr", "descriptor": {"container": "envi"}},
        },
        "sequence": {"max_frames": 2},
        "run": {"max_failed_share": 1.0},
    }
    (folder / name).write_text(yaml.safe_dump(tree | changes))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Raw files of two data sets, one of them mostly damaged, and a configuration."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "raw" / "mine").mkdir(parents=True)
    for seed in range(2):
        raw_files.npy(folder / "raw" / "mine" / f"scene{seed}.npy", image(seed))
    write_bad_images(folder / "raw" / "bad")
    (folder / "settings").mkdir()
    camera = {"container": "npy", "files": "*.npy", "wavelengths_nm": NM}
    (folder / "settings" / "camera.yaml").write_text(yaml.safe_dump(camera))
    write_config(folder)
    return folder


@pytest.fixture(scope="module")
def first_run(folder):
    """What the first run said, as people see it on a terminal; the others say what each job did."""
    said = snakemake(folder, "--configfile", CONFIG, show="stages")
    assert said.status == 0, said.text[-3000:]
    return said.text


def test_good_images_get_labels_and_the_run_says_where(first_run, folder):
    assert "3 of 10 images labelled with" in first_run
    assert "report:   results/report/index.html" in first_run
    layout = Layout(folder / "results")
    for name in ("scene0", "scene1"):
        assert len(read_masks(layout.label("mine", name))) >= 2
        assert layout.label("mine", name).with_suffix(".png").is_file()


def test_a_run_shows_one_line_per_stage_and_its_log_has_all_jobs(first_run, folder):
    lines = re.findall(r"^(\w+): +(\d+ of \d+ images.*), in \d+ s$", first_run, re.MULTILINE)
    assert dict(lines) == {
        "cubes": "10 of 10 images, 7 failed or left out",
        "rgb": "10 of 10 images, 7 failed or left out",
        "sequence": "10 of 10 images, 7 failed or left out",
        "material": "10 of 10 images, 7 failed or left out",
        "labels": "10 of 10 images, 7 failed or left out",
    }
    assert "localrule" not in first_run
    assert "cubes mine/0000: 2 made" not in first_run
    log = max((folder / ".snakemake" / "log").iterdir())
    assert log.read_text().count("localrule segment:") == 6
    assert "cubes mine/0000: 2 made" in (folder / "results/logs/cubes/mine/0000.log").read_text()


def test_a_run_without_weights_ends_well_and_says_so_everywhere(first_run, folder):
    layout = Layout(folder / "results")
    assert first_run.count("no SAM, branches set to auto use regions") == 1
    assert "No learned model was used" in first_run
    provenance = read_document(layout.label("mine", "scene0"))["provenance"]
    assert provenance["learned_model"] is False
    branches = provenance["branches"].values()
    assert {branch["backend"] for branch in branches} == {"regions"}
    assert all("hvlabel models fetch" in branch["fallback"] for branch in branches)
    page = layout.report.read_text()
    assert "No learned model was used" in page
    assert "hvlabel models fetch" in page


def test_bad_images_are_one_sentence_each(first_run, folder):
    index = json.loads((folder / "results/index/cubes/bad/0000.json").read_text())["images"]
    reasons = {name: entry["reason"] for name, entry in index.items() if entry["status"] == "failed"}
    assert reasons.keys() == REFUSED.keys()
    for name, message in REFUSED.items():
        assert message in reasons[name]
        assert "\n" not in reasons[name]
    assert index["good"]["status"] == "ok"
    report = (folder / "results/report/index.html").read_text().replace("&#39;", "'")
    for message in (*REFUSED.values(), "root raw/gone is no folder"):
        assert message in report
    assert "Traceback" not in "".join(p.read_text() for p in (folder / "results/logs").rglob("*.log"))


def test_data_sets_without_images_are_named_and_stop_nothing(first_run):
    assert "data set gone: root raw/gone is no folder" in first_run
    assert "data set empty: nothing below raw matches '*.hdr'" in first_run


def test_a_second_run_does_nothing_and_says_so(first_run, folder):
    said = snakemake(folder, "--configfile", CONFIG)
    assert said.status == 0
    assert "Nothing to be done" in said.text


def test_a_deleted_label_and_damaged_masks_are_found_and_made_again_alone(first_run, folder):
    layout = Layout(folder / "results")
    labels = [read_masks(layout.label("mine", name)) for name in ("scene0", "scene1")]
    layout.label("mine", "scene0").unlink()
    damaged = layout.masks("rgb", "mine", "scene1")
    damaged.write_text(damaged.read_text().replace("0.", "1.", 3))
    found = hvlabel("verify", "--repair", "--deep", "--results", layout.root)
    assert found.status == 0
    assert "labels/mine/scene0.json: missing" in found.out
    assert "scene1.json: the content does not match its seal" in found.out
    said = snakemake(folder, "--configfile", CONFIG)
    assert said.status == 0
    counts = counts_of(said)
    assert counts["rgb mine/0000"] == (1, 1, 0, 0)
    assert counts["labels mine/0000"] == (1, 1, 0, 0)  # the masks made again are equal, so their label is still valid
    assert [read_masks(layout.label("mine", name)) for name in ("scene0", "scene1")] == labels
    assert hvlabel("verify", "--results", layout.root).status == 0


def test_a_new_image_a_deleted_cube_and_a_changed_setting_start_what_depends_on_them(first_run, folder):
    layout = Layout(folder / "results")
    raw_files.npy(folder / "raw" / "mine" / "another.npy", image(5))
    shutil.rmtree(layout.cube("mine", "scene1"))
    write_config(folder, "settings/changed.yaml", fusion={"iou_threshold": 0.6})
    said = snakemake(folder, "--configfile", "settings/changed.yaml", "-n")
    assert said.status == 0
    assert "cubes/mine/0000.json: 1 missing, e.g. cubes/mine/scene1.zarr; will be made again" in said.text
    assert layout.index("cubes", "mine", "0000").exists()  # a dry run changes nothing
    said = snakemake(folder, "--configfile", "settings/changed.yaml")
    assert said.status == 0
    of_branches = {f"{branch} mine/0000": (1, 2, 0, 0) for branch in ("rgb", "sequence", "material")}
    assert counts_of(said) == {
        "cubes mine/0000": (2, 1, 0, 0),
        **of_branches,  # a cube made again has the same key: its masks stay
        "labels mine/0000": (3, 0, 0, 0),
        "labels bad/0000": (1, 0, 0, 7),  # only the setting is another one there
    }
    in_order = [i.image_id for i in read_manifest(layout.manifest) if i.dataset == "mine"]
    assert in_order == ["scene0", "scene1", "another"]


def test_too_many_failures_fail_the_run_after_everything_else_is_done(first_run, folder):
    """The same files under a stricter limit: the labels are there, the exit status tells."""
    write_config(folder, "settings/strict.yaml", run={"max_failed_share": 0.5})
    layout = Layout(folder / "results")
    (folder / "results/index/checked").unlink()
    said = snakemake(folder, "--configfile", "settings/strict.yaml")
    assert said.status != 0
    assert "7 failures" in said.text
    assert "more than run.max_failed_share 0.5 allows" in (folder / "results/logs/check.log").read_text()
    assert layout.label("mine", "scene0").exists()
    assert layout.report.exists()


WRONG = {
    "key": ({"fusoin": {}}, r"unknown key 'fusoin'; did you mean 'fusion'\?"),
    "data": (
        {"datasets": {"gone": {"root": "nowhere", "glob": "*", "descriptor": {"container": "envi"}}}},
        "no image to work on: data set gone",
    ),
    "results": (
        {"results": "raw/mine/scene0.npy"},
        "cannot make the folder|cannot read the manifest|Not a directory",
    ),
}


def test_a_wrong_configuration_stops_at_once_in_one_sentence(folder):
    """All at once: what takes time is the start of Snakemake."""
    for name, (change, _) in WRONG.items():
        write_config(folder, f"settings/wrong_{name}.yaml", **change)
    with contextlib.ExitStack() as running:
        processes = {
            name: running.enter_context(starting(folder, "--configfile", f"settings/wrong_{name}.yaml"))
            for name in WRONG
        }
        said = {name: ended(process) for name, process in processes.items()}
    for name, (_, message) in WRONG.items():
        assert said[name].status != 0
        assert re.search(message, said[name].text), said[name].text
        assert "Traceback" not in said[name].text


def test_a_descriptor_that_is_not_there_is_named(folder, monkeypatch):
    """By the verb that does what the workflow does first, for the start of Snakemake takes seconds."""
    monkeypatch.chdir(folder)
    datasets = {"mine": {"root": "raw/mine", "descriptor": "absent.yaml"}}
    write_config(folder, "settings/no_descriptor.yaml", datasets=datasets)
    said = hvlabel("scan", "--config", "settings/no_descriptor.yaml")
    assert said.status == 2
    assert "no descriptor 'absent.yaml'" in said.err
    assert said.err.count("\n") == 1


def test_rules_are_lint_clean_and_formatted(repository):
    lint = subprocess.run([sys.executable, "-m", "snakemake", "--lint"], cwd=repository, capture_output=True, text=True)
    assert lint.returncode == 0, lint.stderr[-2000:]
    snakefmt = [Path(sys.executable).with_name("snakefmt"), "--check", "workflow"]
    formatted = subprocess.run(snakefmt, cwd=repository, capture_output=True, text=True)
    assert formatted.returncode == 0, formatted.stderr
