"""Our driving of SAM2 against the package's own classes, on a small network with random weights."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import sam2
import sam2.sam2_video_predictor as package_video
import torch
from sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator

from hvlabel.branches.generator import generate_masks
from hvlabel.branches.propagate import track_objects
from hvlabel.config import GeneratorSettings, Sam2Model, SequenceSettings
from hvlabel.cube.bands import Frame
from hvlabel.demo.scenes import make_photo
from hvlabel.errors import WeightsError
from hvlabel.masks import decode, encode
from hvlabel.models.batches import Ceilings
from hvlabel.models.sam2 import Sam2Predictor, load_sam2, memory, memory_attention
from hvlabel.models.two_way import DecodedMasks
from hvlabel.stages.network import BranchNetwork

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def network(repository):
    return load_sam2(Sam2Model(config=str(repository / "resources/models/sam2_nano.yaml"), checkpoint="random:1"), CPU)


@pytest.fixture(scope="module")
def image():
    rng = np.random.default_rng(0)
    yy, xx = np.mgrid[:200, :260]
    picture = np.stack([128 + 90 * np.sin(xx / 23 + k) * np.cos(yy / (17 + 5 * k)) for k in range(3)], axis=2)
    return np.clip(picture + rng.normal(0, 10, picture.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def local_network(repository):
    """Random weights whose masks depend on the click: image tokens attend to the prompt at their own place, logits are spread out."""
    network = load_sam2(
        Sam2Model(config=str(repository / "resources/models/sam2_nano.yaml"), checkpoint="random:1"), CPU
    )
    decoder = network.sam_mask_decoder
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(2)
        for layer in decoder.transformer.layers:
            attention = layer.cross_attn_image_to_token
            torch.nn.init.orthogonal_(attention.q_proj.weight, gain=8)
            attention.k_proj.weight.copy_(attention.q_proj.weight)
            attention.out_proj.weight.mul_(4)
        for mlp in decoder.output_hypernetworks_mlps:
            mlp.layers[-1].weight.mul_(30)
    return network


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


TRAINED = [
    {"points_per_side": 32, "pred_iou_thresh": 0.4, "stability_score_thresh": 0.5},
    {"points_per_side": 16, "pred_iou_thresh": 0.3, "stability_score_thresh": 0.0, "box_nms_thresh": 0.5},
    {"points_per_side": 8, "pred_iou_thresh": 0.3, "stability_score_thresh": 0.3, "crop_n_layers": 1},
    {"points_per_side": 12, "pred_iou_thresh": 0.3, "stability_score_thresh": 0.3, "use_m2m": True},
]


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


@pytest.fixture(scope="module")
def frames():
    rng = np.random.default_rng(1)
    yy, xx = np.mgrid[:120, :150]
    images = []
    for t in range(6):
        disc = ((xx - 60 - 2 * t) ** 2 + (yy - 50) ** 2 < 30**2).astype(float)
        images.append(
            (0.2 + 0.1 * t + 0.5 * disc[..., None] * [1, 0.5, 0.2] + rng.normal(0, 0.02, (120, 150, 3)))
            .clip(0, 1)
            .astype(np.float32)
        )
    return images


def prompts():
    masks = torch.zeros(3, 120, 150, dtype=torch.bool)
    masks[0, 20:80, 35:90] = True
    masks[1, 60:100, 100:140] = True
    masks[2, :15, :40] = True
    return masks


def package_logits(network, frames, start, masks, monkeypatch):
    """(frame, object) -> logits of the package's video predictor fed with the same tensors."""
    predictor = package_video.SAM2VideoPredictor.__new__(package_video.SAM2VideoPredictor)
    torch.nn.Module.__init__(predictor)
    predictor.__dict__.update(network.__dict__)
    predictor.fill_hole_area, predictor.non_overlap_masks = 0, False
    predictor.clear_non_cond_mem_around_input = predictor.add_all_frames_to_correct_as_cond = False
    side = network.image_size
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    tensors = []
    for frame in frames:
        x = torch.nn.functional.interpolate(
            torch.from_numpy(frame).permute(2, 0, 1)[None], (side, side), mode="bilinear", antialias=True
        )[0]
        tensors.append((x - mean[:, None, None]) / std[:, None, None])
    height, width = frames[0].shape[:2]
    monkeypatch.setattr(package_video, "load_video_frames", lambda **_: (torch.stack(tensors), height, width))
    state = predictor.init_state("unused")
    for k, mask in enumerate(masks):
        predictor.add_new_mask(state, start, k, mask)
    found = {}
    for reverse in (False, True):
        for frame, ids, logits in predictor.propagate_in_video(state, start_frame_idx=start, reverse=reverse):
            for k, value in zip(ids, logits, strict=True):
                found.setdefault((frame, k), value[0])
    return found


@pytest.mark.parametrize("start", [0, 2, 5])
@pytest.mark.parametrize("objects_per_batch", [2, 16])
def test_tracks_agree_with_the_packages_video_predictor(network, frames, start, objects_per_batch, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = package_logits(network, frames, start, prompts(), monkeypatch)
    predictor = Sam2Predictor(network, objects_per_batch)
    embeddings = [predictor.embed(f) for f in frames]
    seen = set()
    for frame, objects, logits, present in predictor.track(embeddings, start, prompts()):
        assert len(logits) == len(present) == objects.stop - objects.start
        for k, ours in enumerate(logits, objects.start):
            torch.testing.assert_close(ours, expected[frame, k], atol=1e-4, rtol=1e-4)
            seen.add((frame, k))
    assert seen == set(expected) == {(t, k) for t in range(6) for k in range(3)}


@pytest.mark.parametrize("name", ["sam2/sam2_hiera_t", "sam2.1/sam2.1_hiera_t"])
def test_tracks_of_published_kinds_agree_and_keep_features_only(name, frames, tmp_path, monkeypatch):
    """Both generations of configs; their keys and values would take too much memory at full size."""
    monkeypatch.setattr(memory_attention, "MAX_KEPT_BYTES", 0)
    text = (Path(sam2.__path__[0]) / f"configs/{name}.yaml").read_text()
    assert "image_size: 1024" in text
    (tmp_path / "small.yaml").write_text(text.replace("image_size: 1024", "image_size: 128"))
    other = load_sam2(Sam2Model(config=str(tmp_path / "small.yaml"), checkpoint="random:1"), CPU)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = package_logits(other, frames[:4], 1, prompts(), monkeypatch)
    predictor = Sam2Predictor(other, objects_per_batch=2)
    embeddings = [predictor.embed(f) for f in frames[:4]]
    seen = 0
    for frame, objects, logits, _ in predictor.track(embeddings, 1, prompts()):
        for k, ours in enumerate(logits, objects.start):
            torch.testing.assert_close(ours, expected[frame, k], atol=1e-4, rtol=1e-4)
            seen += 1
    assert seen == len(expected) == 12


def test_a_long_sequence_agrees_too_though_old_frames_are_forgotten(network, frames, monkeypatch):
    long = [frames[k % 6] for k in range(24)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = package_logits(network, long, 9, prompts()[:1], monkeypatch)
    predictor = Sam2Predictor(network)
    kept = []
    forget = predictor.tracker._forget

    def watched(track, frame):
        forget(track, frame)
        kept.append(len(track.remembered))

    monkeypatch.setattr(predictor.tracker, "_forget", watched)
    seen = 0
    for frame, _, logits, _ in predictor.track([predictor.embed(f) for f in long], 9, prompts()[:1]):
        torch.testing.assert_close(logits[0], expected[frame, 0], atol=1e-4, rtol=1e-4)
        seen += 1
    assert seen == 24
    assert max(kept) == 2 * (network.num_maskmem - 1) - 1


def test_a_track_that_remembers_its_start_alone_encodes_no_other_frame(network, frames, monkeypatch):
    embeddings = [Sam2Predictor(network).embed(f) for f in frames]

    def logits(n):
        predictor = Sam2Predictor(network, memory_frames=n)
        return {frame: x for frame, _, x, _ in predictor.track(embeddings, 0, prompts())}

    published, six, two = logits(None), logits(6), logits(2)
    monkeypatch.setattr(memory.MemoryNetwork, "remember", None)
    none = logits(0)
    for frame in range(6):
        assert torch.equal(six[frame], published[frame])
        assert torch.equal(none[frame], published[frame]) == (frame <= 1)  # which has passed no other frame
        assert torch.equal(two[frame], published[frame]) == (frame <= 3)


@pytest.mark.parametrize(("mode", "remembered"), [("fast", 2), ("exact", 6)])
def test_a_branch_remembers_what_is_set_and_in_exact_mode_what_is_published(mode, remembered):
    weights = Sam2Model(checkpoint="embedded")
    settings = SequenceSettings(backend="sam2", sam2=weights, generator={"mode": mode}, memory_frames=2)
    assert BranchNetwork("sequence", settings, weights, None).model.memory_frames == remembered


def test_tracks_in_bfloat16_come_close_and_leave_float32(network, frames):
    logits = []
    for half in (False, True):
        predictor = Sam2Predictor(network, half=half)
        embeddings = [Sam2Predictor(network).embed(f) for f in frames[:3]]
        carried = [x for frame, _, x, _ in predictor.track(embeddings, 0, prompts()) if frame]
        assert {x.dtype for x in carried} == {torch.float32}
        logits.append(torch.stack(carried))
    exact, near = logits
    assert not torch.equal(exact, near)
    assert (exact - near).norm() < 0.05 * exact.norm()


def test_a_memory_of_no_published_kind_is_refused_in_one_sentence(repository, frames):
    other = load_sam2(Sam2Model(config=str(repository / "resources/models/sam2_nano.yaml"), checkpoint="random:1"), CPU)
    other.soft_no_obj_ptr = True
    predictor = Sam2Predictor(other)
    with pytest.raises(WeightsError, match=r"cannot be carried with this SAM2 config: soft_no_obj_ptr"):
        list(predictor.track([predictor.embed(f) for f in frames[:2]], 0, prompts()))


def test_objects_that_do_not_fit_are_carried_in_smaller_batches(local_network, frames, monkeypatch):
    predictor = Sam2Predictor(local_network)
    named = [Frame(10 + t, (t + 2, t + 1, t)) for t in range(6)]
    settings = SequenceSettings(
        key_frames=1, max_objects=5, generator=GeneratorSettings(**{**LOW, "points_per_side": 8})
    )
    wanted = track_objects(predictor, frames, named, settings)
    step = predictor.tracker._step

    def small_device(embeddings, frame, track):
        if frame > 4 and len(track.prompted.pointer) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step(embeddings, frame, track)

    monkeypatch.setattr(predictor.tracker, "_step", small_device)
    found = track_objects(predictor, frames, named, settings)
    assert predictor.ceilings.lowered() == {"objects": 2}
    assert len(found) == len(wanted) > 6
    for ours, theirs in zip(found, wanted, strict=True):
        assert (ours.frame, ours.extra) == (theirs.frame, theirs.extra)
        assert ours.rle == theirs.rle


def test_every_object_starts_once_and_remembers_its_frames(local_network, frames):
    named = [Frame(10 + t, (t + 2, t + 1, t)) for t in range(6)]
    settings = SequenceSettings(
        key_frames=2, max_objects=5, generator=GeneratorSettings(**{**LOW, "points_per_side": 8})
    )
    masks = track_objects(Sam2Predictor(local_network), frames, named, settings)
    starts = {}
    for mask in masks:
        assert mask.bands == named[mask.frame - 10].bands
        starts.setdefault(mask.extra["object"], mask.extra["start_frame"])
        assert starts[mask.extra["object"]] == mask.extra["start_frame"]
    assert set(starts.values()) <= {10, 15}
    assert sum(s == 10 for s in starts.values()) == 5


class RememberingModel:
    """Carries every mask unchanged and 'sees' only what a frame shows: a stand-in that makes the rules visible."""

    def __init__(self, frames):
        self.frames, self.ceilings, self.slack_cells = frames, Ceilings(), 0.0

    def embed(self, image):
        return image

    def decode(self, image, points_xy, masks=None, *, multimask=True):
        own = [
            torch.from_numpy(np.where(image[:, :, 0] == image[int(y), int(x), 0], 9.0, -9.0)).float()
            for x, y in points_xy
        ]
        return torch.stack(own)[:, None], torch.tensor(
            [[0.9 if image[int(y), int(x), 0] > 0 else 0.0] for x, y in points_xy]
        )

    def decode_above(self, image, points_xy, min_iou):
        logits, iou = self.decode(image, points_xy)
        keep = iou > (-1 if min_iou is None else min_iou)
        return DecodedMasks(logits[keep], iou[keep], keep.nonzero()[:, 0])

    def upscale(self, logits, image):
        return logits

    def covered_hw(self, logits, image):
        return logits.shape[1:]

    def track(self, embeddings, start, masks):
        for t, image in enumerate(embeddings):
            visible = torch.stack([torch.from_numpy(image[:, :, 0] > 0) & m for m in masks]).flatten(1).any(1)
            yield t, slice(0, len(masks)), torch.where(masks, 9.0, -9.0), visible


def test_objects_seen_in_few_bands_only_are_started_where_they_appear_and_left_out_elsewhere():
    empty = np.zeros((64, 64, 3), np.float32)
    images = [empty.copy() for _ in range(5)]
    for t in range(3):
        images[t][8:24, 8:24] = 0.5
    for t in (2, 3, 4):
        images[t][40:56, 30:60] = 0.8
    masks = track_objects(
        RememberingModel(images),
        images,
        [Frame(t, (2, 1, 0)) for t in range(5)],
        SequenceSettings(key_frames=5, generator=GeneratorSettings(points_per_side=8, pred_iou_thresh=0.5)),
    )
    where = {}
    for mask in masks:
        where.setdefault(mask.extra["object"], []).append(mask.frame)
    assert where == {0: [0, 1, 2], 1: [2, 3, 4]}
    square = np.zeros((64, 64), bool)
    square[8:24, 8:24] = True
    assert masks[0].rle == encode(square)


def test_a_checkpoint_of_another_config_is_refused_in_one_sentence(tmp_path, repository):
    path = tmp_path / "other.pt"
    torch.save({"model": {"weight": torch.zeros(2)}}, path)
    with pytest.raises(WeightsError, match=r"does not fit .*choose the config of this checkpoint"):
        load_sam2(Sam2Model(config=str(repository / "resources/models/sam2_nano.yaml"), checkpoint=str(path)), CPU)
    with pytest.raises(WeightsError, match=r"no SAM2 config 'nonsense'.*sam2.1_hiera_t.yaml"):
        load_sam2(Sam2Model(config="nonsense", checkpoint="random:1"), CPU)
    with pytest.raises(WeightsError, match="no such checkpoint; the SAM 2 repository lists"):
        load_sam2(Sam2Model(config="configs/sam2.1/sam2.1_hiera_t.yaml", checkpoint=str(tmp_path / "absent.pt")), CPU)


def test_weights_are_found_by_checkpoint_and_survive_a_round_trip(tmp_path, network, repository, image):
    path = tmp_path / "nano.pt"
    torch.save({"model": network.state_dict()}, path)
    again = load_sam2(Sam2Model(config=str(repository / "resources/models/sam2_nano.yaml"), checkpoint=str(path)), CPU)
    for key, value in network.state_dict().items():
        torch.testing.assert_close(again.state_dict()[key], value)
