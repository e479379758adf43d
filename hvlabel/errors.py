"""Errors a user can act on: one sentence with the file, what is wrong, what was expected, what to do."""

from __future__ import annotations

import io
import sys
import unicodedata
from collections.abc import Callable

# Unicode's categories of what moves the cursor, turns the order of the text or cannot be encoded: Cf holds the marks of
# writing from right to left, Cs the bytes of a name that is no UTF-8
UNPRINTABLE = ("Cc", "Cf", "Cs", "Zl", "Zp")


class HvError(Exception):
    """Base of every error that the command line prints as one line (exit status 2)."""


class ConfigError(HvError, ValueError):
    """The configuration names something unknown, out of bounds or contradictory."""


class RawFileError(HvError, ValueError):
    """A raw file (or its companion) is missing, damaged or not what its descriptor says."""


class BandError(HvError, ValueError):
    """The bands that an operation needs are not in the cube."""


class CubeError(HvError, ValueError):
    """A Zarr cube is missing, damaged or not a cube."""


class MaskFileError(HvError, ValueError):
    """A mask file is missing, damaged or not an SA-1B JSON file of this project."""


class WeightsError(HvError, ValueError):
    """A checkpoint is missing, of the wrong kind, or does not match its config."""


class FetchError(WeightsError):
    """Weights could not be had from a package registry, or are not what was expected."""


class PictureError(HvError, ValueError):
    """A picture whose values are not what a network was trained on."""


class ResultsError(HvError, OSError):
    """The results folder cannot be read or written."""


class BusyError(HvError, RuntimeError):
    """Another run is at work on the results folder."""


class DeviceMemoryError(HvError, RuntimeError):
    """The device's memory does not suffice."""


class ScoreError(HvError, ValueError):
    """Truth or predictions that cannot be scored, or not against each other."""


class TooManyFailuresError(HvError, RuntimeError):
    """More images of a shard failed than the run allows."""


class TrainingError(HvError, ArithmeticError):
    """Training cannot go on: the loss is no number any more."""


# ---------------------------------------------------------------------------------------------------- what users see

MENDABLE = (HvError, OSError)  # OSError: permissions, a full disk, a lost mount


def sentence_of(error: Exception) -> str:
    """The one sentence that a user reads about an error of MENDABLE."""
    if isinstance(error, OSError) and not isinstance(error, HvError):
        where = error.filename or "input/output"
        return printable(f"{where}: {error.strerror or error}; check permissions, space and mounts")
    return printable(str(error))


def printable(text: str, keep: str = "") -> str:
    """Text as a terminal may show it, whatever is in it: the name of a file may hold what moves the cursor.

    keep : characters that stay as they are, e.g. the ends of lines of a table
    """
    if text.isprintable():
        return text
    return "".join(_escaped(c) if c not in keep and unicodedata.category(c) in UNPRINTABLE else c for c in text)


def _escaped(character: str) -> str:
    """As Python writes it in a string."""
    return character.encode("unicode_escape").decode()


def run_program(name: str, program: Callable[[], object]) -> None:
    """Run a command line program: an error that its user can mend is one line and exit status 2.

    name : the program's, which begins the line
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal of another encoding is no reason to stop
    try:
        program()
    except MENDABLE as error:
        sys.stderr.write(f"{name}: error: {sentence_of(error)}\n")
        sys.exit(2)
