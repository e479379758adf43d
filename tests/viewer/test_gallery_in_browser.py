"""The gallery in a browser: rows by the page, filters, sorting, and the way to an image's page."""

import json
import re
import shutil

import pytest

from hvlabel.config import WarnBelow
from hvlabel.inspect.report import write_report
from hvlabel.layout import Layout
from hvlabel.viewer.template import inert_json

pytestmark = pytest.mark.browser
MANY = 15_000


@pytest.fixture(scope="module")
def gallery(finished, tmp_path_factory):
    """The gallery of two images, of which one has a page."""
    layout = Layout(shutil.copytree(finished.root, tmp_path_factory.mktemp("gallery") / "results"))
    write_report(layout, 1, WarnBelow())
    return layout.report


@pytest.fixture(scope="module")
def many(gallery):
    """The same page with made-up rows; every tenth failed."""
    html = gallery.read_text()
    start = html.index('id="data">') + len('id="data">')
    end = html.index("</script>", start)
    data = json.loads(html[start:end])
    n_branches = len(data["columns"]) - 13
    rows = []
    for k in range(MANY):
        masks = [k % 50, 3, k / MANY, k / MANY, 0.5, 0.1, 0.0, None] if k % 10 else [None] * 7 + [f"cubes: bad {k}"]
        rows.append([f"set{k % 3}", f"<i>{k}</i>", f"{k % 2} bands", None, None, *masks, *[1] * n_branches])
    path = gallery.with_name("many.html")
    path.write_text(html[:start] + str(inert_json({**data, "rows": rows})) + html[end:])
    return path


def test_the_first_picture_is_above_the_fold_and_leads_to_its_page(opened, gallery):
    page = opened(gallery)
    box = page.locator("#cards img").first.bounding_box()
    assert box["y"] + box["height"] < 800
    page.wait_for_function("() => [...document.images].every((i) => i.complete && i.naturalWidth > 0)")
    page.locator("a.card").click()
    page.wait_for_selector("html[data-ready=yes] #overlay")


def test_an_image_without_a_page_says_how_to_make_it(opened, gallery):
    page = opened(gallery)
    page.locator("button.card").click()
    command = page.locator("#command-text").text_content()
    assert command.startswith("hvlabel view d/vis31_0")
    assert command.endswith(f"--results {gallery.parent.parent}")


def test_fifteen_thousand_images_are_a_page_at_a_time(opened, many):
    page = opened(many)
    assert page.locator("#count").text_content() == "15000 of 15000 shown"
    assert page.locator("#cards .card").count() == 60
    assert page.evaluate("() => document.getElementsByTagName('*').length") < 3000
    page.locator("#cards-pager button").nth(1).click()
    assert re.search(r"61\W120 of 15000", page.locator("#cards-pager").text_content())
    assert page.locator("i").count() == 0


def test_filters_and_sorting(opened, many):
    page = opened(many)

    def shown():
        return int(page.locator("#count").text_content().split()[0])

    page.locator("#failed").check()
    assert shown() == MANY // 10
    page.locator("#failed").uncheck()
    page.locator("#dataset").select_option("set1")
    assert shown() == MANY // 3
    page.locator("#camera").select_option("0 bands")
    assert shown() == MANY // 6
    page.locator("#dataset").select_option("")
    page.locator("#camera").select_option("")
    page.locator("#most-quality").fill("0.01")
    assert shown() == sum(k / MANY <= 0.01 for k in range(MANY) if k % 10)
    page.locator("#most-quality").fill("")
    page.locator("#least-masks").fill("49")
    assert shown() == MANY // 50
    page.locator("#least-masks").fill("")
    page.locator("#name").fill("SET2/<i>14999<")
    assert shown() == 1
    page.locator("#name").fill("")
    page.locator("#sort").select_option("masks, falling")
    assert "49 masks" in page.locator("#cards .card").first.text_content()
    page.locator("#sort").select_option("failures first")
    assert "cubes: bad 0" in page.locator("#cards .card").first.text_content()


@pytest.mark.parametrize("size", [(1280, 800), (390, 844)])
def test_it_fits_screens_of_any_size(opened, gallery, size):
    page = opened(gallery, size, "dark")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= size[0]
