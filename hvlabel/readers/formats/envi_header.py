"""The text header of an ENVI image: its fields, as text and as numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hvlabel.errors import RawFileError

# key = value, the value in braces over several lines or to the end of its own; a brace may open on the line below
FIELD = re.compile(
    r"^[ \t]*([^=;{}\n]+?)[ \t]*=[ \t]*(?:\r?\n[ \t]*(?=\{))?(\{[^}]*\}|[^\n]*)",
    flags=re.MULTILINE,
)
BLANKS = "\ufeff \t\r\n"  # what editors put before a text: a byte order mark, empty lines


@dataclass(frozen=True)
class Header:
    """Fields of an ENVI header. fields: keys in small letters, values as text without braces."""

    path: Path
    fields: Mapping[str, str]

    def text(self, name: str) -> str | None:
        """A field as it stands there; None if there is none."""
        return self.fields.get(name)

    def integer(self, name: str, default: int | None = None) -> int:
        """A whole number; RawFileError if it is none, or is missing without a default."""
        text = self.fields.get(name)
        if text is None and default is not None:
            return default
        if text is None or not re.fullmatch(r"[+-]?\d+", text):
            raise RawFileError(f"{self.path}: {name} is {text!r}, expected a whole number; mend the header")
        return int(text)

    def numbers(self, name: str) -> list[float] | None:
        """The numbers of a list; None if the header has no such field or an empty one. RawFileError for other words."""
        text = self.fields.get(name, "")
        words = re.split(r"[,\s]+", text)  # an empty word behind a last comma
        return [self._number(name, word) for word in words if word] or None

    def positive(self, name: str) -> float | None:
        """A positive finite number, None if the header has no such field; RawFileError for others."""
        text = self.fields.get(name)
        if not text:
            return None
        number = self._number(name, text)
        if not 0 < number < float("inf"):
            raise RawFileError(f"{self.path}: {name} is {text}, expected a positive number; mend the header")
        return number

    def _number(self, name: str, text: str) -> float:
        try:
            return float(text)
        except ValueError as error:
            raise RawFileError(f"{self.path}: {name} holds {text!r}, expected a number; mend the header") from error


def parse_header(path: Path) -> Header:
    """The header in a file; RawFileError if it cannot be read or does not begin with the word ENVI."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")  # descriptions are in any encoding; numbers are not
    except OSError as error:
        raise RawFileError(f"{path}: cannot read the header ({error.strerror}); expected an ENVI .hdr file") from error
    if not text.lstrip(BLANKS).startswith("ENVI"):
        raise RawFileError(f"{path}: the first line is not 'ENVI'; expected an ENVI header")
    fields = {}
    for key, value in FIELD.findall(text):
        name = key.strip().lower()  # writers differ in capitals
        fields[name] = value.strip().strip("{}").strip()
    return Header(path, fields)
