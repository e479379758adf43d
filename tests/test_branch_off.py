"""A branch that is switched off: it runs nowhere, nothing waits for it, and everything says so."""

import hashlib
import json

import numpy as np
import pytest
import yaml
from small_scenes import NM, image
from verbs import counts_of, hvlabel, rules_of, snakemake

from hvlabel.branches.table import CORE_BRANCHES, OPTIONAL_BRANCHES
from hvlabel.config.fusion import FusionSettings
from hvlabel.config.tree import config_schema, load_config, parse_config
from hvlabel.errors import ConfigError
from hvlabel.fusion import fuse
from hvlabel.layout import Layout
from hvlabel.masks import Mask, MaskSet, encode, read_document

DATA = {"datasets": {"d": {"demo": "vis31"}}}


# ------------------------------------------------------------------------------------------------- configuration


@pytest.mark.parametrize("written", ["off", "'off'", "false", "null", "no", "~", ""])
@pytest.mark.parametrize("branch", [*CORE_BRANCHES, *OPTIONAL_BRANCHES])
def test_a_branch_is_off_in_any_spelling(tmp_path, branch, written):
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(DATA) + f"{branch}: {written}\n")
    config = load_config(tmp_path / "c.yaml")
    assert config.branch(branch) is None
    decided = config.resolved()
    assert branch not in decided.fusion.branches
    assert [name for name in CORE_BRANCHES if name in decided.fusion.branches] == [
        name for name in CORE_BRANCHES if name != branch
    ]


@pytest.mark.parametrize("branch", [*CORE_BRANCHES, *OPTIONAL_BRANCHES])
def test_the_schema_says_so(branch):
    group = json.loads(config_schema())["properties"][branch]
    assert {"enum": [False, "off"]} in group["anyOf"]
    assert {"type": "null"} in group["anyOf"]
    assert "off, false or null: the branch is left out" in group["description"]


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (
            {"rgb": False, "sequence": "off", "material": None},
            "rgb, sequence and material are all off: nothing is left that labels could be made of",
        ),
        ({"sequence": False, "fusion": {"branches": ["rgb", "sequence"]}}, "names sequence, but sequence is off"),
        (
            {"sequence": True},
            "sequence: a group of settings or off is expected; to switch the branch on, leave the line",
        ),
        ({"sequence": {"max_frame": 3}}, "unknown key 'sequence.max_frame'; did you mean 'max_frames'"),
    ],
)
def test_contradictions_are_one_sentence(tree, message):
    with pytest.raises(ConfigError, match=message) as refusal:
        parse_config({**DATA, **tree}, "c")
    assert "\n" not in str(refusal.value)


def test_other_branches_may_be_named_where_the_core_is_off():
    core_off = dict.fromkeys(CORE_BRANCHES, False)
    config = parse_config({**DATA, **core_off, "fusion": {"branches": ["regions"]}}, "c")
    assert config.resolved().fusion.branches == ("regions",)


# ---------------------------------------------------------------------------------------------------------- keys


# first digits of sha256 over the canonical settings, recorded before branches could be off
ALIKE = {
    "cube": "574f21b4dc47",
    "regions": "4a0520a66223",
    "prompts": "b28242bc194e",
    "fusion": "b79b0c1a9e1a",
    "teacher": "64f39b4856ea",
}
KEYS = {
    "regions.yaml": {**ALIKE, "rgb": "d9e15c3cf378", "sequence": "95b63be18296", "material": "5e1d5b738528"},
    "embedded.yaml": {**ALIKE, "rgb": "17f1a567794e", "sequence": "b3214cde709e", "material": "1fec0e3b9b8e"},
}


def digests(config):
    """Of every stage of a configuration."""
    stages = ("cube", *CORE_BRANCHES, *OPTIONAL_BRANCHES, "fusion", "teacher")
    settings = {name: getattr(config, name) for name in stages}
    on = {name: group for name, group in settings.items() if group is not None}
    return {name: hashlib.sha256(group.canonical().encode()).hexdigest()[:12] for name, group in on.items()}


@pytest.mark.parametrize("name", KEYS)
def test_with_no_branch_off_every_key_is_what_it_was(repository, name):
    assert digests(load_config(repository / "config" / name).resolved()) == KEYS[name]


@pytest.mark.parametrize("branch", CORE_BRANCHES)
def test_a_branch_that_is_off_changes_no_other_key(repository, branch):
    tree = yaml.safe_load((repository / "config/embedded.yaml").read_text())
    on, off = (digests(parse_config(t, "c").resolved()) for t in (tree, {**tree, branch: False}))
    assert off == {name: digest for name, digest in on.items() if name != branch}


# -------------------------------------------------------------------------------------------------------- voters


def test_votes_count_the_branches_that_took_part():
    inside = np.zeros((20, 20), bool)
    inside[4:14, 4:14] = True
    both = [MaskSet(20, 20, (Mask(encode(inside), 0.5, branch, (5, 5)),)) for branch in ("rgb", "material")]
    label = fuse(both, FusionSettings(ranking="votes", vote_bonus=0.2))
    assert label.masks[0].votes == ("material", "rgb")
    assert label.masks[0].score == pytest.approx((0.5 + 0.2) / 1.2)  # of two branches, not of three


# ------------------------------------------------------------------------------------------------------- workflow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small image and two configurations: all branches, and all but the sequence."""
    folder = tmp_path_factory.mktemp("off")
    (folder / "raw").mkdir()
    np.save(folder / "raw" / "scene0.npy", image(0))
    data = {"root": "raw", "glob": "*.npy", "descriptor": {"container": "npy", "wavelengths_nm": NM}}
    regions = {name: {"backend": "regions"} for name in ("rgb", "material")}
    tree = {"results": "results", "datasets": {"d": data}, **regions}
    on = {**tree, "sequence": {"backend": "regions", "max_frames": 2}}
    (folder / "on.yaml").write_text(yaml.safe_dump(on))
    (folder / "off.yaml").write_text(yaml.safe_dump(tree) + "sequence: off\n")
    return folder


def test_off_and_on_and_off_again(folder, monkeypatch):
    monkeypatch.chdir(folder)
    layout = Layout(folder / "results")

    def provenance():
        return read_document(layout.label("d", "scene0"))["provenance"]

    # off from the start: no job, nothing waits, all say so
    said = snakemake(folder, "--configfile", "off.yaml")
    assert said.status == 0, said.text[-3000:]
    assert counts_of(said) == {f"{s} d/0000": (1, 0, 0, 0) for s in ("cubes", "rgb", "material", "labels")}
    assert not (layout.root / "masks" / "sequence").exists()
    assert list(provenance()["branches"]) == ["rgb", "material"]
    assert "1 of 1 images labelled" in said.text
    assert "sequence is off: the labels are made without it." in said.text
    page = layout.report.read_text()
    assert "rgb: regions, material: regions, sequence: off" in page
    assert "sequence is off: the labels are made without it." in page
    assert "<th>sequence</th>" not in page
    assert hvlabel("verify", "--results", layout.root)[:2] == (
        0,
        "4 files checked, 0 missing or damaged\n",
    )
    seal = provenance()["content_sha256"]

    # on: only the branch and the labels
    said = snakemake(folder, "--configfile", "on.yaml")
    assert said.status == 0, said.text[-3000:]
    assert counts_of(said) == {f"{s} d/0000": (1, 0, 0, 0) for s in ("sequence", "labels")}
    assert list(provenance()["branches"]) == ["rgb", "sequence", "material"]
    assert "is off" not in said.text
    assert "<th>sequence</th>" in layout.report.read_text()

    # off again: what the branch has made stays, and counts nowhere
    said = snakemake(folder, "--configfile", "off.yaml")
    assert said.status == 0, said.text[-3000:]
    assert counts_of(said) == {"labels d/0000": (1, 0, 0, 0)}
    assert provenance()["content_sha256"] == seal
    assert layout.masks("sequence", "d", "scene0").exists()
    assert "<th>sequence</th>" not in layout.report.read_text()
    _, table, _ = hvlabel("summary", "--results", layout.root)
    assert "sequence is off" in table

    # and on: the masks are still valid, so only labels would be made
    said = snakemake(folder, "-n", "--configfile", "on.yaml")
    assert said.status == 0, said.text[-3000:]
    assert rules_of(said) == ["fuse", "report", "check", "pseudolabels"]


def test_verbs_know_it_too(folder, monkeypatch):
    monkeypatch.chdir(folder)
    arguments = ("--shard", "d/0000", "--config", "off.yaml", "--results", "results")
    status, _, err = hvlabel("segment", "sequence", *arguments)
    assert status == 2
    assert "the configuration says sequence: off" in err
    status, out, _ = hvlabel("fuse", *arguments)
    assert status == 0
    assert "0 failed, 0 left out" in out
    label = read_document(Layout(folder / "results").label("d", "scene0"))
    assert list(label["provenance"]["branches"]) == ["rgb", "material"]
