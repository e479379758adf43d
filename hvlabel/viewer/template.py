"""The HTML of pages: templates and their styles and scripts, all of which end up inside of one file."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

ASSETS = Path(__file__).resolve().parent / "assets"


def render(template: str, data: dict[str, Any], **values: Any) -> bytes:
    """The page of a template of `assets`.

    data   : what the page's scripts read, as JSON
    values : what the template shows by itself
    """
    page = _environment().get_template(template).render(data=inert_json(data), **values)
    return page.encode(errors="replace")  # a name may hold bytes that are no UTF-8


def inert_json(data: dict[str, Any]) -> Markup:
    """JSON that ends no script element, whatever names are in it, and is ASCII."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


@cache
def assets_sha256() -> str:
    """Hash of all templates, styles and scripts."""
    contents = [path.name.encode() + path.read_bytes() for path in sorted(ASSETS.iterdir())]
    return hashlib.sha256(b"".join(contents)).hexdigest()


@cache
def _environment() -> Environment:
    """Of all templates; each of them is compiled once."""
    environment = Environment(
        autoescape=True, loader=FileSystemLoader(ASSETS), undefined=StrictUndefined, trim_blocks=True
    )
    environment.globals["asset"] = _asset
    return environment


@cache
def _asset(name: str) -> Markup:
    """A style or script of ours as it stands."""
    return Markup((ASSETS / name).read_text(encoding="utf-8"))
