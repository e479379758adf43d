"""Teachers: tiles make one regular grid, DINO networks load from a folder, the cache law holds for features."""

import json
import shutil

import numpy as np
import pytest
import torch
import zarr

from hvlabel.cache.features import open_features
from hvlabel.config import DinoModel, TeacherSettings
from hvlabel.errors import ConfigError, WeightsError
from hvlabel.models.pictures import network_input
from hvlabel.models.teacher import DinoTeacher, load_teacher, picture_tokens
from hvlabel.stages.teacher import TeacherRunner

CPU = torch.device("cpu")
RGB = np.random.default_rng(0).integers(0, 256, (96, 150, 3), dtype=np.uint8)


class MeanColour:
    """A 2 x 2 grid of mean colours."""

    def tokens(self, rgb):
        h, w = rgb.shape[0] // 2, rgb.shape[1] // 2
        return np.array(
            [[rgb[a * h : (a + 1) * h, b * w : (b + 1) * w].mean((0, 1)) for b in range(2)] for a in range(2)]
        )


def test_tiles_are_equal_cover_all_and_stand_in_order():
    tokens = picture_tokens(MeanColour(), RGB, 50)
    assert tokens.shape == (4, 6, 3)  # 96 is nearest to two tiles of 48, 150 is three of 50
    np.testing.assert_allclose(tokens[3, 1], RGB[72:, 25:50].mean((0, 1)))
    np.testing.assert_allclose(tokens[0, 5], RGB[:24, 125:].mean((0, 1)))
    assert picture_tokens(MeanColour(), RGB, 1000).shape == (2, 2, 3)


def tiny_dino(folder, kind):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    torch.manual_seed(0)
    if kind == "dinov2":
        network = transformers.Dinov2Model(transformers.Dinov2Config(**sizes, patch_size=14, image_size=56))
    else:
        config = transformers.DINOv3ViTConfig(**sizes, patch_size=16, image_size=64, num_register_tokens=4)
        network = transformers.DINOv3ViTModel(config)
    network.save_pretrained(folder)
    return network.eval()


@pytest.mark.parametrize(("kind", "input_px", "grid"), [("dinov2", 56, 4), ("dinov3", 64, 4)])
def test_dino_gives_its_patch_tokens_without_class_and_registers(tmp_path, kind, input_px, grid):
    network = tiny_dino(tmp_path / "net", kind)
    settings = TeacherSettings(backend="dino", dino=DinoModel(folder=str(tmp_path / "net"), input_px=input_px))
    tokens = load_teacher(settings, CPU).tokens(RGB)
    assert tokens.shape == (grid, grid, 32)
    with torch.no_grad():
        states = network(pixel_values=network_input(RGB, input_px, CPU)).last_hidden_state[0]
    first = {"dinov2": 1, "dinov3": 5}[kind]
    assert states.shape[0] == first + grid * grid
    np.testing.assert_allclose(tokens.reshape(-1, 32), states[first:].numpy(), atol=1e-6)


def test_refusals(tmp_path):
    with pytest.raises(WeightsError, match=r"expected config.json and \*.safetensors"):
        DinoModel(folder=str(tmp_path)).files()
    tiny_dino(tmp_path / "net", "dinov2")
    with pytest.raises(WeightsError, match="input_px 64 is no multiple of the network's patch of 14 px; set 56"):
        DinoTeacher(DinoModel(folder=str(tmp_path / "net"), input_px=64), CPU)
    (tmp_path / "net/config.json").write_text("{}")
    with pytest.raises(WeightsError, match="no DINO network can be loaded"):
        DinoTeacher(DinoModel(folder=str(tmp_path / "net")), CPU)
    with pytest.raises(ConfigError, match=r"teacher.backend is none"):
        TeacherRunner(TeacherSettings())


def test_features_are_float16_with_stride_and_model_in_their_attributes(layout, config):
    path = layout.teacher("vis", "vis31_00")
    features = open_features(path)
    assert features.shape == (32, 32, 96)  # 96 px are two tiles of 48, each seen at 256 px
    assert features.stride_yx_px == (3.0, 3.0)
    assert features.attributes["model"]["backend"] == "sam2"
    assert features.attributes["weights"][-1] == "random:1"
    array = zarr.open_group(path, mode="r")["features"]
    assert (array.dtype, array.metadata.dimension_names) == (np.float16, ("y", "x", "channel"))
    np.testing.assert_array_equal(array[:], features.read(slice(0, 32), slice(0, 32)))
    np.testing.assert_allclose(array[:].mean((0, 1)), features.attributes["mean"], atol=2e-3)


def test_the_key_follows_weights_and_settings_but_not_places(config, tmp_path):
    key = TeacherRunner(config.teacher, "cpu").key("cube")
    assert TeacherRunner(config.teacher.model_copy(update={"tile_px": 128}), "cpu").key("cube") != key
    assert TeacherRunner(config.teacher, "cpu").key("other") != key
    other_seed = config.teacher.sam2.model_copy(update={"checkpoint": "random:2"})
    assert TeacherRunner(config.teacher.model_copy(update={"sam2": other_seed}), "cpu").key("cube") != key
    tiny_dino(tmp_path / "a", "dinov2")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    keys = [
        TeacherRunner(TeacherSettings(backend="dino", dino=DinoModel(folder=str(tmp_path / n))), "cpu").key("cube")
        for n in ("a", "b")
    ]
    assert keys[0] == keys[1]
    changed = json.loads((tmp_path / "b/config.json").read_text()) | {"layer_norm_eps": 1e-5}
    (tmp_path / "b/config.json").write_text(json.dumps(changed))
    assert (
        TeacherRunner(TeacherSettings(backend="dino", dino=DinoModel(folder=str(tmp_path / "b"))), "cpu").key("cube")
        != keys[0]
    )
