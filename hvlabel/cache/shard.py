"""One job: walk a shard, keep what is valid, make what is not, never stop for one bad image, write the index last."""

from __future__ import annotations

import shutil
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout
from tqdm import tqdm

from hvlabel.cache.index import Entry, StageIndex
from hvlabel.cache.publish import make_folder, publish_bytes
from hvlabel.errors import HvError, ResultsError
from hvlabel.layout import Layout
from hvlabel.manifest import Image

LOG_EVERY_S = 10.0


class Stage(Protocol):
    """What a stage does with one image; file layout and cache law are the caller's."""

    name: str

    def blocked(self, image: Image) -> str | None:
        """Why an earlier stage left this image out, or None."""

    def key(self, image: Image) -> str:
        """Cache key of the image's output."""

    def valid(self, image: Image, key: str) -> Entry | None:
        """The entry of an output that exists, is whole and has this key; else None."""

    def make(self, image: Image, key: str) -> Entry:
        """Make and publish the output; HvError where the image is at fault."""

    def discard(self, image: Image) -> None:
        """Called for an image that failed or was left out: an older output that others would still take for good goes."""


def run_shard(stage: Stage, images: Sequence[Image], layout: Layout, dataset: str, shard: str) -> StageIndex:
    """The shard's index, as written. However many images fail, all are tried and the index tells."""
    index_path = layout.index(stage.name, dataset, shard)
    with _lock(layout.lock(stage.name, dataset, shard), f"{stage.name} {dataset}/{shard}"):
        _sweep(stage, images, layout)
        entries = {}
        progress = Progress(len(images), f"{stage.name} {dataset}/{shard}")
        for image in images:
            entry = entries[image.image_id] = _one(stage, image, layout)
            if entry.status != "ok":
                stage.discard(image)
            progress.step()
        progress.close()
        index = StageIndex(stage.name, dataset, shard, entries)
        publish_bytes(index_path, index.to_json())
    return index


def _one(stage: Stage, image: Image, layout: Layout) -> Entry:
    path = str(layout.output(stage.name, image.dataset, image.image_id).relative_to(layout.root))
    reason = stage.blocked(image)
    if reason is not None:
        return Entry("skipped", path, reason=reason)
    start = time.monotonic()
    try:
        key = stage.key(image)
        kept = stage.valid(image, key)
        return kept if kept is not None else replace(stage.make(image, key), made=True)
    except HvError as error:
        sentence = str(error)
    except Exception as error:  # a bug or a full machine: recorded, traceback in the log, and on with the other images
        traceback.print_exc()
        sentence = f"{image.raw}: unexpected {type(error).__name__} ({' '.join(str(error).split())[:160]}); the log has the traceback, please report it"
    print(f"failed: {sentence}", file=sys.stderr, flush=True)  # noqa: T201 (the log of the job)
    return Entry("failed", path, seconds=round(time.monotonic() - start, 3), reason=sentence)


def _sweep(stage: Stage, images: Sequence[Image], layout: Layout) -> None:
    """Remove what killed jobs left half made beside this shard's outputs; its lock is held."""
    outputs = {layout.output(stage.name, i.dataset, i.image_id) for i in images}
    for folder in {p.parent for p in outputs}:
        for path in folder.glob(".*"):
            name = path.name[1:].rsplit(".", 2)[0]  # .NAME.PID.tmp or .old
            if path.suffix in (".tmp", ".old") and folder / name in outputs:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


class _lock:  # noqa: N801 (used as a statement)
    """Exclusive lock of a shard; says so when another process, perhaps left over from a killed run, still holds it."""

    def __init__(self, path: Path, what: str) -> None:
        make_folder(path.parent)
        self._lock, self._what = FileLock(path), what

    def __enter__(self) -> None:
        try:
            self._lock.acquire(timeout=1)
        except Timeout:
            print(f"{self._what}: another process works on this shard; waiting for it", file=sys.stderr, flush=True)  # noqa: T201
            self._lock.acquire()
        except OSError as error:
            raise ResultsError(
                f"{self._lock.lock_file}: cannot lock ({error.strerror}); check permissions and the setting `results`"
            ) from error

    def __exit__(self, *exc: object) -> None:
        self._lock.release()


class Progress:
    """A tqdm bar on a terminal; in a log file one line with rate and ETA every ten seconds."""

    def __init__(self, total: int, what: str) -> None:
        self._bar: Any = tqdm(total=total, desc=what, unit="image", disable=not sys.stderr.isatty())
        self._what, self._total, self._done = what, total, 0
        self._start = self._last = time.monotonic()

    def step(self) -> None:
        """One image is done."""
        self._done += 1
        self._bar.update()
        now = time.monotonic()
        if self._bar.disable and (now - self._last >= LOG_EVERY_S or self._done == self._total):
            self._last = now
            seconds = now - self._start
            line = tqdm.format_meter(
                self._done, self._total, seconds, prefix=self._what, unit="image", ncols=0, ascii=True
            )
            print(line, file=sys.stderr, flush=True)  # noqa: T201 (the log of the job)

    def close(self) -> None:
        """Leave the bar."""
        self._bar.close()
