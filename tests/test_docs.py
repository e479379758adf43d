"""Pages for people: links lead somewhere, lines and sentences are short, figures stand in tables, settings have not drifted."""

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.md")])

LINE_CHARACTERS, PARAGRAPH_NUMBERS, SENTENCE_WORDS = 120, 6, 35
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
CODE_SPAN = re.compile(r"`[^`]*`")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z`\[*])")
NUMBER = re.compile(r"(?<![\w.-])[-+]?(?:\d[\d,]*)?\.?\d+")


def without_code(text):
    """The lines of a page that are no code blocks, each with its number."""
    inside = False
    for n, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("```"):
            inside = not inside
        elif not inside:
            yield n, line


def paragraphs(text):
    """Number of the first line and the prose of each paragraph or list item; tables and headings are none."""
    start, words = 0, []
    for n, line in [*without_code(text), (0, "")]:
        bare = line.strip()
        is_prose = bool(bare) and not bare.startswith(("|", "#", "!["))
        begins_item = re.match(r"([-*]|\d+\.) ", bare) is not None
        if words and (not is_prose or begins_item):
            yield start, " ".join(words)
            words = []
        if is_prose:
            start = start if words else n
            words.append(re.sub(r"^([-*]|\d+\.) ", "", bare))


def anchors(path):
    """Fragments that the headings of a page answer to, as GitHub makes them."""
    for _, line in without_code(path.read_text()):
        if line.startswith("#"):
            heading = LINK.sub(lambda m: m.group(0).split("]")[0].lstrip("!["), line.lstrip("# ").strip())
            yield re.sub(r"[^\w\- ]", "", heading.replace("`", "")).strip().lower().replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for n, line in without_code(page.read_text()):
        for target in LINK.findall(CODE_SPAN.sub("", line)):
            if target.startswith(("http://", "https://")):
                continue
            name, _, fragment = target.partition("#")
            path = (page.parent / unquote(name)).resolve() if name else page
            assert path.exists(), f"{page.name}:{n} links to {name}, which is not there"
            if fragment:
                assert fragment in set(anchors(path)), (
                    f"{page.name}:{n} links to #{fragment}, no heading of {path.name}"
                )


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_lines_are_short(page):
    long = [n for n, line in without_code(page.read_text()) if len(line) > LINE_CHARACTERS and line.lstrip()[0] != "|"]
    assert long == [], f"{page.name}: wrap these lines at {LINE_CHARACTERS}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_figures_stand_in_tables(page):
    crowded = []
    for n, prose in paragraphs(page.read_text()):
        numbers = NUMBER.findall(LINK.sub("", CODE_SPAN.sub("", prose)))
        if len(numbers) > PARAGRAPH_NUMBERS:
            crowded.append(f"line {n}: {len(numbers)} numbers")
    assert crowded == [], f"{page.name}: make these paragraphs tables"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_sentences_are_short(page):
    long = []
    for n, prose in paragraphs(page.read_text()):
        for sentence in re.split(SENTENCE_END, prose):
            n_words = len(sentence.split())
            if n_words > SENTENCE_WORDS:
                long.append(f"line {n}: {n_words} words")
    assert long == [], f"{page.name}: cut these sentences in two"


def test_settings_are_those_of_the_models():
    page = ROOT / "docs/SETTINGS.md"
    written = subprocess.run(
        [sys.executable, ROOT / "docs/settings.py", "-"], check=True, capture_output=True, text=True
    )
    assert page.read_text() == written.stdout, "run: make docs"
