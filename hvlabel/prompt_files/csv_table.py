"""CSV tables of boxes or points: comma, semicolon or tab, with a header."""

from __future__ import annotations

import csv
import io
from collections.abc import Container, Iterator, Sequence
from typing import NamedTuple

from hvlabel.prompt_files.prompt import Box, ObjectPrompt, Point, Stated, point_label, text_number
from hvlabel.prompt_files.source import Source, shown

DELIMITERS = (",", ";", "\t")
EDGE_COLUMNS = (("x0", "y0", "x1", "y1"), ("xmin", "ymin", "xmax", "ymax"))
SIZE_COLUMNS = (("x", "y", "w", "h"), ("x", "y", "width", "height"))
POINT_COLUMNS = ("x", "y")
BOX_ONLY = {name for columns in (*EDGE_COLUMNS, *SIZE_COLUMNS) for name in columns} - set(POINT_COLUMNS)
NAME_COLUMNS = ("name", "class", "label_name")
IMAGE_COLUMNS = ("image", "file", "filename")


class Row(NamedTuple):
    """One line of the table. cells: by column name, without blanks around."""

    line: int
    cells: dict[str, str]


def read(source: Source) -> Iterator[Stated]:
    """The rows of this image as prompts."""
    header, rows = _table(source)
    rows = _rows_of_image(source, header, rows)
    # edges first: x0, y0, x1, y1 beside x, y, w, h would say the same
    for columns in EDGE_COLUMNS:
        if header >= set(columns):
            return _boxes(source, rows, columns, sizes=False)
    for columns in SIZE_COLUMNS:
        if header >= set(columns):
            return _boxes(source, rows, columns, sizes=True)
    # some columns of a box are a box with a misspelt column, never points
    if header >= set(POINT_COLUMNS) and not header & BOX_ONLY:
        return _points(source, header, rows)
    names = ", ".join(map(shown, sorted(header)))[:200]
    raise source.error(
        f"the columns {names} are neither boxes (x0,y0,x1,y1 or xmin,ymin,xmax,ymax or x,y,w,h or x,y,width,height) "
        "nor points (x,y); name the columns in the first line"
    )


def _table(source: Source) -> tuple[set[str], list[Row]]:
    """Column names in lower case, and the rows that are not blank."""
    text = source.text()
    first_line = text.lstrip().partition("\n")[0]
    delimiter = max(DELIMITERS, key=first_line.count)  # by the header alone: cells may hold any of them
    # strict: a quote that is never closed would swallow rows without a word
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    lines: list[tuple[int, list[str]]] = []
    try:
        for cells in reader:
            stripped = [cell.strip() for cell in cells]
            if any(stripped):  # else a blank line
                lines.append((reader.line_num, stripped))
    except csv.Error as error:
        raise source.error(f"line {reader.line_num}: not CSV ({error}); mend the file") from error
    if not lines:
        raise source.error("no header; expected a first line with column names such as x0,y0,x1,y1")
    _, header = lines[0]
    columns = [name.lower() for name in header]
    if len(set(columns)) != len(columns):
        raise source.error(f"the header {shown(columns)} names a column twice; give each its own name")
    rows = []
    for line, cells in lines[1:]:
        if len(cells) != len(columns):
            raise source.error(f"line {line}: {len(cells)} cells, expected {len(columns)} as in the header; mend it")
        rows.append(Row(line, dict(zip(columns, cells, strict=True))))
    return set(columns), rows


def _rows_of_image(source: Source, header: set[str], rows: list[Row]) -> list[Row]:
    """The rows of this image, where a column says which image a row is of."""
    column = _first(header, IMAGE_COLUMNS)
    if column is None or not rows:
        return rows
    for row in rows:
        if not row.cells[column]:
            raise source.error(f"line {row.line}: no image in the column {column}; fill it in or drop the column")
    known = list(dict.fromkeys(row.cells[column] for row in rows))  # in the order of the file, for messages
    name = known[source.which_image(known)]
    return [row for row in rows if row.cells[column] == name]


def _boxes(source: Source, rows: list[Row], columns: Sequence[str], sizes: bool) -> Iterator[Stated]:
    """One object a row. sizes: the last two columns are width and height, not edges."""
    for k, row in enumerate(rows):
        x0, y0, third, fourth = _row_numbers(source, row, columns)
        box: Box = (x0, y0, x0 + third, y0 + fourth) if sizes else (x0, y0, third, fourth)
        prompt = ObjectPrompt(box, name=_name(row), object_id=str(k))
        yield Stated(f"line {row.line}", prompt)


def _points(source: Source, header: set[str], rows: list[Row]) -> Iterator[Stated]:
    """One object a row, or, with a column `object`, one for all rows with the same value in it."""
    groups: dict[str, list[Row]] = {}
    for k, row in enumerate(rows):
        object_id = row.cells["object"] if "object" in header else str(k)
        if not object_id:
            raise source.error(f"line {row.line}: no value in the column object; fill it in or drop the column")
        groups.setdefault(object_id, []).append(row)
    for object_id, group in groups.items():
        points: list[Point] = []
        labels: list[int] = []
        for row in group:
            x, y = _row_numbers(source, row, POINT_COLUMNS)
            points.append((x, y))
            labels.append(_label(source, row))
        names = {_name(row) for row in group}
        if len(names) > 1:  # a slip in the column `object`, most likely
            lines = ", ".join(str(row.line) for row in group[:10])
            raise source.error(f"lines {lines}: the points of object {shown(object_id)} differ in class; expected one")
        prompt = ObjectPrompt(None, tuple(points), tuple(labels), _name(group[0]), object_id)
        yield Stated(f"line {group[0].line}, object {shown(object_id)}", prompt)


def _row_numbers(source: Source, row: Row, columns: Sequence[str]) -> list[float]:
    """The numbers in some cells of a row."""
    return [text_number(source, f"line {row.line}, column {name}", row.cells[name]) for name in columns]


def _label(source: Source, row: Row) -> int:
    """The label of a point; foreground where the table has none."""
    if "label" not in row.cells:
        return 1
    where = f"line {row.line}, column label"
    return point_label(source, where, text_number(source, where, row.cells["label"]))


def _name(row: Row) -> str | None:
    """The class of an object; None where the table has none, or an empty cell."""
    column = _first(row.cells.keys(), NAME_COLUMNS)
    if column is None:
        return None
    return row.cells[column] or None


def _first(header: Container[str], names: Sequence[str]) -> str | None:
    """The first of some columns that a table has."""
    return next((name for name in names if name in header), None)
