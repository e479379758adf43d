"""An answer about a file: its kind, facts, and health."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MOST_CHARACTERS = 300  # of one value


@dataclass
class Info:
    """What is known about a file.

    kind   : in a few words
    facts  : name -> value, in the order in which they are shown; what is None is left out
    health : "whole", or what is wrong; "" where the file has no seal
    """

    path: Path
    kind: str
    facts: dict[str, Any] = field(default_factory=dict)
    health: str = ""

    def text(self) -> str:
        """Lines for a terminal."""
        known = {name: value for name, value in self.facts.items() if value is not None}
        known["health"] = self.health or "it has no seal"
        width = max(len(name) for name in known) + 1  # with the colon
        lines = [f"{name + ':':{width}} {shown(value)}" for name, value in known.items()]
        return "\n".join([f"{self.path}: {self.kind}", *lines])


def shown(value: Any) -> str:
    """A value on one line, cut where it is long."""
    if isinstance(value, float):
        text = f"{value:.6g}"
    elif isinstance(value, Mapping | list | tuple):
        text = json.dumps(value, default=str)
    else:
        text = str(value)
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + " ..."
