"""Whatever a library raises on a damaged file, as one sentence."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hvlabel.errors import RawFileError

MOST_CHARS = 120  # of what a library said
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def one_sentence(path: Path, container: str | None = None) -> Iterator[None]:
    """Turns whatever a library raises on a damaged file into one sentence: it all means the same to the user.

    container : that the file is opened as; None: it was opened before, and its values are read
    """
    try:
        yield
    except RawFileError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in FULL_DISK:
            raise  # of the scratch file: not the raw file's fault
        raise RawFileError(f"{path}: {_problem(error, container)}") from error


def _problem(error: Exception, container: str | None) -> str:
    """What is wrong and what to do."""
    if isinstance(error, PermissionError):
        return "cannot be read (permission denied); check its permissions"
    if isinstance(error, MemoryError):
        return "not enough memory to read it; give the job more, or lower cube.memory_mib"
    message = " ".join(str(error).split())[:MOST_CHARS]
    cause = f"{type(error).__name__}: {message}"
    if container is None:
        return f"cannot be read to its end ({cause}); the file is damaged, copy it again"
    return (
        f"cannot be read as {container} ({cause}); "
        "it is damaged, cut off or of another format: copy it again or correct descriptor.container"
    )
