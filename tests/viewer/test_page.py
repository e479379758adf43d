"""The page of an image as a file: whole by itself, small, inert, and true to the cube and the masks."""

import json
import re
import shutil

import numpy as np
import pytest
from conftest import IMAGE, data_of, unpacked
from verbs import hvlabel

from hvlabel.cube import open_cube
from hvlabel.errors import MaskFileError
from hvlabel.masks import decode, encode, read_document, read_masks
from hvlabel.viewer import build_page
from hvlabel.viewer.compact import compact_cube
from hvlabel.viewer.pictures import pictures_of
from hvlabel.viewer.spectra import mask_spectra

HOSTILE = "<img src=x onerror=alert(1)>&'\"</script><b>"


@pytest.fixture(scope="module")
def data(page_html):
    return data_of(page_html)


def test_it_needs_no_other_file(page_html):
    assert len(page_html.encode()) < 3_000_000
    assert "http" not in page_html.replace("http-equiv", "")
    without_data = page_html.replace(
        page_html[slice(*re.search(r'id="data">.*?</script>', page_html, re.DOTALL).span())], ""
    )
    assert not re.findall(r"""(?:src|href)=|url\(|@import|\bfetch\(|XMLHttpRequest""", without_data)
    assert "default-src 'none'" in page_html


def test_it_holds_the_label_and_every_candidate(data, finished):
    label = read_masks(finished.label(*IMAGE))
    codes = bytes(unpacked(data["masks"])).decode().split("\n")
    assert [codes[row["mask"]].encode() for row in data["label"]] == [m.rle["counts"] for m in label.masks]
    assert [row["votes"] for row in data["label"]] == [list(m.votes) for m in label.masks]
    assert data["suppressed"] == read_document(finished.label(*IMAGE))["suppressed"]
    of_branches = [m for b in data["branches"] for m in read_masks(finished.masks(b, *IMAGE)).masks]
    candidates = data["candidates"]
    assert [codes[k].encode() for k in candidates["mask"]] == [m.rle["counts"] for m in of_branches]
    assert candidates["score"] == [m.score for m in of_branches]
    # every mask of the label is the candidate that it says
    for row in data["label"]:
        k = row["candidate"]
        assert (candidates["branch"][k], candidates["mask"][k]) == (row["branch"], row["mask"])
        assert round(candidates["expected"][k], 4) == row["quality"]
    assert data["notes"] == []


def test_pairs_give_the_exact_iou_again(data, finished):
    of_branches = [m for b in data["branches"] for m in read_masks(finished.masks(b, *IMAGE)).masks]
    first, second, common_px = unpacked(data["candidates"]["pairs"])
    masks = [decode(m.rle) for m in of_branches]
    assert len(first) > 20
    for a, b, common in list(zip(first, second, common_px, strict=True))[::7]:
        assert common == np.count_nonzero(masks[a] & masks[b])


def test_means_of_masks_are_those_of_the_cube(data, finished):
    cube = open_cube(finished.cube(*IMAGE))
    values = cube.values()[data["bands"]]
    spectra = data["spectra"]
    mean, deviation = unpacked(spectra["mean"]), unpacked(spectra["deviation"])
    rles = read_masks(finished.label(*IMAGE)).rles
    for row in data["label"][::5]:
        inside = values[:, decode(rles[row["id"]])].astype(float)
        shown = spectra["low"] + spectra["step"] * mean[row["mask"]]
        np.testing.assert_allclose(shown, inside.mean(axis=1), atol=spectra["step"])
        np.testing.assert_allclose(spectra["step"] * deviation[row["mask"]], inside.std(axis=1), atol=spectra["step"])


def scene(n_bands, height, width, noise=0.01, seed=0):
    rng = np.random.default_rng(seed)
    ends = rng.uniform(0.1, 1, (3, n_bands))
    shares = rng.dirichlet(np.ones(3), (height, width)).transpose(2, 0, 1)
    clean = np.einsum("kc,kyx->cyx", ends, shares)
    return (clean + rng.normal(0, noise, clean.shape)).astype(np.float32)


def test_a_small_cube_is_exact(make_cube, tmp_path):
    stored = np.round(1000 * scene(7, 20, 30)).astype(np.uint16)
    cube = make_cube(tmp_path / "a.zarr", stored, scale=0.001)
    compact = compact_cube(cube, cube.live_values(), cube.live_bands, 100_000)
    assert (compact.kind, compact.largest_error) == ("integers", 0.0)
    again = unpacked(compact.values[0]._asdict()).astype(np.float32) * np.float32(compact.scale)
    np.testing.assert_array_equal(again, cube.live_values())


@pytest.mark.parametrize("n_bands", [1, 4, 40])
def test_a_large_cube_keeps_its_stated_error(make_cube, tmp_path, n_bands):
    cube = make_cube(tmp_path / "a.zarr", scene(n_bands, 90, 70))
    values = cube.live_values()
    room_bytes = values.size  # a quarter of what the floats take, and less after base64
    compact = compact_cube(cube, values, cube.live_bands, room_bytes)
    assert compact.kind == "components"
    takes_bytes = sum(plane.n_bytes for plane in compact.values)
    assert takes_bytes <= room_bytes or len(compact.values) == min(3, n_bands)
    scores = np.stack([unpacked(plane._asdict()) for plane in compact.values])
    basis, mean = unpacked(compact.basis._asdict()), unpacked(compact.mean._asdict())
    again = np.einsum("kc,kyx->cyx", basis.astype(float), scores * compact.scale) + mean[:, None, None]
    step = compact.stride_px
    error = np.abs(again - values[:, ::step, ::step])
    assert error.max() == pytest.approx(compact.largest_error, rel=1e-6)
    assert compact.largest_error < 0.15  # of values up to 1
    assert compact.usual_error < 0.03


def test_the_largest_images_make_pages_of_the_same_size(make_cube, tmp_path):
    """Noise in all bands and pixels: nothing compresses."""
    rng = np.random.default_rng(0)
    cube = make_cube(tmp_path / "a.zarr", rng.uniform(0, 1, (5, 400, 600)).astype(np.float32))
    compact = compact_cube(cube, cube.live_values(), cube.live_bands, 100_000)
    assert compact.stride_px > 1
    assert sum(plane.n_bytes for plane in compact.values) < 115_000
    pictures = pictures_of(cube, cube.live_values(), 8)
    assert sum(len(picture.source) for picture in pictures) < 1_300_000


def test_pixels_without_a_value_are_no_part_of_a_mean():
    values = np.ones((3, 4, 5), np.float32)
    values[:, 0] = 100
    valid = np.ones((4, 5), bool)
    valid[0] = False
    masks = [encode(np.ones((4, 5), bool)), encode(~valid)]
    spectra = mask_spectra(values, masks, valid)
    np.testing.assert_array_equal(spectra.mean[0], 1)
    assert np.isnan(spectra.mean[1]).all()
    assert spectra.as_json()["has"] == [True, False]


def test_names_are_inert(finished, layout):
    for make in (
        layout.cube,
        layout.label,
        *(lambda d, i, b=b: layout.masks(b, d, i) for b in ("rgb", "sequence", "material")),
    ):
        old = make(*IMAGE)
        new = old.with_name(HOSTILE.replace("/", "") + old.suffix)
        (shutil.copytree if old.is_dir() else shutil.copy)(old, new)
    html = build_page(layout, "d", HOSTILE.replace("/", "")).decode()
    assert "<img" not in html
    assert html.count("<script") == 2
    assert data_of(html)["image"] == HOSTILE.replace("/", "")


def test_a_lost_branch_leaves_the_label_and_a_sentence(layout):
    layout.masks("sequence", *IMAGE).unlink()
    data = data_of(build_page(layout, *IMAGE).decode())
    assert data["candidates"] is None
    assert data["settings"] is None
    assert len(data["label"]) == len(read_masks(layout.label(*IMAGE)))
    assert re.fullmatch(r"The fusion cannot be followed here: .*sequence.*cannot read.*", data["notes"][0])


def test_a_corrected_label_says_so(layout):
    path = layout.label(*IMAGE)
    document = json.loads(path.read_bytes())
    del document["annotations"][0]
    path.write_text(json.dumps(document))
    assert hvlabel("accept", path).status == 0
    data = data_of(build_page(layout, *IMAGE).decode())
    assert data["corrected"]
    assert "A person corrected this label" in data["notes"][0]
    assert None not in [row["candidate"] for row in data["label"]]


def test_the_verb_and_what_it_refuses(layout, tmp_path):
    assert hvlabel("view", "vis31_01", tmp_path / "one.html", "--results", layout.root).out == f"{tmp_path}/one.html\n"
    assert data_of((tmp_path / "one.html").read_text())["image"] == "vis31_01"
    said = hvlabel("view", "nobody", "--results", layout.root)
    assert (said.status, "0 images are called 'nobody'" in said.err) == (2, True)
    layout.label(*IMAGE).write_text("{")
    said = hvlabel("view", "/".join(IMAGE), "--results", layout.root)
    assert (said.status, said.err.count("\n"), "not JSON" in said.err) == (2, 1, True)


def test_a_cube_of_another_size_is_refused(layout, make_cube):
    path = layout.cube(*IMAGE)
    shutil.rmtree(path)
    make_cube(path, scene(3, 9, 8))
    with pytest.raises(MaskFileError, match="of 64 x 64 px, its cube of 9 x 8; run the pipeline again"):
        build_page(layout, *IMAGE)
