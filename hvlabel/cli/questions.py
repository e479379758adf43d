"""Verbs that answer one question: what is on this image, what is this file, what has changed, why is this so."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hvlabel.cli.app import RESULTS, ResultsPath, app, image_called, say, warn
from hvlabel.config import parse_stage
from hvlabel.config.fusion import FusionSettings
from hvlabel.config.tree import load_config
from hvlabel.errors import ConfigError
from hvlabel.layout import Layout

if TYPE_CHECKING:
    from hvlabel.cube import Cube
    from hvlabel.inspect.origins import Origins

ImageName = Annotated[str, typer.Argument(help="DATASET/IMAGE or IMAGE")]


@app.command()
def show(
    image: ImageName,
    out: Annotated[Path | None, typer.Argument(help="PNG to write")] = None,
    branch: Annotated[str | None, typer.Option(help="the masks of this branch alone")] = None,
    mask: Annotated[int | None, typer.Option(help="one mask: its outline, spectrum, votes and what it beat")] = None,
    suppressed: Annotated[bool, typer.Option(help="what is not in the label, a colour per reason")] = False,
    top: Annotated[int, typer.Option(min=1, help="masks drawn per panel, best first")] = 48,
    results: ResultsPath = RESULTS,
) -> None:
    """A large picture of an image: its label and the masks of each branch, or one mask and its spectrum."""
    from hvlabel.cache.publish import publish_bytes
    from hvlabel.cube import open_cube
    from hvlabel.inspect.drawn import masks_picture, suppressed_picture
    from hvlabel.inspect.origins import origins_of

    if suppressed and (mask is not None or branch is not None):
        raise ConfigError("--suppressed shows all branches and no single mask; leave out --branch and --mask")
    row = image_called(image, results)
    layout = Layout(results)
    title = f"{row.dataset}/{row.image_id}"
    origins = origins_of(layout, row.dataset, row.image_id)
    if origins.remark():
        warn(origins.remark())
    if branch is not None and branch not in origins.branches:
        raise ConfigError(f"--branch {branch}: the label of {title} is fused from {', '.join(origins.branches)}")
    target = out or Path(f"{row.image_id}.png")
    cube = open_cube(layout.cube(row.dataset, row.image_id))
    if mask is not None:
        _show_mask(title, cube, origins, branch, mask, target)
        return
    if suppressed:
        content = suppressed_picture(title, cube.rgb, origins, top)
    else:
        content = masks_picture(title, cube.rgb, origins, top, branch)
    publish_bytes(target, content)
    say(str(target))


def _show_mask(title: str, cube: Cube, origins: Origins, branch: str | None, number: int, target: Path) -> None:
    """One mask as a picture and as text."""
    from hvlabel.cache.publish import publish_bytes
    from hvlabel.inspect.drawn import mask_picture
    from hvlabel.inspect.evaluate import markdown
    from hvlabel.inspect.mask_facts import branch_mask_facts, label_mask_facts, spectrum_sentence, spectrum_table
    from hvlabel.inspect.origins import mask_at
    from hvlabel.inspect.spectra import mask_spectrum

    masks = origins.label if branch is None else origins.branches[branch]
    whose = f"the label of {title}" if branch is None else f"{branch} of {title}"
    chosen = mask_at(masks, number, whose)
    facts = label_mask_facts(origins, number) if branch is None else branch_mask_facts(origins, branch, number)
    spectrum = mask_spectrum(cube, chosen.rle)
    facts.append(spectrum_sentence(spectrum))
    unit = str(cube.attributes.get("unit") or "value")
    heading = f"mask {number} of {whose}"
    content = mask_picture(heading, cube.rgb, chosen, spectrum, unit, facts)
    publish_bytes(target, content)
    table = markdown(spectrum_table(spectrum))
    say("\n".join([heading, *facts, "", table, str(target)]))


@app.command()
def info(
    file: Annotated[Path, typer.Argument(help="anything that hvlabel or hvtrain wrote: a file or a folder")],
) -> None:
    """What a file is, what it was made from and with which settings and weights, what is in it, whether it is whole."""
    from hvlabel.inspect.info import info_of

    say(info_of(file).text())


@app.command()
def compare(
    things: Annotated[
        list[Path], typer.Argument(metavar="A B", help="two labels or results folders; one with two --settings")
    ],
    settings: Annotated[
        list[str] | None,
        typer.Option(metavar="JSON", help="of the fusion, as JSON or a configuration file; given twice, over A"),
    ] = None,
) -> None:
    """What two labels, two runs, or two settings of the fusion over the same masks have in common, and what not."""
    from hvlabel.inspect.compare import compare_labels, compare_settings

    given = settings or []
    if len(given) not in (0, 2) or len(things) != (1 if given else 2):
        raise ConfigError("compare needs A B, or A with --settings twice: two settings over the masks of A")
    first = things[0]
    if given:
        comparison = compare_settings(first, _fusion(given[0]), _fusion(given[1]))
    else:
        comparison = compare_labels(first, things[1])
    say(comparison.text())


@app.command()
def why(
    image: ImageName,
    pixel: Annotated[str, typer.Argument(metavar="X,Y", help="column and row, px, counted from 0")],
    results: ResultsPath = RESULTS,
) -> None:
    """Why a pixel is in these masks, or in none: what was proposed there, what it lost to, and what would change it."""
    from hvlabel.inspect.why import why as reasons

    row = image_called(image, results)
    sentences = reasons(Layout(results), row.dataset, row.image_id, _pixel(pixel))
    say("\n".join(sentences))


def _pixel(text: str) -> tuple[int, int]:
    """Column and row."""
    try:
        x, y = (int(word) for word in text.split(","))
    except ValueError as error:
        raise ConfigError(f"{text!r} is no pixel, expected two whole numbers X,Y, e.g. 120,45") from error
    return x, y


def _fusion(given: str) -> FusionSettings:
    """Settings of the fusion: JSON, or those of a configuration file."""
    path = Path(given)
    if path.suffix in (".yaml", ".yml"):
        return load_config(path).fusion
    return parse_stage(FusionSettings, given)
