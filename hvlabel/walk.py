"""Files below a folder, as people mean it.

Links to folders are followed, hidden and discarded folders are not, capitals do not matter.
"""

from __future__ import annotations

import errno
import os
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

SKIPPED_FOLDERS = ("__macosx", "$recycle.bin", "system volume information", "lost+found")
UNPRINTABLE = ("Cc", "Zl", "Zp")  # Unicode's categories of control characters and of ends of lines and paragraphs

OnError = Callable[[OSError], None]
OnOutside = Callable[[Path], None]
Identity = tuple[int, int]  # device and inode of a folder


def visible_files(root: Path, on_error: OnError | None = None) -> Iterator[Path]:
    """Files and links to files below a folder, in the order of their names.

    on_error : called for a folder that cannot be listed, and for a link that leads nowhere
    """
    for path, is_folder in _Walk((), on_error).below_root(root):
        if not is_folder:
            yield path


class Bounds:
    """What lies below a folder once all links are followed. The folder itself may be a link."""

    def __init__(self, root: Path) -> None:
        self._root = os.path.realpath(root)
        # thousands of files share a folder: its links are followed once. As text, which is hashed at no cost
        self._folders: dict[str, bool] = {}

    def hold(self, path: Path) -> bool:
        """Whether a file or folder lies below the root, whether or not it is there."""
        folder = os.path.dirname(path)
        if folder not in self._folders:
            self._folders[folder] = self._is_below(folder)
        return self._folders[folder] and (not os.path.islink(path) or self._is_below(path))

    def _is_below(self, path: Path | str) -> bool:
        return os.path.commonpath([self._root, os.path.realpath(path)]) == self._root


def matching(
    root: Path, patterns: Sequence[str], on_error: OnError | None = None, on_outside: OnOutside | None = None
) -> list[Path]:
    """Files and folders below root that fit one of some patterns, sorted.

    patterns   : of paths below root; ** stands for any number of folders. Capitals do not matter. What is hidden is
                 found by a pattern whose part begins with a dot.
    on_outside : called for a link that leads out of root, which is then not followed; None: all links are followed
    ValueError for a pattern that leaves root.
    """
    split = [_parts(pattern) for pattern in patterns]
    hidden_names = [part for parts in split for part in parts if part.startswith(".")]

    def report(error: OSError) -> None:
        """Pass on what may have been an image or a folder of images."""
        name = Path(str(error.filename)).name.lower()
        may_be_folder = "." not in name  # a name with a dot is rarely one
        if on_error is not None and (may_be_folder or any(fnmatchcase(name, parts[-1]) for parts in split)):
            on_error(error)

    def report_outside(link: Path) -> None:
        """Pass on a link to a folder, and one to a file that would have been an image."""
        if on_outside is not None and (link.is_dir() or any(fnmatchcase(link.name.lower(), p[-1]) for p in split)):
            on_outside(link)

    fitting = []
    for path, _ in _Walk(hidden_names, report, report_outside if on_outside else None).below_root(root):
        relative = path.relative_to(root).parts
        if any(_fits(relative, parts) for parts in split):
            fitting.append(path)
    return sorted(fitting)


def unreadable_name(path: Path) -> str | None:
    """What is wrong with a file's name, in a few words, or None: a table or a page could not hold it."""
    if str(path).isprintable():
        return None  # nearly all names are; of the others some are allowed
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return "is no UTF-8"
    if any(unicodedata.category(c) in UNPRINTABLE for c in str(path)):
        return "holds a control character"
    return None


@dataclass(frozen=True)
class _Walk:
    """One walk below a folder.

    hidden_names : patterns of hidden names that are walked all the same, in small letters
    on_error     : see visible_files
    on_outside   : see matching
    """

    hidden_names: Sequence[str]
    on_error: OnError | None
    on_outside: OnOutside | None = None

    def below_root(self, root: Path) -> Iterator[tuple[Path, bool]]:
        """Every visible (path, is folder) below a root; OSError if there is none."""
        yield from self._below(root, (_identity(root.stat()),), Bounds(root))

    def _below(self, folder: Path, above: tuple[Identity, ...], bounds: Bounds) -> Iterator[tuple[Path, bool]]:
        """above: the folders on the way, this one included."""
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)  # the same order on every disk
        except OSError as error:
            self._report(error)
            return
        for entry in entries:
            if not self._is_visible(entry.name.lower()):
                continue
            path = folder / entry.name
            try:
                is_folder = entry.is_dir()
                identity = _identity(entry.stat()) if is_folder else None
                is_file = not is_folder and entry.is_file()
            except OSError as error:
                self._report(error)
                continue
            if not is_folder and not is_file:
                if entry.is_symlink():
                    self._report(FileNotFoundError(errno.ENOENT, "a link that leads nowhere", str(path)))
                continue  # else a socket, a pipe or a device
            if self.on_outside is not None and entry.is_symlink() and not bounds.hold(path):
                self.on_outside(path)
                continue
            yield path, is_folder
            if identity is not None and identity not in above:  # a link to a folder above would never end
                yield from self._below(path, (*above, identity), bounds)

    def _is_visible(self, name: str) -> bool:
        """Whether a name in small letters is walked."""
        is_hidden = name.startswith(".") or name in SKIPPED_FOLDERS
        return not is_hidden or any(fnmatchcase(name, pattern) for pattern in self.hidden_names)

    def _report(self, error: OSError) -> None:
        if self.on_error is not None:
            self.on_error(error)


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino


def _parts(pattern: str) -> tuple[str, ...]:
    """The parts of a pattern in small letters."""
    parts = PurePosixPath(pattern).parts
    if not parts or pattern.startswith("/") or ".." in parts:
        raise ValueError(f"pattern {pattern!r} has to name files below the root")
    return tuple(part.lower() for part in parts)


def _fits(path: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the parts of a path fit those of a pattern."""
    if not pattern:
        return not path
    if pattern[0] == "**":
        # stands for no folder, or takes one and stays
        return _fits(path, pattern[1:]) or (bool(path) and _fits(path[1:], pattern))
    return bool(path) and fnmatchcase(path[0].lower(), pattern[0]) and _fits(path[1:], pattern[1:])
