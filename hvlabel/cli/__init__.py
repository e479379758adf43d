"""Command line: one verb per stage, and verbs for people."""

from __future__ import annotations

import sys

from hvlabel.cli import models, stages, views  # noqa: F401 (they bring the verbs)
from hvlabel.cli.app import app, warn
from hvlabel.errors import HvError


def main() -> None:
    """Entry point: an error of the user's making is one line and exit status 2."""
    try:
        app()
    except HvError as error:
        warn(f"error: {error}")
        sys.exit(2)
    except OSError as error:  # permissions, a full disk, a lost mount: the user's to mend
        warn(
            f"error: {error.filename or 'input/output'}: {error.strerror or error}; check permissions, space and mounts"
        )
        sys.exit(2)
