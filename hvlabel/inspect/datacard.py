"""The data card: what of every data set lies on this disk, in the columns of a paper's data table."""

from __future__ import annotations

import hashlib
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from hvlabel.config.tree import Config
from hvlabel.descriptors import Descriptor
from hvlabel.errors import RawFileError
from hvlabel.manifest import Image, Scan
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
LISTED = 50  # entries of a section; the rest is a number

Alike = dict[tuple[tuple[int, ...], bytes], list[tuple[Image, RawImage]]]  # by shape and hash of one line


@dataclass
class Card:
    """One data set.

    equal   : its images whose values some other image, of any data set, has too
    centres : how many images have band centres of which confidence
    """

    name: str
    descriptor: Descriptor
    bands: set[int] = field(default_factory=set)
    range_nm: tuple[float, float] | None = None
    sizes_px: set[tuple[int, int]] = field(default_factory=set)
    n_readable: int = 0
    n_bytes: int = 0
    unreadable: list[str] = field(default_factory=list)
    equal: int = 0
    centres: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class DataCard:
    """Cards in the order of the configuration, and groups of equal images as data set/image."""

    cards: tuple[Card, ...]
    equal: tuple[tuple[str, ...], ...]

    def rows(self) -> list[tuple[str, ...]]:
        """The table, header first."""
        return [COLUMNS, *(_row(card) for card in self.cards)]

    def tsv(self) -> str:
        """The table as tab-separated text."""
        return "".join("\t".join(row) + "\n" for row in self.rows())

    def markdown(self) -> str:
        """The table, then what is equal, what cannot be read and what one should know."""
        head, *rows = ["| " + " | ".join(row) + " |" for row in self.rows()]
        rule = "|" + " --- |" * len(COLUMNS)
        invented = [(card.name, card.centres["placeholder"]) for card in self.cards]
        abouts = [(card.descriptor.about.title or card.name, card.descriptor.about) for card in self.cards]
        sections = {
            "Invented band centres": [f"{name}: {n} images; give wavelengths_nm" for name, n in invented if n],
            "Equal images": [" = ".join(group) for group in self.equal],
            "Unreadable": [reason for card in self.cards for reason in card.unreadable],
            "Sources": [f"{title}: {about.source}" for title, about in abouts if about.source],
            "Notes": [f"{title}: {note}" for title, about in abouts for note in about.notes],
        }
        parts = ["# Data card\n", "\n".join([head, rule, *rows])]
        for title, lines in sections.items():
            parts += _section(title, lines)
        return "\n".join(parts) + "\n"


def data_card(config: Config, scan: Scan) -> DataCard:
    """Look into every image of a scan: headers, and one line of values; whole images only where that line is equal."""
    cards = {name: Card(name, d.described(name)) for name, d in config.datasets.items() if not d.demo}
    images = [i for i in scan.images if i.dataset in cards]
    alike: Alike = defaultdict(list)
    for image in tqdm(images, desc="looking into files", unit="image", disable=not sys.stderr.isatty()):
        try:
            _look_into(image, cards[image.dataset], alike)
        except RawFileError as error:
            cards[image.dataset].unreadable.append(str(error))
    groups: list[list[Image]] = []
    for candidates in alike.values():
        if len(candidates) > 1:
            groups += _equal(candidates, cards)
    for group in groups:
        for image in group:
            cards[image.dataset].equal += 1
    names = [tuple(f"{i.dataset}/{i.image_id}" for i in group) for group in groups]
    return DataCard(tuple(cards.values()), tuple(names))


def _look_into(image: Image, card: Card, alike: Alike) -> None:
    """Enter an image into its data set's card and among those that may equal it; RawFileError if it is damaged."""
    path = Path(image.raw)
    form = card.descriptor.form_for(path)
    raw = open_raw(path, form)
    line = first_line(raw)
    n_bands, height, width = raw.shape
    card.n_readable += 1
    card.centres[confidence_of(form, raw)] += 1
    card.bands.add(n_bands)
    card.sizes_px.add((width, height))
    card.n_bytes += sum(p.stat().st_size for p in raw.files)
    low, high = card.range_nm or (np.inf, -np.inf)
    card.range_nm = (min(low, *raw.wavelengths_nm), max(high, *raw.wavelengths_nm))
    digest = hashlib.sha256(line.astype("<f4").tobytes()).digest()
    alike[raw.shape, digest].append((image, raw))


def _equal(candidates: list[tuple[Image, RawImage]], cards: dict[str, Card]) -> list[list[Image]]:
    """Groups of images with the same upright values as float32, whatever their container and type.

    One of them is in memory at a time.
    """
    groups: dict[bytes, list[Image]] = defaultdict(list)
    for image, raw in candidates:
        try:
            values = np.ascontiguousarray(raw.read(), dtype="<f4")
        except RawFileError as error:
            cards[image.dataset].unreadable.append(str(error))
            cards[image.dataset].n_readable -= 1
            continue
        groups[hashlib.sha256(values.data).digest()].append(image)
    return [group for group in groups.values() if len(group) > 1]


def _row(card: Card) -> tuple[str, ...]:
    """The card's line of the table; where no image could be read, what the descriptor expects."""
    about = card.descriptor.about
    bands = ", ".join(map(str, sorted(card.bands)))
    centres = ", ".join(sorted(card.centres))
    return (
        about.title or card.name,
        bands or str(about.bands or ""),
        "" if card.range_nm is None else f"{card.range_nm[0]:.0f}-{card.range_nm[1]:.0f}",
        centres or card.descriptor.wavelength_confidence or "",
        str(card.n_readable),
        str(about.images or ""),
        _resolution(card.sizes_px),
        _bytes(card.n_bytes),
        str(len(card.unreadable) or ""),
        str(card.equal or ""),
        about.licence or "",
    )


def _resolution(sizes_px: set[tuple[int, int]]) -> str:
    """Smallest and largest width x height; both sides by themselves, since images may lie or stand."""
    if not sizes_px:
        return ""
    widths, heights = zip(*sizes_px, strict=True)
    smallest = f"{min(widths)}x{min(heights)}"
    return smallest if len(sizes_px) == 1 else f"{smallest} to {max(widths)}x{max(heights)}"


def _bytes(n: int) -> str:
    """A size with its unit."""
    size = float(n)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} TiB"


def _section(title: str, lines: list[str]) -> list[str]:
    if not lines:
        return []
    more = [f"- ... and {len(lines) - LISTED} more"] if len(lines) > LISTED else []
    return [f"\n## {title}\n", *(f"- {line}" for line in lines[:LISTED]), *more]
