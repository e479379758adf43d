"""Labels by predicted quality: the predictor's file, the fusion that uses it, and the recipe that makes it."""

import json

import numpy as np
import pytest

import hvtrain.recipes.quality as recipe
from hvlabel.config.fusion import QUALITY_PREDICTOR, FusionSettings
from hvlabel.errors import MaskFileError, WeightsError
from hvlabel.fusion import covering, fuse
from hvlabel.masks import Mask, MaskSet, decode, encode, read_document
from hvlabel.quality import NAMES, load_predictor, predictor_sha256
from hvlabel.quality.predictor import Predictor
from hvlabel.stages.fuse import fuse_files
from hvlabel.stages.segment import BranchRunner, segment_file
from hvtrain.recipes import quality_examples

SIDE = 40


def mask(y0, y1, x0, x1, score=0.5, branch="rgb"):
    pixels = np.zeros((SIDE, SIDE), bool)
    pixels[y0:y1, x0:x1] = True
    return Mask(encode(pixels), score, branch, (float(x0), float(y0)))


def test_the_better_mask_wins_not_the_higher_score():
    rgb = MaskSet(SIDE, SIDE, (mask(5, 25, 5, 25, 0.9), mask(30, 36, 30, 36, 0.8)))
    material = MaskSet(SIDE, SIDE, (mask(5, 25, 5, 26, 0.3, "material"), mask(1, 4, 30, 40, 0.9, "material")))
    settings = FusionSettings(ranking="quality", min_quality=0.4, min_area_px=20)
    label = fuse([rgb, material], settings, [np.array([0.6, 0.5]), np.array([0.8, 0.2])])
    assert [(m.branch, m.score, m.votes) for m in label.masks] == [
        ("material", 0.8, ("material", "rgb")),
        ("rgb", 0.5, ("rgb",)),
    ]
    lost = {(s.branch, s.mask_id): s.by for s in label.suppressed}
    assert lost == {("rgb", 0): 0, ("material", 1): None}  # beaten by the first; not good enough
    with pytest.raises(MaskFileError, match="needs the cube"):
        fuse([rgb], settings)


def test_coverage_keeps_the_best_until_the_image_is_explained():
    masks = [mask(0, 20, 0, 40), mask(0, 20, 0, 20), mask(20, 40, 0, 10), mask(20, 22, 20, 40)]
    assert [covering(masks, share) for share in (0.1, 0.6, 0.7, 0.95, 1.0)] == [1, 1, 1, 3, 4]
    assert covering([], 0.5) == 0
    branch = MaskSet(SIDE, SIDE, tuple(masks))
    settings = FusionSettings(ranking="quality", min_quality=0, coverage=0.9, iou_threshold=0.9)
    label = fuse([branch], settings, [np.array([0.9, 0.8, 0.7, 0.6])])
    assert len(label) == 3
    assert [(s.mask_id, s.by) for s in label.suppressed] == [(3, None)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a quality predictor"),
        (b"[]", "not a quality predictor"),
        (json.dumps({"features": ["x"]}).encode(), "other features"),
        (json.dumps({"features": list(NAMES)}).encode(), "not a quality predictor"),
    ],
)
def test_a_file_that_is_no_predictor_is_one_sentence(tmp_path, content, message):
    path = tmp_path / f"{len(content)}.json"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=message) as refused:
        load_predictor(path)
    assert str(path) in str(refused.value)
    for reader in (load_predictor, predictor_sha256):
        with pytest.raises(WeightsError, match="cannot be read"):
            reader(tmp_path / "none.json")


def examples(seed=0, n=600):
    """Features of which the first one tells the IoU."""
    rng = np.random.default_rng(seed)
    features = rng.normal(0, 1, (n, len(NAMES)))
    iou = 1 / (1 + np.exp(-2 * features[:, 0]))
    return quality_examples.Examples(features, iou, np.ones(n), np.arange(n) // 20)


def predictor_of(content, folder):
    path = folder / "quality.json"
    path.write_text(json.dumps(content))
    load_predictor.cache_clear()
    return load_predictor(path)


def test_the_recipe_learns_is_calibrated_and_repeats_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "STEPS", 200)
    monkeypatch.setattr(recipe, "MEMBERS", 2)
    content = recipe.fit(examples())
    assert json.dumps(content) == json.dumps(recipe.fit(examples()))
    predictor = predictor_of(content, tmp_path)
    unseen = examples(seed=1)
    quality = predictor.quality(unseen.features)
    assert np.corrcoef(quality, unseen.iou)[0, 1] > 0.8
    assert abs(quality.mean() - unseen.iou.mean()) < 0.05
    assert quality.min() >= 0
    assert quality.max() <= 1
    assert predictor.is_known(unseen.features).mean() > 0.9
    assert not predictor.is_known(unseen.features[:5] + 100).any()
    assert len(predictor.quality(np.zeros((0, len(NAMES))))) == 0


def test_the_curve_rises():
    rng = np.random.default_rng(0)
    predicted = rng.uniform(0, 1, 500)
    knots = recipe.monotone(predicted, np.clip(predicted**2 + rng.normal(0, 0.2, 500), 0, 1))
    assert (np.diff(knots, axis=0) >= 0).all()
    assert (knots[0, 0], knots[-1, 0]) == (0, 1)
    np.testing.assert_allclose(np.interp([0.3, 0.6, 0.9], *knots.T), [0.12, 0.38, 0.78], atol=0.1)


def test_spoilt_masks_err_as_masks_do():
    truth = MaskSet(SIDE, SIDE, (mask(5, 25, 5, 25), mask(26, 38, 26, 38)))
    pool = list(truth.masks)
    wrong = quality_examples.corrupted(truth, pool, np.random.default_rng(0))
    assert len(wrong) >= 3
    iou = quality_examples.truth_iou(wrong, truth)
    assert ((iou > 0) & (iou <= 1)).all()
    assert iou.min() < 0.9


def test_the_shipped_predictor_is_small_and_says_what_made_it():
    assert QUALITY_PREDICTOR.stat().st_size < 200_000
    content = json.loads(QUALITY_PREDICTOR.read_bytes())
    assert content["trained_on"]["scenes"] >= 36
    assert isinstance(load_predictor(), Predictor)


def test_a_label_tells_the_quality_of_its_masks_and_its_key_the_predictor(tmp_path, make_cube, monkeypatch):
    rng = np.random.default_rng(0)
    place = np.zeros((SIDE, SIDE), int)
    place[8:24, 10:28] = 1
    spectra = rng.uniform(0.2, 0.8, (2, 31))
    values = (spectra[place].transpose(2, 0, 1) + rng.normal(0, 0.005, (31, SIDE, SIDE))).astype(np.float32)
    cube = make_cube(tmp_path / "a.zarr", values, np.linspace(410, 710, 31))
    from hvlabel.branches.material import MaterialSettings
    from hvlabel.branches.rgb import RgbSettings

    inputs = []
    for branch, settings in (
        ("rgb", RgbSettings(backend="regions")),
        ("material", MaterialSettings(backend="regions")),
    ):
        inputs.append(tmp_path / f"{branch}.json")
        segment_file(BranchRunner(branch, settings), cube.path, inputs[-1])
    out = tmp_path / "label.json"
    fuse_files(inputs, FusionSettings(min_quality=0.0), out, cube.path)
    document = read_document(out)
    quality = [a["quality"] for a in document["annotations"]]
    assert quality == sorted(quality, reverse=True)
    assert document["provenance"]["quality"]["mean"] == pytest.approx(np.mean(quality), abs=1e-3)
    assert document["provenance"]["settings"]["ranking"] == "quality"
    fuse_files(inputs, FusionSettings(), tmp_path / "plain.json")  # no cube at hand
    assert read_document(tmp_path / "plain.json")["provenance"]["settings"]["ranking"] == "votes"
    key = document["provenance"]["key"]
    monkeypatch.setattr("hvlabel.stages.fuse.predictor_sha256", lambda: "another")
    fuse_files(inputs, FusionSettings(min_quality=0.0), out, cube.path)
    assert read_document(out)["provenance"]["key"] != key


def test_runs_without_ground_truth_are_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["quality", str(tmp_path / "out.json"), str(tmp_path / "none")])
    with pytest.raises(SystemExit, match="no label with ground truth; label generated scenes first"):
        recipe.main()
    assert not (tmp_path / "out.json").exists()


def test_a_piece_shows_what_is_left_of_its_scene():
    whole = mask(0, SIDE, 0, SIDE)
    speck = mask(0, 1, 0, 1)
    y, x = np.mgrid[:SIDE, :SIDE]
    rows, columns = np.float32(y), np.float32(x)
    colours = np.stack([y, x, y], axis=-1).astype(np.uint8)  # a pixel says where it was
    truth = MaskSet(SIDE, SIDE, (mask(0, SIDE, 0, SIDE // 2),))
    picture = quality_examples.Picture(np.stack([rows, columns]), colours, y > x, [whole, speck], truth)
    random = np.random.default_rng(0)
    pieces = [quality_examples.piece_of(picture, random) for _ in range(40)]
    corners = set()
    for piece in pieces:
        height, width = piece.values.shape[1:]
        least, most = (int(SIDE * share) for share in quality_examples.PIECE_SHARE)
        assert least <= height == width <= most
        top, left = (int(v) for v in piece.values[:, 0, 0])
        assert (top + height <= SIDE) & (left + width <= SIDE)
        np.testing.assert_array_equal(piece.values[:, -1, -1], [top + height - 1, left + width - 1])
        np.testing.assert_array_equal(piece.rgb[..., 1], piece.values[1].astype(np.uint8))
        np.testing.assert_array_equal(piece.valid, piece.values[0] > piece.values[1])
        assert [decode(m.rle).all() for m in piece.pool] == [True]  # the speck is gone
        n_columns = min(width, max(0, SIDE // 2 - left))
        left_px = [height * n_columns] if height * n_columns >= quality_examples.MIN_AREA_PX else []
        assert [int(decode(m.rle).sum()) for m in piece.truth.masks] == left_px
        corners.add((top, left))
    assert len(corners) > 20
