"""The manifest: every image once, with its shard; appended to, never re-sorted, so that a new image changes one shard."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections import Counter, defaultdict
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from hvlabel.config import Dataset
from hvlabel.config.tree import Config
from hvlabel.descriptors import BAND_FILES, Descriptor
from hvlabel.errors import ConfigError, ResultsError
from hvlabel.layout import Layout
from hvlabel.walk import matching, unreadable_name

DEMO_SUFFIXES = {"mosaic16": ".png", "nir25": ".npy", "vis31": ".mat", "vnir61": ".tif", "vnir128": ".hdr"}


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


PROMPTS_FROM = [f.name for f in fields(Image)].index("prompts")  # columns from here on are no part of an image's cube


@dataclass(frozen=True)
class Scan:
    """All images of a run, and one sentence per data set that has none.

    remembered : earlier rows of such data sets: their disk may only be away, and their images shall keep their shards
    """

    images: tuple[Image, ...]
    problems: tuple[str, ...]
    remembered: tuple[Image, ...] = ()

    def table(self) -> str:
        """The manifest as tab-separated text."""
        text = io.StringIO()
        writer = csv.writer(text, delimiter="\t", lineterminator="\n")
        writer.writerow([f.name for f in fields(Image)])
        writer.writerows(astuple(i) for i in (*self.images, *self.remembered))
        return text.getvalue()

    def shards(self) -> list[tuple[str, str]]:
        """Distinct (dataset, shard), in manifest order."""
        return list(dict.fromkeys((i.dataset, i.shard) for i in self.images))

    def in_shard(self, dataset: str, shard: str) -> list[Image]:
        """Images of one shard, in manifest order."""
        return [i for i in self.images if (i.dataset, i.shard) == (dataset, shard)]

    def fingerprint(self, dataset: str, shard: str) -> str:
        """Hash of a shard's rows: changes when an image comes, goes or is replaced."""
        rows = "\n".join("\t".join(astuple(i)[:PROMPTS_FROM]) for i in self.in_shard(dataset, shard))
        return hashlib.sha256(rows.encode()).hexdigest()[:16]

    def drawn_fingerprint(self, dataset: str, shard: str) -> str:
        """Hash of a shard's prompts: changes when one comes, goes or is replaced."""
        rows = "\n".join("\t".join(i.drawn()) for i in self.in_shard(dataset, shard))
        return hashlib.sha256(rows.encode()).hexdigest()[:16]


def scan(config: Config) -> Scan:
    """Images found now, in the shards that the manifest on disk already gave them; nothing is written.

    Vanished images leave their shard; new ones are appended to the data set's last shard until it is full.
    """
    known = read_manifest(Layout(Path(config.results)).manifest)
    images: list[Image] = []
    remembered: list[Image] = []
    problems: list[str] = []
    for name, dataset in config.datasets.items():
        found = _demo_files(name, dataset, Path(config.results)) if dataset.demo else _files(name, dataset, problems)
        earlier = [i for i in known if i.dataset == name]
        if not found:
            remembered += earlier
            continue
        rows = [Image(name, i.image_id, i.shard, *found[i.image_id]) for i in earlier if i.image_id in found]
        filled = Counter(int(i.shard) for i in rows)
        shard = max((int(i.shard) for i in earlier), default=0)
        for image_id in sorted(found.keys() - {i.image_id for i in rows}):
            if filled[shard] >= config.run.shard_size:
                shard += 1
            filled[shard] += 1
            rows.append(Image(name, image_id, f"{shard:04d}", *found[image_id]))
        images += rows
    return Scan(tuple(images), tuple(problems), tuple(remembered))


def read_manifest(path: Path) -> list[Image]:
    """Rows of a manifest; empty if there is none yet."""
    try:
        if not path.exists():
            return []
        rows = list(csv.DictReader(path.read_text().splitlines(), delimiter="\t"))
        return [
            Image(
                **{
                    f.name: row[f.name] if k < PROMPTS_FROM else row.get(f.name) or ""
                    for k, f in enumerate(fields(Image))
                }
            )
            for row in rows
        ]
    except OSError as error:
        raise ResultsError(
            f"{path}: cannot read the manifest ({error.strerror}); check permissions and the setting `results`"
        ) from error
    except (KeyError, TypeError, ValueError) as error:
        raise ResultsError(
            f"{path}: not a manifest of this version ({str(error)[:60]}); delete it, the scan makes it anew"
        ) from error


def _files(name: str, dataset: Dataset, problems: list[str]) -> dict[str, tuple[str, ...]]:
    """image_id -> (raw path, companion, stamp, prompts, their stamp); what is left out adds sentences to `problems`."""
    assert dataset.root is not None  # the data set's validator
    root, descriptor = Path(dataset.root).expanduser(), dataset.described(name)
    patterns = [dataset.glob] if dataset.glob else [f"**/{f.files}" for f in descriptor.forms if f.files]
    if not patterns:
        raise ConfigError(
            f"data set {name}: its descriptor has no `files`; say by datasets.{name}.glob which are images"
        )
    sought = " or ".join(map(repr, patterns))
    unlisted: list[OSError] = []
    try:
        if not root.is_dir():
            problems.append(
                f"data set {name}: root {_shown(root)} is no folder; correct datasets.{name}.root or mount the disk"
            )
            return {}
        paths = [p for p in matching(root, patterns, unlisted.append) if _is_image(p, descriptor)]
        found, left_out = _rows(name, root, descriptor, _every(paths, descriptor.every))
    except (OSError, ValueError) as error:
        problems.append(
            f"data set {name}: cannot list {sought} below {_shown(root)} ({str(error)[:80]}); correct datasets.{name}.root or .glob"
        )
        return {}
    if unlisted:
        problems.append(
            f"data set {name}: {len(unlisted)} folders or links cannot be read, e.g. {_shown(unlisted[0].filename)} "
            f"({unlisted[0].strerror}); check permissions and mounts"
        )
    for advice, examples in left_out.items():
        problems.append(f"data set {name}: {len(examples)} files left out: {examples[0]}; {advice}")
    if not found:
        problems.append(f"data set {name}: nothing below {_shown(root)} matches {sought}; correct datasets.{name}.glob")
    return found


def _rows(
    name: str, root: Path, descriptor: Descriptor, paths: list[Path]
) -> tuple[dict[str, tuple[str, ...]], dict[str, list[str]]]:
    """image_id -> columns of its row, and the files left out: advice -> what is wrong with each. name: of the data set."""
    related = _related({p.parent for p in paths})
    found: dict[str, tuple[str, ...]] = {}
    left_out: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        wrong = unreadable_name(path)
        if wrong is not None:
            left_out["rename them"].append(f"the name of {_shown(path)} {wrong}")
            continue
        relative = path.relative_to(root)
        image_id = "__".join((relative if path.is_dir() else relative.with_suffix("")).parts)
        if image_id in found:
            both = f"{path} and {found[image_id][0]} would both be image {image_id}"
            left_out[f"narrow datasets.{name}.glob"].append(both)
            continue
        form = descriptor.form_for(path)
        companion, drawn = form.companion_of(path), form.prompts_of(path)
        if drawn and form.prompts and form.prompts.optional and not drawn.is_file():
            drawn = None
        own = list(path.iterdir()) if path.is_dir() else related[path.parent, path.stem]
        files = [*own, *([companion] if companion and companion.is_file() else [])]
        found[image_id] = (
            str(path),
            str(companion or ""),
            _stamp(files),
            str(drawn or ""),
            _stamp([drawn]) if drawn else "",
        )
    return found, left_out


def _shown(path: Path | str) -> str:
    """A path as text that can be printed, whatever its bytes are."""
    return ascii(str(path)) if unreadable_name(Path(path)) else str(path)


def _is_image(path: Path, descriptor: Descriptor) -> bool:
    """Whether a match is what its form expects: a file, or a folder that directly holds band pictures."""
    if descriptor.form_for(path).is_folder:
        return path.is_dir() and any(path.glob(BAND_FILES))
    status = _status(path)
    return path.is_file() and status is not None and status.st_size >= descriptor.min_kib << 10


def _every(paths: list[Path], n: int) -> list[Path]:
    """Every n-th path of each folder, the first included."""
    seen: Counter[Path] = Counter()
    kept = []
    for path in paths:
        if seen[path.parent] % n == 0:
            kept.append(path)
        seen[path.parent] += 1
    return kept


def _related(folders: set[Path]) -> dict[tuple[Path, str], list[Path]]:
    """(folder, name) -> all files that belong to an image of that stem: of this name, or with suffixes added to it.

    So s.raw.hdr belongs to s and to s.raw; one file too many only makes a job look once more. One listing per folder.
    """
    named: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    for folder in folders:
        for path in folder.iterdir():
            name = path.name
            while name:
                named[folder, name].append(path)
                name = name.rpartition(".")[0]
    return named


def _stamp(files: list[Path]) -> str:
    stats = sorted((p.name, s.st_size, s.st_mtime_ns) for p in files if (s := _status(p)) is not None)
    return hashlib.sha256(repr(stats).encode()).hexdigest()[:12]


def _status(path: Path) -> os.stat_result | None:
    """None for a broken link or a file that has just gone."""
    try:
        return path.stat()
    except OSError:
        return None


def _demo_files(name: str, dataset: Dataset, results: Path) -> dict[str, tuple[str, str, str]]:
    """The same for demo scenes, which need not exist yet; their stamp is their recipe."""
    recipe = hashlib.sha256(dataset.model_dump_json().encode()).hexdigest()[:12]
    return {path.stem: (str(path), "", recipe) for path in demo_paths(name, dataset, results)}


def demo_paths(name: str, dataset: Dataset, results: Path) -> list[Path]:
    """Raw files of a demo data set, whether or not they exist yet."""
    assert dataset.demo is not None
    folder = Layout(results).demo(name) / "raw"
    return [folder / f"{dataset.demo}_{k:02d}{DEMO_SUFFIXES[dataset.demo]}" for k in range(dataset.demo_scenes)]
