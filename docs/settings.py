"""Writes the tables of docs/SETTINGS.md from the settings models; what is written by hand above them stays.

python docs/settings.py            (make docs; with "-" the page is printed instead)

The models are the one place where a setting is declared, with its meaning, unit and bounds: hvlabel/config.
"""

import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from hvlabel.config.tree import Config

PAGE = Path(__file__).resolve().parent / "SETTINGS.md"
MARK = "<!-- below: written by docs/settings.py (make docs) -->\n"
LINE_CHARACTERS = 118
FIRST = ("results", "datasets", "cube")  # groups in the order in which an image meets them, the others as declared

Schema = dict[str, Any]


class Group(NamedTuple):
    """A group of settings at one place of the configuration.

    path    : where, as in `rgb.generator`
    model   : its definition in the schema
    default : setting -> default here, which may differ from the model's own
    """

    path: str
    model: Schema
    default: Schema


def page(text: str) -> str:
    """The page with its tables made anew. text: of the page as it is; what stands above MARK is kept."""
    by_hand, mark, _ = text.partition(MARK)
    if not mark:
        raise SystemExit(f"{PAGE}: the line {MARK.strip()!r} is gone; restore it where the tables begin")
    schema = Config.model_json_schema()
    fields = schema["properties"]
    names = [*FIRST, *(name for name in fields if name not in FIRST)]
    lines = reference({**schema, "properties": {name: fields[name] for name in names}})
    return by_hand + MARK + "\n" + "\n".join(lines)


def reference(schema: Schema) -> Iterator[str]:
    """Lines of all tables, one per group. schema: JSON schema of the configuration, fields in their order."""
    top = {name: field for name, field in schema["properties"].items() if "$ref" not in field}
    yield from section("Top level", "A configuration is a YAML file; what it leaves out keeps its default.", top)
    # several places may share a model: it gets one table, at its first place
    by_model: dict[str, list[Group]] = {}
    for group in groups(schema, schema, ""):
        by_model.setdefault(group.model["title"], []).append(group)
    for first, *others in by_model.values():
        fields = with_defaults(first.model["properties"], first.default)
        about = first.model["description"] + same_model(fields, others)
        yield from section(first.path, about, fields)


def groups(schema: Schema, model: Schema, path: str) -> Iterator[Group]:
    """Every group of settings below a model, in the order of the fields."""
    for name, field in model["properties"].items():
        below = f"{path}.{name}" if path else name
        entry = field.get("additionalProperties")
        if isinstance(entry, dict):  # a mapping from names of the user's choice, as `datasets` is
            field, below = entry, f"{below}.NAME"
        for alternative in field.get("anyOf", [field]):
            if "$ref" not in alternative:
                continue
            known = alternative["$ref"].rsplit("/", 1)[1]
            inner = schema["$defs"][known]
            default = field.get("default") or {}
            yield Group(below, inner, default)
            yield from groups(schema, inner, below)


def with_defaults(fields: Schema, default: Schema) -> Schema:
    """Fields with the defaults that they have at one place."""
    changed = {name: {**fields[name], "default": value} for name, value in default.items()}
    return {**fields, **changed}


def same_model(fields: Schema, others: list[Group]) -> str:
    """Sentences on the other places of a model, with the defaults that differ there."""
    equal, sentences = [], []
    for other in others:
        unlike = [name for name, value in other.default.items() if fields[name].get("default") != value]
        shown = ", ".join(f"`{name}: {shortened(other.default[name])}`" for name in unlike)
        if unlike:
            sentences.append(f" `{other.path}` starts from {shown}.")
        else:
            equal.append(f"`{other.path}`")
    if equal:
        sentences.insert(0, f" The same: {', '.join(equal)}.")
    return "".join(sentences)


def section(title: str, about: str, fields: Schema) -> Iterator[str]:
    """Lines of one group: heading, what it is for, its table."""
    level = "##" if "." not in title else "###"
    yield f"{level} {title}\n"
    yield textwrap.fill(" ".join(about.split()), LINE_CHARACTERS, break_on_hyphens=False) + "\n"
    yield "| setting | default | allowed | meaning |"
    yield "|---|---|---|---|"
    for name, field in fields.items():
        meaning = field.get("description", "a group of settings, below")
        cells = (f"`{name}`", default_of(field), allowed(field), meaning)
        # a bar would end the cell, stars would make it italic
        escaped = [cell.replace("|", "\\|").replace("*", "\\*") for cell in cells]
        yield f"| {' | '.join(escaped)} |"
    yield ""


def default_of(field: Schema) -> str:
    """A field's default as YAML; nothing for a group, whose own table has them."""
    if "default" not in field:
        return "" if "$ref" in field else "required"
    value = field["default"]
    if isinstance(value, dict):
        return ""
    return "none" if value is None else f"`{shortened(value)}`"


def shortened(value: Any) -> str:
    """A value as YAML, floats with six digits at most."""
    if isinstance(value, list):
        return f"[{', '.join(shortened(item) for item in value)}]"
    return f"{value:g}" if isinstance(value, float) else json.dumps(value)


def allowed(field: Schema) -> str:
    """Types, choices and bounds of a field, in words."""
    alternatives = [a for a in field.get("anyOf", [field]) if a.get("type") != "null"]
    return "; ".join(dict.fromkeys(one_of(a) for a in alternatives))


def one_of(field: Schema) -> str:
    """One alternative of `allowed`."""
    if "$ref" in field or "additionalProperties" in field:
        return "a group"
    if "enum" in field:
        return ", ".join(f"`{choice if isinstance(choice, str) else json.dumps(choice)}`" for choice in field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    if field["type"] == "array":
        items = [one_of(item) for item in field.get("prefixItems", [field.get("items", {"type": "string"})])]
        return f"list of {', '.join(dict.fromkeys(items))}"
    words = {"integer": "whole number", "number": "number", "boolean": "`true`, `false`", "string": "text"}
    return words[field["type"]] + bounds(field)


def bounds(field: Schema) -> str:
    """Least and largest value, and what it must be a multiple of."""
    signs = {
        "minimum": ">=",
        "exclusiveMinimum": ">",
        "maximum": "<=",
        "exclusiveMaximum": "<",
        "multipleOf": "multiple of",
    }
    parts = [f"{sign} {field[key]:g}" for key, sign in signs.items() if key in field]
    return " " + ", ".join(parts) if parts else ""


if __name__ == "__main__":
    whole = page(PAGE.read_text())
    if sys.argv[1:] == ["-"]:
        sys.stdout.write(whole)
    else:
        PAGE.write_text(whole)
