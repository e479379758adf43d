"""YAML files from anywhere: read into plain values, in bounded time and memory, without executing anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError
from yaml.error import Mark, MarkedYAMLError

from hvlabel.errors import ConfigError

# The largest configuration in use has some 600 values, 9 levels and 20 KB.
MAX_BYTES = 1 << 20
MAX_LEVELS = 40
MAX_VALUES = 50_000  # aliases written out: nine lines of them can stand for billions of values
MAX_CHARACTERS = 10_000  # of one value: time for a number grows with the square of its length
MAX_INTEGER = 1 << 63


class BoundedLoader(yaml.SafeLoader):
    """PyYAML's loader of plain values, with bounds: MarkedYAMLError for what exceeds them."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._level = 0
        self._n_written = 0  # values that stand in the file
        self._n_values: dict[int, int] = {}  # id of a finished node -> values below it, aliases written out

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """A node, refused as soon as a bound is passed: before anything is made of it."""
        mark = self.peek_event().start_mark
        self._level += 1
        self._n_written += 1
        if self._level > MAX_LEVELS:
            raise _too_much(f"nested more than {MAX_LEVELS} levels deep", mark)
        if self._n_written > MAX_VALUES:
            raise _too_much(f"more than {MAX_VALUES} values", mark)
        is_alias = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        self._level -= 1
        if node is None:
            return None
        if not is_alias:
            self._n_values[id(node)] = self._count(node, mark)
        elif id(node) not in self._n_values:  # an anchor that is still being read
            raise _too_much("an alias that stands for itself", mark)
        return node

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """A whole number of at most 64 bits."""
        number = super().construct_yaml_int(node)
        if abs(number) >= MAX_INTEGER:
            raise _too_much("a whole number of more than 64 bits", node.start_mark)
        return number

    def _count(self, node: yaml.Node, mark: Mark) -> int:
        """The values of a node whose children are counted."""
        if isinstance(node, yaml.ScalarNode):
            if len(node.value) > MAX_CHARACTERS:
                raise _too_much(f"a value of more than {MAX_CHARACTERS} characters", mark)
            return 1
        children = node.value
        if isinstance(node, yaml.MappingNode):
            children = [child for pair in node.value for child in pair]
        n_values = 1 + sum(self._n_values[id(child)] for child in children)
        if n_values > MAX_VALUES:
            raise _too_much(f"more than {MAX_VALUES} values, aliases written out", mark)
        return n_values


# the safe loader's table holds its own function, not the name
BoundedLoader.add_constructor("tag:yaml.org,2002:int", BoundedLoader.construct_yaml_int)


def read_yaml(path: Path, loader: type[BoundedLoader] = BoundedLoader) -> Any:
    """Plain values of a YAML file; ConfigError if it is missing, malformed, or larger than any such file has to be."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the file ({error.strerror}); check the path") from error
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_BYTES >> 20} MiB; expected a few lines of YAML, check the path")
    try:
        return yaml.load(content.decode("utf-8-sig"), Loader=loader)
    except Exception as error:  # `!!int ""` and impossible dates raise many kinds; each means the same
        raise ConfigError(f"{path}: not valid YAML ({' '.join(str(error).split())}); mend the file") from error


def _too_much(what: str, mark: Mark) -> MarkedYAMLError:
    return ConstructorError(problem=what, problem_mark=mark)
