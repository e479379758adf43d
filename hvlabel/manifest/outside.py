"""What of a data set lies outside of its root."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from hvlabel.manifest.rows import Image
from hvlabel.walk import Bounds

SHOWN = 5  # folders in a sentence


def outside_of(root: str, images: Sequence[Image]) -> str | None:
    """Which folders outside of a root some images and their companions are read from, in a few words; None: none."""
    bounds = Bounds(Path(os.path.expanduser(root)))
    n_files: Counter[str] = Counter()  # by folder, links followed
    for image in images:
        for given in (image.raw, image.companion, image.prompts):
            if given and not bounds.hold(Path(given)):
                n_files[os.path.dirname(os.path.realpath(given))] += 1
    if not n_files:
        return None
    folders = [f"{folder} ({n} files)" for folder, n in n_files.most_common(SHOWN)]
    more = [f"{len(n_files) - SHOWN} more folders"] if len(n_files) > SHOWN else []
    return f"{root}: also read are {', '.join([*folders, *more])}"
