"""Writes the tables of docs/SETTINGS.md from the settings models; what is written by hand above them stays.

python docs/settings.py            (make docs; with "-" the page is printed instead)

The models are the one place where a setting is declared, with its meaning, unit and bounds: hvlabel/config.
"""

import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hvlabel.config import Config

PAGE = Path(__file__).resolve().parent / "SETTINGS.md"
MARK = "<!-- below: written by docs/settings.py (make docs) -->\n"
LINE_CHARACTERS = 118

Schema = dict[str, Any]


def page(text: str) -> str:
    """The page with its tables made anew. text: of the page as it is; what stands above MARK is kept."""
    by_hand, mark, _ = text.partition(MARK)
    if not mark:
        raise SystemExit(f"{PAGE}: the line {MARK.strip()!r} is gone; restore it where the tables begin")
    return by_hand + MARK + "\n" + "\n".join(reference(Config.model_json_schema()))


def reference(schema: Schema) -> Iterator[str]:
    """Lines of all tables, one per group. schema: JSON schema of the configuration, fields in their order."""
    top = {name: field for name, field in schema["properties"].items() if "$ref" not in field}
    yield from section("Top level", "A configuration is a YAML file; what it leaves out keeps its default.", top)
    written = set()
    for path, name, default in groups(schema, schema, ""):
        if name in written:
            continue
        written.add(name)
        model = schema["$defs"][name]
        fields = with_defaults(model["properties"], default)
        others = {p: differing(d, fields) for p, known, d in groups(schema, schema, "") if known == name and p != path}
        yield from section(path, model["description"] + same_group(others), fields)


def groups(schema: Schema, model: Schema, path: str) -> Iterator[tuple[str, str, Schema]]:
    """Path, model name and defaults of every group of settings below a model, in the order of the fields."""
    for name, field in model["properties"].items():
        below = f"{path}.{name}" if path else name
        if "additionalProperties" in field:  # a mapping from names of the user's choice, as `datasets` is
            field, below = field["additionalProperties"], f"{below}.NAME"
            if not isinstance(field, dict):
                continue
        for alternative in field.get("anyOf", [field]):
            if "$ref" in alternative:
                known = alternative["$ref"].rsplit("/", 1)[1]
                yield below, known, field.get("default") or {}
                yield from groups(schema, schema["$defs"][known], below)


def with_defaults(fields: Schema, default: Schema) -> Schema:
    """Fields with the defaults that they have in one group, which may differ from the model's own."""
    return {name: {**field, "default": default[name]} if name in default else field for name, field in fields.items()}


def differing(default: Schema, fields: Schema) -> list[str]:
    """The defaults of another place of a group that differ from those in its table."""
    return [f"`{k}: {shortened(v)}`" for k, v in default.items() if k in fields and fields[k].get("default") != v]


def same_group(others: dict[str, list[str]]) -> str:
    """Sentences on the other places of a group. others: path -> the defaults that differ there."""
    equal = [f"`{path}`" for path, unlike in others.items() if not unlike]
    sentences = [f" The same: {', '.join(equal)}."] if equal else []
    sentences += [f" `{path}` starts from {', '.join(unlike)}." for path, unlike in others.items() if unlike]
    return "".join(sentences)


def section(title: str, about: str, fields: Schema) -> Iterator[str]:
    """Lines of one group: heading, what it is for, its table."""
    level = "##" if "." not in title else "###"
    yield f"{level} {title}\n"
    yield textwrap.fill(" ".join(about.split()), LINE_CHARACTERS, break_on_hyphens=False) + "\n"
    yield "| setting | default | allowed | meaning |"
    yield "|---|---|---|---|"
    for name, field in fields.items():
        cells = (f"`{name}`", default_of(field), allowed(field), field.get("description", "a group of settings, below"))
        yield "| " + " | ".join(cell.replace("|", "\\|").replace("*", "\\*") for cell in cells) + " |"
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
        return ", ".join(f"`{choice}`" for choice in field["enum"])
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
