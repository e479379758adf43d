"""Fusion of branches."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvlabel.config.fusion import FusionSettings
from hvlabel.errors import MaskFileError
from hvlabel.fusion import agreement, foreground, fuse
from hvlabel.masks import Mask, MaskSet, decode, encode, iou_matrix

SIDE = 24


def mask(x, y, size, score, branch):
    pixels = np.zeros((SIDE, SIDE), bool)
    pixels[y : y + size, x : x + size] = True
    return Mask(encode(pixels), score, branch, (x, y))


def sets(*masks):
    return [MaskSet(SIDE, SIDE, tuple(m for m in masks if m.branch == b)) for b in ("rgb", "sequence", "material")]


squares = st.builds(
    mask,
    st.integers(0, 14),
    st.integers(0, 14),
    st.integers(1, 10),
    st.integers(0, 10).map(lambda v: v / 10),
    st.sampled_from(["rgb", "sequence", "material"]),
)


@given(st.lists(squares, max_size=25), st.floats(0.2, 0.9))
def test_kept_masks_do_not_overlap_and_every_other_mask_has_a_reason(masks, threshold):
    branches = sets(*masks)
    label = fuse(branches, FusionSettings(iou_threshold=threshold, min_area_px=4))
    iou = iou_matrix(label.rles, label.rles)
    assert (iou[~np.eye(len(label), dtype=bool)] <= threshold + 1e-12).all()
    assert len(label) + len(label.suppressed) == len(masks)
    by_branch = {b.masks[0].branch: b for b in branches if b.masks}
    for lost in label.suppressed:
        loser = by_branch[lost.branch].masks[lost.mask_id]
        if lost.by is None:
            assert decode(loser.rle).sum() < 4
            continue
        winner = label.masks[lost.by]
        assert iou_matrix([loser.rle], [winner.rle])[0, 0] == pytest.approx(lost.iou)
        assert lost.iou > threshold
        assert loser.branch in winner.votes
    union = np.zeros((SIDE, SIDE), bool)
    for m in label.masks:
        assert m.branch in m.votes
        union |= decode(m.rle)
    np.testing.assert_array_equal(foreground(label), union)


@given(st.lists(squares, max_size=25), st.floats(0.4, 0.9), st.floats(0.3, 1.0))
def test_by_quality_every_mask_is_kept_or_has_its_reason(masks, threshold, nested):
    branches = sets(*masks)
    quality = [np.array([((7 * k + 3 * b) % 10) / 10 for k in range(len(of))]) for b, of in enumerate(branches)]
    settings = FusionSettings(
        ranking="quality", iou_threshold=threshold, nested_iou=nested, min_quality=0.2, min_area_px=4
    )
    label = fuse(branches, settings, quality)
    assert len(label) + len(label.suppressed) == len(masks)
    of_branch = dict(zip(("rgb", "sequence", "material"), zip(branches, quality, strict=True), strict=True))
    for lost in label.suppressed:
        of, expected = of_branch[lost.branch]
        loser = of.masks[lost.mask_id]
        if lost.by is None:
            too_small = decode(loser.rle).sum() < 4
            assert lost.reason == ("small" if too_small else "poor")
            assert too_small or expected[lost.mask_id] < 0.2
            continue
        winner = label.masks[lost.by]
        assert iou_matrix([loser.rle], [winner.rle])[0, 0] == pytest.approx(lost.iou)
        assert loser.branch in winner.votes
        assert lost.reason in ("copy", "nested")
        if lost.reason == "nested":
            common = (decode(loser.rle) & decode(winner.rle)).sum()
            assert common >= 0.9 * min(decode(loser.rle).sum(), decode(winner.rle).sum())
            assert nested < lost.iou <= threshold


def test_of_a_part_and_nearly_its_whole_the_clearly_better_one_stays():
    whole, part, copy_of_part = (
        mask(2, 2, 10, 0.5, "rgb"),
        mask(2, 2, 8, 0.5, "sequence"),
        mask(2, 2, 8, 0.4, "material"),
    )
    branches = sets(whole, part, copy_of_part)  # IoU .64
    by_quality = FusionSettings(ranking="quality", nested_iou=0.6)
    label = fuse(branches, by_quality, [np.array([0.9]), np.array([0.5]), np.array([0.5])])
    assert [m.branch for m in label.masks] == ["rgb"]
    assert label.masks[0].votes == ("material", "rgb", "sequence")
    # the copy lost to the part, which is not in the label: to the whole, then
    assert [(s.branch, s.by, s.reason, s.iou) for s in label.suppressed] == [
        ("sequence", 0, "nested", pytest.approx(0.64)),
        ("material", 0, "copy", pytest.approx(0.64)),
    ]
    nearly_as_good = fuse(branches, by_quality, [np.array([0.9]), np.array([0.8]), np.array([0.5])])
    assert len(nearly_as_good) == 2
    apart = FusionSettings(ranking="quality")
    assert len(fuse(branches, apart, [np.array([0.9]), np.array([0.5]), np.array([0.5])])) == 2


def test_votes_come_from_other_branches_and_lift_the_rank():
    label = fuse(
        sets(mask(0, 0, 10, 0.6, "rgb"), mask(0, 0, 10, 0.5, "material"), mask(12, 12, 10, 0.7, "sequence")),
        FusionSettings(iou_threshold=0.7, vote_bonus=0.2),
    )
    assert [(m.branch, m.votes, round(m.score, 3)) for m in label.masks] == [
        ("rgb", ("material", "rgb"), round(0.8 / 1.4, 3)),
        ("sequence", ("sequence",), 0.5),
    ]
    assert [(s.branch, s.mask_id, s.by) for s in label.suppressed] == [("material", 0, 0)]


def test_weights_and_smallest_area_act_before_the_competition():
    branches = sets(mask(0, 0, 10, 0.6, "rgb"), mask(0, 0, 10, 0.5, "material"), mask(20, 20, 2, 0.9, "sequence"))
    label = fuse(branches, FusionSettings(weights={"rgb": 0.5}, vote_bonus=0.0, min_area_px=20))
    assert [m.branch for m in label.masks] == ["material"]
    assert label.masks[0].score == 0.5
    assert [(s.branch, s.by) for s in label.suppressed] == [("rgb", 0), ("sequence", None)]


def test_branches_of_different_size_are_refused():
    with pytest.raises(MaskFileError, match=r"different sizes \[\(24, 24\), \(30, 24\)\]"):
        fuse([MaskSet(24, 24, ()), MaskSet(30, 24, ())], FusionSettings())


def test_no_masks_anywhere_is_an_empty_label():
    assert fuse(sets(), FusionSettings()) == MaskSet(SIDE, SIDE, ())


def test_agreement_by_hand():
    def strip(columns, branch, score):
        inside = np.zeros((10, 10), bool)
        inside[:, :columns] = True
        return Mask(encode(inside), score, branch, (0.0, 0.0))

    one = MaskSet(10, 10, (strip(4, "rgb", 0.9), strip(10, "rgb", 0.99)))
    other = MaskSet(10, 10, (strip(5, "material", 0.5),))
    assert agreement(one.masks, [one, other]) == pytest.approx([(1 + 4 / 5) / 2, (1 + 5 / 10) / 2])
    label = fuse([one, other], FusionSettings(iou_threshold=0.75, ranking="agreement"))
    assert [m.votes for m in label.masks] == [("material", "rgb"), ("rgb",)]
    assert [m.score for m in label.masks] == pytest.approx([0.9, 0.75])
    by_votes = fuse([one, other], FusionSettings(iou_threshold=0.75))
    assert [m.score for m in by_votes.masks] == pytest.approx([0.99 / 1.2, 1.1 / 1.2][::-1])


def test_what_a_label_depends_on():
    old = {
        "ranking": "votes",
        "iou_threshold": 0.8,
        "min_area_px": 20,
        "weights": {"rgb": 1.0, "sequence": 1.0, "material": 1.0},
        "vote_bonus": 0.2,
    }
    assert FusionSettings(ranking="votes").relevant() == old
    assert FusionSettings(ranking="votes", branches=("rgb",), min_quality=0.9).relevant() == old
    by_quality = {**old, "min_quality": 0.2, "nested_iou": 1.0, "coverage": None}
    del by_quality["ranking"]
    assert FusionSettings().relevant() == by_quality  # auto: the masks decide
    assert FusionSettings(weights={"prompts": 0.5}).relevant()["weights"]["prompts"] == 0.5
