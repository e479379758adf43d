"""One named array of a file: what is known of it before its values are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from hvlabel.readers.arrays import MemoryArray
from hvlabel.readers.contract import Stored
from hvlabel.readers.named.facts import NO_FACTS, Facts
from hvlabel.readers.sizes import NUMERIC_KINDS, n_values, squeezed

SHOWN = 12  # names in a message
VECTOR_VALUES = 10_000  # more than any camera has bands
TRUTH_KINDS = ("bool", "logical")


@dataclass(frozen=True)
class Variable:
    """One named array.

    shape    : as the file's own tools show it (MATLAB order for .mat files)
    kind     : name of its type, e.g. uint16, char, struct
    reversed : the bytes lie in the reverse order of the axes (MATLAB)
    array    : opens it as a cube of three given sizes in stored order, which hold as many values as it has
    flat     : all its values as a 1-D array; only for numbers
    facts    : what its attributes say
    """

    shape: tuple[int, ...]
    kind: str
    reversed: bool
    array: Callable[[tuple[int, int, int]], Stored]
    flat: Callable[[], np.ndarray]
    facts: Facts = NO_FACTS

    @property
    def is_numeric(self) -> bool:
        """Whether it holds real numbers."""
        try:
            return np.dtype(self.kind).kind in NUMERIC_KINDS
        except TypeError:  # char, struct and the like
            return False

    @property
    def is_cube(self) -> bool:
        """Whether it has three axes of numbers, leading ones of length one left out."""
        return self.is_numeric and len(squeezed(self.shape)) == 3

    @property
    def is_matrix(self) -> bool:
        """Whether it has two axes of numbers, both longer than one."""
        return self.is_numeric and len(self.shape) == 2 and min(self.shape) > 1

    @property
    def n_values(self) -> int:
        """Product of the sizes."""
        return n_values(self.shape)

    @property
    def is_vector(self) -> bool:
        """Whether its numbers or truth values lie along one axis, and are no more than a camera may have bands."""
        holds_values = self.is_numeric or self.kind in TRUTH_KINDS  # good bands are often truth values
        has_one_axis = bool(self.shape) and max(self.shape) == self.n_values
        return holds_values and has_one_axis and self.n_values <= VECTOR_VALUES

    def values_as_float(self) -> tuple[float, ...]:
        """All its values."""
        return tuple(float(v) for v in self.flat())


def listing(variables: Mapping[str, Variable]) -> str:
    """Names and shapes in one line."""
    lines = [shown(name, " ", variable) for name, variable in variables.items()]
    more = f", ... ({len(lines) - SHOWN} more)" if len(lines) > SHOWN else ""
    return (", ".join(lines[:SHOWN]) or "nothing") + more


def shown(name: str, separator: str, variable: Variable) -> str:
    """Name, sizes and type of a variable."""
    sizes = "x".join(map(str, variable.shape)) or "scalar"
    return f"{name}{separator}{sizes} {variable.kind}"


def last_name(name: str) -> str:
    """A variable's own name in small letters, without its groups."""
    parts = name.replace("@", "/").rsplit("/", 1)  # attributes are owner@name
    return parts[-1].lower()


def of_attributes(owner: str, facts: Facts) -> dict[str, Variable]:
    """The vectors among an item's attributes as variables owner@attribute. owner: its path, "" for the file's own."""
    variables = {}
    for name, (values, unit) in facts.vectors.items():
        array = np.asarray(values)
        variables[f"{owner}@{name}"] = Variable(
            shape=array.shape,
            kind="float64",
            reversed=False,
            array=partial(_in_memory, array),
            flat=partial(np.copy, array),
            facts=Facts(unit=unit),
        )
    return variables


def _in_memory(array: np.ndarray, cube_shape: tuple[int, int, int]) -> Stored:
    return MemoryArray(array.reshape(cube_shape))
