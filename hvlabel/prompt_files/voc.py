"""Pascal VOC files: one XML file an image."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree

from hvlabel.prompt_files.prompt import ObjectPrompt, Stated, text_number
from hvlabel.prompt_files.source import Source, shown

MAX_BYTES = 64 << 20
UNSAFE = re.compile("<!(DOCTYPE|ENTITY)", re.IGNORECASE)  # entities can grow without bound, or name other files


def read(source: Source) -> Iterator[Stated]:
    """Boxes of annotation/object/bndbox: indices of the first and last pixel, from 1 (VOC2012 devkit, section 2)."""
    root = _root(source)
    size = root.find("size")
    if size is not None:
        source.require_size(_number(source, "size", size, "width"), _number(source, "size", size, "height"))
    for k, item in enumerate(root.findall("object")):
        name = (item.findtext("name") or "").strip() or None
        where = f"object {k} ({shown(name)})"
        box = item.find("bndbox")
        if box is None:
            raise source.error(f"{where}: no bndbox; expected one with xmin, ymin, xmax, ymax, add it")
        x_min, y_min, x_max, y_max = (_number(source, where, box, side) for side in ("xmin", "ymin", "xmax", "ymax"))
        # the pixels 4..6 counted from 1 are 3..5 counted from 0, and lie between the edges 3 and 6
        yield Stated(where, ObjectPrompt((x_min - 1, y_min - 1, x_max, y_max), name=name, object_id=str(k)))


def _root(source: Source) -> ElementTree.Element:
    """The document's root; PromptFileError unless it is small, safe XML of an annotation."""
    try:
        n_bytes = source.path.stat().st_size
    except OSError as error:
        raise source.error(f"cannot read the annotations ({error.strerror}); check the path") from error
    if n_bytes > MAX_BYTES:
        raise source.error(f"{n_bytes >> 20} MiB, more than the {MAX_BYTES >> 20} of an XML file of one image")
    # as text: an encoding that hides the unsafe words from this search is never taken from the file
    text = source.text()
    if UNSAFE.search(text):
        raise source.error("holds a DOCTYPE or ENTITY, which is not read for safety; take these lines away")
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise source.error(f"not XML ({error}); mend the file or write it again") from error
    if root.tag != "annotation":
        raise source.error(f"the root is <{root.tag[:40]}>, expected <annotation> of Pascal VOC; name another file")
    return root


def _number(source: Source, where: str, parent: ElementTree.Element, tag: str) -> float:
    """The number in a tag that has to be there."""
    text = parent.findtext(tag)
    if text is None:
        raise source.error(f"{where}: no {tag} in <{parent.tag}>; add it")
    return text_number(source, f"{where}, {tag}", text.strip())
