"""Which run is at work on a results folder: one at a time, and a killed one stands in nobody's way."""

from __future__ import annotations

import atexit
import contextlib
import errno
import fcntl
import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from hvlabel.cache.publish import make_folder
from hvlabel.errors import BusyError, ResultsError
from hvlabel.layout import Layout

SNAKEMAKE_LOCKS = Path(".snakemake/locks")  # below the folder that snakemake is started in
NO_LOCKS_HERE = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # said by disks that cannot lock
TRIES, TRY_EVERY_S = 20, 0.1  # a run is anonymous for a few microseconds
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_held: dict[Path, int] = {}  # file -> its descriptor, whose lock lasts as long as this process


@dataclass(frozen=True)
class Holder:
    """A run.

    boot    : what the kernel calls its start, shared by the containers of a machine; "" where it does not tell
    started : start of the process, ticks since that: a later process may have the same pid; 0 where nobody tells
    since   : local time, for people
    folder  : where it was started
    """

    host: str
    boot: str
    pid: int
    started: int
    since: str
    folder: str

    @classmethod
    def this(cls) -> Self:
        """The run of this process."""
        pid = os.getpid()
        now = datetime.now().astimezone()  # with its offset from UTC
        since = now.isoformat(sep=" ", timespec="seconds")
        return cls(socket.gethostname(), _boot_id(), pid, _started(pid), since, os.getcwd())

    def is_of_this_machine(self) -> bool:
        """Whether this machine can tell if it still runs."""
        has_same_boot = self.boot != "" and self.boot == _boot_id()
        return self.host == socket.gethostname() or has_same_boot

    def __str__(self) -> str:
        return f"host {self.host}, process {self.pid}, since {self.since}, started in {self.folder}"


def take(layout: Layout) -> str | None:
    """Make this process the one run on a results folder, until it ends; a sentence about what a killed one left.

    BusyError says who is at work.
    """
    path = layout.at_work
    if path in _held:
        return None
    file, before = _opened(layout)
    if before is not None and not before.is_of_this_machine():
        os.close(file)
        raise BusyError(
            f"{layout.root}: a run is at work here, or was killed: {before}; if it has ended, run `make unlock` "
            f"(hvlabel unlock --results {layout.root})"
        )
    try:
        _write(file, Holder.this())
    except OSError as error:
        os.close(file)
        raise ResultsError(
            f"{path}: cannot write ({error.strerror}); check space, permissions and the setting `results`"
        ) from error
    _held[path] = file
    atexit.register(_release, path)
    return _left(layout, before)


def unlock(layout: Layout) -> str | None:
    """Forget a run that has ended without saying so, of whatever machine, and say which; BusyError if it still runs."""
    if not layout.at_work.exists():
        return _left(layout, None)
    file, before = _opened(layout)
    _write(file, None)
    os.close(file)
    return _left(layout, before)


def _opened(layout: Layout) -> tuple[int, Holder | None]:
    """The locked file, and who was at work before; BusyError if that one still is."""
    path = layout.at_work
    make_folder(path.parent)
    try:
        # of the run, not of its jobs: descriptors are not inherited by programs that Python starts
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise ResultsError(
            f"{path}: cannot write ({error.strerror}); check permissions and the setting `results`"
        ) from error
    for _ in range(TRIES):
        at_work = _read(file)
        if _locked(file, path, at_work):
            return file, _read(file)  # again: it may have ended well in between
        if at_work is not None:
            break
        time.sleep(TRY_EVERY_S)  # it has just begun, or is about to end
    os.close(file)
    raise BusyError(f"{layout.root}: a run is at work here: {at_work}; wait until it ends, or stop it first")


def _locked(file: int, path: Path, before: Holder | None) -> bool:
    """Whether the file could be locked; on disks that cannot, whether who was at work before is gone."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel lets it go when the process dies, however
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS_HERE:
            os.close(file)
            raise ResultsError(
                f"{path}: cannot lock ({error.strerror}); check permissions and the setting `results`"
            ) from error
        return before is None or not before.is_of_this_machine() or _started(before.pid) != before.started
    return True


def _left(layout: Layout, before: Holder | None) -> str | None:
    """A sentence about what a killed run left, after its locks of Snakemake are removed."""
    n_locks = _drop_locks(layout.root)
    if before is None and not n_locks:
        return None
    who = f" ({before})" if before else ""
    return f"{layout.root}: an earlier run{who} was killed; its {n_locks} locks of Snakemake are removed"


def _drop_locks(results: Path) -> int:
    """Remove the locks of Snakemake that name files below a results folder; their number.

    Only the holder of a results folder calls this, so that no living run has one of them.
    """
    root = str(results.resolve())
    n_removed = 0
    for lock in sorted(SNAKEMAKE_LOCKS.glob("*.lock")):
        with contextlib.suppress(OSError):
            text = lock.read_text(encoding="utf-8", errors="surrogateescape")  # names need not be Unicode
            paths = [os.path.realpath(name) for name in text.split("\n") if name]
            # with the separator: a lock of `results2` is none of `results`
            if any(path.startswith(root + os.sep) for path in paths):
                lock.unlink()
                n_removed += 1
    return n_removed


def _read(file: int) -> Holder | None:
    """Who is written in the file; None for nobody, and for what a crash left half written."""
    try:
        content = os.pread(file, 1 << 16, 0)
        tree: dict[str, Any] = json.loads(content)
        return Holder(**tree)
    except (ValueError, TypeError):
        return None


def _write(file: int, holder: Holder | None) -> None:
    """In place: a file that is replaced would not be the locked one any more."""
    os.ftruncate(file, 0)
    if holder is not None:
        content = json.dumps(asdict(holder))
        os.pwrite(file, content.encode(), 0)
    os.fsync(file)


def _release(path: Path) -> None:
    """This process is at work no longer."""
    file = _held.pop(path, None)
    if file is not None:
        with contextlib.suppress(OSError):  # a disk that is gone at the end of a run
            _write(file, None)
        os.close(file)


def _boot_id() -> str:
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _started(pid: int) -> int:
    """Start of a process, ticks since the machine's; 0 for one that is not there."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return 0
    # the name, in brackets, may hold blanks and brackets: fields are counted behind it
    _, _, behind_name = stat.rpartition(b")")
    return int(behind_name.split()[19])
