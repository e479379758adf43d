"""Verbs that hand labels on to other tools, take in what other tools made, and group masks by material."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from hvlabel.cli.app import RESULTS, ResultsPath, app, say, warn
from hvlabel.errors import ConfigError, ResultsError
from hvlabel.layout import Layout

SHOWN_FAILURES = 20


@app.command()
def export(
    out: Annotated[Path, typer.Argument(help="folder to write; of several formats each gets one below it")],
    to: Annotated[str, typer.Option("--to", metavar="FORMATS", help="divided by commas; `--to list` names them")],
    results: ResultsPath = RESULTS,
    branch: Annotated[str | None, typer.Option(help="the masks of this branch instead of the labels")] = None,
    min_quality: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="leave out masks of which less is expected")
    ] = 0.0,
    category: Annotated[
        Literal["object", "material"], typer.Option(help="one for all masks, or the groups of `hvlabel materials`")
    ] = "object",
) -> None:
    """Labels for other tools: COCO, YOLO, CVAT, Label Studio, FiftyOne, Datumaro, Parquet, GeoTIFF, NGFF, GeoJSON."""
    from hvlabel.exports import export as write
    from hvlabel.exports import formats_of
    from hvlabel.exports.source import Source
    from hvlabel.exports.table import TABLE

    if to == "list":
        say("\n".join(f"{row.name:12} {row.what}" for row in TABLE))
        return
    source = Source(Layout(results), branch, min_quality, category)
    for name, folder, remarks in write(source, formats_of(to), out):
        say(f"{folder}: {name}, {remarks.n_masks} masks of {remarks.n_images} images")
        for sentence in remarks.sentences():
            say(f"  {sentence}")
    _warn_of(source.failed, "not exported")


@app.command(name="import")
def import_(
    files: Annotated[Path, typer.Argument(metavar="FILE|FOLDER", help="COCO, SA-1B, or label images (PNG, TIFF)")],
    as_: Annotated[
        Literal["truth", "branch"], typer.Option("--as", help="ground truth, or a voter: the branch prompts")
    ],
    results: ResultsPath = RESULTS,
    dataset: Annotated[str | None, typer.Option(help="whose images are meant; none: of all data sets")] = None,
) -> None:
    """Masks that other tools or people made: as ground truth of `hvlabel evaluate`, or for the branch `prompts`."""
    from hvlabel.imports import import_prompts, import_truth

    layout = Layout(results)
    run = import_truth if as_ == "truth" else import_prompts
    taken = run(layout, files, dataset)
    for sentence in taken.sentences:
        say(sentence)
    _warn_of(taken.failed, "not imported")
    if not taken.n_images:
        raise ResultsError(f"{files}: nothing was imported: no image of {results} is named there, or see above")
    say(f"{taken.n_masks} masks of {taken.n_images} images")


@app.command()
def materials(
    results: ResultsPath = RESULTS,
    dataset: Annotated[str | None, typer.Option(help="of this data set; none: each of its own")] = None,
    n_groups: Annotated[int | None, typer.Option("-k", min=1, help="number of groups; none: it is chosen")] = None,
    seed: Annotated[int, typer.Option(help="of the clustering")] = 0,
) -> None:
    """Group the masks of the labels by their mean spectra: materials/DATASET.json, their spectra, a picture."""
    from hvlabel.inspect.material_picture import write_material_picture
    from hvlabel.inspect.materials import group_materials, write_materials
    from hvlabel.inspect.materials_score import material_score

    layout = Layout(results)
    of_labels = sorted(path.name for path in layout.labels.glob("*") if path.is_dir())
    names = [dataset] if dataset is not None else of_labels
    if not names:
        raise ConfigError(f"{results}: no labels to group; run `snakemake pseudolabels` first")
    for name in names:
        grouped, left_out = group_materials(layout, name, n_groups, seed)
        path = write_materials(layout, grouped)
        write_material_picture(layout, grouped)
        n_masks = sum(len(groups) for groups in grouped.groups.values())
        facts = grouped.facts
        known = facts["silhouette"] is not None
        how_apart = f", silhouette {facts['silhouette']:.2f}" if known else ""
        say(f"{path}: {n_masks} masks in {facts['n_groups']} groups{how_apart}")
        score = material_score(layout, grouped)
        if score is not None:
            say(f"  against the true classes of {score.n_masks} masks: {score.sentence()}")
        for sentence in left_out[:SHOWN_FAILURES]:
            warn(sentence)


def _warn_of(failed: dict[str, str], what: str) -> None:
    """One sentence per image that could not be read, as many as fit."""
    # not all: thousands may fail for one reason
    for name, reason in list(failed.items())[:SHOWN_FAILURES]:
        warn(f"{name}: {what}: {reason}")
    if len(failed) > SHOWN_FAILURES:
        warn(f"and {len(failed) - SHOWN_FAILURES} more")
