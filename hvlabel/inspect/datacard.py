"""The data card: what of every data set lies on this disk, in the columns of a paper's data table."""

from __future__ import annotations

import hashlib
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from hvlabel.config.tree import Config
from hvlabel.descriptors import Descriptor
from hvlabel.errors import RawFileError, printable
from hvlabel.manifest import Image, Scan, outside_of
from hvlabel.readers import RawImage, first_line, open_raw
from hvlabel.stages.convert import confidence_of

COLUMNS = (
    "data set",
    "bands",
    "range nm",
    "centres",
    "images",
    "expected",
    "resolution px",
    "size",
    "unreadable",
    "equal",
    "licence",
)
LISTED = 50  # lines of a section
MARKUP = re.compile(r"([\\`*\[\]<>|])")  # what Markdown would read as more than a character
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")

Fingerprint = tuple[tuple[int, ...], bytes]  # shape, hash of the first line as float32


@dataclass
class Card:
    """One data set.

    n_equal : its images whose values some other image, of any data set, has too
    centres : how many images have band centres of which confidence
    outside : what of it lies outside of its root, where that is allowed
    """

    name: str
    descriptor: Descriptor
    bands: set[int] = field(default_factory=set)
    range_nm: tuple[float, float] | None = None
    sizes_px: set[tuple[int, int]] = field(default_factory=set)
    n_readable: int = 0
    n_bytes: int = 0
    unreadable: list[str] = field(default_factory=list)
    n_equal: int = 0
    centres: Counter[str] = field(default_factory=Counter)
    outside: str | None = None

    @property
    def title(self) -> str:
        """As people call the data set."""
        return self.descriptor.about.title or self.name

    def add(self, raw: RawImage, confidence: str) -> None:
        """Count an image whose header could be read."""
        n_bands, height, width = raw.shape
        low_nm, high_nm = self.range_nm or (np.inf, -np.inf)  # before the first image
        self.centres[confidence] += 1
        self.bands.add(n_bands)
        self.sizes_px.add((width, height))  # as people say it; a cube is height by width
        lowest_nm = min(low_nm, *raw.wavelengths_nm)
        highest_nm = max(high_nm, *raw.wavelengths_nm)
        self.range_nm = (lowest_nm, highest_nm)
        self.n_bytes += sum(path.stat().st_size for path in raw.files)  # packed, as they lie on the disk
        self.n_readable += 1

    def row(self) -> tuple[str, ...]:
        """The data set in COLUMNS; what nobody knows is empty."""
        about = self.descriptor.about
        n_bands = ", ".join(map(str, sorted(self.bands)))
        confidences = ", ".join(sorted(self.centres))
        return (
            self.title,
            n_bands or str(about.bands or ""),
            "" if self.range_nm is None else f"{self.range_nm[0]:.0f}-{self.range_nm[1]:.0f}",
            confidences or self.descriptor.wavelength_confidence or "",
            str(self.n_readable),
            str(about.images or ""),
            self._resolution(),
            _bytes(self.n_bytes),
            str(len(self.unreadable) or ""),
            str(self.n_equal or ""),
            about.licence or "",
        )

    def _resolution(self) -> str:
        """The size of its images, or the smallest and the largest sides."""
        if not self.sizes_px:
            return ""
        widths = sorted(width for width, _ in self.sizes_px)
        heights = sorted(height for _, height in self.sizes_px)
        smallest = f"{widths[0]}x{heights[0]}"
        largest = f"{widths[-1]}x{heights[-1]}"
        return smallest if len(self.sizes_px) == 1 else f"{smallest} to {largest}"


@dataclass(frozen=True)
class DataCard:
    """Cards in the order of the configuration, and groups of equal images as data set/image."""

    cards: tuple[Card, ...]
    equal: tuple[tuple[str, ...], ...]

    def rows(self) -> list[tuple[str, ...]]:
        """The table, header first."""
        return [COLUMNS, *(card.row() for card in self.cards)]

    def tsv(self) -> str:
        """The table as tab-separated text."""
        lines = ["\t".join(map(printable, row)) for row in self.rows()]
        return "".join(f"{line}\n" for line in lines)

    def markdown(self) -> str:
        """The table, then what is equal, what cannot be read and what one should know."""
        cells = [" | ".join(map(_inert, row)) for row in self.rows()]
        head, *rows = [f"| {line} |" for line in cells]
        rule = "|" + " --- |" * len(COLUMNS)
        parts = ["# Data card\n", "\n".join([head, rule, *rows])]
        for title, lines in self._sections().items():
            parts += _section(title, [_inert(line) for line in lines])
        return "\n".join(parts) + "\n"

    def _sections(self) -> dict[str, list[str]]:
        """Title -> lines."""
        invented: list[str] = []
        unreadable: list[str] = []
        outside: list[str] = []
        sources: list[str] = []
        notes: list[str] = []
        for card in self.cards:
            n_invented = card.centres["placeholder"]
            if n_invented:
                invented.append(f"{card.name}: {n_invented} images; give wavelengths_nm")
            unreadable += card.unreadable
            if card.outside:
                outside.append(f"{card.name}: {card.outside}")
            about = card.descriptor.about
            if about.source:
                sources.append(f"{card.title}: {about.source}")
            notes += [f"{card.title}: {note}" for note in about.notes]
        equal = [" = ".join(group) for group in self.equal]
        return {
            "Invented band centres": invented,
            "Equal images": equal,
            "Unreadable": unreadable,
            "Outside of the root": outside,
            "Sources": sources,
            "Notes": notes,
        }


def data_card(config: Config, scan: Scan) -> DataCard:
    """Look into every image of a scan: headers, and one line of values; whole images only where that line is equal."""
    # demo scenes can be made at any time: nothing has to be known of what lies on the disk
    cards = {}
    for name, dataset in config.datasets.items():
        if not dataset.demo:
            cards[name] = Card(name, dataset.described(name))
    for name, card in cards.items():
        dataset = config.datasets[name]
        if dataset.allow_outside and dataset.root:
            of_dataset = [image for image in scan.images if image.dataset == name]
            card.outside = outside_of(dataset.root, of_dataset)
    # images that may be equal: every copy of an image has its first line
    alike: dict[Fingerprint, list[tuple[Image, RawImage]]] = defaultdict(list)
    images = [image for image in scan.images if image.dataset in cards]
    for image in tqdm(images, desc="looking into files", unit="image", disable=not sys.stderr.isatty()):
        card = cards[image.dataset]
        path = Path(image.raw)
        try:
            form = card.descriptor.form_for(path)
            raw = open_raw(path, form)
            line = first_line(raw)
        except RawFileError as error:
            card.unreadable.append(str(error))
            continue
        card.add(raw, confidence_of(form, raw))
        # as float32: the same image may be stored in several types
        as_bytes = line.astype("<f4").tobytes()
        digest = hashlib.sha256(as_bytes).digest()
        alike[raw.shape, digest].append((image, raw))
    equal: list[tuple[str, ...]] = []
    for candidates in alike.values():
        if len(candidates) > 1:  # only these are read as a whole
            equal += [_named(group, cards) for group in _equal(candidates, cards)]
    return DataCard(tuple(cards.values()), tuple(equal))


def _equal(candidates: Sequence[tuple[Image, RawImage]], cards: Mapping[str, Card]) -> list[list[Image]]:
    """Groups of images with the same upright values as float32, whatever their container and type.

    One of them is in memory at a time. What cannot be read to its end becomes unreadable in its card.
    """
    groups: dict[bytes, list[Image]] = defaultdict(list)
    for image, raw in candidates:
        try:
            values = np.ascontiguousarray(raw.read(), dtype="<f4")  # the same bytes on every machine
        except RawFileError as error:
            card = cards[image.dataset]
            card.unreadable.append(str(error))
            card.n_readable -= 1  # its header could be read, so it was counted
            continue
        digest = hashlib.sha256(values.data).digest()
        groups[digest].append(image)
    return [group for group in groups.values() if len(group) > 1]


def _named(group: Sequence[Image], cards: Mapping[str, Card]) -> tuple[str, ...]:
    """Names of equal images, which are counted in their cards."""
    for image in group:  # equal images may lie in several data sets
        cards[image.dataset].n_equal += 1
    return tuple(f"{image.dataset}/{image.image_id}" for image in group)


def _bytes(n: int) -> str:
    """A number of bytes with three digits."""
    size = float(n)
    for unit in UNITS[:-1]:
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} {UNITS[-1]}"


def _inert(text: str) -> str:
    """Text in which Markdown reads no table, link or tag: file names and descriptors are not ours."""
    return MARKUP.sub(r"\\\1", printable(text))


def _section(title: str, lines: Sequence[str]) -> list[str]:
    """Lines of Markdown; none without content."""
    if not lines:
        return []
    listed = [f"- {line}" for line in lines[:LISTED]]
    more = [f"- ... and {len(lines) - LISTED} more"] if len(lines) > LISTED else []
    return [f"\n## {title}\n", *listed, *more]
