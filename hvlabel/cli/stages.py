"""One verb per stage: a single file, or a shard of a results folder as the workflow asks for it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hvlabel.branches.table import CORE_BRANCHES, BranchName, row_of
from hvlabel.cli.app import (
    DEFAULT_CONFIG,
    RESULTS,
    ConfigPath,
    ResultsPath,
    RunJson,
    SettingsJson,
    Shard,
    app,
    branch_settings_of,
    config_of,
    say,
    settings_of,
    warn,
)
from hvlabel.config import CubeSettings, Dataset, RunSettings, TeacherSettings, parse_stage
from hvlabel.config.fusion import FusionSettings
from hvlabel.config.tree import load_config
from hvlabel.descriptors import Descriptor, load_descriptor
from hvlabel.errors import ConfigError
from hvlabel.layout import Layout
from hvlabel.manifest import read_manifest
from hvlabel.manifest import scan as scan_images

if TYPE_CHECKING:
    from hvlabel.stages.contract import Stage

# Verbs import their stage only when they are called: `hvlabel --help` loads neither zarr nor torch.


@app.command()
def scenes(
    dataset: Annotated[str, typer.Argument(help="name of a demo data set")],
    source: Annotated[str, typer.Option(metavar="JSON")],
    results: ResultsPath = RESULTS,
) -> None:
    """Write the raw files and ground truth of a demo data set."""
    from hvlabel.cache.publish import publish_bytes
    from hvlabel.demo.files import write_scenes

    layout = Layout(results)
    n = write_scenes(dataset, parse_stage(Dataset, source), results)
    index = json.dumps({"dataset": dataset, "scenes": n})
    publish_bytes(layout.scenes_index(dataset), index.encode())
    say(f"{n} scenes of {dataset} in {layout.demo(dataset)}")


@app.command()
def scan(
    config: ConfigPath = DEFAULT_CONFIG,
    table: Annotated[bool, typer.Option(help="look into every file and write a data card")] = False,
) -> None:
    """Find all images and write the manifest; says which data sets have none and why."""
    from hvlabel.cache.index import publish_scan

    settings = load_config(config)
    scanned = scan_images(settings)
    layout = Layout(Path(settings.results))
    publish_scan(layout, scanned)
    for problem in scanned.problems:
        warn(problem)
    if table:
        from hvlabel.cache.publish import publish_bytes
        from hvlabel.inspect.datacard import data_card

        card = data_card(settings, scanned)
        publish_bytes(layout.datacard, card.markdown().encode())
        publish_bytes(layout.datacard.with_suffix(".tsv"), card.tsv().encode())
        say(card.markdown().rstrip())
    if not scanned.images:
        raise ConfigError("no image found; see above")
    n_datasets = len({i.dataset for i in scanned.images})
    say(f"{len(scanned.images)} images in {len(scanned.shards())} shards of {n_datasets} data sets: {layout.manifest}")


@app.command()
def convert(
    raw: Annotated[Path | None, typer.Argument(help="raw file or folder")] = None,
    out: Annotated[Path | None, typer.Argument(help="cube to write, .zarr")] = None,
    dataset: Annotated[
        str | None, typer.Option(help="data set of the configuration, shipped descriptor, or path of one")
    ] = None,
    shard: Shard = None,
    source: Annotated[str | None, typer.Option(metavar="JSON", help="the data set, with --shard")] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    settings: SettingsJson = None,
    run: RunJson = None,
    results: ResultsPath = RESULTS,
) -> None:
    """Raw files to cubes: one file, or a shard."""
    from hvlabel.stages.convert import CubeStage, convert_file

    cube_settings = settings_of(CubeSettings, "cube", settings, config)
    threads = settings_of(RunSettings, "run", run, config).threads
    if shard is None:
        if raw is None or out is None or dataset is None:
            raise ConfigError("convert needs --dataset NAME RAW OUT.zarr, or --shard DATASET/SHARD with --source")
        attributes = convert_file(raw, _descriptor(dataset, config), cube_settings, out, threads)
        say(f"{out}: {len(attributes['wavelengths_nm'])} bands, rgb from {attributes['rgb_source']}")
        if attributes["wavelength_confidence"] == "placeholder":
            warn("its band centres are placeholders, so the picture is three bands and no colours; give wavelengths_nm")
        return
    name, _ = _split(shard)
    given = parse_stage(Dataset, source) if source else None
    descriptor = _descriptor(name, config) if given is None else _dataset_descriptor(name, given)
    stage = CubeStage(Layout(results), descriptor, cube_settings, threads)
    _run_shard(stage, shard, results)


@app.command()
def segment(
    branch: Annotated[BranchName, typer.Argument()],
    cube: Annotated[Path | None, typer.Argument(help="cube, .zarr")] = None,
    out: Annotated[Path | None, typer.Argument(help="mask file to write, .json")] = None,
    boxes: Annotated[
        Path | None,
        typer.Option(
            help="prompts: boxes, points or masks: .json (COCO or plain), .csv, .xml (VOC), .txt (YOLO), .png, .tif"
        ),
    ] = None,
    points: Annotated[Path | None, typer.Option(help="prompts: the same, for a file of points")] = None,
    shard: Shard = None,
    config: ConfigPath = DEFAULT_CONFIG,
    settings: SettingsJson = None,
    run: RunJson = None,
    results: ResultsPath = RESULTS,
) -> None:
    """Cubes to the masks of one branch: one cube, or a shard."""
    from hvlabel.stages.segment import BranchRunner, BranchStage, segment_file

    drawn = boxes or points
    reads_prompts = row_of(branch).reads_prompts
    if reads_prompts and shard is None and drawn is None:
        raise ConfigError(f"segment {branch} needs what to segment: --boxes FILE or --points FILE")
    if drawn is not None and (not reads_prompts or shard is not None or (boxes and points)):
        raise ConfigError("one of --boxes FILE and --points FILE goes with: segment prompts CUBE.zarr OUT.json")
    branch_settings = branch_settings_of(branch, settings, config)
    run_settings = settings_of(RunSettings, "run", run, config)
    runner = BranchRunner(branch, branch_settings, run_settings)
    if shard is None:
        if cube is None or out is None:
            raise ConfigError(f"segment {branch} needs CUBE.zarr OUT.json, or --shard DATASET/SHARD")
        document = segment_file(runner, cube, out, drawn)
        say(f"{out}: {len(document['annotations'])} masks")
        reason = runner.settings.why_no_network()
        if reason:
            warn(f"no SAM, so regions: {reason}")
        return
    stage = BranchStage(Layout(results), runner, *_split(shard))
    _run_shard(stage, shard, results)


@app.command()
def teacher(
    cube: Annotated[Path | None, typer.Argument(help="cube, .zarr")] = None,
    out: Annotated[Path | None, typer.Argument(help="features to write, .zarr")] = None,
    shard: Shard = None,
    config: ConfigPath = DEFAULT_CONFIG,
    settings: SettingsJson = None,
    run: RunJson = None,
    results: ResultsPath = RESULTS,
) -> None:
    """Pictures of cubes to features of a frozen RGB network, which pre-training follows: one cube, or a shard."""
    import torch

    from hvlabel.stages.teacher import TeacherRunner, TeacherStage

    run_settings = settings_of(RunSettings, "run", run, config)
    torch.set_num_threads(run_settings.threads)
    teacher_settings = settings_of(TeacherSettings, "teacher", settings, config)
    runner = TeacherRunner(teacher_settings, run_settings.device)
    if shard is None:
        if cube is None or out is None:
            raise ConfigError("teacher needs CUBE.zarr OUT.zarr, or --shard DATASET/SHARD")
        rows, columns, channels = runner.write(cube, out)["shape"]
        say(f"{out}: {rows} x {columns} tokens of {channels} channels")
        return
    stage = TeacherStage(Layout(results), runner, *_split(shard))
    _run_shard(stage, shard, results)


@app.command()
def fuse(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="MASKS... OUT", help="mask files, then the label to write, .json")
    ] = None,
    cube: Annotated[Path | None, typer.Option(help="cube whose RGB is written beside the label")] = None,
    shard: Shard = None,
    config: ConfigPath = DEFAULT_CONFIG,
    settings: SettingsJson = None,
    results: ResultsPath = RESULTS,
) -> None:
    """Masks of the branches to labels: some files, or a shard."""
    from hvlabel.stages.fuse import FuseStage, fuse_files

    fusion = settings_of(FusionSettings, "fusion", settings, config)
    if shard is None:
        if not files or len(files) < 2:
            raise ConfigError("fuse needs MASKS.json ... OUT.json, or --shard DATASET/SHARD")
        label = fuse_files(files[:-1], fusion, files[-1], cube)
        say(f"{files[-1]}: {len(label['annotations'])} masks, {len(label['suppressed'])} suppressed")
        return
    known = config_of(config) if settings is None else None  # the workflow names the branches in the settings
    if fusion.branches is None and known is not None:
        branches = tuple(known.on(CORE_BRANCHES))
        fusion = fusion.model_copy(update={"branches": branches})
    stage = FuseStage(Layout(results), fusion, *_split(shard))
    _run_shard(stage, shard, results)


def _run_shard(stage: Stage, shard: str, results: Path) -> None:
    from hvlabel.stages.shard import run_shard

    layout = Layout(results)
    dataset, number = _split(shard)
    rows = read_manifest(layout.manifest)
    images = [i for i in rows if (i.dataset, i.shard) == (dataset, number)]
    if not images:
        raise ConfigError(f"{layout.manifest}: no shard {shard!r}; run `hvlabel scan` first")
    index = run_shard(stage, images, layout, dataset, number)
    entries = index.images.values()
    n_of = Counter(entry.status for entry in entries)
    n_made = sum(entry.made for entry in entries)
    say(
        f"{stage.name} {shard}: {n_made} made, {n_of['ok'] - n_made} kept, {n_of['failed']} failed, "
        f"{n_of['skipped']} left out"
    )


def _split(shard: str) -> tuple[str, str]:
    """Data set and number of a shard."""
    dataset, slash, number = shard.partition("/")
    if not slash:
        raise ConfigError(f"--shard {shard!r}: expected DATASET/SHARD, e.g. demo/0000")
    return dataset, number


def _descriptor(name: str, path: Path) -> Descriptor:
    """Descriptor of a data set of the configuration at `path`, or one named or given by path."""
    config = load_config(path) if path.exists() else None
    # a data set of one's own goes before a shipped descriptor of its name
    if config is not None and name in config.datasets:
        return _dataset_descriptor(name, config.datasets[name])
    return load_descriptor(name, name)


def _dataset_descriptor(name: str, dataset: Dataset) -> Descriptor:
    if dataset.demo is not None:
        from hvlabel.demo.cameras import CAMERAS

        return CAMERAS[dataset.demo].descriptor
    return dataset.described(name)
