"""The verb that makes the page of one image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hvlabel.cli.app import RESULTS, ResultsPath, app, say
from hvlabel.layout import Layout


@app.command()
def view(
    image: Annotated[str, typer.Argument(help="DATASET/IMAGE or IMAGE")],
    out: Annotated[Path | None, typer.Argument(help="HTML to write; by default IMAGE.html")] = None,
    results: ResultsPath = RESULTS,
) -> None:
    """One HTML page of an image, to open from disk: pictures, masks, spectra, the fusion live, accept and reject."""
    from hvlabel.cache.publish import publish_bytes
    from hvlabel.cli.views import _image_called
    from hvlabel.viewer import build_page

    row = _image_called(image, results)
    target = out or Path(f"{row.image_id}.html")
    publish_bytes(target, build_page(Layout(results), row.dataset, row.image_id))
    say(str(target))
