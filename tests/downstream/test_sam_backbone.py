"""SAM as a frozen backbone: what it sees of a cube is the picture, as SAM itself sees it."""

import numpy as np
import pytest
import torch

from hvlabel.config import SamModel
from hvlabel.config.downstream import DownstreamSettings, backbone_name, runs_of
from hvlabel.config.tree import parse_config
from hvlabel.errors import BandError, ConfigError, WeightsError
from hvlabel.models.sam import SamPredictor, sam_of
from hvtrain.backbones.picture import SamPicture
from hvtrain.data.inputs import PICTURE_NM
from hvtrain.downstream.frozen import Frozen, load_frozen

SIDE_PX = 256


@pytest.fixture(scope="module")
def network():
    """First weights: what is compared does not depend on them."""
    return sam_of(SamModel(checkpoint="random:0", input_px=SIDE_PX))


def test_its_map_is_what_sam_embeds_without_the_padding(network):
    frozen = Frozen(SamPicture(network).eval().requires_grad_(False), "", "sam", "sam")
    picture = np.random.default_rng(0).integers(0, 256, (72, 96, 3), dtype=np.uint8)
    maps = frozen.maps(picture.transpose(2, 0, 1).astype(np.float32), PICTURE_NM)
    embedding = SamPredictor(network).embed(picture)
    rows, columns = SIDE_PX * 72 // 96 // 16, SIDE_PX // 16
    assert len(maps) == 1
    assert maps[0].shape == (1, 256, rows, columns)
    assert maps.strides_px == (96 / columns,)
    torch.testing.assert_close(maps[0], embedding.features[..., :rows, :columns], rtol=0, atol=1e-5)


def test_a_cube_is_refused(network):
    frozen = Frozen(SamPicture(network), "", "sam", "sam")
    for n_bands in (3, 31):  # three bands of a cube are no picture either
        with pytest.raises(BandError, match="choose input features-rgb"):
            frozen.maps(np.zeros((n_bands, 8, 8), np.float32), np.linspace(450, 700, n_bands).tolist())


def test_it_is_loaded_by_name_or_checkpoint(tmp_path, monkeypatch):
    one, other = load_frozen("sam:random:0"), load_frozen("sam:random:1")
    assert one.sha256 != other.sha256
    assert one.network.side_px == 1024
    assert not any(weight.requires_grad for weight in one.network.parameters())
    with pytest.raises(WeightsError, match="no such"):
        load_frozen(f"sam:{tmp_path}/absent.pt")
    monkeypatch.setenv("HVLABEL_MODELS", str(tmp_path))
    with pytest.raises(WeightsError, match="hvlabel models fetch"):
        load_frozen("sam")


def test_adapt_says_what_it_needs(task, adapt):
    said = adapt(task(), source="sam:random:0")
    assert said.status == 2
    assert "choose input features-rgb" in said.err
    assert len(said.err.strip().splitlines()) == 1


def test_a_configured_sam_goes_with_pictures_only():
    assert backbone_name("sam") == "sam"
    assert backbone_name("sam:files/mobile_sam.pt") == "sam-mobile_sam"
    heads = [{"head": "linear"}, {"head": "linear", "input": "features-rgb"}]
    settings = DownstreamSettings.model_validate({"backbones": ["pretrained", "sam:a/b.pt"], "heads": heads})
    names = [run.name for run in runs_of(settings, "results/pretrain/demo")]
    assert names == [
        "demo.linear.features.labels100.seed0",
        "demo.linear.features-rgb.labels100.seed0",
        "sam-b.linear.features-rgb.labels100.seed0",
    ]
    with pytest.raises(ConfigError, match="add a head with input features-rgb"):
        parse_config({"datasets": {"d": {"demo": "vis31"}}, "downstream": {"backbones": ["sam"]}}, "c.yaml")
