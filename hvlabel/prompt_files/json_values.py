"""Values of parsed JSON, or one sentence when they are of another type."""

from __future__ import annotations

import json
import math

from hvlabel.prompt_files.source import Source, shown


def parsed(source: Source) -> object:
    """The file's content as JSON."""
    text = source.text()
    try:
        return json.loads(text)
    except RecursionError as error:
        raise source.error("JSON nested too deeply to be annotations; name another file") from error
    except ValueError as error:
        raise source.error(f"not JSON ({str(error)[:80]}); mend the file or write it again") from error


def list_of(source: Source, where: str, value: object) -> list[object]:
    """A JSON list."""
    if not isinstance(value, list):
        raise source.error(f"{where}: expected a list, found {shown(value)}; correct it")
    return value


def mapping_of(source: Source, where: str, value: object) -> dict[str, object]:
    """A JSON object."""
    if not isinstance(value, dict):
        raise source.error(f"{where}: expected a mapping {{...}}, found {shown(value)}; correct it")
    return value


def numbers_of(source: Source, where: str, value: object, expected: str, n: tuple[int, ...] = ()) -> list[float]:
    """A JSON list of finite numbers. n: how many there may be (any if empty); expected: the same in words."""
    values = list_of(source, where, value)
    if n and len(values) not in n:
        raise source.error(f"{where}: {len(values)} values in {shown(values)}, expected {expected}; correct it")
    return [number_of(source, where, item) for item in values]


def number_of(source: Source, where: str, value: object) -> float:
    """A finite JSON number; a number in quotes is none."""
    try:
        number = float(value) if _is_number(value) else math.nan  # type: ignore[arg-type]
    except OverflowError:  # a whole number of more than 308 digits
        number = math.inf
    if not math.isfinite(number):
        raise source.error(f"{where}: {shown(value)} is not a finite number (without quotes); correct it")
    return number


def text_or_none(source: Source, where: str, value: object) -> str | None:
    """A JSON string, or None for null and an empty string."""
    if value is not None and not isinstance(value, str):
        raise source.error(f"{where}: expected a name in quotes, found {shown(value)}; correct it")
    return value or None


def id_or_none(value: object) -> str | None:
    """An id as text: files write the same one as 7 and as "7". None if it is neither a whole number nor a string."""
    is_id = isinstance(value, int | str) and not isinstance(value, bool)
    return str(value) if is_id else None


def _is_number(value: object) -> bool:
    """Whether a JSON value is a number: in Python, truth values are whole numbers too."""
    return isinstance(value, int | float) and not isinstance(value, bool)
