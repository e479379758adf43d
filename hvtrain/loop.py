"""The training loop: exact resume, metrics that tell where the time goes, and a stop before anything is spoilt."""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor

from hvlabel import __version__
from hvlabel.cache.publish import make_folder, publish_bytes
from hvlabel.config import PretrainSettings
from hvlabel.errors import ConfigError, HvError, ResultsError
from hvlabel.layout import Layout
from hvlabel.models.hyperfree import HyperFree
from hvlabel.models.weights import file_sha256
from hvtrain.corpus import Corpus, read_corpus
from hvtrain.label_pack import open_pack
from hvtrain.log import Log
from hvtrain.objective import Objective
from hvtrain.optimiser import moving_average, parameter_groups, rate
from hvtrain.plots import draw_predictions
from hvtrain.run import RunFiles, is_complete, move_aside, pretty, read_checkpoint, read_identity
from hvtrain.samples import Batch, Samples, make_loader
from hvtrain.schedule import BatchOrder, Schedule
from hvtrain.student import export, make_student, start_file

MAX_BAD_SHARE = 0.1  # of a run's images that may prove unreadable before it stops


class TrainingError(HvError, ArithmeticError):
    """Training cannot go on: the loss is no number any more."""


def run_key(settings: PretrainSettings, corpus: Corpus) -> str:
    """Identity of a run: settings, everything it reads, and the weights it starts from."""
    start = start_file(settings.student)
    weights = file_sha256(start) if start else ""
    return hashlib.sha256(json.dumps([settings.canonical(), corpus.identity, weights]).encode()).hexdigest()


def pretrain(layout: Layout, settings: PretrainSettings, *, distill: bool) -> Path:
    """Train to the last step, from the last checkpoint if there is one of this run; returns the run's folder.

    A folder of the same name that holds a run of other settings or labels is moved aside, never overwritten.
    ResultsError, ConfigError, BandError, WeightsError for what is wrong before the start; TrainingError if the loss is
    no number: the last good checkpoint stays.
    """
    hardware = settings.hardware
    _require_devices(settings)
    fabric = Fabric(
        accelerator=hardware.accelerator,
        devices=hardware.processes(),
        num_nodes=hardware.nodes,
        precision=hardware.precision,
        # which dictionary slots and prompt embeddings take part differs from step to step
        strategy=DDPStrategy(find_unused_parameters=True) if _several(settings) else "auto",
        # a batch job of one task starts the processes of its node itself; with several tasks the scheduler has started them
        plugins=LightningEnvironment() if os.environ.get("SLURM_NTASKS") == "1" else None,
    )
    fabric.launch()
    torch.set_num_threads(hardware.threads)
    os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")  # the same bits on a busy machine, where MKL takes fewer threads
    torch.set_flush_denormal(True)  # saturated masks make denormals, which are many times slower
    corpus = read_corpus(layout, settings.data, distill=distill)
    files = RunFiles(layout.pretrain(settings.run))
    key = run_key(settings, corpus)
    make_folder(files.folder.parent)
    with _only_one(files, fabric):
        # one process looks and decides for all: others may see an older state of a network disk
        problem, complete = "", False
        if fabric.is_global_zero:
            try:
                complete = _prepare(files, key, layout, corpus)
            except HvError as error:
                problem = str(error)
        problem, complete = fabric.broadcast((problem, complete))
        if problem:
            raise ResultsError(problem)
        if not complete:
            Run(fabric, settings, corpus, files, key, open_pack(layout.root / "pretrain", corpus.of("train"))).train()
    return files.folder


def _prepare(files: RunFiles, key: str, layout: Layout, corpus: Corpus) -> bool:
    """Make the folder this run's own; whether the run is complete."""
    for name in corpus.left_out:
        print(f"left out: {name}: no teacher features", file=sys.stderr, flush=True)  # noqa: T201 (the log of the job)
    move_aside(files, key)
    if is_complete(files, key):
        publish_bytes(files.facts, pretty(read_identity(files)["facts"]))
        return True
    make_folder(files.folder)
    for left in files.folder.glob(".checkpoint.*.tmp"):  # of a killed run; its lock is held
        left.unlink()
    publish_bytes(files.identity, pretty({"key": key, "facts": None}))
    open_pack(layout.root / "pretrain", corpus.of("train"))
    return False


class Run:
    """One process of one run."""

    def __init__(
        self, fabric: Fabric, settings: PretrainSettings, corpus: Corpus, files: RunFiles, key: str, pack: Any
    ) -> None:
        self.fabric, self.settings, self.corpus, self.files, self.key = fabric, settings, corpus, files, key
        self.images = corpus.of("train")
        optimiser, hardware = settings.optimiser, settings.hardware
        parts = fabric.world_size * optimiser.accumulate
        if optimiser.batch_images % parts:
            raise ResultsError(
                f"optimiser.batch_images {optimiser.batch_images} cannot be shared by {fabric.world_size} processes with "
                f"{optimiser.accumulate} batches each; choose a multiple of {parts}"
            )
        student = make_student(settings.student, settings.seed)
        self.average = moving_average(student, optimiser.ema)
        student.image_encoder.recompute = hardware.checkpoint_blocks
        if hardware.compile:
            for block in student.image_encoder.blocks:
                block.compile()
        topology = self.sizes = student.topology
        self.samples = Samples(corpus, self.images, pack, settings, topology.decoder_grid, 4 * topology.decoder_grid)
        by_camera = [self.samples.by_camera.get(c, []) for c in range(len(corpus.cameras))]
        self.schedule = Schedule(
            by_camera, optimiser.batch_images, optimiser.steps, settings.seed, settings.data.camera_temperature
        )
        objective = Objective(
            student, settings, [c.wavelengths_nm for c in corpus.cameras], torch.from_numpy(corpus.teacher_centre)
        )
        self.objective = objective
        self.model, self.optimiser = fabric.setup(
            objective, torch.optim.AdamW(parameter_groups(objective, optimiser), betas=(0.9, 0.98))
        )
        self.average.to(fabric.device)
        self.step = 0
        self.seconds = 0.0
        self.bad: dict[str, None] = {}

    def train(self) -> None:
        """All remaining steps."""
        self._resume()
        s, fabric = self.settings, self.fabric
        order = BatchOrder(
            self.schedule, self.step, rank=fabric.global_rank, world=fabric.world_size, parts=s.optimiser.accumulate
        )
        loader = make_loader(self.samples, order, s.hardware, pin=fabric.device.type == "cuda")
        log = Log(self.files, self.step, s.optimiser, fabric.is_global_zero)
        self.model.train()
        batches = iter(loader)
        clock = time.monotonic()
        while self.step < s.optimiser.steps:
            row, waited, batch = self._one_step(batches)
            self.step += 1
            now = time.monotonic()
            self.seconds += now - clock
            log.add(row, waited, now - clock)
            clock = now
            if self.step % s.hardware.log_every == 0 or self.step == s.optimiser.steps:
                log.write(self.step)
                self._require_good_images()
            if fabric.is_global_zero and (self.step % s.hardware.picture_every == 0 or self.step == s.optimiser.steps):
                draw_predictions(self.files.folder / "pictures" / f"step_{self.step:07d}.png", self.objective, batch)
            if self.step % s.hardware.checkpoint_every == 0:
                self._save()
                log.draw()
        log.draw()
        log.close()
        del batches  # ends the workers
        self._save()
        if fabric.is_global_zero:
            self._finish()
        fabric.barrier()

    def _one_step(self, batches: Any) -> tuple[dict[str, float | str], float, Batch]:
        """Values to log, seconds spent waiting for data, and the last batch."""
        s, fabric = self.settings, self.fabric
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak_lr"] * rate(self.step, s.optimiser)
        sums: dict[str, Tensor] = {}
        waited, names = 0.0, []
        for part in range(s.optimiser.accumulate):
            start = time.monotonic()
            batch = next(batches)
            waited += time.monotonic() - start
            self._note(batch.problems)
            batch = batch.to(fabric.device)
            names += batch.names
            with fabric.no_backward_sync(self.model, enabled=part < s.optimiser.accumulate - 1):
                terms = self.model(batch)
                fabric.backward(terms["loss"] / s.optimiser.accumulate)
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + value.detach() / s.optimiser.accumulate
        norm = fabric.clip_gradients(
            self.model, self.optimiser, max_norm=s.optimiser.clip_norm, error_if_nonfinite=False
        )
        assert isinstance(norm, Tensor)
        if not math.isfinite(float(norm)):
            kept = f"the checkpoint of step {self._saved} is kept" if self._saved else "there is no checkpoint yet"
            everyone = sorted({name for group in self._gathered(names) for name in group})
            raise TrainingError(
                f"step {self.step}: the loss or its gradient is no number (loss {float(sums['loss']):g}, gradient {float(norm):g}) on {', '.join(everyone)}; "
                f"{kept} in {self.files.folder}: look at these images, or start another run with a lower optimiser.lr from its export (student.checkpoint)"
            )
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.average.update_parameters(self.objective.student)
        reduced: Any = fabric.all_reduce(sums, reduce_op="mean")
        values: dict[str, Any] = {k: float(v) for k, v in reduced.items()}
        values |= {
            "grad_norm": float(norm),
            "lr": self.optimiser.param_groups[0]["lr"],
            "camera": self.corpus.cameras[batch.camera].name,
        }
        return values, waited, batch

    def _note(self, problems: Iterable[str]) -> None:
        for problem in problems:
            if problem not in self.bad:
                self.bad[problem] = None
                print(f"left out: {problem}", file=sys.stderr, flush=True)  # noqa: T201 (the log of the job)

    def _gathered(self, own: list[str]) -> list[list[str]]:
        """The lists of all processes."""
        everyone: list[list[str]] = [own]
        if self.fabric.world_size > 1:
            everyone = [[] for _ in range(self.fabric.world_size)]
            torch.distributed.all_gather_object(everyone, own)
        return everyone

    def _require_good_images(self) -> None:
        """Every process stops, or none: each knows only what its own samples met."""
        known = self._gathered(list(self.bad))
        bad = sorted({problem for problems in known for problem in problems})
        if len(bad) > MAX_BAD_SHARE * len(self.images):
            raise ResultsError(
                f"{len(bad)} of {len(self.images)} images cannot be read, e.g. {bad[0]}; `hvlabel verify --deep` lists them all"
            )

    # ------------------------------------------------------------------------------------------ checkpoints

    _saved = 0

    def _save(self) -> None:
        """Replace the checkpoint, atomically; only the first process writes."""
        if self.fabric.is_global_zero:
            state = {
                "key": self.key,
                "topology": {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self.sizes).items()},
                "step": self.step,
                "seconds": self.seconds,
                "objective": self.objective.state_dict(),
                "average": self.average.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "bad": list(self.bad),
            }
            temporary = self.files.checkpoint.with_name(f".checkpoint.{os.getpid()}.tmp")
            with temporary.open("wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.files.checkpoint)
        self._saved = self.step
        self.fabric.barrier()

    def _resume(self) -> None:
        if not self.files.checkpoint.exists():
            return
        state = read_checkpoint(self.files)  # on the CPU: loading moves what must move, AdamW's counters must not
        self.objective.load_state_dict(state["objective"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = self._saved = state["step"]
        self.seconds = state["seconds"]
        self.bad = dict.fromkeys(state["bad"])
        if self.fabric.is_global_zero:
            print(f"resumed at step {self.step} of {self.settings.optimiser.steps}", file=sys.stderr, flush=True)  # noqa: T201

    def _finish(self) -> None:
        average = self.average.module
        assert isinstance(average, HyperFree)
        export(average.state_dict(), self.files.weights, average.topology)
        facts = {
            "key": self.key,
            "steps": self.step,
            "seconds": round(self.seconds, 1),
            "images": len(self.images),
            "cameras": [c.name for c in self.corpus.cameras],
            "unreadable": list(self.bad),
            "settings": self.settings.model_dump(mode="json"),
            "distilled": bool(self.corpus.teacher_channels),
            "weights_sha256": file_sha256(self.files.weights),
            "hvlabel_version": __version__,
        }
        publish_bytes(self.files.identity, pretty({"key": self.key, "facts": facts}))
        publish_bytes(self.files.facts, pretty(facts))


def _several(settings: PretrainSettings) -> bool:
    count = settings.hardware.processes() * settings.hardware.nodes
    return count > 1 or int(os.environ.get("WORLD_SIZE", 1)) > 1


def _require_devices(settings: PretrainSettings) -> None:
    """ConfigError where the machine has not what the settings ask for."""
    hardware = settings.hardware
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if hardware.accelerator == "cuda" and found < hardware.processes():
        raise ConfigError(
            f"pretrain.hardware asks for {hardware.processes()} GPUs, PyTorch sees {found}; lower devices, or set accelerator to cpu"
        )
    tasks = int(os.environ.get("SLURM_NTASKS", 1))
    if tasks not in (1, hardware.processes() * hardware.nodes):
        raise ConfigError(
            f"SLURM started {tasks} tasks, pretrain.hardware says {hardware.nodes} nodes with {hardware.processes()} processes each; make them equal"
        )


@contextmanager
def _only_one(files: RunFiles, fabric: Fabric) -> Iterator[None]:
    """The first process holds the run's lock; ResultsError if another run of this name is going on."""
    lock = FileLock(files.folder.with_name(f".{files.folder.name}.lock"))
    busy = False
    if fabric.is_global_zero:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            busy = True
    if fabric.broadcast(busy):
        raise ResultsError(
            f"{files.folder}: another process is training a run of this name; wait for it, or give this one another pretrain.run"
        )
    try:
        yield
    finally:
        lock.release()
