"""Unions and common parts of masks by their run lengths, against the same by pixels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hvlabel.fusion import covering
from hvlabel.masks import Mask, MaskSet, decode, encode, encode_stack, on_valid, union
from hvlabel.masks.rle import common

stacks = st.tuples(st.integers(0, 12), st.integers(1, 30), st.integers(1, 30)).flatmap(lambda s: arrays(bool, s))


def mask_of(pixels):
    return Mask(encode(pixels), 0.5, "rgb", (0.0, 0.0))


@given(stacks)
def test_a_union_is_what_any_mask_covers(masks):
    whole = union(encode_stack(masks), *masks.shape[1:])
    np.testing.assert_array_equal(decode(whole), masks.any(axis=0))
    assert whole == encode(masks.any(axis=0))  # the same runs, so that equal masks have equal files


def test_a_union_of_hundreds():
    masks = np.random.default_rng(0).random((700, 20, 30)) < 0.002
    np.testing.assert_array_equal(decode(union(encode_stack(masks), 20, 30)), masks.any(axis=0))


@given(stacks, st.randoms(use_true_random=False))
def test_what_two_masks_share(masks, random):
    if not len(masks):
        return
    one, other = random.choice(masks), random.choice(masks)
    assert common(encode(one), encode(other)) == encode(one & other)


@given(stacks, st.floats(0.05, 1.0))
def test_as_many_masks_as_cover_a_share(masks, share):
    n = covering([mask_of(m) for m in masks], share)
    if not len(masks):
        assert n == 0
        return
    covered_px = [masks[:k].any(axis=0).sum() for k in range(1, len(masks) + 1)]
    needed_px = share * covered_px[-1]
    assert covered_px[n - 1] >= needed_px
    assert n == 1 or covered_px[n - 2] < needed_px


@given(stacks, st.integers(0, 2**32 - 1))
def test_masks_keep_what_was_measured(masks, seed):
    valid = np.random.default_rng(seed).random(masks.shape[1:]) < 0.7
    given_masks = MaskSet(*masks.shape[1:], tuple(mask_of(m) for m in masks))
    left = on_valid(given_masks, valid)
    expected = [m & valid for m in masks if (m & valid).any() and (m & valid).sum() >= 0.5 * m.sum()]
    assert [m.rle for m in left.masks] == [encode(m) for m in expected]


def test_without_a_mask_of_valid_pixels_all_stay():
    masks = MaskSet(4, 4, (mask_of(np.eye(4, dtype=bool)),))
    assert on_valid(masks, None) is masks


@pytest.mark.parametrize("share", [0.1, 1.0])
def test_empty_masks_cover_nothing(share):
    assert covering([mask_of(np.zeros((3, 3), bool))] * 2, share) == 1


def test_masks_of_several_sizes_have_no_union():
    rles = [encode(np.ones((3, 4), bool)), encode(np.ones((4, 3), bool))]
    with pytest.raises(ValueError, match="different sizes"):
        union(rles, 3, 4)
    with pytest.raises(ValueError, match="different sizes"):
        common(*rles)
