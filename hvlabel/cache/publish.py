"""Atomic publication: a reader sees the old file, the new file or none, never half of one."""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from hvlabel.errors import ResultsError
from hvlabel.layout import MAX_NAME_BYTES

MAX_HOST_CHARACTERS = 40


def make_folder(folder: Path) -> None:
    """Make a folder and its parents; ResultsError if that is not allowed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResultsError(
            f"{folder}: cannot make the folder ({error.strerror}); check permissions and the setting `results`"
        ) from error


def temporary_beside(path: Path) -> Path:
    """A private name in the same folder, so that the final rename stays on one file system; the folder is made."""
    make_folder(path.parent)
    return path.with_name(private_name(path.name, "tmp"))


def host_part(host: str) -> str:
    """A machine's name as it stands in private names: without dots, which part them."""
    plain = re.sub(r"[^\w-]", "-", host, flags=re.ASCII)
    return plain[:MAX_HOST_CHARACTERS]


def private_name(name: str, kind: str) -> str:
    """`.NAME.HOST-PID.KIND`: what no other process uses, of any machine that writes to the same disk.

    A name that would become too long for a disk is cut off.
    """
    ending = f".{host_part(socket.gethostname())}-{os.getpid()}.{kind}"
    room_bytes = MAX_NAME_BYTES - len(ending) - 1  # of the dot in front
    cut = name.encode()[:room_bytes]
    return "." + cut.decode(errors="ignore") + ending  # ignored: the rest of a character that was cut in two


def publish_bytes(path: Path, content: bytes) -> None:
    """Write a file: temporary name, fsync, rename, fsync of the folder."""
    temporary = temporary_beside(path)
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # else a crash may leave the new name with no content
        temporary.replace(path)  # in one step: readers see the older content or this one
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ResultsError(
            f"{path}: cannot write ({error.strerror}); check space, permissions and the setting `results`"
        ) from error
    _sync(path.parent)


def publish_folder(temporary: Path, path: Path) -> None:
    """Move a finished folder (a Zarr group) into place; an older one of the same name is removed."""
    # before the folder has its name: after a crash what has the name is whole
    for file in files_below(temporary):
        _sync(file)
    if path.exists():
        # folders cannot be replaced in one step: the older one steps aside first
        grave = path.with_name(private_name(path.name, "old"))
        path.rename(grave)
        temporary.rename(path)
        shutil.rmtree(grave)
    else:
        temporary.rename(path)
    _sync(path.parent)


def files_below(folder: Path | str) -> Iterator[str]:
    """Path of every file below a folder, in no order."""
    for where, _, names in os.walk(folder):
        for name in names:
            yield os.path.join(where, name)


def _sync(path: Path | str) -> None:
    """Make a file's content last; of a folder its names, since a rename is written with it and not with the file."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
