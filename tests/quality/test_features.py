"""Features of masks: what they measure, and that they tell a good mask from a spoilt one."""

import numpy as np
import pytest

from hvlabel.masks import Mask, encode
from hvlabel.quality import NAMES, mask_features
from hvlabel.quality.view import make_view, whitened_components

SIDE = 64


def box(y0, y1, x0, x1, shape=(SIDE, SIDE)):
    mask = np.zeros(shape, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def of(mask, branch="rgb", **more):
    return Mask(encode(mask), 0.5, branch, (0.0, 0.0), **more)


def scene(seed=0, n_bands=12, noise=0.005):
    """(C, H, W) values of an object on a ground, its mask, and a picture in which it cannot be seen."""
    rng = np.random.default_rng(seed)
    spectra = rng.uniform(0.2, 0.8, (2, n_bands))
    truth = box(20, 44, 16, 46)
    values = spectra[truth.astype(int)].transpose(2, 0, 1) + rng.normal(0, noise, (n_bands, SIDE, SIDE))
    rgb = rng.integers(100, 110, (SIDE, SIDE, 3)).astype(np.uint8)
    return values.astype(np.float32), truth, rgb


def named(rows):
    return [dict(zip(NAMES, row.tolist(), strict=True)) for row in rows]


def test_shape_border_and_fill_are_what_they_say():
    values, _, rgb = scene()
    frame = ~box(8, 56, 8, 56)
    whole, corner, ring = named(
        mask_features([of(box(16, 48, 16, 48)), of(box(0, 16, 0, 32)), of(frame)], make_view(values, rgb))
    )
    assert whole["log_area"] == pytest.approx(np.log(32 * 32 / SIDE**2), abs=1e-5)
    assert (whole["fill"], whole["border"], whole["aspect"], whole["holes"]) == (1, 0, 0, 0)
    assert corner["aspect"] == pytest.approx(np.log(2), abs=1e-5)
    assert corner["border"] == pytest.approx((32 + 16 - 1) / (4 * SIDE - 4), abs=1e-5)
    assert ring["border"] == 1
    assert ring["holes"] == pytest.approx(1 - frame.mean(), abs=0.03)
    assert ring["fill"] == pytest.approx(frame.mean(), abs=1e-5)


def test_agreement_and_nesting_by_hand():
    values, truth, rgb = scene()
    masks = [
        of(truth, "rgb"),
        of(truth, "sequence"),
        of(box(20, 44, 16, 31), "material"),  # half of it
        of(box(10, 54, 8, 54), "rgb"),  # contains all
    ]
    first, second, half, parent = named(mask_features(masks, make_view(values, rgb)))
    assert first["agreement_most"] == 1
    assert first["agreement_least"] == pytest.approx(0.5, abs=1e-6)
    assert first["agreement_mean"] == pytest.approx(0.75, abs=1e-6)
    assert first["met"] == pytest.approx(np.log1p(1), abs=1e-6)
    share = truth.sum() / box(10, 54, 8, 54).sum()
    assert first["same_branch"] == pytest.approx(share, abs=1e-6)
    assert second["same_branch"] == 0  # a mask does not confirm itself
    assert (half["parents"], first["parents"]) == (
        pytest.approx(np.log1p(3), abs=1e-6),
        pytest.approx(np.log1p(1), abs=1e-6),
    )
    assert half["parent_area"] == pytest.approx(np.log(2), abs=1e-6)
    assert (half["children"], half["child_area"]) == (0, 0)
    assert parent["children"] == pytest.approx(np.log1p(3), abs=1e-6)
    assert parent["child_area"] == pytest.approx(share, abs=1e-6)


def test_what_only_the_spectrum_shows_has_spectral_contrast_and_spoilt_masks_have_less():
    values, truth, rgb = scene()
    grown, shifted, elsewhere = box(12, 52, 8, 54), np.roll(truth, 9, axis=1), box(2, 14, 2, 30)
    right, larger, moved, ground = named(
        mask_features([of(truth), of(grown), of(shifted), of(elsewhere)], make_view(values, rgb))
    )
    for wrong in (larger, moved, ground):
        assert right["spectral_contrast"] > wrong["spectral_contrast"] + 0.5
        assert (
            right["spectral_own"] - right["spectral_foreign"] > wrong["spectral_own"] - wrong["spectral_foreign"] + 0.1
        )
        assert right["spectral_edge"] > wrong["spectral_edge"]
        assert right["spectral_angle"] > wrong["spectral_angle"]
    assert right["picture_contrast"] < 1


def test_pixels_without_data_take_no_part():
    values, truth, rgb = scene()
    valid = ~box(0, 64, 40, 64)
    broken = np.where(valid, values, np.float32(1e6))
    plain, holed = (mask_features([of(truth & valid)], make_view(v, rgb, valid)) for v in (values, broken))
    np.testing.assert_allclose(plain, holed, atol=1e-3)


def test_order_does_not_matter_and_there_may_be_none():
    values, truth, rgb = scene()
    view = make_view(values, rgb)
    masks = [of(truth, "rgb"), of(box(5, 30, 5, 30), "material"), of(box(30, 60, 2, 20), "sequence")]
    rows = mask_features(masks, view)
    np.testing.assert_allclose(mask_features(masks[::-1], view), rows[::-1], atol=1e-6)
    assert mask_features([], view).shape == (0, len(NAMES))
    assert np.isfinite(rows).all()


@pytest.mark.parametrize("mask", [box(0, 64, 0, 64), box(5, 6, 5, 6), box(0, 1, 0, 64), box(0, 64, 63, 64)])
def test_masks_of_every_size(mask):
    values, _, rgb = scene()
    assert np.isfinite(mask_features([of(mask), of(box(9, 20, 9, 20), "material")], make_view(values, rgb))).all()


@pytest.mark.parametrize("n_bands", [1, 2, 5])
@pytest.mark.parametrize("factor", [1.0, 1e-3, 1e4])
def test_components_do_not_depend_on_the_unit_and_take_few_bands(n_bands, factor):
    values, _, _ = scene(n_bands=n_bands)
    one, other = whitened_components(values), whitened_components(values * np.float32(factor))
    assert one.shape == (SIDE, SIDE, min(n_bands, 6))
    if n_bands > 1:
        np.testing.assert_allclose(np.abs(one), np.abs(other), rtol=2e-2, atol=0.3)
