"""Whose fault a failure is: the image's, the machine's, or that of an earlier output which is damaged.

What is wrong with an image stays wrong until its files or settings change. What is wrong with the machine - a full
disk, memory, a share that was away - may be mended at any time. So such a failure is never final: the next run tries
again.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

from hvlabel.cache.index import Cause
from hvlabel.errors import CubeError, DeviceMemoryError, MaskFileError, ResultsError
from hvlabel.manifest import Image

# Not among them is ENOENT: a file that a header names and that is not there is part of the input.
MACHINE = frozenset(
    getattr(errno, name)
    for name in (
        # space, rights
        *("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM"),
        # disks and shares
        *("EIO", "ESTALE", "ENODEV", "ENXIO", "EREMOTEIO", "ENOTCONN", "ECONNRESET", "ECONNREFUSED", "ECONNABORTED"),
        *("ETIMEDOUT", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH", "EAGAIN", "EBUSY", "EINTR", "ENOLCK"),
        # memory, handles
        *("ENOMEM", "EMFILE", "ENFILE"),
    )
)
# of RuntimeErrors of torch and of OpenCV's error, which have no class of their own for it
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "insufficient memory", "failed to allocate")
DEVICE_FAULTS = ("cuda error", "cuda driver error", "cublas_status", "cudnn_status", "nccl error")


def cause_of(error: BaseException, stage: str, image: Image) -> Cause:
    """Why a stage could not make an image's output.

    input   : the image or what belongs to it; the same would happen again
    machine : the next run shall try again
    damage  : an output that the stage builds on is damaged; the next run shall check and remake it
    """
    if any(_is_of_machine(e) for e in _chain(error)):
        return "machine"
    if stage == "cubes" and not Path(image.raw).exists():  # it was there when the run began: its disk is away
        return "machine"
    if stage != "cubes" and isinstance(error, CubeError):
        return "damage"
    if stage == "labels" and isinstance(error, MaskFileError):
        return "damage"
    return "input"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _is_of_machine(error: BaseException) -> bool:
    if isinstance(error, MemoryError | DeviceMemoryError | ResultsError):
        return True
    if isinstance(error, OSError) and error.errno in MACHINE:
        return True
    kind = type(error).__name__
    text = str(error).lower()
    if kind in ("OutOfMemoryError", "AcceleratorError"):  # torch's, which need not be imported here
        return True
    return any(phrase in text for phrase in (*OUT_OF_MEMORY, *DEVICE_FAULTS))
