"""The page of one image, put together from its cube, its label and the masks of its branches."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from hvlabel import __version__
from hvlabel.config.fusion import FusionSettings
from hvlabel.cube import Cube, open_cube
from hvlabel.errors import ConfigError, MaskFileError
from hvlabel.fusion import OWN_WORD
from hvlabel.layout import Layout
from hvlabel.masks import Mask, MaskSet, Rle, is_corrected, masks_of, read_document
from hvlabel.masks.nms import CLEARLY_WORSE, NESTED_SHARE
from hvlabel.quality import predictor_sha256
from hvlabel.settings import validated
from hvlabel.viewer.candidates import LEAST_IOU, Candidates, candidates_of
from hvlabel.viewer.compact import compact_cube
from hvlabel.viewer.packed import Packed, packed_text
from hvlabel.viewer.pictures import DEFAULT_COMPOSITES, pictures_of, triplets_of, view_stride
from hvlabel.viewer.rows import label_rows
from hvlabel.viewer.spectra import mask_spectra
from hvlabel.viewer.template import assets_sha256, render

MOST_BYTES = 2_900_000  # of a page
HEAD_BYTES = 1000  # of a page, in which its identity stands
OWN_BYTES = 120_000  # of its template, style and scripts, and some to spare
LEAST_CUBE_BYTES, MOST_CUBE_BYTES = 200_000, 1_700_000
MOST_SPECTRA = 350_000  # values: masks times bands
MOST_CANDIDATES = 3000  # each is compared with each other one
MOST_CODE_BYTES = 1_200_000  # run lengths of all candidates, before they are compressed


@dataclass
class _Table:
    """Every mask's pixels once, however often it occurs. numbers: of each run-length code."""

    numbers: dict[bytes, int] = field(default_factory=dict)

    def numbers_of(self, masks: Sequence[Mask]) -> list[int]:
        """Where masks stand."""
        return [self.numbers.setdefault(mask.rle["counts"], len(self.numbers)) for mask in masks]

    def packed(self) -> Packed:
        """All of them in order, as lines."""
        return packed_text([counts.decode() for counts in self.numbers])

    def rles(self, size: tuple[int, int], most: int) -> list[Rle]:
        """The first ones. size: height and width, px."""
        return [{"size": list(size), "counts": counts} for counts in islice(self.numbers, most)]


def build_page(layout: Layout, dataset: str, image_id: str) -> bytes:
    """One HTML file that needs no other: less than 3 MB.

    CubeError or MaskFileError if the cube or the label is missing or damaged. Masks of a branch that cannot be read
    leave the label on the page, and a sentence.
    """
    document = read_document(layout.label(dataset, image_id))
    label = masks_of(document)
    cube = _cube_of(layout, dataset, image_id, label)
    # files may count their bands in any order, a plot may not; dead bands tell nothing
    by_wavelength = np.argsort(cube.live_wavelengths_nm, kind="stable")
    bands = cube.live_bands[by_wavelength]
    values = cube.live_values()[by_wavelength]  # (C, H, W)

    notes: list[str] = []
    documents = _branch_documents(layout, dataset, image_id, document, notes)
    candidates, settings = _fusion(documents, cube, document, notes)
    if candidates is not None and settings is not None:
        _note_changes(candidates, settings, document, label, notes)
    size = (cube.height_px, cube.width_px)
    pictures = pictures_of(cube, values, _n_composites(documents))
    data = {
        "dataset": dataset,
        "image": image_id,
        **_of_cube(cube, bands),
        "pictures": [picture._asdict() for picture in pictures],
        "triplets": _triplets(label.masks if candidates is None else candidates.masks, bands),
        "notes": notes,
    }
    table = _Table()
    data |= _of_masks(document, label, candidates, table)
    data["rule"] = {"own_word": OWN_WORD, "nested_share": NESTED_SHARE, "clearly_worse": CLEARLY_WORSE}
    data["settings"] = None if settings is None else settings.model_dump(mode="json")
    # of the label first: its masks stand first in the table
    rles = table.rles(size, most=MOST_SPECTRA // max(len(bands), 1))
    data["spectra"] = mask_spectra(values, rles, cube.valid).as_json()
    if _room_bytes(data) < LEAST_CUBE_BYTES and candidates is not None:
        notes.append("The fusion cannot be followed here: its masks leave no room for spectra; only the label is here.")
        data |= {"candidates": None, "settings": None}
    room_bytes = int(np.clip(_room_bytes(data), LEAST_CUBE_BYTES, MOST_CUBE_BYTES))
    data["cube"] = compact_cube(cube, values, bands, room_bytes).as_json()
    accept = f"hvlabel accept FILE --results {shlex.quote(str(layout.root))}"
    key = page_key(layout, dataset, image_id)
    return render("viewer.html", data, made_from=key, title=f"{dataset}/{image_id}", version=__version__, accept=accept)


def page_key(layout: Layout, dataset: str, image_id: str) -> str:
    """Identity of the page of an image as it would be made now: of its files, the predictor and our own templates.

    CubeError or MaskFileError as build_page.
    """
    document = read_document(layout.label(dataset, image_id))
    seals = [document["provenance"]["content_sha256"]]
    for branch in document["provenance"]["branches"]:
        try:
            of_branch = read_document(layout.masks(branch, dataset, image_id))
            seals.append(of_branch["provenance"]["content_sha256"])
        except MaskFileError as error:
            seals.append(str(error))  # the page says so
    cube_key = open_cube(layout.cube(dataset, image_id)).attributes.get("key")
    content = [__version__, assets_sha256(), predictor_sha256(), str(layout.root), dataset, image_id, cube_key, *seals]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def is_page_of(path: Path, key: str) -> bool:
    """Whether a file is the page of this identity."""
    try:
        with path.open("rb") as file:
            return f'name="made-from" content="{key}"'.encode() in file.read(HEAD_BYTES)
    except OSError:
        return False


def _room_bytes(data: dict[str, Any]) -> int:
    """What a page has left for the cube."""
    return MOST_BYTES - OWN_BYTES - len(json.dumps(data))


def _cube_of(layout: Layout, dataset: str, image_id: str, label: MaskSet) -> Cube:
    """The cube of a label; MaskFileError if it is of another size."""
    cube = open_cube(layout.cube(dataset, image_id))
    if (label.height_px, label.width_px) != (cube.height_px, cube.width_px):
        raise MaskFileError(
            f"{layout.label(dataset, image_id)}: of {label.height_px} x {label.width_px} px, its cube of "
            f"{cube.height_px} x {cube.width_px}; run the pipeline again"
        )
    return cube


def _of_cube(cube: Cube, bands: np.ndarray) -> dict[str, Any]:
    """What the page says of the image. bands: (C,) places in the file, by rising wavelength."""
    return {
        "height": cube.height_px,
        "width": cube.width_px,
        "view_stride": view_stride(cube.height_px, cube.width_px),
        "unit": cube.attributes.get("unit") or "",
        "confidence": cube.attributes.get("wavelength_confidence") or "",
        "wavelengths_nm": cube.wavelengths_nm[bands].tolist(),
        "bands": bands.tolist(),
    }


def _of_masks(document: dict[str, Any], label: MaskSet, candidates: Candidates | None, table: _Table) -> dict[str, Any]:
    """The label and what competed for it; their pixels go into the table, those of the label first."""
    of_label = table.numbers_of(label.masks)
    of_candidates = [] if candidates is None else table.numbers_of(candidates.masks)
    return {
        "seal": document["provenance"]["content_sha256"],
        "corrected": is_corrected(document),
        "branches": list(document["provenance"]["branches"]),
        "masks": table.packed()._asdict(),
        "label": label_rows(document, of_label, label, candidates),
        "suppressed": document["suppressed"],
        "candidates": None if candidates is None else candidates.as_json(of_candidates),
    }


def _branch_documents(
    layout: Layout, dataset: str, image_id: str, label: dict[str, Any], notes: list[str]
) -> list[dict[str, Any]]:
    """The mask files that a label was fused from; none if one of them is missing, damaged or of another cube."""
    documents = []
    for branch in label["provenance"]["branches"]:
        try:
            document = read_document(layout.masks(branch, dataset, image_id))
        except MaskFileError as error:
            notes.append(f"The fusion cannot be followed here: {error}.")
            return []
        image, own = document["image"], label["image"]
        if (image["height"], image["width"]) != (own["height"], own["width"]):
            notes.append(f"The fusion cannot be followed here: the masks of {branch} are of another size; run again.")
            return []
        drawn_in = document["provenance"].get("drawn_in")
        if drawn_in is not None:
            notes.append(f"The masks of {branch} are taken from {drawn_in['file']} as they are.")
        documents.append(document)
    return documents


def _fusion(
    documents: Sequence[dict[str, Any]], cube: Cube, label: dict[str, Any], notes: list[str]
) -> tuple[Candidates, FusionSettings] | tuple[None, None]:
    """The masks that compete, and the settings that the label was fused with; none where it cannot be followed."""
    if not documents:  # a note says why
        return None, None
    try:
        settings = validated(FusionSettings, label["provenance"].get("settings"), "the label's settings")
    except ConfigError as error:
        notes.append(f"The fusion cannot be followed here: {error}.")
        return None, None
    branches = [masks_of(of_branch) for of_branch in documents]
    obstacle = _obstacle(branches, settings)
    if obstacle:
        notes.append(f"The fusion cannot be followed here: {obstacle}.")
        return None, None
    candidates = candidates_of(branches, cube)
    if candidates.note:
        notes.append(candidates.note)
        if settings.ranking == "quality":
            return None, None
    return candidates, settings


def _obstacle(branches: Sequence[MaskSet], settings: FusionSettings) -> str:
    """Why a page cannot follow the fusion of some masks; "" if it can."""
    n_masks = sum(map(len, branches))
    n_bytes = sum(len(rle["counts"]) for branch in branches for rle in branch.rles)
    if n_masks > MOST_CANDIDATES or n_bytes > MOST_CODE_BYTES:
        return f"{n_masks} masks with {n_bytes} bytes of run lengths are too much for a page; only the label is here"
    least = min(settings.iou_threshold, settings.nested_iou)
    return f"it was made with an IoU threshold of {least:g}, below {LEAST_IOU}" if least < LEAST_IOU else ""


def _note_changes(
    candidates: Candidates, settings: FusionSettings, document: dict[str, Any], label: MaskSet, notes: list[str]
) -> None:
    """A sentence if the label is not what these masks and settings give."""
    if is_corrected(document):
        notes.append("A person corrected this label: below, the fusion is compared with what it would keep by itself.")
        return
    # what the page's scripts would keep; should the label differ, what they compare with is not the label
    fused = candidates.fused(settings)
    if [mask.rle for mask in fused.masks] != [mask.rle for mask in label.masks]:
        notes.append("The masks or the predictor changed since this label was made; the next run makes it anew.")


def _triplets(masks: Sequence[Mask], bands: np.ndarray) -> list[dict[str, Any]]:
    """False-colour frames by the places of their bands on the page; those with a dead band are left out."""
    place_of = {int(band): place for place, band in enumerate(bands)}
    triplets = []
    for title, of_file in triplets_of(masks):
        places = [place_of.get(band) for band in of_file]
        if None not in places:
            triplets.append({"title": title, "bands": places})
    return triplets


def _n_composites(documents: Sequence[dict[str, Any]]) -> int:
    """How many composites the material branch made."""
    for document in documents:
        if document["provenance"].get("stage") == "material":
            return int(document["provenance"].get("settings", {}).get("n_composites", DEFAULT_COMPOSITES))
    return DEFAULT_COMPOSITES
