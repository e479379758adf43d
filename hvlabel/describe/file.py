"""The descriptor of one raw file or raw folder: what its reader says, a picture beside it, and what comes of both."""

from __future__ import annotations

from pathlib import Path

from hvlabel.describe.companion import propose_companion
from hvlabel.describe.text import descriptor_text
from hvlabel.descriptors import Container, Descriptor
from hvlabel.readers import RawImage, open_raw
from hvlabel.readers.contract import Look
from hvlabel.readers.refusals import one_sentence
from hvlabel.readers.table import READERS, container_of

SHOWN = 12  # bad bands in a remark


def describe_file(path: Path) -> str:
    """See folder.describe."""
    container = container_of(path)
    with one_sentence(path, container):
        look = _look(path, container)
        # read by what will be printed: a descriptor that does not work is never shown
        raw = open_raw(path, Descriptor.model_validate(look.settings))
        look.holds += [_read_so(raw), *_remarks(raw)]
        look.questions += _last_questions(raw, look)
        return descriptor_text(path, look)


def _look(path: Path, container: Container) -> Look:
    """What the reader says, with the settings that every descriptor begins with."""
    look = READERS[container].look(path)
    files = "*" if path.is_dir() else f"*{path.suffix}"
    look.settings = {"files": files, "container": container} | look.settings
    propose_companion(path, look)  # its question comes behind the reader's
    return look


def _read_so(raw: RawImage) -> str:
    n_bands, height, width = raw.shape
    low_nm, high_nm = min(raw.wavelengths_nm), max(raw.wavelengths_nm)
    return f"read so: {n_bands} bands of {width}x{height} px (width x height), {low_nm:g}-{high_nm:g} nm, {raw.dtype}"


def _remarks(raw: RawImage) -> list[str]:
    """What the file says about its values, and what is made of it."""
    remarks = []
    if raw.bad_bands:
        bands = ", ".join(map(str, raw.bad_bands[:SHOWN])) + (", ..." if len(raw.bad_bands) > SHOWN else "")
        remarks.append(
            f"its bad band list names {len(raw.bad_bands)} bands, which are left out: {bands}; else bad_bands: keep"
        )
    for value in raw.stored.ignore_values:
        counts = value in raw.ignore_values or raw.gain is not None
        effect = "such pixels take no part" if counts else f"{raw.stored.array.dtype} holds no such value"
        remarks.append(f"{value:g} stands for no data; {effect}")
    if raw.gain is not None:  # one number per band: too many to show
        remarks.append(f"its gains and offsets by band are applied; values are {raw.unit}")
    elif raw.scale != 1:
        remarks.append(f"stored values times {raw.scale:g} are {raw.unit}")
    if raw.georeference is not None:
        remarks.append(f"georeferenced: {raw.georeference.crs or 'coordinate system not named'}")
    return remarks


def _last_questions(raw: RawImage, look: Look) -> list[str]:
    questions = []
    if raw.unit == "counts":
        questions.append("what are the values? Set `unit` (reflectance, radiance) and `scale`, or leave them as counts")
    if not look.knows_axes:
        questions.append(
            "are rows, columns and bands the right way round? Convert and look at the picture; else change `axes` or "
            "`rot90`"
        )
    return questions
