"""Masks carried along frames against the package's video predictor, on a small network with random weights."""

import warnings
from pathlib import Path

import pytest
import sam2
import sam2.sam2_video_predictor as package_video
import torch

from hvlabel.branches.network import BranchNetwork
from hvlabel.branches.sequence import SequenceSettings
from hvlabel.config import Sam2Model
from hvlabel.errors import WeightsError
from hvlabel.models.sam2 import Sam2Predictor, load_sam2, memory, memory_attention

CPU = torch.device("cpu")


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
