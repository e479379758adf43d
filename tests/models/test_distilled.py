"""The distilled material network: any camera in, SAM's decoder untouched behind it."""

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hvlabel.branches import material
from hvlabel.branches.distilled import distilled_masks
from hvlabel.branches.network import BranchNetwork
from hvlabel.config import MaterialSettings
from hvlabel.cube import open_cube
from hvlabel.demo.cameras import CAMERAS
from hvlabel.demo.scenes import make_scene
from hvlabel.errors import BandError, WeightsError
from hvlabel.masks import encode, iou_matrix
from hvlabel.models.sam import Sam, TinyViT
from hvlabel.models.sam.conditioning import MAX_GROUPS, conditioned, grouped
from hvlabel.models.sam.distilled import SpectralPredictor, SpectralSam, load_spectral
from hvlabel.models.sam.spectral import SpectralEncoder, SpectralTopology

TINY = SpectralTopology(input_px=64, embed_dim=64, depth=2, global_blocks=(1,))
MAX_BYTES = 12_000_000


@pytest.fixture(scope="module")
def weights(repository):
    return repository / "resources" / "models" / "material_distilled.safetensors"


@pytest.fixture(scope="module")
def small():
    """An untrained network whose decoder takes 16 x 16 tokens."""
    torch.manual_seed(3)
    return SpectralSam(SpectralEncoder(TINY), Sam(TinyViT(), 256)).eval()


def spectra(seed, n_bands=9, side=24):
    rng = np.random.default_rng(seed)
    materials = rng.uniform(0.1, 1, (3, n_bands))
    image = materials[rng.integers(0, 3, (side // 4, side // 4))].repeat(4, axis=0).repeat(4, axis=1)
    return (image + rng.normal(0, 0.01, image.shape)).astype(np.float32).transpose(2, 0, 1)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 200), st.integers(0, 100))
def test_groups_are_means_of_neighbours_in_the_order_of_the_wavelength(n_bands, seed):
    rng = np.random.default_rng(seed)
    values, centres_nm = rng.random((n_bands, 2, 3), np.float32), rng.uniform(400, 2500, n_bands)
    means, group_nm = grouped(values, centres_nm)
    assert len(means) == min(n_bands, MAX_GROUPS)
    assert (np.diff(group_nm) >= 0).all()
    shuffled = rng.permutation(n_bands)
    again, _ = grouped(values[shuffled], centres_nm[shuffled])
    np.testing.assert_allclose(again, means, rtol=1e-6)
    if n_bands <= MAX_GROUPS:
        np.testing.assert_array_equal(means, values[np.argsort(centres_nm)])


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 100), st.floats(1e-3, 1e4))
def test_the_unit_of_a_cube_does_not_matter(seed, unit):
    values, valid = torch.from_numpy(spectra(seed))[None], torch.ones(1, 24, 24, dtype=torch.bool)
    for one, other in zip(conditioned(values, valid), conditioned(values * unit, valid), strict=True):
        torch.testing.assert_close(one, other, atol=2e-3, rtol=2e-3)


def test_conditioned_spectra_have_mean_square_one_and_no_values_where_there_are_none():
    values, valid = torch.from_numpy(np.stack([spectra(1), spectra(2)])), torch.ones(2, 24, 24, dtype=torch.bool)
    valid[1, 10:] = False
    values[0, 7:] = 0  # a camera of fewer bands
    even, light = conditioned(values * valid[:, None], valid)
    assert even[0, :7].square().mean() == pytest.approx(1, rel=1e-3)
    assert even[0, 7:].abs().max() < 1e-3
    assert even[1, :, :10].square().mean() == pytest.approx(1, rel=1e-3)
    assert not even[1, :, 10:].any()
    assert not light[1, :, 10:].any()


def test_an_image_is_conditioned_alike_alone_and_beside_others():
    values, valid = torch.from_numpy(np.stack([spectra(1), spectra(2)])), torch.ones(2, 24, 24, dtype=torch.bool)
    together, _ = conditioned(values, valid)
    alone, _ = conditioned(values[1:], valid[1:])
    torch.testing.assert_close(together[1:], alone, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("values", [torch.zeros(1, 5, 8, 8), torch.ones(1, 5, 8, 8), torch.rand(1, 1, 8, 8)])
def test_images_without_a_spectrum_are_finite(values):
    for part in conditioned(values, torch.ones(1, 8, 8, dtype=torch.bool)):
        assert part.isfinite().all()
    for part in conditioned(values, torch.zeros(1, 8, 8, dtype=torch.bool)):
        assert not part.any()


@pytest.mark.parametrize("n_bands", [1, 3, 31, 140])
def test_a_camera_of_any_number_of_bands_gives_the_same_embedding_each_time(small, n_bands):
    model = SpectralPredictor(small, np.linspace(420, 1700, n_bands).tolist())
    image = np.random.default_rng(0).random((20, 30, n_bands), np.float32)
    embedding = model.embed(image)
    assert embedding.features.shape == (1, 256, 16, 16)
    assert embedding.original_hw == (20, 30)
    assert embedding.resized_hw == (172, 256)  # px of SAM's input: 43 rows of the encoder's 64, four each
    torch.testing.assert_close(model.embed(image).features, embedding.features, atol=0, rtol=0)


def test_the_order_of_the_bands_does_not_matter(small):
    centres_nm = np.linspace(420, 900, 12)
    image = spectra(3, 12).transpose(1, 2, 0)
    backwards = SpectralPredictor(small, centres_nm[::-1].tolist()).embed(image[:, :, ::-1])
    torch.testing.assert_close(
        SpectralPredictor(small, centres_nm.tolist()).embed(image).features, backwards.features, atol=1e-5, rtol=1e-4
    )


def test_what_lies_in_pixels_without_values_does_not_matter(small):
    model, valid = SpectralPredictor(small, [500.0, 600.0, 700.0]), np.ones((40, 40), bool)
    valid[:, 25:] = False
    image = spectra(4, 3, 40).transpose(1, 2, 0)
    filled = np.where(valid[:, :, None], image, np.float32(7))
    one, other = model.embed(image, valid), model.embed(filled, valid)
    torch.testing.assert_close(one.features, other.features, atol=1e-4, rtol=1e-3)


def test_what_does_not_fit_is_refused(small, weights, tmp_path):
    with pytest.raises(BandError, match="3 wavelengths for 4 channels"):
        SpectralPredictor(small, [500, 600, 700]).embed(np.zeros((8, 8, 4), np.float32))
    with pytest.raises(BandError, match="range 390-2510 nm"):
        SpectralPredictor(small, [8000.0, 9000.0])
    with pytest.raises(WeightsError, match=r"set sam\.input_px to 1024"):
        load_spectral(weights, Sam(TinyViT(), 512))
    damaged = tmp_path / "weights.safetensors"
    damaged.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(WeightsError):
        load_spectral(damaged, Sam(TinyViT(), 1024))


def test_the_card_tells_the_file(weights):
    content = weights.read_bytes()
    assert len(content) <= MAX_BYTES
    assert hashlib.sha256(content).hexdigest() in weights.with_suffix(".md").read_text()


def test_objects_of_a_camera_never_trained_on_are_found(sam, weights):
    camera, scene = CAMERAS["vnir61"], make_scene(CAMERAS["vnir61"], 256, 700)
    network = load_spectral(weights, sam)
    generator = MaterialSettings(backend="distilled").generator
    masks = distilled_masks(
        scene.signal,
        camera.centres_nm.tolist(),
        lambda wavelengths_nm: SpectralPredictor(network, wavelengths_nm),
        generator,
        nms_iou=0.8,
        max_masks=300,
    )
    best = iou_matrix([encode(i.mask) for i in scene.instances], [m.rle for m in masks]).max(axis=1)
    only_the_spectrum = np.array([i.spectral_only for i in scene.instances])
    assert best.mean() > 0.8
    assert (best[only_the_spectrum] > 0.5).all()


def test_the_material_branch_runs_it_by_its_settings(make_cube, tmp_path):
    scene = make_scene(CAMERAS["mosaic16"], 96, 3)
    path = tmp_path / "c.zarr"
    make_cube(path, (scene.signal * 1000).astype(np.uint16))
    tree = {"backend": "distilled", "distilled": {"sam": {"checkpoint": "random:0"}}}
    settings = MaterialSettings.model_validate({**tree, "generator": {"points_per_side": 2, "pred_iou_thresh": 0.0}})
    assert settings.generator.stability_score_thresh == 0.8
    network = BranchNetwork("material", settings, settings.network(), None)
    masks = material.run(open_cube(path), settings, network.model)
    assert (masks.height_px, masks.width_px) == (96, 96)
    assert all(0 <= m.score <= 1 for m in masks.masks)


def test_settings_of_the_distilled_network_belong_to_its_key_alone():
    of_sam = MaterialSettings(backend="sam").relevant()
    assert "distilled" not in of_sam
    assert "distilled" in MaterialSettings(backend="distilled").relevant()
