"""The recipe of the embedded SAM2, and what it has made."""

import hashlib

import numpy as np
import torch

from hvlabel.config import Sam2Model
from hvlabel.demo.scenes import make_photo
from hvlabel.masks import interior_point
from hvlabel.models.sam2 import Sam2Predictor, load_sam2
from hvlabel.models.weights import read_state_dict
from hvtrain.embedded import CELLS, CONFIG, IMAGES, PROMPTS, SIDE_PX, Sam2Objective, batch_of, train


def test_a_step_has_prompts_inside_their_masks_and_is_a_function_of_its_number():
    batch, again = batch_of(3), batch_of(3)
    assert batch["rgb"].shape == (IMAGES, SIDE_PX, SIDE_PX, 3)
    assert batch["masks"].shape == (IMAGES * PROMPTS, CELLS, CELLS)
    assert all(torch.equal(batch[k], again[k]) for k in batch if isinstance(batch[k], torch.Tensor))
    cells = (batch["points_xy"] / 4).long()
    near = [
        m[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].any()
        for m, (x, y) in zip(batch["masks"], cells.tolist(), strict=True)
    ]
    assert all(near)
    assert (batch["boxes_xyxy"][:, :2] <= batch["boxes_xyxy"][:, 2:]).float().mean() > 0.95


def test_a_run_goes_on_from_its_checkpoint_and_writes_half_precision(tmp_path):
    train(tmp_path, steps=1, threads=1, workers=0)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["step"] == 1
    train(tmp_path, steps=2, threads=1, workers=0)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 2
    weights = read_state_dict(tmp_path / "sam2_nano.safetensors")
    assert weights["sam_mask_decoder.iou_token.weight"].dtype == torch.float16
    network = load_sam2(
        Sam2Model(config=CONFIG, checkpoint=str(tmp_path / "sam2_nano.safetensors")), torch.device("cpu")
    )
    objective = Sam2Objective(network)
    terms = objective(batch_of(0))
    assert all(torch.isfinite(v) for v in terms.values())


def test_the_shipped_network_is_the_one_of_its_card_and_answers_clicks(repository):
    path = repository / "resources/models/sam2_nano.safetensors"
    card = path.with_suffix(".md").read_text()
    assert hashlib.sha256(path.read_bytes()).hexdigest() in card
    assert path.stat().st_size <= 12_000_000
    predictor = Sam2Predictor(load_sam2(Sam2Model(config=CONFIG, checkpoint=str(path)), torch.device("cpu")))
    found, whole = [], []
    for seed in range(4):  # never trained on
        photo = make_photo(SIDE_PX, seed)
        masks = np.stack([i.mask for i in photo.instances])
        points = np.array([interior_point(m) for m in masks])
        embedding = predictor.embed(photo.rgb)
        logits, _ = predictor.decode(embedding, points)
        up = torch.nn.functional.interpolate(logits, (SIDE_PX, SIDE_PX), mode="bilinear").numpy() > 0
        iou = (up & masks[:, None]).sum((2, 3)) / (up | masks[:, None]).sum((2, 3))
        found += iou.max(axis=1).tolist()
        whole += masks.mean((1, 2)).tolist()
    assert np.mean(found) > 0.45
    assert np.mean(whole) < 0.1  # what a mask of everything would get
