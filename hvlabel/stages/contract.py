"""What every stage promises: the contract of the four, and what they share.

The walk over a shard (stages/shard.py) asks a stage about one image after the other, in this order:

    blocked   did an earlier stage leave the image out?
    key       what would its output be made from?
    valid     is there an output that is whole and has this key?
    make      if not, make it and publish it with this key

The laws (tests/stages/test_contract.py):

- After `make(image, key)`, `valid(image, key)` is the entry that `make` returned. `make` knows it from what it wrote
  and does not read its own output again.
- A key is made once and handed on. It is "" where it says nothing: of a cube that is not there yet, whose raw files are
  hashed beside reading them, so that only `make` learns it; and of a label that people corrected, which is valid
  whatever it was made from.
- `blocked` comes first. What a stage reads of an image it may keep for the other calls, until the next `blocked`.
- What is wrong with an image is an HvError of one sentence. It leaves every other file as it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from hvlabel.cache.index import Entry, read_index
from hvlabel.cache.receipt import read_attributes
from hvlabel.layout import Layout
from hvlabel.manifest import Image


class Stage(Protocol):
    """What a stage does with one image; locks and indexes are the walk's."""

    name: str

    def blocked(self, image: Image) -> str | None:
        """Why an earlier stage left this image out, or None."""

    def key(self, image: Image) -> str:
        """Cache key of the image's output; "" as above."""

    def valid(self, image: Image, key: str) -> Entry | None:
        """The entry of an output that exists, is whole and has this key; else None."""

    def make(self, image: Image, key: str) -> Entry:
        """Make and publish the output; HvError where the image is at fault."""

    def discard(self, image: Image) -> None:
        """Called for an image that failed or was left out: an older output goes that others would take for good.

        Not where the machine was at fault: the output may be valid (stages/failures.py).
        """


class FromCubes:
    """What stages share that make one output of each cube."""

    def __init__(self, layout: Layout, dataset: str, shard: str) -> None:
        self.layout = layout
        self._cubes = read_index(layout.index("cubes", dataset, shard)).images

    def blocked(self, image: Image) -> str | None:
        """The conversion's failure."""
        entry = self._cubes.get(image.image_id)
        if entry is None:
            return "no cube: not converted yet"
        return None if entry.status == "ok" else f"no cube: {entry.reason}"

    def discard(self, image: Image) -> None:
        """An older output stays: it was costly, and nothing reads it while the index says failed."""

    def cube(self, image: Image) -> Path:
        """The image's cube."""
        return self.layout.cube(image.dataset, image.image_id)

    def cube_key(self, image: Image) -> str:
        """Key of the image's cube, which is its identity."""
        return str(read_attributes(self.cube(image)).get("key"))
