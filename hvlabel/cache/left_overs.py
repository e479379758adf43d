"""What killed processes leave behind: half made outputs under private names, in every folder that is written to."""

from __future__ import annotations

import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from hvlabel.cache.publish import host_part

# .NAME.HOST-PID.tmp, of which .old is an output that a newer one was about to replace; before, without a host
PRIVATE = re.compile(r"^\..+\.(?:(?P<host>[\w-]+)-)?(?P<pid>\d+)\.(?:tmp|old)$", re.ASCII)
FOREIGN_AGE_S = 86_400.0  # of what a process of another machine left: nobody writes an output for a day


def left_overs(root: Path) -> Iterator[Path]:
    """Private files and folders below a results folder, whoever's they are; links are not followed."""
    try:
        entries = sorted(os.scandir(root), key=lambda entry: entry.name)
    except OSError:  # gone, or not ours to read: then it is not ours to clean either
        return
    for entry in entries:
        if PRIVATE.match(entry.name):
            yield Path(entry.path)
        # a group is published as a whole: nothing private is in it, and its files may be thousands
        elif entry.is_dir(follow_symlinks=False) and not entry.name.endswith(".zarr"):
            yield from left_overs(Path(entry.path))


def is_abandoned(path: Path) -> bool:
    """Whether the process that a private name tells of is gone; of another machine's, whether it is a day old."""
    name = PRIVATE.match(path.name)
    assert name is not None
    if name["host"] in (None, host_part(socket.gethostname())):
        return not _lives(int(name["pid"]))
    try:
        return time.time() - path.stat().st_mtime > FOREIGN_AGE_S
    except OSError:
        return False  # gone meanwhile


def sweep(root: Path) -> list[Path]:
    """Remove what is abandoned below a results folder; what was removed."""
    removed = []
    for path in left_overs(root):
        if not is_abandoned(path):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        removed.append(path)
    return removed


def _lives(pid: int) -> bool:
    """Whether there is a process of this number on this machine, whoever's it is."""
    try:
        os.kill(pid, 0)  # signal 0 is sent to nobody: it only asks
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True
