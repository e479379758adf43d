"""The plain Python API: features of any image by any backbone, and a linear classifier of vectors."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import zarr

import hvtrain
from hvlabel.config import StudentSettings
from hvlabel.cube import open_cube
from hvlabel.errors import BandError, ConfigError, CubeError, ScoreError, WeightsError
from hvtrain.backbones.table import BACKBONES
from hvtrain.backbones.weights import export
from hvtrain.student import make_student
from hvtrain.tasks.features import write_maps

BANDS_NM = np.linspace(450, 900, 8)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """An exported file of each kind of backbone, untrained."""
    folder = tmp_path_factory.mktemp("exported")
    paths = {}
    for name in BACKBONES:
        student = make_student(StudentSettings(backbone=name, size="small", crop_px=64), 0)
        paths[name] = folder / f"{name}.safetensors"
        export(student.state_dict(), paths[name], student.sizes(), student.name)
    return paths


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).uniform(0.1, 1, (40, 56, len(BANDS_NM))).astype(np.float32)


@pytest.mark.parametrize("name", BACKBONES)
def test_an_array_and_a_batch_give_the_same_maps_again_and_again(files, image, name):
    backbone = hvtrain.Backbone.load(files[name])
    maps = backbone.features(image, BANDS_NM)
    batch = torch.from_numpy(image.transpose(2, 0, 1).copy())[None].expand(2, -1, -1, -1)
    of_batch = backbone(batch, BANDS_NM.tolist())
    for of_array, stride_px, of_tensor in zip(maps.maps, maps.strides_px, of_batch.maps, strict=True):
        height, width = of_array.shape[2:]
        assert (height, width) == (-(-40 // stride_px), 56 / stride_px)
        torch.testing.assert_close(of_tensor, of_array.expand(2, -1, -1, -1), atol=1e-4, rtol=1e-3)
    assert torch.equal(backbone.features(image, BANDS_NM).last, maps.last)
    assert not maps.last.requires_grad
    assert maps.at_pixels().shape == (1, maps.last.shape[1], 40, 56)


@pytest.fixture(scope="module")
def path(make_cube, image, tmp_path_factory):
    """The image as a cube."""
    return make_cube(tmp_path_factory.mktemp("cube") / "a.zarr", image.transpose(2, 0, 1), BANDS_NM).path


def test_a_cube_gives_what_the_verb_writes(files, path, image, tmp_path):
    write_maps(path, tmp_path / "maps.zarr", files["hyperfree"])
    group = zarr.open_group(tmp_path / "maps.zarr", mode="r")
    backbone = hvtrain.Backbone.load(str(files["hyperfree"]))
    assert torch.equal(backbone.features(path).last, backbone.features(image, BANDS_NM).last)
    for given in (path, open_cube(path)):
        maps = backbone.features(given)
        np.testing.assert_allclose(maps.last[0].numpy(), group[f"scale{len(maps.maps) - 1}"][...], atol=1e-4)
        assert list(maps.strides_px) == group.attrs["stride_px"]


def test_a_runs_folder_is_a_backbone(files, image, tmp_path):
    shutil.copy(files["hypersl"], tmp_path / "student.safetensors")
    of_run = hvtrain.Backbone.load(tmp_path).features(image, BANDS_NM)
    assert torch.equal(of_run.last, hvtrain.Backbone.load(files["hypersl"]).features(image, BANDS_NM).last)


def test_features_at_pixels_lie_where_the_pixels_are(files, image):
    backbone = hvtrain.Backbone.load(files["hyperfree"])
    maps = backbone.features(image, BANDS_NM)
    stride_px = round(maps.strides_px[-1])
    assert stride_px == 7  # 56 px over 8 cells: the middle of a cell is a pixel
    middles = maps.at_pixels()[..., stride_px // 2 :: stride_px, stride_px // 2 :: stride_px]
    torch.testing.assert_close(middles, maps.last[..., : middles.shape[2], :])


def test_a_frozen_backbone_stays_so_in_a_model_that_trains_and_learns_when_it_is_told_to(files, image):
    backbone = hvtrain.Backbone.load(files["hyperfree"])
    model = torch.nn.Sequential(backbone).train()
    assert model.training
    assert not backbone.training
    backbone.requires_grad_()
    backbone.features(image, BANDS_NM).last.sum().backward()
    assert any(parameter.grad is not None for parameter in backbone.parameters())
    assert backbone.train().training


def test_values_that_are_no_numbers_count_as_zero(files, image):
    backbone = hvtrain.Backbone.load(files["hyperfree"])
    with_gap, with_zero = image.copy(), image.copy()
    with_gap[3, 4], with_zero[3, 4] = np.nan, 0
    assert torch.equal(backbone.features(with_gap, BANDS_NM).last, backbone.features(with_zero, BANDS_NM).last)


@pytest.mark.parametrize(
    ("given", "bands_nm", "error", "sentence"),
    [
        (np.zeros((4, 4)), [500], CubeError, r"\(4, 4\) of float64 is no cube"),
        (np.full((4, 4, 2), "a"), [500, 600], CubeError, "is no cube"),
        (torch.zeros(2, 4, 4), [500, 600], CubeError, "no batch"),
        (np.zeros((0, 4, 2)), [500, 600], CubeError, "no batch"),
        (np.zeros((4, 4, 2)), None, BandError, "2 bands without wavelengths"),
        (np.zeros((4, 4, 2)), [500], BandError, "1 wavelengths for 2 bands"),
        (np.zeros((4, 4, 2)), [500, np.nan], BandError, "one centre in nm"),
        (np.zeros((4, 4, 2)), [9000, 9100], BandError, "no band lies"),
    ],
)
def test_what_is_no_image_is_one_sentence(files, given, bands_nm, error, sentence):
    backbone = hvtrain.Backbone.load(files["hyperfree"])
    with pytest.raises(error, match=sentence):
        backbone.features(given, bands_nm)


def test_a_cube_brings_its_wavelengths(files, path):
    backbone = hvtrain.Backbone.load(files["hyperfree"])
    with pytest.raises(BandError, match="brings its wavelengths"):
        backbone.features(path, BANDS_NM)


def test_no_backbone_is_one_sentence(tmp_path):
    with pytest.raises(WeightsError, match="no such backbone"):
        hvtrain.Backbone.load(tmp_path / "none.safetensors")
    with pytest.raises(WeightsError, match=r"no student\.safetensors in it"):
        hvtrain.Backbone.load(tmp_path)


def test_the_package_is_imported_without_torch():
    code = "import sys, hvtrain; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    with pytest.raises(AttributeError, match="no attribute 'Backbon'"):
        hvtrain.Backbon  # noqa: B018


# --------------------------------------------------------------------------------------------------------- the probe


def blobs(n=300):
    random = np.random.default_rng(0)
    y = random.choice(["maize", "soil", "water"], n)
    middles = {"maize": [4, 0, 0], "soil": [0, 400, 0], "water": [0, 0, 0.1]}  # of very different scale
    x = np.array([middles[name] for name in y]) + random.normal(size=(n, 3)) * [1, 100, 0.01]
    return x, y


@pytest.mark.parametrize("method", ["logistic", "least_squares"])
def test_a_probe_tells_classes_apart_and_gives_their_names(method):
    x, y = blobs()
    probe = hvtrain.Probe(method).fit(x[:200], y[:200])
    assert probe.classes_.tolist() == ["maize", "soil", "water"]
    assert probe.score(x[200:], y[200:]) > 0.95
    assert probe.coef_.shape == (3, 3)
    np.testing.assert_array_equal(probe.predict(torch.from_numpy(x)), probe.predict(x))


def test_least_squares_is_what_numpy_solves():
    x, y = blobs()
    probe = hvtrain.Probe("least_squares").fit(x, y)
    columns = (y[:, None] == probe.classes_).astype(float)
    solved = np.linalg.lstsq(np.c_[x, np.ones(len(x))], columns, rcond=None)[0]
    np.testing.assert_allclose(probe.decision_function(x), np.c_[x, np.ones(len(x))] @ solved, atol=5e-3)


@pytest.mark.parametrize(
    ("x", "y", "sentence"),
    [
        (np.ones((3, 2)), [0, 1], r"classes \(2,\) for 3 vectors"),
        (np.ones(3), [0, 1, 1], r"vectors \(3,\)"),
        (np.full((3, 2), np.nan), [0, 1, 1], "no number"),
        (np.ones((3, 2)), [1, 1, 1], "1 class in 3 vectors"),
    ],
)
def test_what_cannot_be_fitted_is_one_sentence(x, y, sentence):
    with pytest.raises(ScoreError, match=sentence):
        hvtrain.Probe().fit(x, y)


def test_a_probe_that_is_not_fitted_or_of_other_vectors_is_one_sentence():
    with pytest.raises(ScoreError, match="call fit"):
        hvtrain.Probe().predict(np.ones((1, 2)))
    with pytest.raises(ScoreError, match="vectors of 2 values for a probe of 3"):
        hvtrain.Probe().fit(*blobs()).predict(np.ones((1, 2)))
    with pytest.raises(ConfigError, match="no probe named 'ridge'"):
        hvtrain.Probe("ridge")


def test_arrays_of_any_byte_order_and_width_are_read(files, image):
    backbone = hvtrain.Backbone.load(files["hypersl"])
    expected = backbone.features(image, BANDS_NM).last
    for other in (image.astype(">f4"), image.astype(np.longdouble)):
        assert torch.equal(backbone.features(other, BANDS_NM).last, expected)


@pytest.mark.parametrize(
    ("given", "nm", "message"),
    [([[1]], [500], "a list is no image"), (np.ones((8, 8, 1)), ["x"], "expected a list of band centres")],
)
def test_what_is_no_image_and_no_wavelength_is_one_sentence(files, given, nm, message):
    backbone = hvtrain.Backbone.load(files["hypersl"])
    with pytest.raises((CubeError, BandError), match=message):
        backbone.features(given, nm)
