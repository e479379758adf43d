"""Whatever a library raises on a damaged file, as one sentence."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hvlabel.errors import RawFileError


@contextmanager
def one_sentence(path: Path, container: str | None = None) -> Iterator[None]:
    """Turns whatever a library raises on a damaged file into one sentence: it all means the same to the user."""
    try:
        yield
    except RawFileError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise  # the disk of the scratch file is full: not the raw file's fault
        if isinstance(error, PermissionError):
            raise RawFileError(f"{path}: cannot be read (permission denied); check its permissions") from error
        if isinstance(error, MemoryError):
            raise RawFileError(
                f"{path}: not enough memory to read it; give the job more, or lower cube.memory_mib"
            ) from error
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        if container is None:
            raise RawFileError(
                f"{path}: cannot be read to its end ({said}); the file is damaged, copy it again"
            ) from error
        raise RawFileError(
            f"{path}: cannot be read as {container} ({said}); "
            "it is damaged, cut off or of another format: copy it again or correct descriptor.container"
        ) from error
