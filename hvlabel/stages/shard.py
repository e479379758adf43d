"""One job: walk a shard, keep what is valid, make what is not, never stop for one bad image, write the index last."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from tqdm import tqdm

from hvlabel.cache.index import Cause, Entry, StageIndex
from hvlabel.cache.publish import make_folder, publish_bytes
from hvlabel.errors import ConfigError, HvError, ResultsError, WeightsError, printable, sentence_of
from hvlabel.layout import Layout
from hvlabel.manifest import Image
from hvlabel.stages.contract import Stage
from hvlabel.stages.failures import cause_of

LOG_EVERY_S = 10.0
BUG_CHARACTERS = 160  # of an unexpected error's text: some libraries print whole arrays


def run_shard(stage: Stage, images: Sequence[Image], layout: Layout, dataset: str, shard: str) -> StageIndex:
    """The shard's index, as written. However many images fail, all are tried and the index tells."""
    job = f"{stage.name} {dataset}/{shard}"
    entries: dict[str, Entry] = {}
    with _ending_at_sigterm(job), _lock(layout.lock(stage.name, dataset, shard), job):
        _sweep(stage, images, layout)
        progress = Progress(len(images), job)
        for image in images:
            entry = _walked(stage, image, layout)
            # an output may be valid that the machine could not read or replace just now
            if entry.status != "ok" and entry.cause != "machine":
                stage.discard(image)
            entries[image.image_id] = entry
            progress.step()
        progress.close()
        index = StageIndex(stage.name, dataset, shard, entries)
        # last of all: the workflow takes the index for the shard's output
        publish_bytes(layout.index(stage.name, dataset, shard), index.to_json())
    return index


def _walked(stage: Stage, image: Image, layout: Layout) -> Entry:
    """The entry of an image whose output is valid now, or which failed or was left out."""
    output = layout.output(stage.name, image.dataset, image.image_id)
    path = str(output.relative_to(layout.root))
    reason = stage.blocked(image)
    if reason is not None:
        return Entry("skipped", path, reason=reason)
    start = time.monotonic()
    try:
        key = stage.key(image)
        kept = stage.valid(image, key)
        if kept is not None:
            return kept
        return replace(stage.make(image, key), made=True)
    except (WeightsError, ConfigError):  # would happen with every image: the job fails instead
        raise
    except Exception as error:  # recorded, and on with the other images
        cause = cause_of(error, stage.name, image)
        sentence = _sentence(image, error, cause)
    print(printable(f"failed: {sentence}"), file=sys.stderr, flush=True)  # noqa: T201 (the log of the job)
    seconds = round(time.monotonic() - start, 3)
    return Entry("failed", path, seconds=seconds, reason=sentence, cause=cause)


def _sentence(image: Image, error: Exception, cause: Cause) -> str:
    """One sentence about a failure; of what is nobody's but the program's, the log gets the traceback."""
    if isinstance(error, HvError):
        return str(error)
    if cause == "machine" and isinstance(error, OSError):
        return sentence_of(error)
    if cause == "machine":
        text = " ".join(str(error).split())[:BUG_CHARACTERS]
        return f"{image.raw}: the machine had too little memory or failed ({text}); free some, and run again"
    traceback.print_exc()
    return _bug(image, error)


def _bug(image: Image, error: Exception) -> str:
    """One sentence about an error that is not the user's."""
    kind = type(error).__name__
    text = " ".join(str(error).split())[:BUG_CHARACTERS]
    return f"{image.raw}: unexpected {kind} ({text}); the log has the traceback, please report it"


def _sweep(stage: Stage, images: Sequence[Image], layout: Layout) -> None:
    """Remove what killed jobs left half made beside this shard's outputs; its lock is held."""
    outputs = {layout.output(stage.name, i.dataset, i.image_id) for i in images}
    outputs |= {path.with_suffix(".png") for path in outputs}  # of a label its picture
    for folder in {p.parent for p in outputs}:
        for path in folder.glob(".*"):
            name = path.name[1:].rsplit(".", 2)[0]  # .NAME.PID.tmp or .old
            if path.suffix not in (".tmp", ".old") or folder / name not in outputs:
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


@contextlib.contextmanager
def _ending_at_sigterm(job: str) -> Iterator[None]:
    """A scheduler's time limit ends the job in good order: the image at hand is dropped, all others are kept.

    No index is written, so that the next attempt goes on where this one ended.
    """

    def end(number: int, _frame: object) -> None:
        sentence = f"{job}: terminated; what is made is kept, the next run goes on"
        print(sentence, file=sys.stderr, flush=True)  # noqa: T201 (the log of the job)
        sys.exit(128 + number)  # as a shell says it; on its way out every half made output is removed

    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _lock:  # noqa: N801 (used as a statement)
    """Exclusive lock of a shard; says so when another process, perhaps left over from a killed run, still holds it."""

    def __init__(self, path: Path, job: str) -> None:
        make_folder(path.parent)
        self._lock = FileLock(path)
        self._job = job

    def __enter__(self) -> None:
        try:
            self._lock.acquire(timeout=1)
        except Timeout:
            sentence = f"{self._job}: another process works on this shard; waiting for it"
            print(sentence, file=sys.stderr, flush=True)  # noqa: T201 (the log of the job)
            self._lock.acquire()
        except OSError as error:
            raise ResultsError(
                f"{self._lock.lock_file}: cannot lock ({error.strerror}); check permissions and the setting `results`"
            ) from error

    def __exit__(self, *exc: object) -> None:
        self._lock.release()


class Progress:
    """A tqdm bar on a terminal; in a log file one line with rate and ETA every ten seconds."""

    def __init__(self, total: int, job: str) -> None:
        self._bar: Any = tqdm(total=total, desc=job, unit="image", disable=not sys.stderr.isatty())
        self._job = job
        self._total = total
        self._done = 0
        self._start = self._last = time.monotonic()

    def step(self) -> None:
        """One image is done."""
        self._done += 1
        self._bar.update()
        if not self._bar.disable:
            return
        now = time.monotonic()
        if now - self._last < LOG_EVERY_S and self._done < self._total:
            return
        self._last = now
        line = tqdm.format_meter(
            self._done, self._total, now - self._start, prefix=self._job, unit="image", ncols=0, ascii=True
        )
        print(line, file=sys.stderr, flush=True)  # noqa: T201 (the log of the job)

    def close(self) -> None:
        """Leave the bar."""
        self._bar.close()
