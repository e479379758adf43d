"""Masks over several pictures of one scene, points that need not be asked, marks of people; with networks of known answers."""

import numpy as np
import pytest
import torch

from hvlabel.branches import prompts, voters
from hvlabel.branches.covered import CoveredPoints, rounds
from hvlabel.branches.discover import Track, carry, discover_objects, most_different
from hvlabel.branches.generator import generate_masks, point_grid
from hvlabel.branches.material import composites
from hvlabel.branches.pictures import border_share, confirmed, links, scored
from hvlabel.branches.prompts import PromptsSettings
from hvlabel.branches.sequence import SequenceSettings
from hvlabel.branches.voters import RegionsSettings
from hvlabel.config import GeneratorSettings
from hvlabel.cube.bands import Frame
from hvlabel.masks import Mask, areas, boxes_xyxy, decode, encode, iou_matrix
from hvlabel.models.batches import Ceilings
from hvlabel.models.two_way import DecodedMasks
from hvlabel.prompt_files import ObjectPrompt

SIDE = 64


def disc(x, y, radius):
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


def mask(inside, iou=0.9, stability=0.95):
    return Mask(encode(inside), 0.0, "rgb", (0.0, 0.0), predicted_iou=iou, stability_score=stability)


class ByColour:
    """A network that takes for an object all pixels of the picture that have the colour under the prompt."""

    slack_cells = 0.0

    def __init__(self, iou=0.95):
        self.ceilings, self.iou = Ceilings(), iou
        self.asked, self.carried, self.embedded = 0, 0, 0

    def embed(self, image):
        self.embedded += 1
        return image

    def _logits(self, image, xy):
        colours = image[np.clip(xy[:, 1].astype(int), 0, SIDE - 1), np.clip(xy[:, 0].astype(int), 0, SIDE - 1)]
        same = (image[None] == colours[:, None, None]).all(axis=3)
        return torch.from_numpy(np.where(same, 10.0, -10.0).astype(np.float32))

    def decode(self, embedding, points_xy, masks=None, *, labels=None, boxes_xyxy=None, multimask=True):
        points = points_xy if points_xy.ndim == 2 else points_xy[:, 0]
        logits = self._logits(embedding, points)[:, None]
        n = 3 if multimask else 1
        return logits.expand(-1, n, -1, -1), torch.full((len(points), n), self.iou)

    def decode_above(self, embedding, points_xy, min_iou):
        self.asked += len(points_xy)
        logits, iou = self.decode(embedding, points_xy, multimask=False)
        keep = torch.arange(len(points_xy))
        return DecodedMasks(logits[:, 0], iou[:, 0], keep)

    def decode_clear(self, embedding, boxes_xyxy, masks=None):
        self.carried += len(boxes_xyxy)
        centres = np.stack([boxes_xyxy[:, [0, 2]].mean(axis=1), boxes_xyxy[:, [1, 3]].mean(axis=1)], axis=1)
        return self._logits(embedding, centres), torch.full((len(boxes_xyxy),), self.iou)

    def mask_prompt(self, masks, embedding):
        return torch.from_numpy(np.where(masks, 8.0, -8.0).astype(np.float32))

    def upscale(self, logits, embedding):
        return logits

    def covered_hw(self, logits, embedding):
        return logits.shape[-2], logits.shape[-1]


def scene(*discs, ground=40):
    """A picture with discs of their own grey each."""
    picture = np.full((SIDE, SIDE, 3), ground, np.uint8)
    for k, inside in enumerate(discs):
        picture[inside] = 90 + 40 * k
    return picture


SETTINGS = GeneratorSettings(points_per_side=16, pred_iou_thresh=0.5, stability_score_thresh=0.5, skip_after=1)


def test_rounds_hold_every_point_once_coarse_to_fine():
    passes = rounds(256)
    assert sorted(np.concatenate(passes).tolist()) == list(range(256))
    assert [len(p) for p in passes] == [16, 48, 64, 128]
    assert sum(map(len, rounds(9))) == 9


def test_points_inside_a_mask_count_as_covered_only_where_they_look_like_it():
    coat, badge = disc(32, 32, 20), disc(32, 32, 5)
    picture = scene(coat, badge)
    points = np.array([[20.0, 32.0], [32.0, 32.0], [2.0, 2.0]])  # coat, badge, ground
    covered = CoveredPoints(points, picture)
    covered.note(np.stack([coat & ~badge | badge]), np.array([0.95]), np.array([0.95]), np.array([0]))
    assert covered.counts.tolist() == [1, 0, 0]
    covered.note(np.stack([coat]), np.array([0.75]), np.array([0.95]), np.array([0]))  # not sure enough
    assert covered.counts.tolist() == [1, 0, 0]
    assert covered.open_points(np.arange(3), 1).tolist() == [1, 2]


def test_of_a_prompt_the_smallest_mask_covers():
    whole, part = disc(32, 32, 25), disc(32, 32, 6)
    covered = CoveredPoints(np.array([[32.0, 32.0], [50.0, 32.0]]), np.full((SIDE, SIDE, 3), 9, np.uint8))
    covered.note(np.stack([whole, part]), np.full(2, 0.95), np.full(2, 0.95), np.array([4, 4]))
    assert covered.counts.tolist() == [1, 0]


def test_fewer_points_are_asked_and_the_masks_stay():
    picture = scene(disc(16, 16, 10), disc(44, 40, 14))
    every, some = ByColour(), ByColour()
    all_masks = generate_masks(every, picture, SETTINGS.model_copy(update={"skip_after": 0}), "rgb")
    fewer = generate_masks(some, picture, SETTINGS, "rgb")
    assert every.asked == 256
    assert some.asked < 40
    assert sorted(m.rle["counts"] for m in fewer) == sorted(m.rle["counts"] for m in all_masks)


def test_known_masks_spare_their_points():
    inside = disc(32, 32, 24)
    picture = scene(inside)
    alone, told = ByColour(), ByColour()
    generate_masks(alone, picture, SETTINGS, "rgb")
    generate_masks(told, picture, SETTINGS, "rgb", known=[inside])
    assert told.asked < alone.asked


def test_the_exact_mode_asks_every_point():
    model = ByColour()
    calls = []
    model.decode_above = lambda e, p, m: (calls.append(len(p)), ByColour.decode_above(model, e, p, m))[1]
    generate_masks(model, scene(disc(20, 20, 9)), SETTINGS.model_copy(update={"mode": "exact"}), "rgb")
    assert sum(calls) == 256


def test_what_runs_along_the_border_scores_lower():
    inner, ground = disc(32, 32, 10), ~disc(32, 32, 10)
    assert border_share(inner) == 0
    assert border_share(ground) == 1
    assert scored(mask(inner)).score == pytest.approx(0.9 * 0.95)
    assert scored(mask(ground)).score == 0
    assert scored(mask(inner, iou=1.03)).score == pytest.approx(0.95)  # a predicted IoU may exceed 1


def test_links_and_confirmations_by_hand():
    a, b, c = disc(20, 20, 10), disc(44, 44, 8), disc(20, 20, 9)
    one = iou_matrix([encode(a)], [encode(c)])[0, 0]
    per_picture = [[scored(mask(a)), scored(mask(b))], [scored(mask(c))]]
    met = links(per_picture, 0.5)
    np.testing.assert_allclose(met[0], [[1, 1], [one, 0]])
    np.testing.assert_allclose(met[1], [[one], [1]])
    pooled = confirmed(per_picture, 0.5)
    assert [m.extra["confirmed"] for m in pooled] == [2, 1, 2]
    assert pooled[1].score == pytest.approx(scored(mask(b)).score * 0.75)
    assert pooled[0].score == pytest.approx(scored(mask(a)).score * (1 + (1 + one) / 2) / 2)


def test_the_most_different_pictures_are_taken():
    rng = np.random.default_rng(0)
    first, other = rng.random((32, 32, 3)), rng.random((32, 32, 3))
    pictures = [first, first + 1e-4, first, other, first * 2]  # brightness is no difference
    assert most_different(pictures, 2) == [2, 3]
    assert most_different(pictures, 9) == [0, 1, 2, 3, 4]
    assert most_different([first], 3) == [0]


FRAMES = [Frame(k, (k + 20, k + 10, k)) for k in range(3)]


@pytest.mark.parametrize("carries", [True, False])
def test_objects_are_discovered_frame_by_frame_and_carried(carries):
    always, late = disc(18, 18, 9), disc(46, 46, 10)
    pictures = [scene(always), scene(always), scene(always, late)]
    model = ByColour()
    settings = SequenceSettings(backend="sam", generator=SETTINGS, carry=carries, new_object_iou=0.5)
    found = discover_objects(model, pictures, FRAMES, settings)
    assert model.embedded == 3  # once per picture
    of = {encode(m)["counts"]: name for m, name in ((always, "always"), (late, "late"))}
    named = [(of[m.rle["counts"]], m) for m in found if m.rle["counts"] in of]
    seen = {name: [m for n, m in named if n == name] for name in ("always", "late")}
    assert {m.frame for m in seen["always"]} == {0, 1, 2}
    assert {m.extra["confirmed"] for m in seen["always"]} == {3}
    assert [(m.frame, m.extra["start_frame"], m.extra["confirmed"]) for m in seen["late"]] == [(2, 2, 1)]
    assert all(m.bands == FRAMES[m.frame].bands for m in found)
    assert (len({m.extra["object"] for m in seen["always"]}) == 1) == carries
    assert (model.carried > 0) == carries
    assert seen["always"][0].score > seen["late"][0].score


def track_of(inside):
    prior = torch.from_numpy(np.where(inside, 8.0, -8.0).astype(np.float32))
    rle = encode(inside)
    return Track(0, FRAMES[0], boxes_xyxy([rle])[0], prior, rle)


def test_what_is_carried_elsewhere_or_unsure_is_dropped():
    inside = disc(20, 20, 8)
    sure = GeneratorSettings(pred_iou_thresh=0.9, stability_score_thresh=0.5)
    picture = scene(inside)
    assert len(carry(ByColour(0.95), picture, [track_of(inside)], sure, 0.5)) == 1
    assert carry(ByColour(0.85), picture, [track_of(inside)], sure, 0.5) == []
    assert carry(ByColour(0.95), scene(), [track_of(inside)], sure, 0.5) == []  # the ground took its place
    assert carry(ByColour(), picture, [], sure, 0.5) == []


@pytest.mark.parametrize(
    ("n_bands", "expected"), [(12, [(1, 2, 3), (4, 5, 6)]), (4, [(1, 2, 3), (2, 3, 4)]), (1, [(1, 1, 1)])]
)
def test_composites_of_few_and_many_bands(n_bands, expected):
    values = np.random.default_rng(1).random((n_bands, 20, 30)).astype(np.float32)
    made = composites(values, 2)
    assert [components for components, _ in made] == expected
    assert all(picture.shape == (20, 30, 3) and picture.dtype == np.uint8 for _, picture in made)


@pytest.fixture
def cube(make_cube, tmp_path):
    """Twelve bands; a disc that all bands show and one whose mean over bands is the ground's."""
    rng = np.random.default_rng(2)
    values = rng.normal(0.3, 0.004, (12, SIDE, SIDE))
    values[:, disc(18, 18, 9)] += np.linspace(0.1, 0.5, 12)[:, None]
    values[:, disc(46, 46, 9)] += 0.1 * (-1.0) ** np.arange(12)[:, None]
    return make_cube(tmp_path / "cube.zarr", values.astype(np.float32), np.linspace(450, 700, 12))


def test_regions_that_last_and_are_no_background_vote(cube):
    found = voters.run(cube, RegionsSettings(max_masks=5))
    assert 2 <= len(found) <= 5
    assert {m.branch for m in found.masks} == {"regions"}
    truth = [encode(disc(18, 18, 9)), encode(disc(46, 46, 9))]
    assert (iou_matrix(truth, found.rles).max(axis=1) > 0.8).all()
    assert all(border_share(decode(r)) <= 0.02 for r in found.rles)
    assert max(m.score for m in found.masks) <= 0.5


def test_each_mark_gets_the_mask_of_its_best_picture(cube):
    marks = [
        ObjectPrompt((9, 9, 28, 28), name="cup", object_id="7"),
        ObjectPrompt(None, ((46.0, 46.0),), (1,), object_id="8"),
        ObjectPrompt((9, 9, 28, 28), ((18.0, 18.0), (40.0, 5.0)), (1, 0), object_id="9"),
    ]
    model = ByColour()
    found = prompts.run(cube, PromptsSettings(backend="sam", n_composites=1), model, marks)
    assert model.embedded == 2
    assert sorted(m.extra["prompt"] for m in found.masks) == ["7", "8", "9"]
    by_id = {m.extra["prompt"]: m for m in found.masks}
    assert by_id["7"].extra["name"] == "cup"
    assert "name" not in by_id["8"].extra
    assert {m.extra["picture"] for m in found.masks} <= {"rgb", "components 1-2-3"}
    assert by_id["8"].point_xy == (46.0, 46.0)
    assert all(areas([m.rle])[0] > 0 for m in found.masks)
    assert len(prompts.run(cube, PromptsSettings(backend="sam"), ByColour(), [])) == 0


def test_a_grid_of_one_point():
    assert (
        len(
            generate_masks(
                ByColour(), scene(disc(32, 32, 9)), SETTINGS.model_copy(update={"points_per_side": 1}), "rgb"
            )
        )
        == 1
    )
    assert point_grid(1).tolist() == [[0.5, 0.5]]
