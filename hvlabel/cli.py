"""Command line: one verb per stage, and verbs for people."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from hvlabel import __version__
from hvlabel.config import (
    Branch,
    Config,
    CubeSettings,
    Dataset,
    FusionSettings,
    MaterialSettings,
    RgbSettings,
    RunSettings,
    SequenceSettings,
    TeacherSettings,
    config_schema,
    load_config,
    parse_stage,
)
from hvlabel.descriptors import Descriptor, load_descriptor
from hvlabel.errors import ConfigError, HvError, TooManyFailuresError
from hvlabel.layout import Layout
from hvlabel.manifest import Image, read_manifest
from hvlabel.manifest import scan as scan_images
from hvlabel.settings import Settings

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Pseudo-labels for hyperspectral images.",
)
BRANCH_SETTINGS: dict[Branch, type[RgbSettings | SequenceSettings | MaterialSettings]] = {
    "rgb": RgbSettings, "sequence": SequenceSettings, "material": MaterialSettings,
}  # fmt: skip
S = TypeVar("S", bound=Settings)

ConfigPath = Annotated[Path, typer.Option("--config", help="configuration file")]
ResultsPath = Annotated[Path, typer.Option("--results", envvar="HVLABEL_RESULTS", help="results folder")]
Shard = Annotated[
    str | None, typer.Option("--shard", metavar="DATASET/SHARD", help="walk this shard of the results folder")
]
SettingsJson = Annotated[
    str | None, typer.Option("--settings", metavar="JSON", help="the stage's settings instead of --config")
]
RunJson = Annotated[
    str | None,
    typer.Option("--run", metavar="JSON", envvar="HVLABEL_RUN", help="the run settings instead of --config"),
]
DEFAULT_CONFIG, RESULTS = Path("config/config.yaml"), Path("results")
SHOWN_FAILURES = 20


# ------------------------------------------------------------------------------------------------ stages


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
    publish_bytes(layout.scenes_index(dataset), json.dumps({"dataset": dataset, "scenes": n}).encode())
    _say(f"{n} scenes of {dataset} in {layout.demo(dataset)}")


@app.command()
def describe(raw: Annotated[Path, typer.Argument(help="raw file, or a folder with one PNG per band")]) -> None:
    """Look into a raw file of an unknown camera: what it holds, and a descriptor to start from."""
    from hvlabel.describe import describe as look

    _say(look(raw))


@app.command()
def scan(
    config: ConfigPath = DEFAULT_CONFIG,
    table: Annotated[bool, typer.Option(help="look into every file and write a data card")] = False,
) -> None:
    """Find all images and write the manifest; says which data sets have none and why."""
    from hvlabel.cache.index import publish_scan

    settings = load_config(config)
    found = scan_images(settings)
    layout = Layout(Path(settings.results))
    publish_scan(layout, found)
    for problem in found.problems:
        _warn(problem)
    if table:
        from hvlabel.cache.publish import publish_bytes
        from hvlabel.inspect.datacard import data_card

        card = data_card(settings, found)
        publish_bytes(layout.datacard, card.markdown().encode())
        publish_bytes(layout.datacard.with_suffix(".tsv"), card.tsv().encode())
        _say(card.markdown().rstrip())
    if not found.images:
        raise ConfigError("no image found; see above")
    _say(
        f"{len(found.images)} images in {len(found.shards())} shards of {len({i.dataset for i in found.images})} data sets: {layout.manifest}"
    )


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

    cube_settings = _settings(CubeSettings, "cube", settings, config)
    threads = _settings(RunSettings, "run", run, config).threads
    if shard is None:
        if raw is None or out is None or dataset is None:
            raise ConfigError("convert needs --dataset NAME RAW OUT.zarr, or --shard DATASET/SHARD with --source")
        attributes = convert_file(raw, _descriptor(dataset, config), cube_settings, out, threads)
        _say(f"{out}: {len(attributes['wavelengths_nm'])} bands, rgb from {attributes['rgb_source']}")
        return
    described = (
        _dataset_descriptor(shard.split("/")[0], parse_stage(Dataset, source))
        if source
        else _descriptor(shard.split("/")[0], config)
    )
    _run_shard(CubeStage(Layout(results), described, cube_settings, threads), shard, results)


@app.command()
def segment(
    branch: Annotated[Branch, typer.Argument()],
    cube: Annotated[Path | None, typer.Argument(help="cube, .zarr")] = None,
    out: Annotated[Path | None, typer.Argument(help="mask file to write, .json")] = None,
    shard: Shard = None,
    config: ConfigPath = DEFAULT_CONFIG,
    settings: SettingsJson = None,
    run: RunJson = None,
    results: ResultsPath = RESULTS,
) -> None:
    """Cubes to the masks of one branch: one cube, or a shard."""
    from hvlabel.stages.segment import BranchRunner, BranchStage, segment_file

    branch_settings = _settings(BRANCH_SETTINGS[branch], branch, settings, config)
    runner = BranchRunner(branch, branch_settings, _settings(RunSettings, "run", run, config))
    if shard is None:
        if cube is None or out is None:
            raise ConfigError(f"segment {branch} needs CUBE.zarr OUT.json, or --shard DATASET/SHARD")
        _say(f"{out}: {len(segment_file(runner, cube, out))} masks")
        return
    _run_shard(BranchStage(Layout(results), runner, *_split(shard)), shard, results)


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

    run_settings = _settings(RunSettings, "run", run, config)
    torch.set_num_threads(run_settings.threads)
    runner = TeacherRunner(_settings(TeacherSettings, "teacher", settings, config), run_settings.device)
    if shard is None:
        if cube is None or out is None:
            raise ConfigError("teacher needs CUBE.zarr OUT.zarr, or --shard DATASET/SHARD")
        h, w, d = runner.write(cube, out)["shape"]
        _say(f"{out}: {h} x {w} tokens of {d} channels")
        return
    _run_shard(TeacherStage(Layout(results), runner, *_split(shard)), shard, results)


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

    fusion = _settings(FusionSettings, "fusion", settings, config)
    if shard is None:
        if not files or len(files) < 2:
            raise ConfigError("fuse needs MASKS.json ... OUT.json, or --shard DATASET/SHARD")
        label = fuse_files(files[:-1], fusion, files[-1], cube)
        _say(f"{files[-1]}: {len(label)} masks, {len(label.suppressed)} suppressed")
        return
    _run_shard(FuseStage(Layout(results), fusion, *_split(shard)), shard, results)


# ------------------------------------------------------------------------------------------------ for people


@app.command()
def show(
    image: Annotated[str, typer.Argument(help="DATASET/IMAGE or IMAGE")],
    out: Annotated[Path | None, typer.Argument(help="PNG to write")] = None,
    results: ResultsPath = RESULTS,
) -> None:
    """One picture of an image: RGB, masks of each branch, fused label."""
    from hvlabel.cache.publish import publish_bytes
    from hvlabel.inspect.picture import encode_png, picture

    found = _find_image(image, results)
    target = out or Path(f"{found.image_id}.png")
    publish_bytes(target, encode_png(picture(Layout(results), found.dataset, found.image_id)))
    _say(str(target))


@app.command()
def report(
    results: ResultsPath = RESULTS,
    max_pictures: Annotated[int, typer.Option(help="images drawn")] = 48,
) -> None:
    """One HTML page over a run: counts, seconds, failures, scores, pictures."""
    from hvlabel.inspect.report import write_report

    layout = Layout(results)
    n = write_report(layout, max_pictures)
    _say(f"{layout.report}: {n} pictures")


@app.command()
def evaluate(
    results: ResultsPath = RESULTS, top: Annotated[int, typer.Option(help="masks per image that count")] = 100
) -> None:
    """Scores of every branch and of the label where ground truth exists; also written as evaluation.tsv."""
    from hvlabel.cache.publish import publish_bytes
    from hvlabel.inspect.run import evaluate_run, evaluation_table, markdown

    layout = Layout(results)
    rows = evaluate_run(layout, top)
    if not rows:
        raise ConfigError(
            f"{results}: no labelled image has ground truth (demo/<data set>/truth); only demo scenes bring their own"
        )
    table = evaluation_table(rows, top)
    publish_bytes(layout.evaluation, "".join("\t".join(row) + "\n" for row in table).encode())
    _say(markdown(table))


@app.command()
def verify(
    results: ResultsPath = RESULTS,
    deep: Annotated[bool, typer.Option(help="read and hash every byte of every cube")] = False,
    repair: Annotated[bool, typer.Option(help="remove what is damaged, so that the next run remakes it")] = False,
) -> None:
    """Check every file of a run against its index, key and seal; exit status 1 if one is missing or damaged."""
    from hvlabel.inspect.verify import repair as remove
    from hvlabel.inspect.verify import verify as check

    checked, problems = check(Layout(results), deep=deep)
    for problem in problems:
        _say(f"{problem.path}: {problem.what}")
    if repair:
        remove(problems)
    advice = (
        ("; removed, run the workflow to remake them" if repair else "; --repair removes them for the next run")
        if problems
        else ""
    )
    _say(f"{checked} files checked, {len(problems)} missing or damaged{advice}")
    if problems and not repair:
        raise typer.Exit(1)


@app.command()
def summary(
    results: ResultsPath = RESULTS,
    check: Annotated[bool, typer.Option(help="fail if more images failed than run.max_failed_share allows")] = False,
    config: ConfigPath = DEFAULT_CONFIG,
    run: RunJson = None,
) -> None:
    """What a run has made, and where it is."""
    from hvlabel.cache.index import read_problems
    from hvlabel.inspect.run import summarise

    layout = Layout(results)
    made = summarise(layout)
    labels = made.stages[-1]
    _say(f"{labels.n_ok} of {made.n_images} images labelled with {labels.masks} masks, {len(made.failures)} failures")
    for stage, dataset, name, reason in made.failures[:SHOWN_FAILURES]:
        _say(f"  {stage} {dataset}/{name}: {reason}")
    if len(made.failures) > SHOWN_FAILURES:
        _say(f"  ... and {len(made.failures) - SHOWN_FAILURES} more, all in the report")
    for problem in read_problems(layout):
        _say(f"  {problem}")
    if made.caution:
        _say(made.caution)
    for what, path in (
        ("labels", layout.root / "labels"),
        ("pictures", layout.report.parent / "pictures"),
        ("report", layout.report),
    ):
        _say(f"{what + ':':10}{path}")
    for evaluation in sorted(layout.pretrain("").glob("*/evaluation.md")):
        if re.search(r"-[0-9a-f]{8}(-\d+)?$", evaluation.parent.name):
            continue  # an older run, moved aside
        _say(f"{'trained:':10}{evaluation.parent}\n{evaluation.read_text().rstrip()}")
    allowed = _settings(RunSettings, "run", run, config).max_failed_share
    if check and len(made.failures) > allowed * made.n_images:
        raise TooManyFailuresError(
            f"{len(made.failures)} of {made.n_images} images failed, more than run.max_failed_share {allowed:g} allows; "
            "all others are done: mend the images or raise it"
        )


@app.command()
def schema() -> None:
    """The JSON schema of the configuration."""
    _say(config_schema().rstrip())


@app.command()
def version() -> None:
    """The version of hvlabel."""
    _say(__version__)


# ------------------------------------------------------------------------------------------------ edges


def main() -> None:
    """Entry point: an error of the user's making is one line and exit status 2."""
    try:
        app()
    except HvError as error:
        _warn(f"error: {error}")
        sys.exit(2)
    except OSError as error:  # permissions, a full disk, a lost mount: the user's to mend
        _warn(
            f"error: {error.filename or 'input/output'}: {error.strerror or error}; check permissions, space and mounts"
        )
        sys.exit(2)


def _run_shard(stage: Any, shard: str, results: Path) -> None:
    from hvlabel.cache.shard import run_shard

    layout = Layout(results)
    dataset, number = _split(shard)
    images = [i for i in read_manifest(layout.manifest) if (i.dataset, i.shard) == (dataset, number)]
    if not images:
        raise ConfigError(f"{layout.manifest}: no shard {shard!r}; run `hvlabel scan` first")
    entries = run_shard(stage, images, layout, dataset, number).images.values()
    made = sum(e.made for e in entries)
    counts = {status: sum(e.status == status for e in entries) for status in ("ok", "failed", "skipped")}
    _say(
        f"{stage.name} {shard}: {made} made, {counts['ok'] - made} kept, {counts['failed']} failed, {counts['skipped']} left out"
    )


def _split(shard: str) -> tuple[str, str]:
    dataset, slash, number = shard.partition("/")
    if not slash:
        raise ConfigError(f"--shard {shard!r}: expected DATASET/SHARD, e.g. demo/0000")
    return dataset, number


def _settings(model: type[S], name: str, given: str | None, config: Path) -> S:
    """Settings given as JSON, else the group of the configuration file, else defaults if there is no such file."""
    if given is not None:
        return parse_stage(model, given)
    if config == DEFAULT_CONFIG and not config.exists():
        return model()
    return getattr(load_config(config), name)


def _descriptor(name: str, config: Path) -> Descriptor:
    """Descriptor of a data set of the configuration, or one named or given by path."""
    known: Config | None = load_config(config) if config.exists() else None
    if known is not None and name in known.datasets:
        return _dataset_descriptor(name, known.datasets[name])
    return load_descriptor(name, name)


def _dataset_descriptor(name: str, dataset: Dataset) -> Descriptor:
    if dataset.demo is not None:
        from hvlabel.demo.cameras import CAMERAS

        return CAMERAS[dataset.demo].descriptor
    return dataset.described(name)


def _find_image(name: str, results: Path) -> Image:
    rows = read_manifest(Layout(results).manifest)
    found = [i for i in rows if name in (i.image_id, f"{i.dataset}/{i.image_id}")]
    if len(found) != 1:
        some = ", ".join(f"{i.dataset}/{i.image_id}" for i in (found or rows)[:5])
        raise ConfigError(
            f"{results}: {len(found)} images are called {name!r}, expected one; there are {some or 'none'}{', ...' if len(rows) > 5 else ''}"
        )
    return found[0]


def _say(text: str) -> None:
    typer.echo(text)


def _warn(text: str) -> None:
    typer.echo(f"hvlabel: {text}", err=True)
