"""The recipe of the distilled material network."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hvlabel.demo.cameras import CAMERAS
from hvlabel.demo.scenes import make_scene, scene_parts
from hvlabel.models.sam import Sam, TinyViT
from hvlabel.models.sam.conditioning import conditioned, grouped
from hvlabel.models.sam.spectral import SpectralTopology
from hvlabel.models.weights import read_state_dict
from hvtrain.recipes import material_plans
from hvtrain.recipes.distil_material import DISTILLED, WEIGHTS, Training, distilled, rate
from hvtrain.recipes.frozen_decoder import FrozenDecoder
from hvtrain.recipes.material_plans import BOX, NOTHING, Shape, plan_batch
from hvtrain.recipes.material_rendering import flat_picture, render

SMALL = Shape(images=2, prompts=6, input_px=64)
TINY = SpectralTopology(input_px=64, embed_dim=64, depth=2, global_blocks=(1,))


@pytest.fixture
def untrained():
    torch.manual_seed(1)
    return Sam(TinyViT(), 256).eval()


def rendered(step=0, shape=SMALL):
    plan = plan_batch(shape, step)
    return plan, render(plan, shape.input_px, torch.Generator().manual_seed(0))


def test_a_plan_is_a_function_of_its_step_and_asks_for_what_lies_there():
    for step in range(6):
        plan, scene = rendered(step)
        again = plan_batch(SMALL, step)
        assert all(torch.equal(plan[name], again[name]) for name in plan)
        for image in range(SMALL.images):
            height, width = plan["hw"][image].tolist()
            assert not scene.masks[image, :, height:].any()
            assert not scene.masks[image, :, :, width:].any()
            for k in range(SMALL.prompts):
                target = int(plan["targets"][image, k])
                if target == NOTHING:
                    continue
                mask = scene.masks[image, target].numpy()
                rows, columns = np.nonzero(mask)
                if plan["kinds"][image, k] == BOX:
                    x0, y0, x1, y1 = plan["boxes_xyxy"][image, k].tolist()
                    assert x0 - 5 <= columns.min() <= columns.max() <= x1 + 5
                    assert y0 - 5 <= rows.min() <= rows.max() <= y1 + 5
                else:
                    x, y = plan["points_xy"][image, k].round().long().tolist()
                    assert mask[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].any()


def test_training_scenes_and_cameras_are_not_those_of_the_benches():
    assert material_plans.TRAIN_SEEDS >= 10**9
    assert set(CAMERAS) - set(material_plans.TRAINED_CAMERAS) == {"vnir61"}


def test_a_rendered_scene_is_the_demos(monkeypatch):
    camera, seed = CAMERAS["vis31"], material_plans.TRAIN_SEEDS
    for name, value in {"DRAWN_SHARE": 0, "TRAINED_CAMERAS": ("vis31",), "MOVED_SHARE": 0, "PADDED_SHARE": 0}.items():
        monkeypatch.setattr(material_plans, name, value)
    monkeypatch.setattr(material_plans, "GAIN", (1, 1))
    monkeypatch.setattr(material_plans, "KEPT_BANDS", (1, 1))
    monkeypatch.setattr(material_plans, "SCENE_SHARES", (0, 1, 0))
    monkeypatch.setattr(material_plans, "NOISE_FACTORS", (1, 1))
    shape = dataclasses.replace(SMALL, images=1, input_px=128)
    _, scene = rendered(0, shape)
    groups, centres_nm = grouped(make_scene(camera, 128, seed).signal, camera.centres_nm)
    spectra, light = conditioned(torch.from_numpy(groups)[None], torch.ones(1, 128, 128, dtype=torch.bool))
    np.testing.assert_allclose(scene.centres_nm[0, : len(centres_nm)], centres_nm, rtol=1e-6)
    # noise is drawn anew, and strongest where the spectra are evened out; means of 4 x 4 pixels have little of it
    for ours, theirs in ((scene.spectra[:, : len(centres_nm)], spectra), (scene.light, light)):
        ours, theirs = (F.avg_pool2d(image, 4).flatten() for image in (ours, theirs))
        assert np.corrcoef(ours, theirs)[0, 1] > 0.97


def test_parts_are_those_of_the_scene():
    parts, scene = (make(CAMERAS["vis31"], 96, 5) for make in (scene_parts, make_scene))
    assert len(parts.instances) == len(scene.instances)
    for one, other in zip(parts.instances, scene.instances, strict=True):
        np.testing.assert_array_equal(one.mask, other.mask)


def test_the_teacher_sees_one_colour_for_each_surface():
    _, scene = rendered()
    picture = flat_picture(scene)
    assert picture.min() >= 0
    assert picture.max() <= 1
    for image, surface, valid in zip(picture, scene.surface, scene.valid, strict=True):
        for which in surface[valid].unique():
            assert image[:, (surface == which) & valid].std(dim=1).max() < 1e-5


def test_the_frozen_decoder_answers_as_the_published_one(untrained):
    plan, _ = rendered()
    torch.manual_seed(2)
    features = torch.randn(SMALL.images, 256, 16, 16)
    boxed = plan["kinds"] == BOX
    logits, iou = FrozenDecoder(untrained, torch.float32).masks(features, plan["points_xy"], plan["boxes_xyxy"], boxed)
    for image in range(SMALL.images):
        for k in range(SMALL.prompts):
            row, scale = image * SMALL.prompts + k, 256 / 64
            if boxed[image, k]:
                prompt = {"boxes_xyxy": plan["boxes_xyxy"][image, k][None] * scale, "multimask": False}
            else:
                point = plan["points_xy"][image, k][None, None] * scale
                prompt = {"points_xy": point, "labels": torch.ones(1, 1, dtype=torch.int32)}
            expected, expected_iou = untrained.decode(features[image : image + 1], **prompt)
            answers = slice(0, 1) if boxed[image, k] else slice(1, 4)
            torch.testing.assert_close(logits[row, answers], expected[0], atol=1e-4, rtol=1e-3)
            torch.testing.assert_close(iou[row, answers], expected_iou[0], atol=1e-4, rtol=1e-3)


def test_rate_and_distillation_fall_with_the_clock():
    shares = np.linspace(0.05, 1, 20)
    for falling in (rate, distilled):
        assert (np.diff([falling(s) for s in shares]) < 0).all()
    assert rate(1) == pytest.approx(0)
    assert (distilled(0), distilled(1)) == DISTILLED


def test_steps_lower_the_loss_and_leave_sam_as_it_is(untrained, tmp_path):
    before = {name: tensor.clone() for name, tensor in untrained.state_dict().items()}
    training = Training(tmp_path, untrained, TINY)
    plan, scene = rendered()
    losses = [float(training.learn(scene, plan, 0.05)["loss"]) for _ in range(8)]
    assert np.isfinite(losses).all()
    assert np.mean(losses[-2:]) < np.mean(losses[:2])
    for name, tensor in untrained.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_a_training_goes_on_from_its_checkpoint(untrained, tmp_path):
    Training(tmp_path, untrained, TINY).run(SMALL, 1e9, workers=0, max_steps=2)
    resumed = Training(tmp_path, untrained, TINY)
    assert resumed.step == 2
    assert resumed.seconds > 0
    state = read_state_dict(tmp_path / WEIGHTS)
    for name, tensor in resumed.average.module.state_dict().items():
        torch.testing.assert_close(state[name].float(), tensor, atol=1e-2, rtol=1e-2)
    resumed.run(SMALL, 1e9, workers=0, max_steps=3)
    assert resumed.step == 3
