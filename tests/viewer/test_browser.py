"""The page of an image in a browser: layers, spectra, the fusion live, decisions, keys."""

import json
import shutil

import numpy as np
import pytest
from conftest import IMAGE
from verbs import hvlabel

from hvlabel.cube import open_cube
from hvlabel.layout import Layout
from hvlabel.masks import decode, is_corrected, read_document, read_masks
from hvlabel.viewer import build_page

pytestmark = pytest.mark.browser


def pixels(page):
    """How many pixels of the overlay are painted."""
    return page.evaluate(
        "() => { const c = document.getElementById('overlay');"
        " return c.getContext('2d').getImageData(0, 0, c.width, c.height).data.filter((v, k) => k % 4 === 3 && v).length; }"
    )


def click_on(page, x, y, size=64):
    """Click on a pixel of the image."""
    box = page.locator("#overlay").bounding_box()
    page.locator("#overlay").click(
        position={"x": (x + 0.5) / size * box["width"], "y": (y + 0.5) / size * box["height"]}
    )


def fused(finished, folder, **settings):
    """(branch, counts) of what `hvlabel fuse` keeps, in order."""
    inputs = [finished.masks(branch, *IMAGE) for branch in ("rgb", "sequence", "material")]
    out = folder / "fused.json"
    said = hvlabel("fuse", *inputs, out, "--cube", finished.cube(*IMAGE), "--settings", json.dumps(settings))
    assert said.status == 0, said.err
    return [(m.branch, m.rle["counts"].decode()) for m in read_masks(out).masks]


KEPT = """() => viewer.live.outcome.kept.map(({ candidate: k }) => {
    const c = viewer.page.candidates;
    return [c.branch[k], viewer.page.codes[c.mask[k]]];
})"""


def kept_on(page):
    return [tuple(pair) for pair in page.evaluate(KEPT)]


def test_layers_go_on_and_off(opened, page_file, finished):
    page = opened(page_file)
    union = np.any([decode(rle) for rle in read_masks(finished.label(*IMAGE)).rles], axis=0)
    assert pixels(page) == union.sum()
    page.locator("[data-layer=label]").uncheck()
    assert pixels(page) == 0
    for key, branch in enumerate(("rgb", "sequence", "material"), start=1):
        page.keyboard.press(str(key))
        union = np.any([decode(rle) for rle in read_masks(finished.masks(branch, *IMAGE)).rles], axis=0)
        assert pixels(page) == union.sum()
        page.keyboard.press(str(key))


def test_a_click_shows_the_pixel_s_spectrum_and_the_mask_s(opened, page_file, finished):
    page = opened(page_file)
    cube = open_cube(finished.cube(*IMAGE))
    label = read_masks(finished.label(*IMAGE))
    y, x = np.argwhere(decode(label.rles[0]))[3].tolist()
    click_on(page, x, y)
    series, stored, bands = page.evaluate(
        "() => [viewer.series.map((s) => ({ ...s, values: [...s.values], deviation: s.deviation && [...s.deviation] })),"
        " viewer.page.cube, viewer.page.bands]"
    )
    values = cube.values()[bands]
    of_mask, of_pixel = series
    error = np.abs(np.array(of_pixel["values"]) - values[:, y, x])
    assert error.max() <= stored["largest_error"] * (1 + 1e-6) + 1e-12
    assert of_pixel["name"] == f"pixel x {x}, y {y}"
    selected = page.evaluate("() => viewer.selected.row.id")
    inside = values[:, decode(label.rles[selected])].astype(float)
    np.testing.assert_allclose(of_mask["values"], inside.mean(axis=1), atol=np.ptp(values) / 30_000)
    np.testing.assert_allclose(of_mask["deviation"], inside.std(axis=1), atol=np.ptp(values) / 30_000)
    assert page.locator("#plot polyline").count() == 2
    # a second mask beside it
    page.keyboard.press("p")
    page.keyboard.press("j")
    assert page.locator("#plot .line.pinned").count() == page.locator("#plot .line.mask").count() == 1


def test_hover_says_what_a_mask_is(opened, page_file):
    page = opened(page_file)
    x, y = page.evaluate("() => { const { pieces } = viewer.items.label[0]; return [pieces[0], pieces[1]]; }")
    box = page.locator("#overlay").bounding_box()
    page.mouse.move(box["x"] + (x + 0.5) / 64 * box["width"], box["y"] + (y + 0.5) / 64 * box["height"])
    said = page.locator("#readout").text_content()
    assert said.startswith(f"x {x}, y {y}: label mask ")
    assert all(word in said for word in ("score", "quality", "votes", " px"))


@pytest.mark.parametrize("setting", ["iou_threshold", "min_quality"])
def test_sliders_keep_what_fuse_keeps(opened, page_file, finished, tmp_path, setting):
    page = opened(page_file)
    numbers = set()
    for value in (0.3, 0.55, 0.9):
        page.locator(f"input[type=range][data-setting={setting}]").fill(str(value))
        assert page.locator(f"input[type=number][data-setting={setting}]").input_value() == str(value)
        expected = fused(finished, tmp_path, **{setting: value})
        assert kept_on(page) == expected
        assert f"Keeps {len(expected)} masks" in page.locator("#outcome").text_content()
        assert page.locator("#yaml").text_content() == f"fusion:\n  {setting}: {value}"
        numbers.add(len(expected))
    assert len(numbers) > 1
    page.locator("#reset").click()
    assert kept_on(page) == [(m.branch, m.rle["counts"].decode()) for m in read_masks(finished.label(*IMAGE)).masks]


def test_a_value_that_a_setting_may_not_have_changes_nothing(opened, page_file):
    page = opened(page_file)
    before = kept_on(page)
    field = page.locator("input[type=number][data-setting=iou_threshold]")
    for value in ("", "2", "0", "-1"):
        field.fill(value)
        assert not field.evaluate("(f) => f.checkValidity()")
        assert kept_on(page) == before


def test_decisions_come_back_as_a_sealed_label(opened, demo_run, tmp_path):
    layout = Layout(shutil.copytree(demo_run / "results", tmp_path / "results"))
    path = tmp_path / "page.html"
    path.write_bytes(build_page(layout, *IMAGE))
    counts = [m.rle["counts"] for m in read_masks(layout.label(*IMAGE)).masks]
    page = opened(path)
    page.keyboard.press("j")
    page.keyboard.press("r")  # the first is rejected
    page.locator("button[aria-label='accept: mask 1']").click()
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("[")  # the third comes before the second
    page.locator("button[aria-label='to be redrawn: mask 3']").click()
    assert "1 accepted, 1 rejected, 1 to be redrawn" in page.locator("#progress").text_content()
    page.reload()
    page.wait_for_selector("html[data-ready=yes]")
    with page.expect_download() as download:
        page.keyboard.press("s")
    assert download.value.suggested_filename == "d__vis31_00.decisions.json"
    download.value.save_as(tmp_path / "d__vis31_00.decisions.json")
    said = hvlabel("accept", tmp_path / "d__vis31_00.decisions.json", "--results", layout.root)
    assert said.status == 0, said.err
    assert "to be redrawn: annotations 2" in said.out
    assert is_corrected(read_document(layout.label(*IMAGE)))
    assert [m.rle["counts"] for m in read_masks(layout.label(*IMAGE)).masks] == [counts[2], counts[1], *counts[3:]]


def test_names_do_nothing(opened, finished, tmp_path):
    name = "<img src=x onerror=alert(1)>&'\""
    layout = Layout(shutil.copytree(finished.root, tmp_path / "results"))
    for make in (
        layout.cube,
        layout.label,
        *(lambda d, i, b=b: layout.masks(b, d, i) for b in ("rgb", "sequence", "material")),
    ):
        old = make(*IMAGE)
        old.rename(old.with_name(name + old.suffix))
    path = tmp_path / "page.html"
    path.write_bytes(build_page(layout, "d", name))
    page = opened(path)  # a dialog or a request would fail the test
    assert page.locator("h1").text_content() == f"d/{name}"
    page.keyboard.press("?")
    assert page.locator("img").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 800), (390, 844)])
def test_it_fits_screens_of_any_size(opened, page_file, size, scheme):
    page = opened(page_file, size, scheme)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= size[0]
    box = page.locator("#overlay").bounding_box()
    assert box["y"] + 100 < size[1]  # above the fold
    assert box["width"] == pytest.approx(box["height"], abs=1.5)  # of a square image
    colour = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert (colour == "rgb(255, 255, 255)") == (scheme == "light")


def test_pictures_and_bands_to_choose_from(opened, page_file):
    page = opened(page_file)
    titles = page.locator("#picture option").all_text_contents()
    assert titles[:2] == ["RGB rendering", "whitened components 1-2-3"]
    assert titles[-1] == "three bands of your choice"
    base = "() => { const c = document.getElementById('base'); return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]; }"
    seen = set()
    for title in titles:
        page.locator("#picture").select_option(label=title)
        page.wait_for_timeout(50)  # pictures are decoded aside
        seen.add(hash(tuple(page.evaluate(base))))
    assert len(seen) >= 4
    before = page.evaluate(base)
    page.locator("#bands .red input").fill("3")
    assert page.evaluate(base) != before
    assert "nm (" in page.locator("#bands .red output").text_content()
