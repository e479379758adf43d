"""A run as people watch it: one line per stage with images done, rate, time left and failures."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Never, TextIO

from tqdm import tqdm

from hvlabel.cache.index import read_index
from hvlabel.errors import ResultsError
from hvlabel.inspect.status import written_s
from hvlabel.layout import STAGES, Layout
from hvlabel.manifest import Image

LOOK_EVERY_S = 1.0
LEAST_REST = 20  # of the time that looking took: a large run is looked at less often
LOG_EVERY_S = 300.0  # between two lines about a stage, where no line can be written over
UNSEEN = ("scenes", "report", "check")  # rules of seconds, which say nothing that a later line does not
TAIL_BYTES = 4096  # of a training's log, the last line is in them

Shard = tuple[str, str, str]  # stage, data set, shard


@dataclass
class StageOfRun:
    """What a run has to do at one stage, and how far it is.

    n_images : in all shards that the run walks
    began_s  : when its first job started, seconds since 1970; None: not yet
    ended_s  : when its last shard was seen finished
    """

    name: str
    n_images: int
    n_done: int = 0
    n_failed: int = 0
    began_s: float | None = None
    ended_s: float | None = None

    def text(self, now_s: float) -> str:
        """Its line."""
        parts = [f"{self.n_done} of {self.n_images} images"]
        if self.n_failed:
            parts.append(f"{self.n_failed} failed or left out")
        if self.began_s is not None and self.ended_s is not None:
            parts.append(f"in {duration(self.ended_s - self.began_s)}")
        elif self.began_s is not None and self.n_done:
            per_s = self.n_done / max(now_s - self.began_s, 1.0)
            left_s = (self.n_images - self.n_done) / per_s
            parts.append(f"{60 * per_s:.3g} a minute")
            parts.append(f"{duration(left_s)} left")
        return f"{self.name + ':':10} {', '.join(parts)}"


@dataclass
class RuleOfRun:
    """A rule whose jobs walk no shard.

    waiting : first outputs of its jobs that are not done
    """

    name: str
    waiting: set[Path]
    n_jobs: int
    began_s: float | None = None
    ended_s: float | None = None

    def text(self, now_s: float) -> str:
        """Its line."""
        n_done = self.n_jobs - len(self.waiting)
        line = f"{self.name + ':':10} {n_done} of {self.n_jobs} jobs"
        if self.began_s is None or self.ended_s is None:
            return line
        return f"{line}, in {duration(self.ended_s - self.began_s)}"


class LiveRun:
    """The stages of a run and its other rules, brought up to date from the files that it writes.

    `start` and `look` may be called from different threads.
    """

    def __init__(self, layout: Layout, images: Iterable[Image], planned: Iterable[tuple[str, Sequence[Path]]]) -> None:
        """planned: rule and outputs of every job of the run."""
        self._layout = layout
        self._lock = threading.Lock()
        of_shard: dict[tuple[str, str], set[str]] = {}
        for image in images:
            names = of_shard.setdefault((image.dataset, image.shard), set())
            names.add(image.image_id)
        self._names = of_shard
        indexes = {layout.index(stage, *shard): (stage, *shard) for stage in STAGES for shard in of_shard}
        self._waiting: dict[Path, Shard] = {}
        others: dict[str, set[Path]] = {}
        for rule, outputs in planned:
            if not outputs or rule in UNSEEN:
                continue
            if outputs[0] in indexes:
                self._waiting[outputs[0]] = indexes[outputs[0]]
            else:
                others.setdefault(rule, set()).add(outputs[0])
        self._at_work: dict[Shard, float] = {}  # since when, seconds since 1970
        self._n_finished: dict[str, int] = {}  # images of finished shards, by stage
        n_images = {stage: self._n_images(stage) for stage in STAGES}
        self.stages = [StageOfRun(stage, n) for stage, n in n_images.items() if n]
        self.rules = [RuleOfRun(rule, outputs, len(outputs)) for rule, outputs in others.items()]

    def _n_images(self, stage: str) -> int:
        shards = [shard[1:] for shard in self._waiting.values() if shard[0] == stage]
        return sum(len(self._names[shard]) for shard in shards)

    def start(self, rule: str, outputs: Sequence[Path], now_s: float) -> None:
        """A job has started."""
        with self._lock:
            shard = self._waiting.pop(outputs[0], None) if outputs else None
            if shard is not None:
                self._at_work[shard] = now_s
            name = rule if shard is None else shard[0]
            for part in self.parts():
                if part.name == name and part.began_s is None:
                    part.began_s = now_s

    def look(self, now_s: float) -> None:
        """Count what is there: images of finished shards, and outputs of those at work."""
        with self._lock:
            n_written = dict.fromkeys((s.name for s in self.stages), 0)
            folders: dict[tuple[str, str], dict[str, float]] = {}  # each is listed once
            for shard, since_s in list(self._at_work.items()):
                stage, dataset, name = shard
                images = self._names[dataset, name]
                status = _statuses(self._layout.index(*shard), since_s)
                if status is not None:
                    del self._at_work[shard]
                    self._n_finished[stage] = self._n_finished.get(stage, 0) + len(images)
                    self._stage(stage).n_failed += sum(s != "ok" for s in status)
                    continue
                if (stage, dataset) not in folders:
                    folders[stage, dataset] = written_s(self._layout, stage, dataset)
                times = folders[stage, dataset]
                n_written[stage] += sum(times.get(image, 0.0) >= since_s for image in images)
            for of_stage in self.stages:
                n_finished = self._n_finished.get(of_stage.name, 0)
                of_stage.n_done = n_finished + n_written[of_stage.name]
                if n_finished == of_stage.n_images and of_stage.ended_s is None:
                    of_stage.ended_s = now_s
            for rule in self.rules:
                if rule.began_s is not None and rule.ended_s is None:
                    began_s = rule.began_s
                    rule.waiting = {path for path in rule.waiting if not _is_written(path, began_s)}
                    rule.ended_s = None if rule.waiting else now_s

    def parts(self) -> list[StageOfRun | RuleOfRun]:
        """Whatever has a line."""
        return [*self.stages, *self.rules]

    def _stage(self, name: str) -> StageOfRun:
        return next(s for s in self.stages if s.name == name)


def _is_written(path: Path, since_s: float) -> bool:
    """Whether a file was written since then; disks that count whole seconds put it before the moment it was."""
    try:
        return path.stat().st_mtime >= int(since_s)
    except OSError:
        return False


def _statuses(path: Path, since_s: float) -> list[str] | None:
    """Status of each image of an index that was written since then; None if it was not."""
    try:
        if not _is_written(path, since_s):
            return None
        entries = read_index(path).images.values()
        return [entry.status for entry in entries]
    except (OSError, ResultsError):
        return None


class Watcher:
    """Writes a run's lines while it goes on: over each other on a terminal, else each stage's when it ends.

    training_log : of the pre-training that the run includes; its last line is shown too
    """

    def __init__(self, run: LiveRun, out: TextIO, training_log: Path | None = None) -> None:
        self.run = run
        self._out = out
        self._training_log = training_log
        self._on_terminal = out.isatty()
        self._bars: dict[str, tqdm[Never]] = {}
        self._logged_s: dict[str, float] = {}
        self._over = threading.Event()
        self._began_s = time.time()
        self._thread = threading.Thread(target=self._watch, daemon=True)  # never keeps a run that has ended
        self._thread.start()

    def _watch(self) -> None:
        rest_s = LOOK_EVERY_S
        while not self._over.wait(rest_s):
            begin_s = time.monotonic()
            self.show()
            took_s = time.monotonic() - begin_s
            rest_s = max(LOOK_EVERY_S, LEAST_REST * took_s)

    def close(self) -> None:
        """The last lines, as things stand."""
        self._over.set()
        self._thread.join()
        self.show()
        for bar in self._bars.values():
            bar.close()

    def show(self) -> None:
        """Look at the run and write what has changed."""
        now_s = time.time()
        self.run.look(now_s)
        for part in self.run.parts():
            if part.began_s is not None:
                self._write(part.name, part.text(now_s), now_s, ended=part.ended_s is not None)
        line = _last_line(self._training_log, self._began_s)
        if line:
            self._write("training", f"{'training:':10} {line}", now_s, ended=False)

    def _write(self, name: str, text: str, now_s: float, *, ended: bool) -> None:
        if self._on_terminal:
            if name not in self._bars:
                self._bars[name] = tqdm(bar_format="{desc}", file=self._out, dynamic_ncols=True)
            self._bars[name].set_description_str(text)
            return
        said_s = self._logged_s.setdefault(name, now_s)
        if said_s == float("inf") or (not ended and now_s - said_s < LOG_EVERY_S):
            return
        self._logged_s[name] = float("inf") if ended else now_s
        print(text, file=self._out, flush=True)


@contextmanager
def between_lines(out: TextIO) -> Iterator[None]:
    """What is written inside stands above the lines of a watcher, and they are written again below it."""
    with tqdm.external_write_mode(file=out):
        yield


def _last_line(log: Path | None, since_s: float) -> str:
    """The last line of a training's log that was written since then."""
    if log is None:
        return ""
    try:
        if log.stat().st_mtime < since_s:
            return ""
        with log.open("rb") as file:
            begin = max(0, log.stat().st_size - TAIL_BYTES)  # a short log is read from its start
            file.seek(begin)
            # replaced: the tail may begin in the middle of a character
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return lines[-1] if lines else ""


def duration(seconds: float) -> str:
    """For people: 40 s, 3 min, 2 h 5 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
