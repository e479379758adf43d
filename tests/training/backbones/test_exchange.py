"""Published files in and out: laws of every row that has some, and one sentence for each file that is none."""

import argparse
import os

import numpy as np
import pytest
import torch
from verbs import hvtrain

from hvlabel.config import StudentSettings
from hvlabel.models.weights import read_state_dict
from hvtrain.backbones.table import BACKBONES
from hvtrain.backbones.weights import export
from hvtrain.heads.prompted import PromptedBackbone
from hvtrain.student import load_exported, make_student

NEW = [name for name in BACKBONES if name != "hyperfree"]
HEADS = {"specaware": 4, "hypersigma": 4, "hypersl": 4}
NM = np.linspace(420, 980, 9).tolist()


def settings_of(name, **more):
    return StudentSettings(backbone=name, size="small", crop_px=64, **more)


@pytest.fixture(params=NEW)
def published(request, tmp_path):
    """Name, a network, and a file of it as its authors would write it: wrapped, prefixed, with their arguments."""
    backbone = make_student(settings_of(request.param), 3).backbone.eval()
    state = {f"module.{name}": tensor for name, tensor in backbone.published_state().items()}
    path = tmp_path / "published.pth"
    torch.save({"model": state, "epoch": 7, "args": argparse.Namespace(lr=1e-4, mask_ratio=0.75)}, path)
    return request.param, backbone, path


def imported(name, path, out):
    return hvtrain("import", path, out, "--backbone", name, "--heads", HEADS[name], "--side-px", 64)


def test_an_imported_file_gives_the_same_features_and_starts_a_run(published, tmp_path):
    name, backbone, path = published
    out = tmp_path / "own.safetensors"
    status, said, err = imported(name, path, out)
    assert (status, err) == (0, "")
    assert said.startswith(f"{out}: {name}, ")
    again = load_exported(out)
    x = torch.rand(1, len(NM), 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours, theirs = (network.encode(x, NM, [1.0])[-1] for network in (again, backbone))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    student = make_student(settings_of(name, checkpoint=str(out)), 9)
    assert isinstance(student, PromptedBackbone)
    ours, theirs = student.backbone.published_state(), backbone.published_state()
    assert all(torch.equal(tensor, ours[key]) for key, tensor in theirs.items())


def test_what_is_imported_is_exported_in_the_published_layout(published, tmp_path):
    name, backbone, path = published
    imported(name, path, tmp_path / "own.safetensors")
    status, said, _ = hvtrain("export", tmp_path / "own.safetensors", tmp_path / "back.pth", "--published")
    state = read_state_dict(tmp_path / "back.pth")
    assert (status, said) == (0, f"{tmp_path}/back.pth: {len(state)} tensors\n")
    wanted = backbone.published_state()
    assert state.keys() == wanted.keys()
    assert all(torch.equal(state[key], wanted[key]) for key in wanted)


def test_a_trained_students_backbone_is_exported_in_the_published_layout(published, tmp_path):
    name, _, _ = published
    student = make_student(settings_of(name), 5)
    export(student.state_dict(), tmp_path / "run.safetensors", student.sizes(), name)
    hvtrain("export", tmp_path / "run.safetensors", tmp_path / "back.pth", "--published")
    assert read_state_dict(tmp_path / "back.pth").keys() == student.backbone.published_state().keys()


class Malicious:
    def __reduce__(self):
        return os.system, ("touch /tmp/this-must-not-exist",)


def test_an_input_that_is_not_whole_tokens_is_refused(published, tmp_path):
    name, _, path = published
    arguments = ["import", path, tmp_path / "o.safetensors", "--backbone", name, "--heads", 4, "--side-px", 70]
    status, _, err = hvtrain(*arguments)
    assert status == 2
    assert "an input of 70 px is no multiple of the" in err


@pytest.mark.parametrize("name", NEW)
def test_files_that_are_none_are_one_sentence(name, tmp_path):
    whole = make_student(settings_of(name), 3).backbone.published_state()
    torch.save({"model": whole}, tmp_path / "whole.pth")
    content = (tmp_path / "whole.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.pth").write_text("<html>not found</html>")
    torch.save({"model": whole, "args": Malicious()}, tmp_path / "evil.pth")
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "other.pth")
    part = dict(list(whole.items())[:-3])
    torch.save(part, tmp_path / "part.pth")
    for file, sentence in (
        ("cut.pth", "not a readable checkpoint"),
        ("text.pth", "not a readable checkpoint"),
        ("evil.pth", "it holds more than tensors, which could run code"),
        ("other.pth", "is it another network's file, or cut off?"),
        ("part.pth", "is it another network's file, or cut off?"),
        ("none.pth", "no such checkpoint"),
    ):
        status, _, err = imported(name, tmp_path / file, tmp_path / "o.safetensors")
        assert (status, err.count("\n")) == (2, 1), err
        assert sentence in err
        assert not (tmp_path / "o.safetensors").exists()
    assert not os.path.exists("/tmp/this-must-not-exist")


def test_refusals_of_the_verb(tmp_path):
    for arguments, sentence in (
        (["import", "a.pth", "--backbone", "specaware"], "needs a published file and the file to write"),
        (["import", "a.pth", tmp_path / "o.pth", "--backbone", "specaware"], "choose that ending"),
        (["import", "a.pth", tmp_path / "o.safetensors", "--backbone", "vit"], "backbone 'vit' is unknown"),
    ):
        status, _, err = hvtrain(*arguments)
        assert status == 2
        assert sentence in err
