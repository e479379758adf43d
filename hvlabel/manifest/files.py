"""Which files of a data set are images, and what belongs to each of them."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISREG
from typing import NamedTuple

from hvlabel.config import Dataset
from hvlabel.demo.paths import demo_paths
from hvlabel.descriptors import BAND_FILES, Descriptor, Form
from hvlabel.errors import ConfigError
from hvlabel.layout import MAX_NAME_BYTES
from hvlabel.walk import Bounds, matching, unreadable_name

Wrong = tuple[str, str]  # advice, what is wrong
STAMP_CHARS = 12  # of a sha256: enough to tell a change


class Files(NamedTuple):
    """What a row says of an image's files, see Image."""

    raw: str
    companion: str
    stamp: str
    prompts: str = ""
    prompts_stamp: str = ""


@dataclass
class _Rows:
    """What becomes of the paths of one data set.

    by_id    : image_id -> its files
    left_out : advice -> what is wrong with each of the files that it is for
    """

    by_id: dict[str, Files] = field(default_factory=dict)
    left_out: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def leave_out(self, advice: str, wrong: str) -> None:
        """Count a file that is no image."""
        self.left_out[advice].append(wrong)


def files_of(name: str, dataset: Dataset, results: Path) -> tuple[Mapping[str, Files], list[str]]:
    """image_id -> its files, and a sentence for whatever is left out or cannot be read.

    name    : of the data set
    results : the results folder, below which demo scenes lie
    """
    if dataset.demo is not None:
        return _demo_files(name, dataset, results), []
    assert dataset.root is not None  # the data set's validator
    root, descriptor = Path(os.path.expanduser(dataset.root)), dataset.described(name)
    patterns = [dataset.glob] if dataset.glob else [f"**/{form.files}" for form in descriptor.forms if form.files]
    if not patterns:
        raise ConfigError(
            f"data set {name}: its descriptor has no `files`; say by datasets.{name}.glob which are images"
        )
    sought = " or ".join(map(repr, patterns))  # for messages
    unlisted: list[OSError] = []
    outside: list[Path] = []  # links
    # a disk that is away must not stop the other data sets: whatever goes wrong with the folder is a sentence
    try:
        if not root.is_dir():
            return {}, [
                f"data set {name}: root {_printable(root)} is no folder; correct datasets.{name}.root or mount the disk"
            ]
        on_outside = None if dataset.allow_outside else outside.append
        matches = matching(root, patterns, unlisted.append, on_outside)
        paths = _every((path for path in matches if _is_image(path, descriptor)), descriptor.every)
        rows = _rows(name, root, descriptor, paths, None if dataset.allow_outside else Bounds(root))
    except (OSError, ValueError) as error:
        return {}, [
            f"data set {name}: cannot list {sought} below {_printable(root)} ({str(error)[:80]}); "
            f"correct datasets.{name}.root or .glob"
        ]
    problems = []
    if unlisted:
        example = unlisted[0]  # one of them: a broken mount has thousands
        problems.append(
            f"data set {name}: {len(unlisted)} folders or links cannot be read, e.g. {_printable(example.filename)} "
            f"({example.strerror}); check permissions and mounts"
        )
    if outside:
        problems.append(
            f"data set {name}: {len(outside)} links below {_printable(root)} lead out of it and are not followed, e.g. "
            f"{_printable(outside[0])} to {_printable(os.path.realpath(outside[0]))}; if images lie there, set "
            f"datasets.{name}.allow_outside: true"
        )
    for advice, wrong in rows.left_out.items():
        problems.append(f"data set {name}: {len(wrong)} files left out: {wrong[0]}; {advice}")
    if not rows.by_id:
        problems.append(
            f"data set {name}: nothing below {_printable(root)} matches {sought}; correct datasets.{name}.glob"
        )
    return rows.by_id, problems


def _rows(name: str, root: Path, descriptor: Descriptor, paths: Sequence[Path], bounds: Bounds | None) -> _Rows:
    """The rows of some images below a root.

    name   : of the data set
    bounds : what all files of an image have to lie in; None: anywhere
    """
    related = _related({path.parent for path in paths})
    rows = _Rows()
    for path in paths:
        is_folder = path.is_dir()
        image_id = _image_id(path, root, is_folder=is_folder)
        wrong = _wrong_with_name(name, path, image_id, rows)
        if wrong is not None:
            rows.leave_out(*wrong)
            continue
        try:
            own_files = list(path.iterdir()) if is_folder else related[os.path.join(os.path.dirname(path), path.stem)]
            files = _of_image(path, descriptor.form_for(path), own_files)
        except OSError as error:  # of one image: its companion's name is too long, its folder cannot be read
            rows.leave_out("check names and permissions", f"{path}: {_printable(error.filename)} ({error.strerror})")
            continue
        wrong = _wrong_with_files(name, root, files, own_files, bounds)
        if wrong is not None:
            rows.leave_out(*wrong)
            continue
        rows.by_id[image_id] = files
    return rows


def _wrong_with_name(name: str, path: Path, image_id: str, rows: _Rows) -> Wrong | None:
    """Why no image can be called as this file is. name: of the data set."""
    problem = unreadable_name(path)  # such a name would break the table's lines
    if problem is not None:
        return "rename them", f"the name of {_printable(path)} {problem}"
    if image_id in rows.by_id:  # a.mat and a.h5: one of them would overwrite the other's cube
        both = f"{path} and {rows.by_id[image_id].raw}"
        return f"narrow datasets.{name}.glob", f"{both} would both be image {image_id}"
    n_bytes = len(f"{name}__{image_id}.png".encode())  # the longest name made of it: the report's picture
    if n_bytes > MAX_NAME_BYTES:
        wrong = f"{path} would give an output a name of {n_bytes} bytes, a disk takes {MAX_NAME_BYTES}"
        return "shorten the names of files or folders", wrong
    return None


def _wrong_with_files(
    name: str, root: Path, files: Files, own_files: Sequence[Path], bounds: Bounds | None
) -> Wrong | None:
    """Why an image cannot be read with what belongs to it. name: of the data set; bounds: see _rows."""
    beside = [Path(given) for given in (files.companion, files.prompts) if given]
    for path in beside:  # the table holds their paths too
        problem = unreadable_name(path)
        if problem is not None:
            wrong = f"of what belongs to {files.raw}, the name {problem}"
            return "correct rgb_companion or prompts of the descriptor", wrong
    for path in (*own_files, *beside):
        if bounds is not None and not bounds.hold(path):
            wrong = f"{files.raw} is read with {_printable(path)}, which lies outside of {root}"
            return f"choose a root that holds both, or set datasets.{name}.allow_outside: true", wrong
    return None


def _image_id(path: Path, root: Path, *, is_folder: bool) -> str:
    """The path below the root without a file's suffix; folders may have dots in their names."""
    *folders, name = path.relative_to(root).parts
    return "__".join((*folders, name if is_folder else path.stem))


def _of_image(path: Path, form: Form, own_files: Sequence[Path]) -> Files:
    """What a row says of an image. own_files: all that a reader may open for it."""
    companion, prompts = form.companion_of(path), form.prompts_of(path)
    if prompts and form.prompts and form.prompts.optional and not prompts.is_file():
        prompts = None  # nobody drew on this image; without `optional` its absence is an error later
    with_companion = [*own_files, companion] if companion and companion.is_file() else own_files
    return Files(
        raw=str(path),
        companion=str(companion or ""),
        stamp=_stamp(with_companion),
        prompts=str(prompts or ""),
        prompts_stamp=_stamp([prompts]) if prompts else "",
    )


def _printable(path: Path | str) -> str:
    """A path as text that can be printed, whatever its bytes are."""
    return ascii(str(path)) if unreadable_name(Path(path)) else str(path)


def _is_image(path: Path, descriptor: Descriptor) -> bool:
    """Whether a match is what its form expects: a file, or a folder that directly holds band pictures."""
    if descriptor.form_for(path).is_folder:
        return path.is_dir() and any(path.glob(BAND_FILES))
    status = _status(path)
    return status is not None and S_ISREG(status.st_mode) and status.st_size >= descriptor.min_kib << 10


def _every(paths: Iterable[Path], n: int) -> list[Path]:
    """Every n-th path of each folder, the first included."""
    if n == 1:
        return list(paths)
    n_passed: Counter[Path] = Counter()
    kept = []
    for path in paths:
        if n_passed[path.parent] % n == 0:
            kept.append(path)
        n_passed[path.parent] += 1
    return kept


def _related(folders: Iterable[Path]) -> dict[str, list[Path]]:
    """Path without suffixes -> all files that belong to an image of that stem: so called, or with suffixes added to it.

    So s.raw.hdr belongs to s and to s.raw; one file too many only makes a job look once more. One listing per folder.
    """
    named: dict[str, list[Path]] = defaultdict(list)  # by text: paths are slow to compare
    for folder in folders:
        for path in folder.iterdir():
            stem = str(path)
            n_dots = path.name.count(".")
            named[stem].append(path)
            for _ in range(n_dots):
                stem = stem.rpartition(".")[0]
                named[stem].append(path)
    return named


def _stamp(files: Iterable[Path]) -> str:
    """Hash of the names, sizes and times of those files that are there."""
    stats = []  # not the content: 15,000 images are stamped at every start
    for path in files:
        status = _status(path)
        if status is not None:
            stats.append((path.name, status.st_size, status.st_mtime_ns))
    return hashlib.sha256(repr(sorted(stats)).encode()).hexdigest()[:STAMP_CHARS]


def _status(path: Path) -> os.stat_result | None:
    """None for a broken link or a file that has just gone."""
    try:
        return path.stat()
    except OSError:
        return None


def _demo_files(name: str, dataset: Dataset, results: Path) -> dict[str, Files]:
    """image_id -> files of demo scenes, which need not exist yet; their stamp is their recipe."""
    recipe = hashlib.sha256(dataset.model_dump_json().encode()).hexdigest()[:STAMP_CHARS]
    return {path.stem: Files(str(path), "", recipe) for path in demo_paths(name, dataset, results)}
