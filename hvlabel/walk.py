"""Files below a folder, as people mean it: links to folders are followed, hidden and discarded ones are not, capitals do not matter."""

from __future__ import annotations

import errno
import os
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

SKIPPED_FOLDERS = ("__macosx", "$recycle.bin", "system volume information", "lost+found")


def visible_files(root: Path, on_error: Callable[[OSError], None] | None = None) -> Iterator[Path]:
    """Files and links to files below a folder, in the order of their names.

    on_error : called for a folder that cannot be listed, and for a link that leads nowhere
    """
    for path, is_folder in _walk(root, (), on_error):
        if not is_folder:
            yield path


def matching(root: Path, patterns: Sequence[str], on_error: Callable[[OSError], None] | None = None) -> list[Path]:
    """Files and folders below root that fit one of some patterns, sorted.

    patterns : of paths below root; ** stands for any number of folders. Capitals do not matter. What is hidden is found by a
               pattern whose part begins with a dot.
    ValueError for a pattern that leaves root.
    """
    split = [_parts(pattern) for pattern in patterns]

    def told(error: OSError) -> None:
        """Pass on what may have been an image or a folder of images."""
        name = Path(str(error.filename)).name.lower()
        if on_error is not None and ("." not in name or any(fnmatchcase(name, parts[-1]) for parts in split)):
            on_error(error)

    hidden = any(part.startswith(".") for parts in split for part in parts)
    return sorted(
        path
        for path, _ in _walk(root, split if hidden else (), told)
        if any(_fits(path.relative_to(root).parts, parts) for parts in split)
    )


def unreadable_name(path: Path) -> str | None:
    """What is wrong with a file's name, in a few words, or None: a table or a page could not hold it."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return "is no UTF-8"
    if any(unicodedata.category(c) in ("Cc", "Zl", "Zp") for c in str(path)):
        return "holds a control character"
    return None


def _walk(
    root: Path, shown: Sequence[tuple[str, ...]], on_error: Callable[[OSError], None] | None
) -> Iterator[tuple[Path, bool]]:
    """Every visible (path, is folder) below root. shown: patterns that may name hidden parts."""

    named_hidden = [part for parts in shown for part in parts if part.startswith(".")]

    def below(folder: Path, above: tuple[tuple[int, int], ...]) -> Iterator[tuple[Path, bool]]:
        try:
            entries = sorted(os.scandir(folder), key=lambda e: e.name)
        except OSError as error:
            if on_error is not None:
                on_error(error)
            return
        for entry in entries:
            name = entry.name.lower()
            if _is_hidden(name) and not any(fnmatchcase(name, part) for part in named_hidden):
                continue
            path = folder / entry.name
            try:
                is_folder = entry.is_dir()
                status = entry.stat() if is_folder else None
                if not is_folder and not entry.is_file():
                    if entry.is_symlink() and on_error is not None:
                        on_error(FileNotFoundError(errno.ENOENT, "a link that leads nowhere", str(path)))
                    continue
            except OSError as error:
                if on_error is not None:
                    on_error(error)
                continue
            yield path, is_folder
            if status is not None:
                identity = (status.st_dev, status.st_ino)
                if identity not in above:  # a link to a folder above would never end
                    yield from below(path, (*above, identity))

    status = root.stat()
    yield from below(root, ((status.st_dev, status.st_ino),))


def _is_hidden(name: str) -> bool:
    """Whether a name in small letters is that of a hidden or discarded file or folder."""
    return name.startswith(".") or name in SKIPPED_FOLDERS


def _parts(pattern: str) -> tuple[str, ...]:
    parts = PurePosixPath(pattern).parts
    if not parts or pattern.startswith("/") or ".." in parts:
        raise ValueError(f"pattern {pattern!r} has to name files below the root")
    return tuple(part.lower() for part in parts)


def _fits(path: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the parts of a path fit those of a pattern."""
    if not pattern:
        return not path
    if pattern[0] == "**":
        return _fits(path, pattern[1:]) or (bool(path) and _fits(path[1:], pattern))
    return bool(path) and fnmatchcase(path[0].lower(), pattern[0]) and _fits(path[1:], pattern[1:])
