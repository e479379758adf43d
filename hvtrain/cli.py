"""Command line of pre-training: fit, evaluate, export, import, features, cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hvlabel.config import PretrainSettings, StudentSettings, TeacherSettings, parse_stage
from hvlabel.config.tree import Config, load_config
from hvlabel.errors import ConfigError, run_program
from hvlabel.layout import Layout
from hvtrain.downstream_cli import register as register_downstream

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Pre-training on pseudo-labels.",
)
ConfigPath = Annotated[Path, typer.Option("--config", help="configuration file")]
ResultsPath = Annotated[
    Path | None, typer.Option("--results", envvar="HVLABEL_RESULTS", help="results folder; none: the configuration's")
]
SettingsJson = Annotated[
    str | None,
    typer.Option(
        "--settings", metavar="JSON", envvar="HVTRAIN_SETTINGS", help="the group `pretrain` instead of --config"
    ),
]
TeacherJson = Annotated[
    str | None, typer.Option("--teacher", metavar="JSON", help="the group `teacher` instead of --config")
]
DEFAULT_CONFIG = Path("config/config.yaml")

# commands import what they need themselves: torch takes seconds, --help shall not


@app.command()
def fit(
    config: ConfigPath = DEFAULT_CONFIG,
    settings: SettingsJson = None,
    teacher: TeacherJson = None,
    results: ResultsPath = None,
) -> None:
    """Train; a run that was interrupted goes on where it was."""
    from hvtrain.pretrain import pretrain

    run, distill, root = _settings(config, settings, teacher, results)
    folder = pretrain(Layout(root), run, distill=distill)
    typer.echo(f"{folder}: trained for {run.optimiser.steps} steps")


@app.command()
def evaluate(
    config: ConfigPath = DEFAULT_CONFIG,
    settings: SettingsJson = None,
    teacher: TeacherJson = None,
    results: ResultsPath = None,
) -> None:
    """Ask a finished run for masks after clicks and for a linear probe, per camera, beside the untrained network."""
    from hvlabel.cache.publish import publish_bytes
    from hvtrain.engine.run_folder import RunFiles
    from hvtrain.tasks.evaluate import evaluate as scores_of
    from hvtrain.tasks.table import markdown, table

    run, distill, root = _settings(config, settings, teacher, results)
    layout = Layout(root)
    scores = scores_of(layout, run, distill=distill)
    rows = table(scores, run.evaluation.clicks)
    for_people = markdown(rows)
    lines = ["\t".join(row) + "\n" for row in rows]
    for_programs = "".join(lines)
    out = RunFiles(layout.pretrain(run.run)).evaluation
    publish_bytes(out.with_suffix(".md"), for_people.encode())
    publish_bytes(out, for_programs.encode())
    typer.echo(for_people.rstrip())


@app.command()
def features(
    cube: Annotated[Path, typer.Argument(help="cube, .zarr")],
    out: Annotated[Path, typer.Argument(help="Zarr group to write, one array per scale")],
    checkpoint: Annotated[
        Path, typer.Option(help="student.safetensors of a run, or any HyperFree or HyperVision file")
    ],
    merge_blocks: Annotated[
        list[int] | None, typer.Option(help="blocks followed by merging, where the file holds such modules")
    ] = None,
    image_size_px: Annotated[
        int | None, typer.Option(help="side of the input, where the file does not tell it")
    ] = None,
    gsd_m: Annotated[float, typer.Option(help="ground sampling distance of the raw image, m per pixel")] = 1.0,
) -> None:
    """Multi-scale features of a whole cube, finest first; the last ones feed the mask decoder."""
    from hvtrain.tasks.features import write_maps

    shapes = write_maps(cube, out, checkpoint, merge_blocks=merge_blocks, image_size_px=image_size_px, gsd_m=gsd_m)
    sizes = [" x ".join(map(str, shape)) for shape in shapes]
    of_scales = ", ".join(sizes)
    typer.echo(f"{out}: {of_scales}")


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="folder of a run, finished or not; with --published a .safetensors file")],
    out: Annotated[Path, typer.Argument(help="file to write: .safetensors, .pt or .pth")],
    published: Annotated[
        bool,
        typer.Option("--published", help="of a run's or imported file, the backbone in its authors' layout"),
    ] = False,
) -> None:
    """The averaged student of a run as a bare state dict of the published layout."""
    from hvtrain.backbones.weights import export as write
    from hvtrain.engine.checkpoint import averaged_student
    from hvtrain.engine.run_folder import RunFiles
    from hvtrain.tasks.exchange import export_published

    if published:
        typer.echo(f"{out}: {export_published(run, out)} tensors")
        return
    state, step, backbone, sizes = averaged_student(RunFiles(run).checkpoint)
    write(state, out, sizes, backbone)
    typer.echo(f"{out}: {len(state)} tensors, step {step}")


@app.command("import")
def import_(
    files: Annotated[list[Path], typer.Argument(help="published file or files of one network, then the file to write")],
    backbone: Annotated[str, typer.Option(help="whose file it is: hyperfree, specaware, hypersigma or hypersl")],
    heads: Annotated[int | None, typer.Option(help="heads of a block, for sizes that are not published")] = None,
    side_px: Annotated[int | None, typer.Option(help="side of the input, where the file does not tell it")] = None,
    patch_px: Annotated[int | None, typer.Option(help="side of a token, where the network can take another")] = None,
) -> None:
    """A published checkpoint as a file that `student.checkpoint` and `features` take. Runs no code of the file."""
    from hvtrain.tasks.exchange import import_published

    if len(files) < 2:
        raise ConfigError("import needs a published file and the file to write")
    *published, out = files
    given = {"num_heads": heads, "img_size": side_px, "patch_size": patch_px}
    config = {name: value for name, value in given.items() if value is not None}
    network = import_published(published, backbone, out, config)
    n_parameters = sum(parameter.numel() for parameter in network.parameters())
    typer.echo(f"{out}: {network.name}, {n_parameters / 1e6:.1f} M parameters")


@app.command()
def cost(
    backbone: Annotated[str, typer.Option(help="hyperfree, specaware, hypersigma or hypersl")] = "hyperfree",
    size: Annotated[str, typer.Option(help="small, b, l or h")] = "b",
    side_px: Annotated[int, typer.Option(help="side of the image, px")] = 512,
    bands: Annotated[str, typer.Option(help="numbers of bands, joined by commas")] = "25,128,204",
    bf16: Annotated[bool, typer.Option("--bf16", help="matrix products in bfloat16")] = False,
    compiled: Annotated[bool, typer.Option("--compile", help="with compiled blocks")] = False,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads")] = 2,
) -> None:
    """What encoding an image costs: parameters, GMAC, seconds, memory. Weights are random: they change none of it."""
    from hvlabel.settings import validated
    from hvtrain.tasks.cost import Asked, cost_table, costs
    from hvtrain.tasks.table import lined

    given = {"backbone": backbone, "size": size, "crop_px": side_px}
    student = validated(StudentSettings, given, "hvtrain cost")
    counts = [part.strip() for part in bands.split(",")]
    if not all(count.isdigit() and int(count) for count in counts):
        raise ConfigError(f"--bands {bands!r}: expected numbers joined by commas, e.g. 25,128,204")
    measurements = []
    for count in counts:
        one = Asked(student, int(count), bf16=bf16, compile=compiled, threads=threads)
        measurements.append(one)
    rows = cost_table(costs(measurements))
    typer.echo(lined(rows).rstrip())


register_downstream(app)


def _settings(
    config: Path, settings: str | None, teacher: str | None, results: Path | None
) -> tuple[PretrainSettings, bool, Path]:
    """Settings, whether tokens of a teacher are to be followed, and the results folder.

    Each comes from its option, else from the configuration file, which is read only if something is missing.
    """
    tree = None if settings and teacher and results else load_config(config)
    run = parse_stage(PretrainSettings, settings) if settings else _of(tree).pretrain
    teacher_settings = parse_stage(TeacherSettings, teacher) if teacher else _of(tree).teacher.resolved()
    distill = run.follows(teacher_settings.backend)
    root = results or Path(_of(tree).results)
    return run, distill, root


def _of(tree: Config | None) -> Config:
    assert tree is not None  # read wherever something was not given
    return tree


def main() -> None:
    """Entry point: an error of the user's making is one line and exit status 2."""
    run_program("hvtrain", app)
