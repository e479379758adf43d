"""Verbs of downstream tasks: adapt, predict, compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

ResultsPath = Annotated[Path, typer.Option("--results", envvar="HVLABEL_RESULTS", help="results folder")]

SAM = "sam"  # where `predict` is given a head

# commands import what they need themselves: torch takes seconds, --help shall not


def adapt(
    task: Annotated[str, typer.Argument(help="name in resources/tasks, or path of a task file")],
    backbone: Annotated[
        str | None,
        typer.Option(
            help="folder of a run, or .safetensors file; untrained:PATH is the same network with first weights"
        ),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(
            help="linear, ladder, unet, runet, agunet or deeplabv3plus; sam for salient objects; center, xcorr or car "
            "for tracking; none: the task's"
        ),
    ] = None,
    input_: Annotated[
        str | None,
        typer.Option(
            "--input",
            help="features, features+cube, features-rgb or features-pixels (hypersl), of a backbone; cube, pca1, mean "
            "or rgb, without one; none: the task's",
        ),
    ] = None,
    labels: Annotated[float, typer.Option(help="share of the training labels, per cent: 1, 5, 10, 50, 100")] = 100.0,
    seed: Annotated[int, typer.Option(min=0, help="of first weights, batches and which labels are used")] = 0,
    data: Annotated[Path | None, typer.Option(help="folder of images and truth, where the task names none")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="steps of training, instead of the task's")] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="what computes")] = "auto",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads")] = 2,
    results: ResultsPath = Path("results"),
) -> None:
    """Train a head on a frozen backbone; an interrupted run goes on where it was, a finished one stays."""
    from hvtrain.downstream.adapt import Request
    from hvtrain.downstream.adapt import adapt as run
    from hvtrain.downstream.head_run import HeadFiles
    from hvtrain.downstream.place import place_in
    from hvtrain.engine.run_folder import read_identity

    request = Request(task, backbone, head, input_, labels, seed, steps, data)
    folder = run(request, place_in(results), device=device, threads=threads)
    facts = read_identity(HeadFiles(folder))["facts"]
    leak = facts["notes"].get("leak")
    if leak:
        typer.echo(leak["says"], err=True)
    scores = facts["scores"]["test"]
    figures = [f"{name} {value:.4f}" for name, value in scores.items()]
    typer.echo(f"{folder}: {', '.join(figures)}")


def predict(
    head: Annotated[
        str,
        typer.Argument(
            help="folder of an adapt run, or its head.safetensors; sam or sam:FILE: SAM follows an object untrained"
        ),
    ],
    cube: Annotated[Path, typer.Argument(help="cube, .zarr; for tracking a folder of frames")],
    out: Annotated[
        Path, typer.Argument(help="file to write: .png, or .tif, georeferenced where the cube is; .txt for boxes")
    ],
    backbone: Annotated[str | None, typer.Option(help="if it is no longer where it was in training")] = None,
    box: Annotated[
        tuple[float, float, float, float] | None,
        typer.Option(
            help="tracking: x y w h of the object in the first frame, px; none: first line of groundtruth_rect.txt"
        ),
    ] = None,
    descriptor: Annotated[
        str | None, typer.Option(help="sam: how frames are read, a name or path; none: frames are cubes (.zarr)")
    ] = None,
    frames: Annotated[
        str | None, typer.Option(help="sam: which files of the folder are frames, with a descriptor; none: *.png")
    ] = None,
) -> None:
    """What a finished head makes of a cube; it refuses any backbone but its own."""
    from hvlabel.errors import ConfigError
    from hvtrain.downstream.predict import predict as write

    name, _, checkpoint = head.partition(":")  # a path `./sam` is a run of that name
    if name == SAM:
        from hvtrain.downstream.track_file import TrackCameraSettings
        from hvtrain.downstream.track_predict import predict_by_sam

        if backbone is not None:
            raise ConfigError("--backbone is for heads that were trained on one; sam has its own: leave it out")
        camera = TrackCameraSettings(descriptor=descriptor, frames=frames or "*.png")
        answer = predict_by_sam(checkpoint, cube, out, camera, box)
        typer.echo(f"{out}: {answer}")
        return
    if descriptor is not None or frames is not None:
        raise ConfigError("--descriptor and --frames are for sam: a finished head knows its cameras; leave them out")
    answer = write(Path(head), cube, out, backbone, box)
    typer.echo(f"{out}: {answer}")


def compare(folder: Annotated[Path, typer.Argument(help="folder with runs, at any depth")]) -> None:
    """Runs side by side, seeds as mean and spread: compare.tsv, compare.md, and curves over shares of labels."""
    from hvtrain.downstream.compare import compare as table

    typer.echo(table(folder).rstrip())


def register(app: typer.Typer) -> None:
    """Put the verbs into a program."""
    for verb in (adapt, predict, compare):
        app.command()(verb)
