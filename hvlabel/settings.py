"""Frozen pydantic models that refuse unknown keys, and one sentence for whatever is wrong with them."""

from __future__ import annotations

import difflib
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from hvlabel.errors import ConfigError

SHOWN_CHARACTERS = 60  # of a value that is wrong


class Settings(BaseModel):
    """A frozen group of settings that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


S = TypeVar("S", bound=Settings)


def validated(model: type[S], tree: object, source: str) -> S:
    """The model of a parsed YAML tree; ConfigError says in one sentence what is wrong. source: name used in it."""
    if not isinstance(tree, dict):
        raise ConfigError(
            f"{source}: expected a mapping of settings, found {type(tree).__name__}; see config/config.yaml"
        )
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        sentences = [_sentence(model, e) for e in error.errors() if not _is_beside_the_point(e)]
        raise ConfigError(f"{source}: " + "; ".join(sentences)) from error


def _is_beside_the_point(error: Any) -> bool:
    """Whether an error only repeats another one.

    A mapping where a name or a mapping may stand fails as both: only what is wrong with the mapping counts.
    """
    return error["loc"][-1:] == ("str",) and isinstance(error["input"], dict)


def _sentence(model: type[Settings], error: Any) -> str:
    path = [str(part) for part in error["loc"] if not _is_alternative(model, str(part))]
    where = ".".join(path) or "top level"
    if error["type"] != "extra_forbidden":
        message = error["msg"].removeprefix("Value error, ")
        return f"{where}: {message} (got {str(error['input'])[:SHOWN_CHARACTERS]!r})"
    known = sorted(_fields_at(model, path[:-1]))
    near = difflib.get_close_matches(path[-1], known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown key {where!r}{hint} (known here: {', '.join(known)})"


def _is_alternative(model: type[Settings], part: str) -> bool:
    """Whether a part of an error's path is what pydantic calls an alternative of a union, which users do not know.

    Those are names of classes, and types and functions with brackets: `list[float]`, `function-before[...]`.
    """
    return "[" in part or part in {m.__name__ for m in _models_below(model)}


def _models_below(model: type[Settings]) -> set[type[Settings]]:
    """All models that a model is made of."""
    below: set[type[Settings]] = set()
    waiting = [model]
    while waiting:
        inner = [m for field in waiting.pop().model_fields.values() for m in _models_in(field.annotation)]
        waiting += [m for m in inner if m not in below]
        below.update(inner)
    return below


def _fields_at(model: type[Settings], path: list[str]) -> set[str]:
    """Field names of the model that sits at `path` below `model` (union and dict annotations are looked through)."""
    here: list[type[Settings]] = [model]
    for name in path:
        annotations = [m.model_fields[name].annotation for m in here if name in m.model_fields]
        inner = [m for annotation in annotations for m in _models_in(annotation)]
        here = inner or here  # the name of a data set is no field
    return {name for m in here for name in m.model_fields}


def _models_in(annotation: Any) -> list[type[Settings]]:
    """The models that an annotation names, in unions and containers too."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return [annotation]
    return [m for part in get_args(annotation) for m in _models_in(part)]
