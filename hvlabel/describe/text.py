"""A look at a file as the text that `hvlabel describe` prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from hvlabel.readers.contract import Look

WIDTH = 118


def descriptor_text(path: Path, look: Look) -> str:
    """YAML of the settings between comments: what the file holds above it, what is to be checked below."""
    listing = [f"# {printable(path.name)}", *(f"#   {printable(line)}" for line in look.holds)]
    settings = "".join(_yaml(name, value) for name, value in look.settings.items())
    questions = [f"# ? {printable(question)}" for question in look.questions]
    usage = f"# Save this as my_camera.yaml, then: hvlabel convert --dataset my_camera.yaml {path} out.zarr"
    return "\n".join([*listing, settings.rstrip(), *questions, usage])


def printable(text: str) -> str:
    """A text from a file without whatever would steer a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _yaml(name: str, value: Any) -> str:
    """One setting; mappings in one line, lists an item a line."""
    flow = None if isinstance(value, dict) else False  # None: YAML's own choice, flow for what is not nested
    return yaml.safe_dump({name: value}, width=WIDTH, default_flow_style=flow)
