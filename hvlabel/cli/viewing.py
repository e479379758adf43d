"""Pages of images: the verb that makes one, and what is said of decisions that come back from it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hvlabel.cli.app import RESULTS, ResultsPath, app, image_called, say
from hvlabel.layout import Layout

if TYPE_CHECKING:
    from hvlabel.stages.accept import Accepted


@app.command()
def view(
    image: Annotated[str, typer.Argument(help="DATASET/IMAGE or IMAGE")],
    out: Annotated[Path | None, typer.Argument(help="HTML to write; by default IMAGE.html")] = None,
    results: ResultsPath = RESULTS,
) -> None:
    """One HTML page of an image, to open from disk: pictures, masks, spectra, the fusion live, accept and reject."""
    from hvlabel.cache.publish import publish_bytes
    from hvlabel.viewer import build_page

    row = image_called(image, results)
    target = out or Path(f"{row.image_id}.html")
    page = build_page(Layout(results), row.dataset, row.image_id)
    publish_bytes(target, page)
    say(str(target))


def say_accepted(accepted: Accepted) -> None:
    """What became of a label by a person's decisions."""
    label, n_masks, n_rejected, redraw, is_sealed = accepted
    what = "kept as corrected; delete the file to have it made anew" if is_sealed else "left as it was"
    say(f"{label}: {n_rejected} masks rejected, {n_masks} masks, {what}")
    if redraw:
        say(f"{label}: to be redrawn: annotations {', '.join(map(str, redraw))}")
