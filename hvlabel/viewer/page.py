"""The page of one image, put together from its cube, its label and the masks of its branches."""

from __future__ import annotations

import json
import shlex
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
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
from hvlabel.settings import validated
from hvlabel.viewer.candidates import Candidates, candidates_of
from hvlabel.viewer.compact import compact_cube
from hvlabel.viewer.packed import packed_text
from hvlabel.viewer.pictures import DEFAULT_COMPOSITES, pictures_of, triplets_of, view_stride
from hvlabel.viewer.spectra import mask_spectra
from hvlabel.viewer.template import render

MOST_BYTES = 2_900_000  # of a page
OWN_BYTES = 120_000  # of its template, style and scripts, and some to spare
MOST_CUBE_BYTES = 1_700_000
MOST_SPECTRA = 350_000  # values: masks times bands
MOST_CANDIDATES = 3000  # compared with each other
MOST_MASK_BYTES = 1_000_000


@dataclass
class _Table:
    """Every mask's pixels once, however often it occurs. numbers: of each run-length code."""

    numbers: dict[bytes, int] = field(default_factory=dict)

    def number_of(self, mask: Mask) -> int:
        """Where a mask stands."""
        return self.numbers.setdefault(mask.rle["counts"], len(self.numbers))

    def rles(self, size: tuple[int, int]) -> list[Rle]:
        """All of them in order."""
        return [{"size": list(size), "counts": counts} for counts in self.numbers]


def build_page(layout: Layout, dataset: str, image_id: str) -> bytes:
    """One HTML file that needs no other: less than 3 MB.

    CubeError or MaskFileError if the cube or the label is missing or damaged. Masks of a branch that cannot be read
    leave the label on the page, and a sentence.
    """
    document = read_document(layout.label(dataset, image_id))
    label = masks_of(document)
    cube = open_cube(layout.cube(dataset, image_id))
    size = (label.height_px, label.width_px)
    if size != (cube.height_px, cube.width_px):
        raise MaskFileError(
            f"{layout.label(dataset, image_id)}: of {size[0]} x {size[1]} px, its cube of {cube.height_px} x "
            f"{cube.width_px}; run the pipeline again"
        )
    by_wavelength = np.argsort(cube.live_wavelengths_nm, kind="stable")
    bands = cube.live_bands[by_wavelength]
    values = cube.live_values()[by_wavelength]  # (C, H, W)

    notes: list[str] = []
    documents = _branch_documents(layout, dataset, image_id, document, notes)
    branches = [masks_of(of_branch) for of_branch in documents]
    candidates = _candidates(branches, cube, document, notes) if documents else None
    settings = _settings(document, notes)
    if candidates is not None and settings is not None:
        _note_changes(candidates, settings, document, label, notes)

    table = _Table()
    of_label = [table.number_of(mask) for mask in label.masks]
    of_candidates = [] if candidates is None else [table.number_of(mask) for mask in candidates.masks]
    masks = packed_text([counts.decode() for counts in table.numbers])
    if masks.n_bytes > MOST_MASK_BYTES:
        notes.append("There are too many masks for one page: only those of the label are here, and no live fusion.")
        candidates, of_candidates = None, []
        table.numbers = dict(list(table.numbers.items())[: max(of_label, default=-1) + 1])
        masks = packed_text([counts.decode() for counts in table.numbers])

    data: dict[str, Any] = {
        "dataset": dataset,
        "image": image_id,
        "height": size[0],
        "width": size[1],
        "view_stride": view_stride(*size),
        "seal": document["provenance"]["content_sha256"],
        "corrected": is_corrected(document),
        "unit": cube.attributes.get("unit") or "",
        "confidence": cube.attributes.get("wavelength_confidence") or "",
        "wavelengths_nm": cube.wavelengths_nm[bands].tolist(),
        "bands": bands.tolist(),
        "branches": list(document["provenance"]["branches"]),
        "pictures": [p._asdict() for p in pictures_of(cube, values, _n_composites(documents))],
        "triplets": _triplets(label if candidates is None else candidates, bands),
        "masks": masks._asdict(),
        "label": _label_rows(document, of_label, label, candidates),
        "suppressed": document["suppressed"],
        "candidates": None if candidates is None else candidates.as_json(of_candidates),
        "rule": {"own_word": OWN_WORD, "nested_share": NESTED_SHARE, "clearly_worse": CLEARLY_WORSE},
        "settings": None if settings is None or candidates is None else settings.model_dump(mode="json"),
        "notes": notes,
    }
    n_spectra = min(len(table.numbers), MOST_SPECTRA // max(len(bands), 1))
    data["spectra"] = mask_spectra(values, table.rles(size)[:n_spectra], cube.valid).as_json()
    room_bytes = MOST_BYTES - OWN_BYTES - len(json.dumps(data))
    data["cube"] = compact_cube(cube, values, bands, min(room_bytes, MOST_CUBE_BYTES)).as_json()
    return render(
        "viewer.html",
        data,
        title=f"{dataset}/{image_id}",
        version=__version__,
        accept=f"hvlabel accept FILE --results {shlex.quote(str(layout.root))}",
    )


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
        documents.append(document)
    return documents


def _candidates(
    branches: Sequence[MaskSet], cube: Cube, document: dict[str, Any], notes: list[str]
) -> Candidates | None:
    """The masks that compete; None if they are too many."""
    n_masks = sum(map(len, branches))
    if n_masks > MOST_CANDIDATES:
        notes.append(f"The fusion cannot be followed here: {n_masks} masks are more than {MOST_CANDIDATES}.")
        return None
    candidates = candidates_of(branches, cube)
    if candidates.note:
        notes.append(candidates.note)
    if candidates.expected is None and document["provenance"].get("settings", {}).get("ranking") == "quality":
        return None
    return candidates


def _settings(document: dict[str, Any], notes: list[str]) -> FusionSettings | None:
    """The settings that a label was fused with; None if this version does not know them."""
    try:
        return validated(FusionSettings, document["provenance"].get("settings"), "the label's settings")
    except ConfigError as error:
        notes.append(f"The fusion cannot be followed here: {error}.")
        return None


def _note_changes(
    candidates: Candidates, settings: FusionSettings, document: dict[str, Any], label: MaskSet, notes: list[str]
) -> None:
    """A sentence if the label is not what these masks and settings give."""
    if is_corrected(document):
        notes.append("A person corrected this label: below, the fusion is compared with what it would keep by itself.")
        return
    fused = candidates.fused(settings)
    if [mask.rle for mask in fused.masks] != [mask.rle for mask in label.masks]:
        notes.append("The masks or the predictor changed since this label was made; the next run makes it anew.")


def _label_rows(
    document: dict[str, Any], numbers: Sequence[int], label: MaskSet, candidates: Candidates | None
) -> list[dict[str, Any]]:
    """What the page says of each mask of the label. numbers: where their pixels stand."""
    origins = _origins(label, candidates)
    rows = []
    for k, annotation in enumerate(document["annotations"]):
        rows.append(
            {
                "id": annotation["id"],
                "mask": numbers[k],
                "candidate": origins[k],
                "score": annotation["score"],
                "quality": annotation.get("quality"),
                "known": annotation.get("quality_known", True),
                "branch": annotation["branch"],
                "frame": annotation["frame"],
                "votes": annotation["votes"],
                "area": annotation["area"],
            }
        )
    return rows


def _origins(label: MaskSet, candidates: Candidates | None) -> list[int | None]:
    """Which candidate each mask of the label is; None: it is none of them."""
    if candidates is None:
        return [None] * len(label)
    lost = {(loser.branch, loser.mask_id) for loser in label.suppressed}
    waiting: dict[tuple[str, bytes], list[int]] = defaultdict(list)
    number = 0
    for branch in candidates.branches:
        for k, mask in enumerate(branch.masks):
            if (mask.branch, k) not in lost:
                waiting[mask.branch, mask.rle["counts"]].append(number)
            number += 1
    origins: list[int | None] = []
    for mask in label.masks:
        same = waiting[mask.branch, mask.rle["counts"]]
        origins.append(same.pop(0) if same else None)
    return origins


def _triplets(masks: MaskSet | Candidates, bands: np.ndarray) -> list[dict[str, Any]]:
    """False-colour frames by the places of their bands on the page; those with a dead band are left out."""
    place_of = {int(band): place for place, band in enumerate(bands)}
    triplets = []
    for title, of_file in triplets_of(list(masks.masks)):
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
