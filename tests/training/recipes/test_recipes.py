"""The recipes of the embedded networks, and what they have made."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from hvlabel.branches.network import hyperfree_of
from hvlabel.config import HyperFreeModel, Sam2Model
from hvlabel.cube.bands import false_colour_frames
from hvlabel.cube.render import false_colour
from hvlabel.demo.cameras import CAMERAS, drawn_camera
from hvlabel.demo.scenes import make_photo, make_scene
from hvlabel.errors import ResultsError
from hvlabel.masks import interior_point
from hvlabel.models.hyperfree import HyperFreePredictor, load_hyperfree
from hvlabel.models.hyperfree.spectral import KEY_SLOTS_NM
from hvlabel.models.sam2 import Sam2Predictor, load_sam2
from hvlabel.models.weights import read_state_dict
from hvtrain.backbones.hyperfree import HyperFreeBackbone
from hvtrain.data.batch import Batch
from hvtrain.engine.run_folder import read_metrics
from hvtrain.recipes import hyperfree_small, sam2_image, sam2_memory
from hvtrain.recipes.scenes import clip_batch, cube_batch, photo_batch
from hvtrain.recipes.stages import Stage

PHOTOS = Stage(2, 256, 64, (128, 256), images=2, objects=4, grounds=1, lr=1e-4, warmup_steps=1)
CUBES = Stage(2, 64, 64, (96, 128), images=2, objects=4, grounds=1, lr=1e-4, warmup_steps=1)
CLIPS = Stage(3, 64, 16, (96, 128), images=2, objects=4, grounds=0, lr=1e-4, warmup_steps=1, frames=3)
CPU = torch.device("cpu")


def same(a, b):
    """Whether two batches hold the same tensors."""
    return all(torch.equal(v, getattr(b, k)) for k, v in vars(a).items() if isinstance(v, torch.Tensor))


def untrained_sam2():
    torch.manual_seed(0)
    return load_sam2(Sam2Model(config=sam2_image.CONFIG, checkpoint="random:0"), CPU)


def untrained_hyperfree():
    torch.manual_seed(0)
    network = HyperFreeBackbone(hyperfree_small.SIZES)
    hyperfree_small.smooth_kernels(network)
    return network


@pytest.mark.parametrize(("make", "stage"), [(photo_batch, PHOTOS), (cube_batch, CUBES)])
def test_a_step_has_prompts_inside_their_masks_and_is_a_function_of_its_number(make, stage):
    cell = stage.side_px / stage.logits_px
    steps = [make(stage, n) for n in range(8)]
    for n, batch in enumerate(steps):
        again = make(stage, n)
        assert same(batch, again)
        n_prompts = stage.images * (stage.objects + stage.grounds)
        masks, points = batch.masks.flatten(0, 1), batch.points_xy.flatten(0, 1)
        assert masks.shape == (n_prompts, stage.logits_px, stage.logits_px)
        for mask, (x, y) in zip(masks, (points / cell).long().tolist(), strict=True):
            assert not mask.any() or mask[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].any()

    def grounds(boxed):
        return {int((b.weights == 0).sum()) for b in steps if b.boxed == boxed}

    assert grounds(True) == {0}
    assert grounds(False) == {stage.images * stage.grounds}


def test_cubes_come_from_many_cameras_and_are_padded_as_images_are():
    batches = [cube_batch(CUBES, n) for n in range(12)]
    for batch in batches:
        assert batch.cube.shape == (2, len(batch.wavelengths_nm), 64, 64)
        assert batch.cube.amax(dim=(1, 2, 3)).tolist() == [1, 1]
    assert len({b.wavelengths_nm for b in batches}) == 12
    left_out = set(CAMERAS["vnir61"].centres_nm)
    assert all(not left_out.issuperset(b.wavelengths_nm) for b in batches)
    unseen = torch.cat([(b.cube == 0).all(dim=1) for b in batches])  # (24, S, S)
    masks = torch.cat([b.masks for b in batches]).any(dim=1)
    assert unseen.any()
    assert not unseen.all(dim=(1, 2)).any()
    assert not (torch.nn.functional.max_pool2d((~unseen).float()[:, None], 3, 1, 1)[:, 0] < masks).any()
    rarely = [cube_batch(replace(CUBES, hidden=0.1), n) for n in range(12)]
    asked, asked_rarely = (torch.cat([b.spectral_only for b in made]).float().mean() for made in (batches, rarely))
    assert 0 < asked_rarely < 0.3 < asked < 0.7


def test_a_drawn_camera_lies_in_the_spectrum_of_the_scenes():
    for seed in range(50):
        centres_nm = drawn_camera(np.random.default_rng(seed)).centres_nm
        assert 12 <= len(centres_nm) <= 140
        assert 390 <= centres_nm.min() < centres_nm.max() <= 1010
        assert (np.diff(centres_nm) > 0).all()


def test_clips_are_frames_of_longer_sequences_and_some_look_elsewhere_for_a_frame(monkeypatch):
    batches = [clip_batch(CLIPS, n) for n in range(40)]
    for n, batch in enumerate(batches[:4]):
        again = clip_batch(CLIPS, n)
        assert same(batch, again)
        assert batch.rgb.shape == (2, 3, 64, 64, 3)
        assert batch.masks.shape == (8, 16, 16)
        assert batch.masks.flatten(1).any(1).all()
    for batch in batches:
        assert batch.places == sorted(set(batch.places))
        assert max(batch.places) < batch.n_frames
    cut = [n for n, b in enumerate(batches) if not b.present.all()]
    assert 0 < len(cut) < 20
    monkeypatch.setattr("hvtrain.recipes.scenes.CUT_SHARE", 0.0)
    for n in cut:
        uncut, frame = clip_batch(CLIPS, n).rgb, int(batches[n].present.int().argmin())
        assert frame > 0
        assert torch.equal(batches[n].rgb[:, frame], uncut[:, frame].flip(0))  # of the other clip


@pytest.mark.parametrize(
    ("make", "stage", "objective"),
    [
        (photo_batch, PHOTOS, lambda: sam2_image.make_objective(untrained_sam2())),
        (cube_batch, CUBES, lambda: hyperfree_small.make_objective(untrained_hyperfree())),
    ],
    ids=["sam2", "hyperfree"],
)
def test_clicks_beside_all_objects_teach_the_score_alone(make, stage, objective):
    objective = objective()
    batch = next(b for b in (make(stage, n) for n in range(8)) if not b.boxed)
    real = batch.weights > 0
    points = torch.where(real[..., None], batch.points_xy, torch.tensor([3.0, 5.0]))
    other = Batch(**{**vars(batch), "points_xy": points})
    terms, moved = objective(batch), objective(other)
    for name in ("mask", "shortcut", "dense", "best_iou"):
        torch.testing.assert_close(terms[name], moved[name])
    assert not torch.equal(terms["iou"], moved["iou"])


def test_the_rate_rises_stays_and_falls():
    stage = Stage(100, 256, 64, (256,), images=1, objects=1, grounds=0, lr=1.0, warmup_steps=10)
    rates = [stage.rate(n) for n in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert set(rates[9:80]) == {1.0}
    assert rates[90] == pytest.approx(0.5)
    assert rates[99] == pytest.approx(0.05)


def test_a_run_goes_on_from_its_checkpoint_and_writes_half_precision(tmp_path):
    first = Stage(1, 64, 16, (64,), images=1, objects=2, grounds=1, lr=1e-4)
    second = replace(PHOTOS, side_px=64, logits_px=16)
    halted, whole = tmp_path / "halted", tmp_path / "whole"
    sam2_image.train(halted, threads=1, workers=0, stages=(first,))
    assert torch.load(halted / "checkpoint.pt", weights_only=True)["step"] == 1
    with (halted / "metrics.csv").open("a") as log:
        log.write("2,then killed before the next checkpoint\n")
    sam2_image.train(halted, threads=1, workers=0, stages=(first, second))
    sam2_image.train(whole, threads=1, workers=0, stages=(first, second))
    state, other = (torch.load(p / "checkpoint.pt", weights_only=True) for p in (halted, whole))
    assert state["step"] == 3
    assert all(torch.equal(state["average"][k], other["average"][k]) for k in other["average"])
    starts = json.loads((halted / "recipe.json").read_text())
    assert [(start["step"], len(start["stages"])) for start in starts] == [(0, 1), (1, 2)]
    assert [row["step"] for row in read_metrics(halted / "metrics.csv")] == ["1", "3"]
    weights = read_state_dict(halted / "sam2_embedded.safetensors")
    assert weights["sam_mask_decoder.iou_token.weight"].dtype == torch.float16
    trained = state["average"]["module.sam_mask_decoder.iou_token.weight"]
    torch.testing.assert_close(weights["sam_mask_decoder.iou_token.weight"], trained.half())
    load_sam2(Sam2Model(config=sam2_image.CONFIG, checkpoint=str(halted / "sam2_embedded.safetensors")), CPU)
    with pytest.raises(ResultsError, match=r"checkpoint of sam2, not of hyperfree; choose another folder"):
        hyperfree_small.train(halted, threads=1, workers=0, stages=(CUBES,))


def test_a_trained_hyperfree_file_tells_its_own_sizes(tmp_path):
    hyperfree_small.train(tmp_path, threads=1, workers=0, stages=(CUBES,))
    state = read_state_dict(tmp_path / "hyperfree_embedded.safetensors")
    assert load_hyperfree(state).topology == hyperfree_small.SIZES


def test_first_spectral_kernels_change_slowly_along_the_wavelength():
    bank = untrained_hyperfree().image_encoder.point_spectral_weight_bank_w.detach()  # (E, slots, p, p)
    near = KEY_SLOTS_NM.index(545), KEY_SLOTS_NM.index(550.5)
    far = KEY_SLOTS_NM.index(400), KEY_SLOTS_NM.index(550.5)
    alike = [torch.cosine_similarity(bank[:, a].flatten(), bank[:, b].flatten(), dim=0) for a, b in (near, far)]
    assert alike[0] > 0.9
    assert alike[1] < 0.6


def test_masks_are_learned_through_the_memory_and_all_else_stays():
    objective = sam2_memory.MemoryObjective(untrained_sam2().train(), CLIPS.loss)
    with torch.no_grad():
        objective.student.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(sam2_memory.PRESENT_BIAS)
    clip = next(b for b in (clip_batch(CLIPS, n) for n in range(40)) if b.present.all())
    terms = objective(clip)
    assert {"second_iou", "last_iou"} <= set(terms)
    terms["loss"].backward()
    network = objective.student
    for part in (network.memory_attention, network.memory_encoder, network.obj_ptr_proj, network.mask_downsample):
        assert all(p.grad is not None and p.grad.isfinite().all() for p in part.parameters())
    assert all(p.grad is None for n, p in network.named_parameters() if not n.startswith(sam2_memory.LEARNED))
    cut = Batch(**{**vars(clip), "present": torch.tensor([True, True, False])})
    assert objective(cut)["presence"] > terms["presence"]


def test_the_memory_starts_from_a_file(tmp_path):
    start = tmp_path / "start"
    sam2_image.train(start, threads=1, workers=0, stages=(replace(PHOTOS, side_px=64, logits_px=16, steps=1),))
    file = start / "sam2_embedded.safetensors"
    sam2_memory.train(file, tmp_path / "out", threads=1, workers=0, stages=(CLIPS,))
    before, after = read_state_dict(file), read_state_dict(tmp_path / "out" / "sam2_embedded.safetensors")
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    assert "memory_encoder.out_proj.weight" in changed
    assert all(k.startswith(sam2_memory.LEARNED) for k in changed)


@pytest.mark.parametrize("name", ["sam2_nano", "sam2_embedded", "hyperfree_embedded"])
def test_a_shipped_file_is_the_one_of_its_card(repository, name):
    path = repository / f"resources/models/{name}.safetensors"
    assert hashlib.sha256(path.read_bytes()).hexdigest() in path.with_suffix(".md").read_text()
    assert path.stat().st_size <= 12_000_000


def mean_best_iou(predictor, image, masks):
    """Of three masks for a click on each of the masks (N, H, W), against all of them (N,)."""
    embedding = predictor.embed(image)
    logits, _ = predictor.decode(embedding, np.array([interior_point(m) for m in masks]))
    found = torch.stack([predictor.upscale(x, embedding) > 0 for x in logits]).numpy()
    return ((found & masks[:, None]).sum((2, 3)) / (found | masks[:, None]).sum((2, 3))).max(axis=1).mean()


@pytest.mark.parametrize("name", ["sam2_nano", "sam2_embedded"])
def test_a_shipped_sam2_answers_clicks(repository, name):
    path = repository / f"resources/models/{name}.safetensors"
    model = Sam2Model(config=str(path.with_suffix(".yaml")), checkpoint=str(path))
    predictor = Sam2Predictor(load_sam2(model, CPU))
    photos = [make_photo(256, seed) for seed in range(4)]  # never trained on
    found = [mean_best_iou(predictor, p.rgb, np.stack([i.mask for i in p.instances])) for p in photos]
    assert np.mean(found) > 0.45
    assert np.mean([i.mask.mean() for p in photos for i in p.instances]) < 0.1  # what a mask of everything would get


def test_the_shipped_hyperfree_sees_objects_that_only_a_spectrum_shows_through_a_camera_it_does_not_know():
    network, camera = hyperfree_of(HyperFreeModel(checkpoint="embedded")), CAMERAS["vnir61"]
    predictor = HyperFreePredictor(network, camera.centres_nm.tolist())
    found = []
    for seed in range(3):  # never trained on
        scene = make_scene(camera, 128, seed)
        hidden = np.stack([i.mask for i in scene.instances if i.spectral_only])
        found.append(mean_best_iou(predictor, scene.signal.transpose(1, 2, 0), hidden))
    assert np.mean(found) > 0.6


def test_the_shipped_sam2_carries_masks_along_frames():
    predictor, camera = Sam2Predictor(load_sam2(Sam2Model(checkpoint="embedded"), CPU)), CAMERAS["vnir61"]
    scene = make_scene(camera, 128, 0)
    images = [false_colour(scene.signal[list(f.bands)]) for f in false_colour_frames(camera.centres_nm, 3)]
    masks = torch.from_numpy(np.stack([i.mask for i in scene.instances[:6]]))
    tracks = list(predictor.track([predictor.embed(image) for image in images], 0, masks))
    assert [frame for frame, *_ in tracks] == [0, 1, 2]
    for frame, objects, logits, present in tracks[1:]:
        carried, truth = (logits > 0) & present[:, None, None], masks[objects]
        iou = (carried & truth).sum((1, 2)) / (carried | truth).sum((1, 2))
        assert iou.mean() > 0.6, frame
