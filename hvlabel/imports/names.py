"""Which image of a results folder a file of another tool means."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from hvlabel.errors import ConfigError
from hvlabel.manifest import Image

SHOWN_NAMES = 5


class Names:
    """The images of a results folder by all names that they go by elsewhere."""

    def __init__(self, images: Sequence[Image], dataset: str | None) -> None:
        self._by_name: dict[str, list[Image]] = defaultdict(list)
        chosen = [image for image in images if dataset in (None, image.dataset)]
        if not chosen:
            datasets = dict.fromkeys(image.dataset for image in images)
            known = ", ".join(datasets) or "none"
            raise ConfigError(f"--dataset {dataset}: no image of that data set; there are {known}")
        for image in chosen:
            # a set: a raw file is often called like its image
            for name in {
                f"{image.dataset}/{image.image_id}",
                f"{image.dataset}__{image.image_id}",  # as exports name it
                image.image_id,
                Path(image.raw).stem,
            }:
                self._by_name[name].append(image)

    def image_of(self, *names: str | None) -> Image:
        """The image that the first known of some names means; ConfigError if there is none, or several are meant.

        names : paths, file names or plain names, the most telling one first
        """
        for name in filter(None, names):
            for form in _forms(name):
                meant = self._by_name.get(form, [])
                if len(meant) == 1:
                    return meant[0]
                if meant:
                    others = ", ".join(f"{image.dataset}/{image.image_id}" for image in meant[:SHOWN_NAMES])
                    raise ConfigError(f"{form!r} may be {others}; name the data set with --dataset")
        shown = ", ".join(repr(name) for name in names if name)
        raise ConfigError(f"no image is called {shown}; call it DATASET/IMAGE or DATASET__IMAGE as in the manifest")


def _forms(name: str) -> list[str]:
    """A name as it may stand in a manifest: with its folder, alone, each without a suffix too."""
    path = PurePosixPath(name.replace("\\", "/"))
    folder = path.parent.name
    forms = []
    # whole names first: `scene.01` is no `scene`
    for last in (path.name, path.stem):
        forms += [f"{folder}/{last}", last] if folder else [last]
    return forms
