"""The recipe of the embedded SAM2, and what it has made."""

import hashlib

import numpy as np
import pytest
import torch

from hvlabel.config import Sam2Model
from hvlabel.demo.scenes import make_photo
from hvlabel.masks import interior_point
from hvlabel.models.sam2 import Sam2Predictor, load_sam2
from hvlabel.models.weights import read_state_dict
from hvtrain.embedded import CONFIG, Sam2Objective, Stage, batch_of, train

STAGE = Stage(2, 256, (128, 256), images=2, objects=4, grounds=1, lr=1e-4, warmup_steps=1)


def test_a_step_has_prompts_inside_their_masks_and_is_a_function_of_its_number():
    steps = [batch_of(STAGE, n) for n in range(8)]
    for n, batch in enumerate(steps):
        again = batch_of(STAGE, n)
        assert all(torch.equal(batch[k], again[k]) for k in batch if isinstance(batch[k], torch.Tensor))
        assert batch["rgb"].shape == (2, 256, 256, 3)
        assert batch["masks"].shape == (10, 64, 64)
        for mask, (x, y) in zip(batch["masks"], (batch["points_xy"] / 4).long().tolist(), strict=True):
            assert not mask.any() or mask[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].any()
    assert {int((~b["masks"].flatten(1).any(1)).sum()) for b in steps if b["boxed"]} == {0}
    assert {int((~b["masks"].flatten(1).any(1)).sum()) for b in steps if not b["boxed"]} == {2}


def test_clicks_beside_all_objects_teach_the_score_alone():
    torch.manual_seed(0)
    objective = Sam2Objective(load_sam2(Sam2Model(config=CONFIG, checkpoint="random:0"), torch.device("cpu")))
    batch = next(b for n in range(8) if not (b := batch_of(STAGE, n))["boxed"])
    other = dict(batch)
    real = batch["masks"].flatten(1).any(1)
    other["points_xy"] = torch.where(real[:, None], batch["points_xy"], torch.tensor([3.0, 5.0]))
    terms, moved = objective(batch), objective(other)
    for name in ("mask", "shortcut", "dense", "best_iou"):
        torch.testing.assert_close(terms[name], moved[name])
    assert not torch.equal(terms["iou"], moved["iou"])


def test_the_rate_rises_stays_and_falls():
    stage = Stage(100, 256, (256,), images=1, objects=1, grounds=0, lr=1.0, warmup_steps=10)
    rates = [stage.rate(n) for n in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert set(rates[9:80]) == {1.0}
    assert rates[90] == pytest.approx(0.5)
    assert rates[99] == pytest.approx(0.05)


def test_a_run_goes_on_from_its_checkpoint_and_writes_half_precision(tmp_path):
    first = Stage(1, 64, (64,), images=1, objects=2, grounds=1, lr=1e-4)
    train(tmp_path, threads=1, workers=0, stages=(first,))
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 1
    train(tmp_path, threads=1, workers=0, stages=(first, STAGE))
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["step"] == 3
    weights = read_state_dict(tmp_path / "sam2_embedded.safetensors")
    assert weights["sam_mask_decoder.iou_token.weight"].dtype == torch.float16
    trained = state["average"]["module.sam_mask_decoder.iou_token.weight"]
    torch.testing.assert_close(weights["sam_mask_decoder.iou_token.weight"], trained.half())
    load_sam2(Sam2Model(config=CONFIG, checkpoint=str(tmp_path / "sam2_embedded.safetensors")), torch.device("cpu"))


@pytest.mark.parametrize("name", ["sam2_nano", "sam2_embedded"])
def test_a_shipped_network_is_the_one_of_its_card_and_answers_clicks(repository, name):
    path = repository / f"resources/models/{name}.safetensors"
    card = path.with_suffix(".md").read_text()
    assert hashlib.sha256(path.read_bytes()).hexdigest() in card
    assert path.stat().st_size <= 12_000_000
    config = str(path.with_suffix(".yaml"))
    predictor = Sam2Predictor(load_sam2(Sam2Model(config=config, checkpoint=str(path)), torch.device("cpu")))
    found, whole = [], []
    for seed in range(4):  # never trained on
        photo = make_photo(256, seed)
        masks = np.stack([i.mask for i in photo.instances])
        points = np.array([interior_point(m) for m in masks])
        embedding = predictor.embed(photo.rgb)
        logits, _ = predictor.decode(embedding, points)
        up = torch.nn.functional.interpolate(logits, (256, 256), mode="bilinear").numpy() > 0
        iou = (up & masks[:, None]).sum((2, 3)) / (up | masks[:, None]).sum((2, 3))
        found += iou.max(axis=1).tolist()
        whole += masks.mean((1, 2)).tolist()
    assert np.mean(found) > 0.45
    assert np.mean(whole) < 0.1  # what a mask of everything would get
