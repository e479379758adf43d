"""Masks of a grid through SAM2 against the package's own generator."""

import numpy as np
import pytest
import torch
from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator

from hvlabel.branches.generator import generate_masks
from hvlabel.config import GeneratorSettings, Sam2Model
from hvlabel.demo.scenes import make_photo
from hvlabel.masks import decode
from hvlabel.models.sam2 import Sam2Predictor, load_sam2

CPU = torch.device("cpu")


LOW = {
    "mask_threshold": 3.0,
    "stability_score_offset": 0.05,
    "pred_iou_thresh": 0.01,
    "stability_score_thresh": 0.01,
    "box_nms_thresh": 0.9,
}


SETTINGS = [
    {**LOW, "points_per_side": 16},
    {**LOW, "points_per_side": 16, "pred_iou_thresh": 0.5, "stability_score_thresh": 0.5, "points_per_batch": 17},
    {**LOW, "points_per_side": 8, "crop_n_layers": 1, "crop_nms_thresh": 0.95},
    {**LOW, "points_per_side": 12, "use_m2m": True},
    {**LOW, "points_per_side": 16, "multimask_output": False, "box_nms_thresh": 0.99},
]


TRAINED = [
    {"points_per_side": 32, "pred_iou_thresh": 0.4, "stability_score_thresh": 0.5},
    {"points_per_side": 16, "pred_iou_thresh": 0.3, "stability_score_thresh": 0.0, "box_nms_thresh": 0.5},
    {"points_per_side": 8, "pred_iou_thresh": 0.3, "stability_score_thresh": 0.3, "crop_n_layers": 1},
    {"points_per_side": 12, "pred_iou_thresh": 0.3, "stability_score_thresh": 0.3, "use_m2m": True},
]


@pytest.fixture(scope="module")
def image():
    rng = np.random.default_rng(0)
    yy, xx = np.mgrid[:200, :260]
    picture = np.stack([128 + 90 * np.sin(xx / 23 + k) * np.cos(yy / (17 + 5 * k)) for k in range(3)], axis=2)
    return np.clip(picture + rng.normal(0, 10, picture.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("settings", SETTINGS)
def test_generator_gives_the_packages_masks_in_its_order(local_network, image, settings):
    network = local_network
    theirs = SAM2AutomaticMaskGenerator(network, output_mode="coco_rle", **settings)
    side = network.image_size
    theirs.predictor._bb_feat_sizes = [(side // 4,) * 2, (side // 8,) * 2, (side // 16,) * 2]
    expected = theirs.generate(image)
    found = generate_masks(Sam2Predictor(network), image, GeneratorSettings(mode="exact", **settings), "rgb")
    assert [m.rle["counts"].decode() for m in found] == [a["segmentation"]["counts"] for a in expected]
    for ours, record in zip(found, expected, strict=True):
        assert ours.predicted_iou == pytest.approx(record["predicted_iou"], abs=1e-6)
        assert ours.stability_score == pytest.approx(record["stability_score"], abs=1e-6)
        assert ours.point_xy == pytest.approx(record["point_coords"][0], abs=1e-3)
        assert ours.crop_box_xywh == tuple(record["crop_box"])
    assert len(found) >= 12, "too few survivors to prove anything"


@pytest.mark.slow
@pytest.mark.parametrize("settings", TRAINED)
def test_trained_weights_give_the_packages_masks_on_twenty_images(repository, settings):
    models = repository / "resources/models"
    weights = Sam2Model(config=str(models / "sam2_nano.yaml"), checkpoint=str(models / "sam2_nano.safetensors"))
    network = load_sam2(weights, CPU)
    theirs = SAM2AutomaticMaskGenerator(network, output_mode="coco_rle", **settings)
    side = network.image_size
    theirs.predictor._bb_feat_sizes = [(side // 4,) * 2, (side // 8,) * 2, (side // 16,) * 2]
    total = 0
    for seed in range(20):
        photo = make_photo(256, 800_000 + seed).rgb
        expected = theirs.generate(photo)
        found = generate_masks(Sam2Predictor(network), photo, GeneratorSettings(mode="exact", **settings), "rgb")
        assert len(found) == len(expected)
        for ours, record in zip(found, expected, strict=True):
            a, b = decode(ours.rle), decode(record["segmentation"])
            assert (a ^ b).sum() <= max(2, 0.001 * (a | b).sum())
            assert ours.predicted_iou == pytest.approx(record["predicted_iou"], abs=1e-5)
            assert ours.point_xy == pytest.approx(record["point_coords"][0], abs=1e-3)
        total += len(found)
    assert total > 200
