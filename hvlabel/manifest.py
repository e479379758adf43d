"""The manifest: every image once, with its shard; appended to, never re-sorted, so that a new image changes one shard."""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from hvlabel.config import Config, Dataset
from hvlabel.errors import ResultsError
from hvlabel.layout import Layout

DEMO_SUFFIXES = {"mosaic16": ".png", "nir25": ".npy", "vis31": ".mat", "vnir128": ".hdr"}


@dataclass(frozen=True)
class Image:
    """One row. raw: path of the raw file; stamp: size and modification time that tell whether it changed."""

    dataset: str
    image_id: str
    shard: str
    raw: str
    stamp: str


@dataclass(frozen=True)
class Scan:
    """All images of a run, and one sentence per data set that has none."""

    images: tuple[Image, ...]
    problems: tuple[str, ...]

    def shards(self) -> list[tuple[str, str]]:
        """Distinct (dataset, shard), in manifest order."""
        return list(dict.fromkeys((i.dataset, i.shard) for i in self.images))

    def in_shard(self, dataset: str, shard: str) -> list[Image]:
        """Images of one shard, in manifest order."""
        return [i for i in self.images if (i.dataset, i.shard) == (dataset, shard)]

    def fingerprint(self, dataset: str, shard: str) -> str:
        """Hash of a shard's rows: changes when an image comes, goes or is replaced."""
        rows = "\n".join("\t".join(astuple(i)) for i in self.in_shard(dataset, shard))
        return hashlib.sha256(rows.encode()).hexdigest()[:16]


def scan(config: Config) -> Scan:
    """Images found now, in the shards that the manifest on disk already gave them; nothing is written.

    Vanished images leave their shard; new ones are appended to the data set's last shard until it is full.
    """
    known = read_manifest(Layout(Path(config.results)).manifest)
    images: list[Image] = []
    problems: list[str] = []
    for name, dataset in config.datasets.items():
        found = _demo_files(name, dataset, Path(config.results)) if dataset.demo else _files(name, dataset, problems)
        earlier = [i for i in known if i.dataset == name]
        rows = [Image(name, i.image_id, i.shard, *found[i.image_id]) for i in earlier if i.image_id in found]
        filled = Counter(int(i.shard) for i in rows)
        shard = max((int(i.shard) for i in earlier), default=0)
        for image_id in sorted(found.keys() - {i.image_id for i in rows}):
            if filled[shard] >= config.run.shard_size:
                shard += 1
            filled[shard] += 1
            rows.append(Image(name, image_id, f"{shard:04d}", *found[image_id]))
        images += rows
    return Scan(tuple(images), tuple(problems))


def read_manifest(path: Path) -> list[Image]:
    """Rows of a manifest; empty if there is none yet."""
    if not path.exists():
        return []
    try:
        rows = list(csv.DictReader(path.read_text().splitlines(), delimiter="\t"))
        return [Image(**{f.name: row[f.name] for f in fields(Image)}) for row in rows]
    except OSError as error:
        raise ResultsError(
            f"{path}: cannot read the manifest ({error.strerror}); check permissions and the setting `results`"
        ) from error
    except KeyError as error:
        raise ResultsError(
            f"{path}: not a manifest of this version (no column {error}); delete it, the scan makes it anew"
        ) from error


def manifest_text(images: Sequence[Image]) -> str:
    """The manifest as tab-separated text."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow([f.name for f in fields(Image)])
    writer.writerows(astuple(i) for i in images)
    return text.getvalue()


def _files(name: str, dataset: Dataset, problems: list[str]) -> dict[str, tuple[str, str]]:
    """image_id -> (raw path, stamp) of a data set's files; a data set without any adds a sentence to `problems`."""
    assert dataset.root is not None  # the data set's validator
    root = Path(dataset.root).expanduser()
    if not root.is_dir():
        problems.append(f"data set {name}: root {root} is no folder; correct datasets.{name}.root or mount the disk")
        return {}
    found: dict[str, tuple[str, str]] = {}
    for path in sorted(p for p in root.glob(dataset.glob) if p.is_file()):
        image_id = "__".join(path.relative_to(root).with_suffix("").parts)
        if image_id in found:
            problems.append(
                f"data set {name}: {path} and {found[image_id][0]} would both be image {image_id}; narrow datasets.{name}.glob"
            )
            continue
        stat = path.stat()
        found[image_id] = (str(path), f"{stat.st_size}-{stat.st_mtime_ns}")
    if not found:
        problems.append(f"data set {name}: no file below {root} matches {dataset.glob!r}; correct datasets.{name}.glob")
    return found


def _demo_files(name: str, dataset: Dataset, results: Path) -> dict[str, tuple[str, str]]:
    """The same for demo scenes, which need not exist yet; their stamp is their recipe."""
    recipe = hashlib.sha256(dataset.model_dump_json().encode()).hexdigest()[:12]
    return {path.stem: (str(path), recipe) for path in demo_paths(name, dataset, results)}


def demo_paths(name: str, dataset: Dataset, results: Path) -> list[Path]:
    """Raw files of a demo data set, whether or not they exist yet."""
    assert dataset.demo is not None
    folder = Layout(results).demo(name) / "raw"
    return [folder / f"{dataset.demo}_{k:02d}{DEMO_SUFFIXES[dataset.demo]}" for k in range(dataset.demo_scenes)]
