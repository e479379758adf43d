"""The student: published layout, starting weights, round trips."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hvlabel.config import StudentSettings
from hvlabel.errors import WeightsError
from hvlabel.models.hyperfree import HyperFree, published_topology
from hvtrain.backbones.hyperfree import SMALL, topology
from hvtrain.backbones.weights import export
from hvtrain.student import load_exported, make_student

SMALL_SETTINGS = StudentSettings(size="small", crop_px=64)
NM = list(np.linspace(450, 900, 24))


def listing(path):
    """Key -> shape of a recorded listing, for the variant at its head."""
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    return {line[0]: line[1] for line in lines if len(line) == 4 and line[3] in ("param", "buffer")}


@pytest.mark.parametrize("size", ["b", "l", "h"])
def test_published_sizes_have_the_published_keys_and_shapes(shared, size):
    wanted = listing(shared / f"oracle/hyperfree/keys_hypervision_{size}.txt")
    with torch.device("meta"):
        own = HyperFree(topology(StudentSettings(size=size, crop_px=1024))).state_dict()
    assert {k: str(tuple(v.shape)) for k, v in own.items()} == wanted


X = torch.rand(1, 24, 128, 128, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("merging", [False, True])
@pytest.mark.parametrize("crop_px", [64, 128])  # 64: a grid as wide as the window, which shapes alone do not tell apart
def test_an_exported_student_gives_the_same_features_and_masks(tmp_path, crop_px, merging):
    settings = StudentSettings(size="small", crop_px=crop_px, merging=merging)
    student = make_student(settings, 3).eval()
    export(student.state_dict(), tmp_path / "s.safetensors", student.sizes())
    again = load_exported(tmp_path / "s.safetensors")
    assert again.topology == student.topology
    x = X[:, :, :crop_px, :crop_px]
    with torch.no_grad():
        maps, same = student.encode(x, NM), again.encode(x, NM)
        assert len(maps) == len(same)
        assert all(torch.equal(a, b) for a, b in zip(maps, same, strict=True))
        point = {"points_xy": torch.tensor([[[40.0, 50.0]]]), "labels": torch.ones(1, 1, dtype=torch.int64)}
        assert torch.equal(student.decode(maps[-1], **point)[0], again.decode(same[-1], **point)[0])
    start = make_student(settings.model_copy(update={"checkpoint": str(tmp_path / "s.safetensors")}), 0)
    assert all(torch.equal(v, student.state_dict()[k]) for k, v in start.state_dict().items())


def test_a_pth_file_is_the_bare_state_dict(tmp_path):
    student = make_student(StudentSettings(size="small", crop_px=128), 3)
    export(student.state_dict(), tmp_path / "s.pth", student.sizes())
    fresh = HyperFree(SMALL)
    fresh.load_state_dict(torch.load(tmp_path / "s.pth", weights_only=True), strict=True)
    assert load_exported(tmp_path / "s.pth").topology == SMALL


def test_bands_in_the_gap_of_the_key_slots_are_encoded():
    gap = list(np.linspace(1000, 1200, 25))
    with torch.no_grad():
        maps = make_student(SMALL_SETTINGS, 0).eval().encode(torch.rand(1, 25, 64, 64), gap)
    assert torch.isfinite(maps[-1]).all()


@pytest.mark.slow
@pytest.mark.parametrize("size", ["b", "l", "h"])
def test_an_exported_model_loads_strictly_and_gives_the_same_features(size, tmp_path):
    student = make_student(StudentSettings(size=size, crop_px=224), 0).eval()
    export(student.state_dict(), tmp_path / "student.pth")
    fresh = HyperFree(published_topology(size, 224)).eval()
    fresh.load_state_dict(torch.load(tmp_path / "student.pth", weights_only=True, mmap=True), strict=True)
    x = torch.rand(1, 24, 224, 224)
    with torch.no_grad():
        assert all(torch.equal(a, b) for a, b in zip(student.encode(x, NM), fresh.encode(x, NM), strict=True))


def test_first_weights_depend_on_the_seed_alone_and_on_the_prompt():
    a, b, c = (make_student(SMALL_SETTINGS, seed).eval() for seed in (1, 1, 2))
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))
    assert any(not torch.equal(x, y) for x, y in zip(a.parameters(), c.parameters(), strict=True))
    points = torch.tensor([[[8.0, 8.0]], [[50.0, 40.0]]])
    with torch.no_grad():
        neck = a.encode(torch.rand(1, 24, 64, 64), NM)[-1]
        logits = a.decode(neck, points_xy=points, labels=torch.ones(2, 1, dtype=torch.int64))[0]
    assert (logits[0] - logits[1]).std() > 0.05 * logits.std()


def test_starting_from_a_checkpoint_of_another_crop(tmp_path):
    first = make_student(StudentSettings(size="small", crop_px=128), 0)
    with torch.no_grad():
        for block in first.image_encoder.blocks:
            block.attn.rel_pos_h.copy_(
                torch.arange(block.attn.rel_pos_h.shape[0])[:, None].expand_as(block.attn.rel_pos_h)
            )
    export(first.state_dict(), tmp_path / "s.safetensors")
    settings = StudentSettings(size="small", crop_px=96, checkpoint=str(tmp_path / "s.safetensors"))
    student = make_student(settings, 9)
    assert torch.equal(student.image_encoder.blocks[0].mlp.lin1.weight, first.image_encoder.blocks[0].mlp.lin1.weight)
    table = student.image_encoder.blocks[1].attn.rel_pos_h  # global: 2 * 16 - 1 rows became 2 * 12 - 1
    assert table.shape[0] == 23
    assert float(table[11, 0].detach()) == pytest.approx(15)
    assert (table[1:] > table[:-1]).all()


def test_refusals(tmp_path):
    with pytest.raises(WeightsError, match=r"no such checkpoint; set pretrain.student.checkpoint"):
        make_student(SMALL_SETTINGS.model_copy(update={"checkpoint": str(tmp_path / "none.pth")}), 0)
    narrow = replace(SMALL, image_size_px=64, embed_dim=64)
    export(HyperFree(narrow).state_dict(), tmp_path / "n.pth")
    with pytest.raises(
        WeightsError, match=r"does not fit the network that pretrain.student names .*choose its size and merging"
    ):
        make_student(SMALL_SETTINGS.model_copy(update={"checkpoint": str(tmp_path / "n.pth")}), 0)
    with pytest.raises(WeightsError, match="choose one of these endings"):
        export({}, tmp_path / "a.bin")
