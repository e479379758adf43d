"""The programs called in this process: what a shell would see of them, without the seconds that a new interpreter takes."""

import contextlib
import io
import sys
from collections.abc import Callable
from dataclasses import dataclass

from hvlabel.cli import main as hvlabel_main


@dataclass(frozen=True)
class Said:
    """Exit status and what was printed."""

    status: int
    out: str
    err: str


def hvlabel(*arguments) -> Said:
    """`hvlabel ARGUMENTS`."""
    return call(hvlabel_main, "hvlabel", *arguments)


def hvtrain(*arguments) -> Said:
    """`hvtrain ARGUMENTS`."""
    from hvtrain.cli import main  # only here: torch takes seconds to import

    return call(main, "hvtrain", *arguments)


def call(main: Callable[[], None], program: str, *arguments) -> Said:
    """A program's entry point with these arguments."""
    out, err = io.StringIO(), io.StringIO()
    before, status = sys.argv, 0
    sys.argv = [program, *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as stop:
        status = int(stop.code or 0)
    finally:
        sys.argv = before
    return Said(status, out.getvalue(), err.getvalue())
