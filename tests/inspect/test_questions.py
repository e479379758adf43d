"""`hvlabel show`, `compare` and `why`, on two small demo images that the regions labelled."""

import dataclasses
import json
import re
import shutil

import cv2
import numpy as np
import pytest
from verbs import hvlabel

from hvlabel.config.fusion import FusionSettings
from hvlabel.cube import open_cube
from hvlabel.inspect.compare import compare_labels, compare_settings, difference
from hvlabel.inspect.origins import origins_of
from hvlabel.inspect.spectra import mask_spectrum, mean_spectra, ring_of
from hvlabel.layout import Layout
from hvlabel.masks import MaskSet, areas, decode, encode, read_document, read_masks, to_bytes
from hvlabel.masks.sa1b import sealed

IMAGE = "d", "vis31_00"


@pytest.fixture(scope="module")
def layout(demo_run):
    return Layout(demo_run / "results")


@pytest.fixture(scope="module")
def origins(layout):
    return origins_of(layout, *IMAGE)


def call(layout, *arguments):
    return hvlabel(*arguments, "--results", layout.root)


def refused(layout, *arguments):
    said = call(layout, *arguments)
    assert said.status == 2
    assert said.err.count("\n") == 1
    return said.err


def test_every_branch_mask_is_kept_or_lost(origins):
    for name, masks in origins.branches.items():
        for k in range(len(masks)):
            assert ((name, k) in origins.kept) != ((name, k) in origins.lost)
    assert sorted(origins.kept.values()) == list(range(len(origins.label)))


def test_a_spectrum_is_that_of_its_pixels(layout, origins):
    cube = open_cube(layout.cube(*IMAGE))
    values = cube.values()
    rle = origins.label.masks[0].rle
    inside = decode(rle)
    spectrum = mask_spectrum(cube, rle)
    assert spectrum.wavelengths_nm.tolist() == sorted(cube.wavelengths_nm)
    assert spectrum.inside.n_px == inside.sum()
    assert np.allclose(spectrum.inside.mean, values[:, inside].mean(axis=1), rtol=1e-5)
    assert np.allclose(spectrum.inside.deviation, values[:, inside].std(axis=1), rtol=1e-3)
    assert np.allclose(mean_spectra(values, [rle])[0], spectrum.inside.mean, rtol=1e-5)
    assert spectrum.ring.n_px > 0


def test_a_ring_surrounds_and_never_overlaps():
    inside = np.zeros((20, 20), bool)
    inside[8:12, 8:12] = True
    ring = ring_of(inside, 2)
    assert not (ring & inside).any()
    assert ring[7, 9]
    assert ring[6, 9]
    assert not ring[4, 9]


def test_an_image_without_surroundings_has_no_ring(layout):
    cube = open_cube(layout.cube(*IMAGE))
    spectrum = mask_spectrum(cube, encode(np.ones((cube.height_px, cube.width_px), bool)))
    assert spectrum.ring.n_px == 0
    assert np.isnan(spectrum.angle_rad)


@pytest.mark.parametrize("options", [(), ("--branch", "rgb"), ("--suppressed",), ("--top", "3")])
def test_show_draws(layout, tmp_path, options):
    out = tmp_path / "a.png"
    said = call(layout, "show", "vis31_00", out, *options)
    assert (said.status, said.out) == (0, f"{out}\n")
    assert cv2.imread(str(out)).std() > 10


def test_show_tells_about_one_mask(layout, origins, tmp_path):
    said = call(layout, "show", "d/vis31_00", tmp_path / "a.png", "--mask", "0")
    assert said.status == 0, said.err
    assert f"{areas(origins.label.rles)[0]} px" in said.out
    assert "found by " + ", ".join(origins.label.masks[0].votes) in said.out
    assert "| 400 |" in said.out  # nm
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_show_tells_why_a_branch_mask_is_not_in_the_label(layout, origins, tmp_path):
    lost = next(k for name, k in origins.lost if name == "rgb" and origins.lost[name, k].reason == "poor")
    said = call(layout, "show", "vis31_00", tmp_path / "a.png", "--branch", "rgb", "--mask", lost)
    assert "is below fusion.min_quality 0.2" in said.out


def test_show_refuses_what_is_not_there(layout):
    assert "there are d/vis31_00, d/vis31_01" in refused(layout, "show", "vis31_07")
    assert "--mask 99999: the label of d/vis31_00 has" in refused(layout, "show", "vis31_00", "--mask", "99999")
    assert "--branch prompts: the label" in refused(layout, "show", "vis31_00", "--branch", "prompts")
    assert "leave out --branch" in refused(layout, "show", "vis31_00", "--suppressed", "--mask", "1")


def test_equal_labels_differ_in_nothing(layout):
    same = compare_labels(layout.root, layout.root)
    assert len(same.images) == 2
    assert sum(i.n_lost + i.n_new for i in same.images) == 0
    assert same.histogram()[-1] == same.histogram().sum() == sum(len(i.ious) for i in same.images)
    assert "no setting differs" in same.text()


def test_a_stricter_fusion_loses_exactly_what_is_below(layout):
    label = layout.label(*IMAGE)
    loose, strict = FusionSettings(), FusionSettings(min_quality=0.6)
    compared = compare_settings(label, loose, strict)
    image = compared.images[0]
    qualities = np.array([m.extra["quality"] for m in read_masks(label).masks])
    assert len(image.ious) + image.n_lost == len(qualities)
    assert image.n_lost >= (qualities < 0.59).sum() > 0
    assert compared.settings == {"min_quality": (0.2, 0.6)}
    said = hvlabel("compare", label, "--settings", "{}", "--settings", json.dumps({"min_quality": 0.6}))
    assert "| min_quality | 0.2 | 0.6 |" in said.out


def test_masks_are_paired_once():
    whole, left = np.ones((10, 10), bool), np.zeros((10, 10), bool)
    left[:, :6] = True
    masks = read_set(whole, left)
    assert difference("a", masks, read_set(whole)).n_lost == 1
    both = difference("a", masks, read_set(left, whole))
    assert (both.ious.tolist(), both.n_lost, both.n_new) == ([1.0, 1.0], 0, 0)


def read_set(*stack):
    from hvlabel.masks import Mask

    return MaskSet(10, 10, tuple(Mask(encode(m), 1.0, "rgb", (0.0, 0.0)) for m in stack))


def test_compare_refuses(layout, tmp_path):
    label = layout.label(*IMAGE)
    assert "a folder and a file" in hvlabel("compare", layout.root, label).err
    assert "compare needs A B" in hvlabel("compare", label).err
    shutil.copy(label, tmp_path / "a.json")
    lonely = hvlabel("compare", tmp_path / "a.json", "--settings", "{}", "--settings", "{}")
    assert "its masks are not at hand" in lonely.err
    assert "no labels below it" in hvlabel("compare", tmp_path, tmp_path).err


def test_why_names_what_covers_a_pixel(layout, origins):
    mask = decode(origins.label.rles[0])
    y, x = map(int, np.argwhere(mask)[0])
    said = call(layout, "why", "vis31_00", f"{x},{y}")
    assert said.status == 0
    n_covering = sum(decode(rle)[y, x] for rle in origins.label.rles)
    assert said.out.startswith(f"pixel {x},{y} of d/vis31_00: in {n_covering} masks of the label")


def test_why_finds_the_nearest_threshold_that_gives_a_mask(layout, demo_run, tmp_path):
    """A label that was fused too strictly; the threshold that `why` names is then tried."""
    results = tmp_path / "results"
    shutil.copytree(layout.root, results)
    given = json.dumps({"min_quality": 0.99, "branches": ["rgb", "sequence", "material"]})
    assert hvlabel("fuse", "--shard", "d/0000", "--settings", given, "--results", results).status == 0
    loose = read_masks(layout.label(*IMAGE))
    y, x = map(int, np.argwhere(decode(loose.rles[0]))[0])
    strict = Layout(results)
    assert not any(decode(rle)[y, x] for rle in read_masks(strict.label(*IMAGE)).rles)
    said = call(strict, "why", "vis31_00", f"{x},{y}")
    value = float(re.search(r"nearest: fusion\.min_quality (\S+) instead of 0\.99", said.out)[1])
    given = json.dumps({"min_quality": value, "branches": ["rgb", "sequence", "material"]})
    assert hvlabel("fuse", "--shard", "d/0000", "--settings", given, "--results", results).status == 0
    assert any(decode(rle)[y, x] for rle in read_masks(strict.label(*IMAGE)).rles)


def test_why_of_a_corrected_label_blames_no_threshold(layout, tmp_path):
    results = Layout(tmp_path / "results")
    shutil.copytree(layout.root, results.root)
    path = results.label(*IMAGE)
    document = read_document(path)
    provenance = {k: v for k, v in document["provenance"].items() if k != "content_sha256"} | {"corrected": {}}
    path.write_bytes(to_bytes(sealed({**document, "annotations": [], "suppressed": [], "provenance": provenance})))
    assert "a person corrected this label" in call(results, "why", "vis31_00", "3,3").out


def test_masks_made_anew_are_not_mistaken_for_those_of_the_label(layout, tmp_path):
    results = Layout(tmp_path / "results")
    shutil.copytree(layout.root, results.root)
    path = results.masks("rgb", *IMAGE)
    document = read_document(path)
    provenance = {k: v for k, v in document["provenance"].items() if k != "content_sha256"}
    reversed_masks = document["annotations"][::-1]
    path.write_bytes(to_bytes(sealed({**document, "annotations": reversed_masks, "provenance": provenance})))
    known = origins_of(results, *IMAGE)
    assert known.changed == ("rgb",)
    assert not any(branch == "rgb" for branch, _ in (*known.kept, *known.lost))
    assert "masks of rgb were made anew after this label" in call(results, "why", "vis31_00", "3,3").out
    assert "made anew" in call(results, "show", "vis31_00", tmp_path / "a.png").err


def test_why_refuses(layout):
    assert "expected X 0 to 63 and Y 0 to 63" in refused(layout, "why", "vis31_00", "64,0")
    assert "is no pixel, expected two whole numbers" in refused(layout, "why", "vis31_00", "a,b")
    assert "0 images are called 'x'" in refused(layout, "why", "x", "1,1")


def test_origins_hold_for_every_image(layout):
    for dataset, image in (IMAGE, ("d", "vis31_01")):
        known = origins_of(layout, dataset, image)
        for position, mask in enumerate(known.label.masks):
            branch, number = known.origin_of(position)
            assert dataclasses.astuple(known.branches[branch].masks[number])[:1] == (mask.rle,)
