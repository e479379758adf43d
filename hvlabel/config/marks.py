"""What a setting has to do with a result, said at the field itself.

A cache key holds the settings that can change a result. A field without a mark can; a field
`Annotated[int, NO_RESULT]` never does, and the other marks say when it does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hvlabel.settings import Settings


class Mark:
    """Something that a field says about itself."""

    def leaves_out(self, group: Settings, value: Any) -> bool:
        """Whether a field of a group, which has this value, can change no result."""
        raise NotImplementedError


class _NoResult(Mark):
    """Memory, speed, or where a file lies: what the file holds is in the key by its hash."""

    def leaves_out(self, group: Settings, value: Any) -> bool:
        """Always."""
        return True


NO_RESULT = _NoResult()


@dataclass(frozen=True)
class ReadWhen(Mark):
    """Read only where another setting has one of some values.

    setting : name of a field of the same group, or of a group in it: `backend`, `generator.mode`
    """

    setting: str
    values: tuple[str, ...]

    def leaves_out(self, group: Settings, value: Any) -> bool:
        """Where the other setting has another value."""
        other: Any = group
        for name in self.setting.split("."):
            other = getattr(other, name)
        return other not in self.values


def read_by(*backends: str) -> ReadWhen:
    """The mark of a field that only some backends of its group read."""
    return ReadWhen("backend", backends)


@dataclass(frozen=True)
class LeftOutAt(Mark):
    """Left out at a value at which nothing changes: results from before there was the setting keep their key."""

    value: Any

    def leaves_out(self, group: Settings, value: Any) -> bool:
        """Where the field has that value."""
        return bool(value == self.value)


def settings_of_results(group: Settings) -> dict[str, Any]:
    """The settings that can change a result, as JSON values in the order of the fields."""
    return group.model_dump(mode="json", exclude=_without_result(group))


def _without_result(group: Settings) -> dict[str, Any]:
    """Fields to leave out, in pydantic's form: name -> True, or the same of a group in the group."""
    without: dict[str, Any] = {}
    for name, field in type(group).model_fields.items():
        value = getattr(group, name)
        marks = [mark for mark in field.metadata if isinstance(mark, Mark)]
        if any(mark.leaves_out(group, value) for mark in marks):
            without[name] = True
        elif isinstance(value, Settings):
            without[name] = _without_result(value)
    return without
