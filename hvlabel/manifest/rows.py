"""The manifest's rows: every image once, with its shard."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from operator import attrgetter
from pathlib import Path

import google_crc32c

from hvlabel.errors import ResultsError

_TO_QUOTE = re.compile(r'[\t"\r\n]')
FINGERPRINT_CHARS = 16  # of a sha256: enough to tell a change


@dataclass(frozen=True)
class Image:
    """One row.

    raw, companion : paths of the raw file and of its RGB picture ("" without one)
    stamp          : hash of the sizes and times of all files that a reader may open for it: tells whether they changed
    prompts        : path of the file with what people drew on the image ("" without a rule), and its stamp
    """

    dataset: str
    image_id: str
    shard: str
    raw: str
    companion: str
    stamp: str
    prompts: str = ""
    prompts_stamp: str = ""

    def drawn(self) -> tuple[str, str]:
        """What the branch `prompts` alone depends on."""
        return self.prompts, self.prompts_stamp


COLUMNS = tuple(f.name for f in fields(Image))
_cells = attrgetter(
    *COLUMNS
)  # of an image, as a tuple; dataclasses.astuple copies deeply, for a tenth of a scan's time
CHECKSUM = "crc32c"  # the column after them; manifests of older versions lack it
PROMPTS_FROM = COLUMNS.index("prompts")  # columns from here on are no part of an image's cube


@dataclass(frozen=True)
class Scan:
    """All images of a run, and one sentence per data set that has none.

    remembered : earlier rows of such data sets: their disk may only be away, and their images shall keep their shards
    """

    images: tuple[Image, ...]
    problems: tuple[str, ...]
    remembered: tuple[Image, ...] = ()

    def table(self) -> str:
        """The manifest as tab-separated text. Every row ends with a checksum of its other cells."""
        rows = [_cells(image) for image in (*self.images, *self.remembered)]
        sealed = [(*COLUMNS, CHECKSUM), *((*row, _checksum(row)) for row in rows)]
        return "".join("\t".join(map(_quoted, row)) + "\n" for row in sealed)

    def shards(self) -> list[tuple[str, str]]:
        """Distinct (dataset, shard), in manifest order."""
        return list(dict.fromkeys((image.dataset, image.shard) for image in self.images))

    def in_shard(self, dataset: str, shard: str) -> list[Image]:
        """Images of one shard, in manifest order."""
        return self._by_shard.get((dataset, shard), [])

    @cached_property
    def _by_shard(self) -> dict[tuple[str, str], list[Image]]:
        """Images of every shard; made once, since the workflow asks for each shard several times."""
        images: dict[tuple[str, str], list[Image]] = {}
        for image in self.images:
            images.setdefault((image.dataset, image.shard), []).append(image)
        return images

    def fingerprint(self, dataset: str, shard: str) -> str:
        """Hash of a shard's rows: changes when an image comes, goes or is replaced."""
        return _fingerprint(_cells(image)[:PROMPTS_FROM] for image in self.in_shard(dataset, shard))

    def drawn_fingerprint(self, dataset: str, shard: str) -> str:
        """Hash of a shard's prompts: changes when one comes, goes or is replaced."""
        return _fingerprint(image.drawn() for image in self.in_shard(dataset, shard))


def read_manifest(path: Path | str) -> list[Image]:
    """Rows of a manifest; empty if there is none yet."""
    path = Path(path)
    try:
        if not path.exists():
            return []  # before the first scan
        # the ends of lines as they are: a cell may hold one, and str.splitlines() knows eight more
        text = io.StringIO(path.read_bytes().decode(), newline="")
        table = csv.DictReader(text, delimiter="\t", strict=True)
        if unknown := set(table.fieldnames or ()) - {*COLUMNS, CHECKSUM}:
            raise ValueError(f"its column {sorted(unknown)[0]!r} is unknown")
        return [_image(row) for row in table]
    except OSError as error:
        raise ResultsError(
            f"{path}: cannot read the manifest ({error.strerror}); check permissions and the setting `results`"
        ) from error
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise ResultsError(
            f"{path}: not a manifest of this version ({str(error)[:60]}); delete it, the scan makes it anew"
        ) from error


def _image(row: Mapping[str, str]) -> Image:
    """A row of the table; KeyError for a missing column, but for those of prompts, which older manifests lack.

    ValueError for a row that was cut off.
    """
    cells = [row[column] for column in COLUMNS[:PROMPTS_FROM]]
    cells += [row.get(column) or "" for column in COLUMNS[PROMPTS_FROM:]]
    if None in cells:
        raise ValueError("a row is cut off")
    image = Image(*cells)
    int(image.shard)  # a number, or ValueError
    if CHECKSUM in row and row[CHECKSUM] != _checksum(cells):
        raise ValueError(f"the row of {image.dataset}/{image.image_id} is damaged")
    return image


def _checksum(cells: Sequence[str]) -> str:
    """Eight hexadecimal digits over some cells. Names that are not UTF-8 are no part of a manifest."""
    return f"{google_crc32c.value(chr(0).join(cells).encode()):08x}"


def _quoted(cell: str) -> str:
    """A cell as csv reads it back; csv.writer would leave a carriage return without quotes."""
    if not _TO_QUOTE.search(cell):
        return cell
    return '"' + cell.replace('"', '""') + '"'


def _fingerprint(rows: Iterable[Sequence[str]]) -> str:
    """Hash of some cells of some rows."""
    text = "\n".join("\t".join(cells) for cells in rows)
    return hashlib.sha256(text.encode()).hexdigest()[:FINGERPRINT_CHARS]
