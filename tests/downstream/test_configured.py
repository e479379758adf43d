"""The group `downstream` of a configuration: every run once, under the name of its folder."""

import pytest

from hvlabel.config.downstream import DownstreamSettings, backbone_name, runs_of
from hvlabel.config.tree import parse_config
from hvlabel.errors import ConfigError


def runs(**settings):
    return runs_of(DownstreamSettings.model_validate(settings), "results/pretrain/demo")


def test_every_head_on_every_backbone_but_pictures_once():
    heads = [{"head": "linear"}, {"head": "runet", "input": "cube"}]
    chosen = runs(heads=heads, labels=[5, 100], seeds=[0, 1])
    names = [run.name for run in chosen]
    assert len(names) == len(set(names)) == (2 + 1) * 4
    assert "demo.linear.features.labels5.seed0" in names
    assert "untrained-demo.linear.features.labels100.seed1" in names
    assert [name for name in names if "runet" in name] == [
        "none.runet.cube.labels5.seed0", "none.runet.cube.labels5.seed1",
        "none.runet.cube.labels100.seed0", "none.runet.cube.labels100.seed1",
    ]  # fmt: skip


def test_what_a_run_is_given_and_reads():
    run = runs(tasks=[{"file": "my/fields.yaml", "data": "raw"}], backbones=["untrained"], heads=[{"head": "ladder"}])[
        0
    ]
    assert run.options == [
        "my/fields.yaml", "--head", "ladder", "--input", "features", "--labels", "100", "--seed", "0",
        "--backbone", "untrained:results/pretrain/demo", "--data", "raw",
    ]  # fmt: skip
    assert run.files == ["results/pretrain/demo/student.safetensors"]
    assert runs(backbones=["a/b.safetensors"])[0].files == ["a/b.safetensors"]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("results/pretrain/demo", "demo"),
        ("results/pretrain/demo/student.safetensors", "demo"),
        ("files/hyperfree_b.pth", "hyperfree_b"),
        ("untrained:files/v1.2", "untrained-v1.2"),
    ],
)
def test_names_of_backbones(source, name):
    assert backbone_name(source) == name


@pytest.mark.parametrize(
    ("group", "sentence"),
    [
        ({"labels": [0]}, r"downstream.labels"),
        ({"heads": []}, r"downstream.heads"),
        ({"tasks": [{"file": "a/x.yaml"}, {"file": "b/x.yaml"}]}, "two tasks of one name"),
        ({"seed": 1}, "unknown key 'downstream.seed'; did you mean 'seeds'"),
    ],
)
def test_wrong_groups_are_one_sentence(group, sentence):
    with pytest.raises(ConfigError, match=sentence):
        parse_config({"datasets": {"d": {"demo": "vis31"}}, "downstream": group}, "c.yaml")
