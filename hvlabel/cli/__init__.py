"""Command line: one verb per stage, and verbs for people."""

from __future__ import annotations

from hvlabel.cli import handing_on, models, questions, stages, viewing, views  # noqa: F401 (they bring the verbs)
from hvlabel.cli.app import app
from hvlabel.errors import run_program


def main() -> None:
    """Entry point: an error of the user's making is one line and exit status 2."""
    run_program("hvlabel", app)
