"""Pages of a small run, what they hold, and a browser to open them with."""

import json
import re
import shutil
import zlib
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest

from hvlabel.layout import Layout
from hvlabel.viewer import build_page

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"
IMAGE = ("d", "vis31_00")
DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)


def data_of(html):
    """What the scripts of a page read."""
    return json.loads(DATA.search(html).group(1))


def unpacked(stored):
    """A packed array, as the page unpacks it."""
    planes = np.frombuffer(zlib.decompress(b64decode(stored["data"])), np.uint8)
    size = np.dtype(stored["type"]).itemsize
    numbers = np.ascontiguousarray(planes.reshape(size, -1).T).view(stored["type"])
    return numbers.reshape(stored["shape"])


@pytest.fixture
def layout(demo_run, tmp_path):
    """A copy of a finished run of two small demo images, to be spoilt."""
    shutil.copytree(demo_run, tmp_path / "run")
    return Layout(tmp_path / "run" / "results")


@pytest.fixture(scope="session")
def finished(demo_run):
    """The run itself, only to be read."""
    return Layout(demo_run / "results")


@pytest.fixture(scope="session")
def page_html(finished):
    """The page of one image."""
    return build_page(finished, *IMAGE).decode()


@pytest.fixture(scope="session")
def page_file(page_html, tmp_path_factory):
    """The same as a file."""
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(page_html)
    return path


@pytest.fixture(scope="session")
def chromium():
    """A browser without a window."""
    api = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install 'hvlabel[browser]'")
    if not CHROMIUM.exists():
        pytest.skip(f"no {CHROMIUM}: install the package chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS.split())
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium, tmp_path):
    """Opens a file from disk; after the test, no page may have complained or asked for anything else."""
    said, asked, contexts = [], [], []

    def open_file(path, size=(1280, 800), scheme="light"):
        context = chromium.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(f"dialog {dialog.message}"))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready=yes]")
        return page

    yield open_file
    for context in contexts:
        context.close()
    assert said == []
    assert not [url for url in asked if not url.startswith(("file:", "data:", "blob:"))]
