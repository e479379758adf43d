"""Weight-free branches on images whose answer is known."""

import numpy as np
import pytest
import scipy.ndimage as ndi

from hvlabel.branches import material, rgb, sequence
from hvlabel.branches.material import MaterialSettings, spectral_components
from hvlabel.branches.regions import _label_iou, _without_holes, multiscale_regions
from hvlabel.branches.rgb import RgbSettings
from hvlabel.branches.sequence import SequenceSettings
from hvlabel.config import RegionSettings
from hvlabel.masks import MaskSet, encode, iou_matrix

SIDE = 64


def disc(x, y, radius):
    yy, xx = np.mgrid[:SIDE, :SIDE]
    return (xx - x) ** 2 + (yy - y) ** 2 <= radius**2


@pytest.fixture(scope="module")
def cube(tmp_path_factory, make_cube):
    """A disc brighter in all bands, and one that only bands 5..7 show; a shadow lies over both."""
    rng = np.random.default_rng(0)
    values = np.full((12, SIDE, SIDE), 100.0)
    values[:, disc(18, 20, 10)] = 180
    values[5:8, disc(44, 42, 9)] = 140
    values[:, :, 30:] *= 0.8
    values = (values * rng.normal(1, 0.01, values.shape)).astype(np.float32)
    return make_cube(tmp_path_factory.mktemp("cube") / "a.zarr", values, np.linspace(500, 620, 12))


def best(masks: MaskSet, mask) -> float:
    return float(iou_matrix([encode(mask)], masks.rles).max(initial=0))


def test_rgb_finds_what_is_bright(cube):
    found = rgb.run(cube, RgbSettings())
    assert best(found, disc(18, 20, 10)) > 0.75
    assert list(found.masks) == sorted(found.masks, key=lambda m: -m.score)


def test_sequence_finds_what_few_bands_show_and_remembers_frame_and_bands(cube):
    found = sequence.run(cube, SequenceSettings())
    assert best(found, disc(44, 42, 9)) > 0.75
    for mask in found.masks:
        assert mask.bands == (mask.frame + 8, mask.frame + 4, mask.frame)
        assert mask.frame in mask.extra["linked_frames"]
    everywhere = max(found.masks, key=lambda m: iou_matrix([encode(disc(18, 20, 10))], [m.rle])[0, 0])
    assert everywhere.extra["linked_frames"] == [0, 1, 2, 3]
    assert everywhere.stability_score > 0.8


def test_material_ignores_brightness_and_finds_the_spectrum(cube):
    found = material.run(cube, MaterialSettings(n_components=3))
    assert best(found, disc(44, 42, 9)) > 0.75
    assert best(found, disc(18, 20, 10)) < 0.5  # same spectrum, only brighter


def test_components_do_not_depend_on_unit_or_shading():
    rng = np.random.default_rng(1)
    values = rng.uniform(1, 2, (10, 20, 25)).astype(np.float32)
    shading = rng.uniform(0.5, 2, (20, 25)).astype(np.float32)
    a, b = spectral_components(values, 4), spectral_components(values * shading * 1000, 4)
    assert a.shape == (20, 25, 4)
    np.testing.assert_allclose(np.abs(a - 0.5), np.abs(b - 0.5), atol=1e-3)
    assert spectral_components(values[:2], 6).shape == (20, 25, 2)
    assert np.isfinite(spectral_components(np.zeros((3, 4, 4), np.float32), 2)).all()
    assert np.isfinite(spectral_components(np.ones((3, 1, 1), np.float32), 2)).all()


def test_label_iou_agrees_with_masks():
    rng = np.random.default_rng(2)
    first, second = (np.unique(rng.integers(0, n, (15, 17)), return_inverse=True)[1].reshape(15, 17) for n in (4, 6))
    rles = [[encode(m == k) for k in range(m.max() + 1)] for m in (first, second)]
    np.testing.assert_allclose(_label_iou(first, second), iou_matrix(*rles))


def test_a_region_with_a_hole_also_appears_filled_and_specks_score_low():
    image = np.zeros((SIDE, SIDE, 1), np.float32)
    image[disc(30, 30, 20)] = 1
    image[disc(30, 30, 12)] = 0.4
    found = multiscale_regions(image, RegionSettings(scales=(50, 100), sigma_px=0), "rgb")
    masks = MaskSet(SIDE, SIDE, tuple(found))
    assert best(masks, disc(30, 30, 20)) > 0.95
    assert best(masks, disc(30, 30, 20) & ~disc(30, 30, 12)) > 0.9
    assert found[0].score > found[-1].score
    assert all(m.score <= m.predicted_iou for m in found)


@pytest.mark.parametrize("shape", [(1, 1), (9, 14), (70_000, 6)])
def test_holes_are_what_no_path_from_outside_reaches(shape):
    inside = np.random.default_rng(shape[0]).random(shape) < 0.7
    inside[-1] = True
    np.testing.assert_array_equal(_without_holes(inside), ndi.binary_fill_holes(inside))


def test_sequence_links_are_the_best_overlaps_on_every_frame(cube):
    settings = SequenceSettings(nms_iou=1.0, max_masks=5000)
    found = sequence.run(cube, settings).masks
    by_frame = {}
    for mask in found:
        by_frame.setdefault(mask.frame, []).append(mask.rle)
    assert len(by_frame) > 2
    for mask in found[::7]:
        links = [iou_matrix([mask.rle], rles).max() for rles in by_frame.values()]
        assert mask.stability_score == pytest.approx(np.mean([x if x >= settings.link_iou else 0 for x in links]))


def test_a_plain_image_gives_no_masks():
    assert multiscale_regions(np.zeros((20, 20, 3), np.float32), RegionSettings(), "rgb") == []
