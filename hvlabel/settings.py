"""Frozen pydantic models that refuse unknown keys, and one sentence for whatever is wrong with them."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from hvlabel.errors import ConfigError

UNION_ALTERNATIVES = ("Descriptor", "Companion", "WavelengthRange", "list[float]")


class Settings(BaseModel):
    """A frozen group of settings that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


S = TypeVar("S", bound=Settings)


def read_yaml(path: Path) -> object:
    """Parsed YAML of a file; ConfigError if it is missing or malformed."""
    try:
        return yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the file ({error.strerror}); check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML ({' '.join(str(error).split())}); mend the file") from error


def validated(model: type[S], tree: object, source: str) -> S:
    """The model of a parsed YAML tree; ConfigError says in one sentence what is wrong. source: name used in it."""
    if not isinstance(tree, dict):
        raise ConfigError(
            f"{source}: expected a mapping of settings, found {type(tree).__name__}; see config/config.yaml"
        )
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        errors = error.errors()
        # a mapping where a name or a mapping may stand fails as both: say only what is wrong with the mapping
        told = [e for e in errors if not (e["loc"][-1:] == ("str",) and isinstance(e["input"], dict))]
        raise ConfigError(f"{source}: " + "; ".join(_sentence(model, e) for e in told)) from error


def _sentence(model: type[Settings], error: Any) -> str:
    # pydantic names the alternative of a union it tried; users do not
    names = [str(p) for p in error["loc"] if not str(p).startswith("function-") and p not in UNION_ALTERNATIVES]
    where = ".".join(names) or "top level"
    if error["type"] != "extra_forbidden":
        return f"{where}: {error['msg'].removeprefix('Value error, ')} (got {str(error['input'])[:60]!r})"
    known = sorted(_fields_at(model, names[:-1]))
    near = difflib.get_close_matches(names[-1], known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown key {where!r}{hint} (known here: {', '.join(known)})"


def _fields_at(model: type[Settings], path: list[str]) -> set[str]:
    """Field names of the model that sits at `path` below `model` (union and dict annotations are looked through)."""
    here: list[type[Settings]] = [model]
    for name in path:
        annotations = [m.model_fields[name].annotation for m in here if name in m.model_fields]
        here = [m for a in annotations for m in _models_in(a)] or here
    return {name for m in here for name in m.model_fields}


def _models_in(annotation: Any) -> list[type[Settings]]:
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return [annotation]
    return [m for part in get_args(annotation) for m in _models_in(part)]
