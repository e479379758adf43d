"""Samples: crop, masks, prompts and teacher tokens show the same place, and nothing depends on workers."""

import json
import shutil

import numpy as np
import pytest
import torch
from indexes import change_entries

from hvlabel.cache.receipt import read_attributes
from hvlabel.config import CubeSettings, HardwareSettings
from hvlabel.config.fusion import FusionSettings
from hvlabel.cube import open_cube
from hvlabel.descriptors import Descriptor, WavelengthRange
from hvlabel.errors import ResultsError
from hvlabel.layout import Layout
from hvlabel.masks import decode, read_masks
from hvlabel.masks.rle import boxes_xywh
from hvlabel.stages.convert import convert_file
from hvlabel.stages.fuse import fuse_files
from hvtrain.data import crops as crops_module
from hvtrain.data.corpus import read_corpus
from hvtrain.data.crops import Crops
from hvtrain.data.inputs import network_input
from hvtrain.data.label_pack import open_pack
from hvtrain.data.loader import batches_ahead, make_loader
from hvtrain.data.prompts import box_of, covered_cells
from hvtrain.data.schedule import BatchOrder, Schedule

from ..conftest import tiny

ALL = frozenset({"masks", "teacher"})


@pytest.fixture
def own(layout, tmp_path):
    """A copy of the folder that a test may change."""
    shutil.copytree(layout.root, tmp_path / "own", ignore=shutil.ignore_patterns("pretrain"))
    return Layout(tmp_path / "own")


@pytest.fixture
def make_samples(layout):
    def make(where=layout, needs=ALL, **changes):
        settings = tiny(**changes)
        corpus = read_corpus(where, settings.data, distill=True)
        images = corpus.of("train")
        grid = settings.student.crop_px // 8
        pack = open_pack(where.root / "pretrain", images)
        return Crops(corpus, images, pack, settings, needs, grid, 4 * grid), corpus

    return make


def test_the_pack_holds_what_the_labels_hold(make_samples):
    samples, _ = make_samples()
    for k, image in enumerate(samples.images):
        masks = read_masks(image.label)
        assert [samples.pack.rle(k, m) for m in range(len(masks))] == masks.rles
        np.testing.assert_array_equal(samples.pack.boxes(k), boxes_xywh(masks.rles).astype(np.float32))
        expected = [mask.extra.get("quality", mask.score) for mask in masks.masks]
        np.testing.assert_array_equal(samples.pack.quality(k), np.array(expected, np.float32))


def test_masks_weigh_what_the_label_expects_of_them(make_samples):
    alike, _ = make_samples()
    weighed, _ = make_samples(loss={"by_quality": True})
    for k in range(len(alike.images)):
        before, after = one(alike, 3, k), one(weighed, 3, k)
        np.testing.assert_array_equal(before["masks"], after["masks"])
        assert set(before["weights"]) == {1.0}
        assert set(after["weights"]) <= set(weighed.pack.quality(k))


def test_good_masks_are_asked_for_more_often(make_samples):
    alike, _ = make_samples(data={"masks_per_image": 2})
    drawn, _ = make_samples(data={"masks_per_image": 2, "draw_temperature": 0.1}, loss={"by_quality": True})
    weighed, _ = make_samples(data={"masks_per_image": 2}, loss={"by_quality": True})
    assert len(alike.images) == len(drawn.images)
    mean = {
        name: np.mean([one(of, step, 0)["weights"].mean() for step in range(40)])
        for name, of in (("drawn", drawn), ("alike", weighed))
    }
    assert mean["drawn"] > mean["alike"]


def one(samples: Crops, step: int, k: int, position: int | None = None) -> dict[str, np.ndarray]:
    """Arrays of a sample by its name in the batch."""
    batch = samples.batch([(step, k if position is None else position, k)])
    tensors = {name: value for name, value in vars(batch).items() if isinstance(value, torch.Tensor)}
    return {name: value[0].numpy() for name, value in tensors.items()}


@pytest.mark.parametrize("flips", [False, True])
def test_masks_prompts_and_values_show_the_same_place(make_samples, flips):
    samples, _ = make_samples(data={"flip": flips})
    for k, image in enumerate(samples.images):
        sample = one(samples, 3, k)
        cube, labels = open_cube(image.cube), [decode(r) for r in read_masks(image.label).rles]
        stored = cube.read()
        places = [
            (y, x) for y in range(33) for x in range(33) if (stored[:, y : y + 64, x : x + 64] == sample["cube"]).all()
        ]
        assert len(places) == 1
        y, x = places[0]
        assert all(at % cube.chunk_side_px == 0 or at == 32 for at in (y, x))
        turned = [m[y : y + 64, x : x + 64] for m in labels]
        turned = [m[:: -1 if sample["flips"][0] else 1, :: -1 if sample["flips"][1] else 1] for m in turned]
        small = [covered_cells(np.ascontiguousarray(m), 32) for m in turned]
        for mask, (px, py), box in zip(sample["masks"], sample["points_xy"], sample["boxes_xyxy"], strict=True):
            same = [n for n, s in enumerate(small) if (s == mask).all()]
            assert any(turned[n][round(float(py)), round(float(px))] for n in same)
            assert any(
                (np.abs(box_of(turned[n]) - box) < 6 * 0.1 * 64).all() for n in same
            )  # six deviations of the jitter
            assert (box[:2] <= box[2:]).all()
        fed = network_input(torch.from_numpy(sample["cube"])[None], torch.from_numpy(sample["flips"])[None], 64)[0]
        wanted = sample["cube"].astype(np.float32)[
            :, :: -1 if sample["flips"][0] else 1, :: -1 if sample["flips"][1] else 1
        ]
        np.testing.assert_allclose(fed.numpy(), wanted / wanted.max(), rtol=1e-6)


def test_boxes_without_jitter_are_tight(make_samples):
    samples, _ = make_samples(prompts={"box_jitter": 0.0}, data={"flip": False})
    found = 0
    for k, image in enumerate(samples.images):
        sample = one(samples, 0, k)
        tight = [box_of(decode(r)).tolist() for r in read_masks(image.label).rles]
        inside = [b for b in sample["boxes_xyxy"].tolist() if min(b) > 0 and max(b) < 63]
        sizes = {(t[2] - t[0], t[3] - t[1]) for t in tight}
        assert all((b[2] - b[0], b[3] - b[1]) in sizes for b in inside)
        found += len(inside)
    assert found > 3


def test_workers_change_nothing(make_samples):
    samples, corpus = make_samples(hardware={"workers": 2})
    by_camera = [[k for k, i in enumerate(samples.images) if i.camera == c] for c in range(len(corpus.cameras))]
    order = BatchOrder(Schedule(by_camera, 2, 4, 0, 2.0))
    apart = list(make_loader(samples, order, samples.settings.hardware, pin=False))
    for found, places in zip(apart, order, strict=True):
        here = samples.batch(places)
        for name, value in vars(here).items():
            other = getattr(found, name)
            assert torch.equal(other, value) if isinstance(value, torch.Tensor) else other == value, name


def test_prepared_batches_are_bounded_by_shared_memory(make_samples, tmp_path, monkeypatch):
    samples, _ = make_samples()
    per_image = [open_cube(i.cube).read(slice(0, 64), slice(0, 64)).nbytes for i in samples.images]
    assert samples.bytes_of(3) == 3 * max(per_image)
    hardware = HardwareSettings(workers=2, prefetch=4)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    assert batches_ahead(10, hardware, tmp_path) == 4
    assert batches_ahead(100, hardware, tmp_path) == 2
    assert batches_ahead(250, hardware, tmp_path) == 1
    with pytest.raises(ResultsError, match=r"2 workers need .* raise pretrain.optimiser.accumulate"):
        batches_ahead(251, hardware, tmp_path)
    assert batches_ahead(251, hardware, tmp_path / "none") == 4


def test_images_stored_differently_stack_as_floats(own, make_samples):
    samples, _ = make_samples(own)
    first = samples.images[0]
    k = next(k for k in samples.by_camera[first.camera] if k)
    apart = [one(samples, 0, j, position)["cube"].astype(np.float32) for position, j in enumerate((0, k))]
    raw = np.ascontiguousarray(open_cube(first.cube).read().transpose(1, 2, 0)).astype(np.float32)
    np.save(first.cube.with_suffix(".npy"), raw)
    wavelengths = WavelengthRange(start_nm=400, stop_nm=1000, count=raw.shape[2])
    descriptor = Descriptor(container="npy", wavelengths_nm=wavelengths)
    convert_file(first.cube.with_suffix(".npy"), descriptor, CubeSettings(), first.cube, threads=1)
    crops_module._open_cube.cache_clear()
    found = samples.batch([(0, 0, 0), (0, 1, k)]).cube
    assert found.dtype == torch.float32
    np.testing.assert_array_equal(found.numpy(), np.stack(apart))


def test_a_batch_holds_what_is_needed_and_no_more(make_samples):
    whole, _ = make_samples()
    masks_alone, _ = make_samples(needs=frozenset({"points_xy"}))
    nothing, _ = make_samples(needs=frozenset())
    place = [(0, 0, 0)]
    names = set(vars(whole.batch(place)))
    of_masks = {"masks", "weights", "points_xy", "boxes_xyxy", "boxed", "uniform"}
    assert names >= of_masks | {"teacher"}
    assert set(vars(masks_alone.batch(place))) == names - {"teacher"}
    assert set(vars(nothing.batch(place))) == names - of_masks - {"teacher"}


def test_small_images_and_zoom_are_brought_to_one_size(make_samples):
    samples, _ = make_samples(student={"crop_px": 128}, data={"scale": [0.5, 0.5]})
    sample = one(samples, 0, 0)
    assert sample["cube"].shape[1:] == (64, 64)
    assert sample["zoom"] == pytest.approx(0.5)
    assert (sample["points_xy"] < 127.6).all()
    samples, _ = make_samples(student={"crop_px": 128})
    assert one(samples, 0, 0)["cube"].shape[1:] == (128, 128)  # of an image of 96


def test_a_damaged_cube_is_replaced_and_named(own, make_samples):
    samples, _ = make_samples(own)
    shard = samples.images[0].cube / "cube/c/0/0/0"
    content = bytearray(shard.read_bytes())
    content[100:-200] = bytes(len(content) - 300)
    shard.write_bytes(content)
    found = samples.batch([(0, 0, 0)])
    assert found.names != (samples.images[0].name,)
    assert samples.images[0].image_id in found.problems[0]
    assert read_attributes(samples.images[0].cube)


def test_labels_of_another_run_are_refused(own):
    images = read_corpus(own, tiny().data, distill=False).of("train")
    other = images[1].label
    text = other.read_text()
    other.write_text(images[0].label.read_text())
    with pytest.raises(ResultsError, match="not the label that its index lists, or of another cube"):
        open_pack(own.root / "pretrain", images)
    other.write_text(text)
    branches = [own.masks(b, images[1].dataset, images[1].image_id) for b in ("rgb", "sequence", "material")]
    fuse_files(branches, FusionSettings(iou_threshold=0.5), other, images[1].cube)
    index = own.index("labels", images[1].dataset, "0000")
    seal = json.loads(other.read_text())["provenance"]["content_sha256"]
    change_entries(index, {images[1].image_id}, digest=seal)
    with pytest.raises(ResultsError, match="made with other settings or branches than the label of"):
        open_pack(own.root / "pretrain", read_corpus(own, tiny().data, distill=False).of("train"))
