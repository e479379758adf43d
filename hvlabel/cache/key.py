"""Cache keys: what a file was made from, as one hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence


def cache_key(stage: str, inputs: Sequence[str], settings: str, weights: str | None) -> str:
    """sha256 (hex) over the stage, its inputs' identities, its canonical settings and its weights' identity.

    inputs   : sha256 or key of every input, in a fixed order
    settings : canonical JSON with the stage version (StageSettings.canonical)
    weights  : sha256 of the checkpoint, or None where no learned model is used
    """
    # as a list: joined by hand, ("ab", "c") and ("a", "bc") would be one
    content = json.dumps([stage, list(inputs), settings, weights], separators=(",", ":"))
    return hashlib.sha256(content.encode()).hexdigest()
