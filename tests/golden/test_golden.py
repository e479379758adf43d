"""Files that earlier versions wrote: they open, hold what was recorded, and are kept by today's runs."""

import json
import re
import zipfile
from pathlib import Path

import pytest
from recorded import contents, few_weights, key_of, scales, versions, working_directory
from safetensors.torch import load_file
from verbs import hvlabel, hvtrain

from hvlabel.layout import STAGES, Layout, before

HERE = Path(__file__).resolve().parent
MADE_BY = sorted(p.parent.name for p in HERE.glob("*/keys.json"))
VERBS = {"cubes": ["convert"], "teacher": ["teacher"], "labels": ["fuse"]}
NEW_FILES = "then write the golden files of the new version: python tests/golden/make.py VERSION"
SAME_VERSION = (
    "its version is the recorded one. If results for equal settings have changed, raise `version` in hvlabel/config; "
    f"{NEW_FILES}. If they have not, older outputs would be made anew for nothing: restore what goes into the key"
)


@pytest.fixture(params=MADE_BY)
def version(request):
    """Folder of an earlier version's files."""
    return HERE / request.param


@pytest.fixture
def folder(version, tmp_path, repository, monkeypatch):
    """Its files unpacked, as the working directory."""
    for name in ("results.zip", "run.zip"):
        with zipfile.ZipFile(version / name) as archive:
            archive.extractall(tmp_path)
    (tmp_path / "resources").symlink_to(repository / "resources")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def recorded(version, name):
    return json.loads((version / name).read_text())


def raised(version):
    """Stages whose results today's version makes anew: their own version is another one, or that of one before them."""
    then, now = recorded(version, "keys.json")["versions"], versions()
    anew = {stage for stage in STAGES if then[stage] != now[stage]}
    if then["readers"] != now["readers"]:
        anew.add("cubes")
    if then["networks"] != now["networks"]:
        anew.add("prompts")
    branches = [s for s in STAGES if s not in ("cubes", "teacher", "labels")]
    for stage in STAGES:  # in their order
        if anew & set(before(stage, branches)):
            anew.add(stage)
    return anew


def test_results_hold_what_was_recorded(folder, version):
    expected = recorded(version, "expected.json")["results"]
    names = list(expected["cubes"])
    assert contents(Layout(Path("results")), names) == expected
    said = hvlabel("verify", "--deep")
    assert said.out == f"{len(STAGES) * len(names)} files checked, 0 missing or damaged\n"


def test_results_are_kept_by_todays_run(folder, version):
    anew = raised(version)
    for stage in STAGES:
        verb = VERBS.get(stage, ["segment", stage])
        said = hvlabel(*verb, "--shard", "d/0000", "--config", "c.yaml")
        assert said.status == 0, said.err
        n_made = int(re.search(r"(\d+) made", said.out)[1])
        assert n_made == 0 or stage in anew, f"{stage} {said.out.strip()}: {SAME_VERSION}"


def test_keys_are_the_recorded_ones(version, repository):
    content = recorded(version, "keys.json")
    now = versions()
    for entry in content["keys"]:
        stage = entry["stage"]
        same = all(content["versions"][name] == now[name] for name in (stage, "networks"))
        with working_directory(repository):
            key = key_of(stage, entry["settings"])
        if same:
            assert key == entry["key"], f"the key of {stage} {entry['settings']} has changed, but {SAME_VERSION}"
        elif content["versions"][stage] != now[stage]:
            assert key != entry["key"], f"the version of {stage} was raised and is not in its key"


def test_the_newest_files_are_of_todays_versions():
    newest = HERE / max(MADE_BY, key=lambda name: [int(part) for part in name.split(".")])
    assert recorded(newest, "keys.json")["versions"] == versions(), f"a version was raised: {NEW_FILES}"


def test_a_finished_run_is_known_again(folder, version):
    student = Path("results/pretrain/default/student.safetensors")
    before = student.stat().st_mtime_ns
    said = hvtrain("fit", "--config", "c.yaml")
    assert said.status == 0, said.err
    same = recorded(version, "keys.json")["versions"]["pretrain"] == versions()["pretrain"]
    assert not same or student.stat().st_mtime_ns == before, f"the run was not known again: of pretrain, {SAME_VERSION}"


def test_a_student_gives_the_recorded_features(folder, version):
    student = "results/pretrain/default/student.safetensors"
    said = hvtrain("features", "results/cubes/d/one.zarr", "features.zarr", "--checkpoint", student)
    assert said.status == 0, said.err
    expected = recorded(version, "expected.json")["features"]
    found = scales("features.zarr")
    assert {name: scale["shape"] for name, scale in found.items()} == {
        name: scale["shape"] for name, scale in expected.items()
    }
    for name, scale in expected.items():
        assert found[name]["sum"] == pytest.approx(scale["sum"], rel=1e-3)


def test_a_checkpoint_is_exported_and_resumed_to_the_recorded_student(folder):
    student = Path("results/pretrain/default/student.safetensors")
    expected = load_file(student)
    assert hvtrain("export", "results/pretrain/default", "out.safetensors").status == 0
    student.unlink()  # so the run is not finished
    with few_weights():
        said = hvtrain("fit", "--config", "c.yaml")
    assert said.status == 0, said.err
    assert "resumed at step 1 of 1" in said.err
    for path in ("out.safetensors", student):
        found = load_file(path)
        assert found.keys() == expected.keys()
        assert all(found[name].equal(tensor) for name, tensor in expected.items())
