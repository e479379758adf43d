"""SAM2 config files: which modules a network is built of, without running what a file names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from hvlabel.errors import ConfigError, WeightsError
from hvlabel.yaml_file import MAX_VALUES, BoundedLoader, read_yaml

TARGET = "_target_"
REFERENCE = re.compile(r"\$\{([\w.]+)\}")  # another key of the same file, by its whole path
# arguments by which a class of the sam2 package opens a file by itself, and unpickles whatever is in it
OPENS_A_FILE = ("weights_path",)
# config files write 1e-5, which YAML 1.1 takes for text
FLOAT = re.compile(r"[-+]?\d[\d_]*(?:\.[\d_]*)?[eE][-+]?\d+$")

Classes = Mapping[str, Callable[..., Any]]


class _Loader(BoundedLoader):
    """As config files are meant: 1e-5 is a number, and no key stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping; ConstructorError for a key that stands twice, of which only one could count."""
        names = [key.value for key, _ in node.value if key.tag == "tag:yaml.org,2002:str"]
        repeated = (name for name in names if names.count(name) > 1)
        twice = next(repeated, None)
        if twice is not None:
            raise ConstructorError(problem=f"the key {twice!r} stands twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", FLOAT, list("-+0123456789"))


def read_network(path: Path, classes: Classes, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The key `model` of a config file, references put in: nested mappings and lists that `build` takes.

    classes : the only names that may stand as `_target_`
    changes : dotted key below `model` -> value that is put in
    WeightsError for a file that is none, and for whatever is not to be built, with its key.
    """
    try:
        tree = read_yaml(path, _Loader)
    except ConfigError as error:
        raise WeightsError(str(error)) from error
    if not isinstance(tree, dict) or not isinstance(tree.get("model"), dict):
        raise WeightsError(f"{path}: no top-level key `model`; expected a SAM2 model config")
    references = _References(path, tree)
    model: dict[str, Any] = references.put_in("model", tree["model"])
    for key, value in changes.items():
        _set(path, model, key, value)
    _require_known(path, "model", model, classes)
    return model


def build(tree: Any, classes: Classes) -> Any:
    """The module that a tree of `read_network` names; its parts are made first, in the order in which they stand."""
    if isinstance(tree, list):
        return [build(part, classes) for part in tree]
    if not isinstance(tree, dict):
        return tree
    arguments = {name: build(part, classes) for name, part in tree.items() if name != TARGET}
    if TARGET not in tree:
        return arguments
    module = classes[tree[TARGET]]  # one of those: read_network has refused all others
    return module(**arguments)


class _References:
    """`${scratch.resolution}` replaced by the value of that key; all other interpolations are refused."""

    def __init__(self, path: Path, tree: dict[Any, Any]) -> None:
        self._path = path
        self._tree = tree
        self._n_values = 0
        self._on_the_way: list[str] = []

    def put_in(self, key: str, tree: Any) -> Any:
        """A copy of what stands at a key, references replaced."""
        self._n_values += 1
        if self._n_values > MAX_VALUES:
            raise WeightsError(f"{self._path}: {key}: more than {MAX_VALUES} values, references put in; mend the file")
        if isinstance(tree, list):
            return [self.put_in(f"{key}[{k}]", part) for k, part in enumerate(tree)]
        if isinstance(tree, dict):
            return {name: self.put_in(f"{key}.{name}", part) for name, part in tree.items()}
        if not isinstance(tree, str) or "${" not in tree:
            return tree
        named = REFERENCE.fullmatch(tree)
        if named is None:
            raise WeightsError(
                f"{self._path}: {key}: {tree[:60]!r} is not read; write the value, or ${{a.key}} of the same file alone"
            )
        return self._referred(key, named[1])

    def _referred(self, key: str, name: str) -> Any:
        """The value of another key. key: where it is referred to."""
        if name in self._on_the_way:
            raise WeightsError(f"{self._path}: {key}: ${{{name}}} refers to itself; write the value")
        place: Any = self._tree
        for part in name.split("."):
            if not isinstance(place, dict) or part not in place:
                raise WeightsError(f"{self._path}: {key}: ${{{name}}} names no key of the file; write the value")
            place = place[part]
        self._on_the_way.append(name)
        value = self.put_in(key, place)
        self._on_the_way.pop()
        return value


def _require_known(path: Path, key: str, tree: Any, classes: Classes) -> None:
    """WeightsError, with the key, for what `build` must not make."""
    if isinstance(tree, list):
        for k, part in enumerate(tree):
            _require_known(path, f"{key}[{k}]", part, classes)
    if not isinstance(tree, dict):
        return
    for name, part in tree.items():
        here = f"{key}.{name}"
        if name == TARGET:
            _require_class(path, here, part, classes)
        elif not isinstance(name, str) or name.startswith("_"):
            # of _partial_, _args_, _convert_ and the like no published config has one
            raise WeightsError(f"{path}: {here} is no argument of a SAM2 module; leave it out")
        elif name in OPENS_A_FILE and part is not None:
            raise WeightsError(f"{path}: {here} would open a file unsafely; leave it out, weights are the `checkpoint`")
        else:
            _require_known(path, here, part, classes)


def _require_class(path: Path, key: str, named: Any, classes: Classes) -> None:
    if not isinstance(named, str) or named not in classes:
        known = ", ".join(sorted(classes))
        raise WeightsError(
            f"{path}: {key}: {str(named)[:80]!r} is never built or called; expected one of: {known}; "
            "use a published config"
        )


def _set(path: Path, model: dict[str, Any], key: str, value: Any) -> None:
    """Put a value at a dotted key, groups on the way are made."""
    *groups, last = key.split(".")
    place = model
    for name in groups:
        place = place.setdefault(name, {})
        if not isinstance(place, dict):
            raise WeightsError(f"{path}: model.{name}: expected a group of settings; mend the file")
    place[last] = value
