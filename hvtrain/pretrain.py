"""One pre-training run: a corpus, a student, its objectives, and the engine that plays them."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from hvlabel import __version__
from hvlabel.cache.publish import make_folder, publish_bytes
from hvlabel.config import HardwareSettings, OptimiserSettings, PretrainSettings
from hvlabel.errors import BandError, HvError, ResultsError
from hvlabel.layout import Layout
from hvlabel.models.weights import file_sha256
from hvtrain.backbones.contract import Backbone
from hvtrain.backbones.table import backbone_row
from hvtrain.backbones.weights import export
from hvtrain.data.batch import Batch
from hvtrain.data.corpus import Corpus, read_corpus
from hvtrain.data.crops import Crops
from hvtrain.data.label_pack import LabelPack, open_pack
from hvtrain.data.loader import make_loader
from hvtrain.data.schedule import BatchOrder, Schedule
from hvtrain.engine.checkpoint import sweep
from hvtrain.engine.devices import keep_sums_the_same, launched
from hvtrain.engine.log import Log
from hvtrain.engine.loop import Loop, Pace
from hvtrain.engine.optimiser import cosine_rate, parameter_groups
from hvtrain.engine.run_folder import (
    RunFiles,
    is_complete,
    move_aside,
    only_one,
    pretty,
    read_identity,
    say,
)
from hvtrain.objectives.combined import CombinedObjective
from hvtrain.objectives.masked import MaskedObjective
from hvtrain.objectives.pictures import draw_predictions, draw_spectra
from hvtrain.objectives.table import make_objective
from hvtrain.student import grid_of, make_student, start_file

CELLS_PER_TOKEN = 4  # along a side of the prompt decoder's output


def corpus_of(layout: Layout, settings: PretrainSettings, *, distill: bool) -> Corpus:
    """The labelled images of a results folder, their bands checked against the backbone; errors as read_corpus."""
    row = backbone_row(settings.student.backbone)
    return read_corpus(layout, settings.data, distill=distill, require_bands=row.require_bands)


def run_key(settings: PretrainSettings, corpus: Corpus) -> str:
    """Identity of a run: settings, everything it reads, and the weights it starts from."""
    start = start_file(settings.student)
    weights = file_sha256(start) if start else ""  # a file of the same name may change
    depends_on = [settings.canonical(), corpus.identity, weights]
    content = json.dumps(depends_on)
    return hashlib.sha256(content.encode()).hexdigest()


def pretrain(layout: Layout, settings: PretrainSettings, *, distill: bool) -> Path:
    """Train to the last step, from the last checkpoint if there is one of this run; returns the run's folder.

    A folder of the same name that holds a run of other settings or labels is moved aside, never overwritten.
    ResultsError, ConfigError, BandError, WeightsError for what is wrong before the start; TrainingError if the loss is
    no number: the last good checkpoint stays.
    """
    fabric = launched(settings.hardware)
    keep_sums_the_same()
    corpus = corpus_of(layout, settings, distill=distill)
    files = RunFiles(layout.pretrain(settings.run))
    packs = files.folder.parent  # the masks of a corpus lie beside the runs that read them
    key = run_key(settings, corpus)
    make_folder(packs)
    with only_one(files, first=fabric.is_global_zero, agree=fabric.broadcast):
        # one process looks and decides for all: others may see an older state of a network disk
        problem, complete = "", False
        if fabric.is_global_zero:
            try:
                complete = _prepare(files, key, packs, corpus)
            except HvError as error:
                problem = str(error)
        problem, complete = fabric.broadcast((problem, complete))
        if problem:
            raise ResultsError(problem)
        if not complete:
            pack = open_pack(packs, corpus.of("train"))
            _train(fabric, settings, corpus, files, key, pack)
    return files.folder


def _prepare(files: RunFiles, key: str, packs: Path, corpus: Corpus) -> bool:
    """Make the folder this run's own; whether the run is complete."""
    for name in corpus.left_out:
        say(f"left out: {name}: no teacher features")
    move_aside(files, key)
    if is_complete(files, key):
        # a workflow engine deletes its outputs before a job: the facts are written again
        facts = read_identity(files)["facts"]
        publish_bytes(files.facts, pretty(facts))
        return True
    make_folder(files.folder)
    sweep(files.checkpoint)
    unfinished = {"key": key, "facts": None}
    publish_bytes(files.identity, pretty(unfinished))
    open_pack(packs, corpus.of("train"))  # made by one process, then opened by all
    return False


def _train(
    fabric: Fabric, settings: PretrainSettings, corpus: Corpus, files: RunFiles, key: str, pack: LabelPack
) -> None:
    """All remaining steps of a run, and what it hands on."""
    optimiser, hardware = settings.optimiser, settings.hardware
    _require_equal_parts(optimiser.batch_images, fabric.world_size, optimiser.accumulate)
    student = make_student(settings.student, settings.seed)
    for camera in corpus.cameras:
        student.require_bands(camera.wavelengths_nm)  # sizes may narrow what a backbone of its kind can read
    if hardware.checkpoint_blocks:
        student.save_memory()
    centre = torch.from_numpy(corpus.teacher_centre)  # (D,)
    objective = make_objective(student, settings, centre)
    _require_something_left(objective, corpus)
    crops = _crops(corpus, pack, settings, student, objective)
    # a camera that is only held out or unseen has no image to train on
    n_cameras = len(corpus.cameras)
    images_of = [crops.by_camera.get(camera, []) for camera in range(n_cameras)]
    schedule = Schedule(
        images_of,
        batch=optimiser.batch_images,
        steps=optimiser.steps,
        seed=settings.seed,
        temperature=settings.data.camera_temperature,
    )
    pace = _pace(optimiser, hardware)
    draw = partial(_draw, settings=settings, student=student, objective=objective)
    sizes = _plain(student.sizes())
    facts = {"key": key, "backbone": student.name, "topology": sizes}
    loop = Loop(
        fabric,
        objective,
        student,
        groups=parameter_groups(objective, optimiser),
        files=files,
        pace=pace,
        facts=facts,
        draw=draw,
    )
    if hardware.compile:
        student.compile_blocks()
    loop.resume()
    order = BatchOrder(
        schedule,
        first_step=loop.step,
        rank=fabric.global_rank,
        world=fabric.world_size,
        parts=optimiser.accumulate,
    )
    on_gpu = fabric.device.type == "cuda"
    loader = make_loader(crops, order, hardware, pin=on_gpu)  # pinned: the copy to the GPU does not wait
    rate = partial(cosine_rate, settings=optimiser)
    log = Log(files, objective.names, first_step=loop.step, n_steps=pace.steps, active=fabric.is_global_zero)
    loop.play(loader, rate, until=pace.steps, log=log, n_images=len(crops.images))
    log.close()
    if fabric.is_global_zero:
        _hand_on(loop, settings, corpus, files, key)
    fabric.barrier()


def _require_something_left(objective: CombinedObjective, corpus: Corpus) -> None:
    """BandError for a camera of which an autoencoder would be shown no band: not only when its first batch comes."""
    for part in objective.objectives:
        if not isinstance(part, MaskedObjective):
            continue
        for camera in corpus.cameras:
            try:
                part.autoencoder.require_bands(camera.wavelengths_nm)
            except BandError as error:
                raise BandError(f"camera {camera.name}, {part.name}: {error} (pretrain.masked.mask_ratio)") from error


def _pace(optimiser: OptimiserSettings, hardware: HardwareSettings) -> Pace:
    """How many steps there are, and what comes after how many of them."""
    return Pace(
        steps=optimiser.steps,
        accumulate=optimiser.accumulate,
        clip_norm=optimiser.clip_norm,
        ema=optimiser.ema,
        log_every=hardware.log_every,
        checkpoint_every=hardware.checkpoint_every,
        picture_every=hardware.picture_every,
    )


def _draw(
    out: Path, batch: Batch, *, settings: PretrainSettings, student: Backbone, objective: CombinedObjective
) -> None:
    """Pictures of what the student makes of a batch: its masks, and beside that what its autoencoders say."""
    if "masks" in settings.objectives:
        draw_predictions(out, batch, student, settings.student.crop_px)
    for part in objective.objectives:
        if isinstance(part, MaskedObjective):
            beside = out.with_stem(f"{out.stem}_{part.name}")
            draw_spectra(beside, part.spectra(batch))


def _require_equal_parts(batch_images: int, world_size: int, accumulate: int) -> None:
    """ResultsError where a step's images cannot be shared equally."""
    parts = world_size * accumulate
    if batch_images % parts:
        raise ResultsError(
            f"optimiser.batch_images {batch_images} cannot be shared by {world_size} processes with "
            f"{accumulate} batches each; choose a multiple of {parts}"
        )


def _crops(
    corpus: Corpus, pack: LabelPack, settings: PretrainSettings, student: Backbone, objective: CombinedObjective
) -> Crops:
    """Crops of the training images, as large and with what the student's objectives need."""
    grid = grid_of(student)
    return Crops(
        corpus,
        images=corpus.of("train"),
        pack=pack,
        settings=settings,
        needs=objective.needs,
        grid=grid,
        logits_px=CELLS_PER_TOKEN * grid,
    )


def _hand_on(loop: Loop, settings: PretrainSettings, corpus: Corpus, files: RunFiles, key: str) -> None:
    """The averaged weights, and at last what they are: a folder with facts is complete."""
    average = loop.average.module
    assert isinstance(average, Backbone)
    export(average.state_dict(), files.weights, sizes=average.sizes(), name=average.name)
    facts = {
        "key": key,
        "steps": loop.step,
        "seconds": round(loop.seconds, 1),
        "images": len(corpus.of("train")),
        "cameras": [camera.name for camera in corpus.cameras],
        "unreadable": list(loop.problems),
        "settings": settings.model_dump(mode="json"),
        "distilled": bool(corpus.teacher_channels),
        "weights_sha256": file_sha256(files.weights),
        "hvlabel_version": __version__,
    }
    # run.json, which a workflow waits for, comes last: whoever sees it finds a complete run
    finished = {"key": key, "facts": facts}
    publish_bytes(files.identity, pretty(finished))
    publish_bytes(files.facts, pretty(facts))


def _plain(sizes: dict[str, Any]) -> dict[str, Any]:
    """Sizes as a checkpoint may hold them: lists, no tuples."""
    plain = {}
    for name, value in sizes.items():
        plain[name] = list(value) if isinstance(value, tuple) else value
    return plain
