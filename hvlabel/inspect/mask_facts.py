"""What is known about one mask, as sentences: where it is, who found it, what it beat or lost to, its spectrum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hvlabel.inspect.origins import Origins
from hvlabel.inspect.spectra import MaskSpectrum
from hvlabel.masks import Mask, Suppressed, areas, boxes_xyxy

SHOWN_BEATEN = 8
SHOWN_BANDS = 9  # lines of a spectrum on the terminal


def label_mask_facts(origins: Origins, position: int) -> list[str]:
    """A mask of the label."""
    mask = origins.label.masks[position]
    origin = origins.origin_of(position)
    whose = f"of {mask.branch}" if origin is None else f"mask {origin[1]} of {origin[0]}"
    votes = ", ".join(mask.votes) or "nobody else"
    lines = [*_about(mask), f"{whose}; found by {votes}"]
    beaten = origins.beaten_by(position)
    for loser in beaten[:SHOWN_BEATEN]:
        iou = "" if loser.iou is None else f" at IoU {loser.iou:.2f}"
        lines.append(f"suppressed mask {loser.mask_id} of {loser.branch}: {loser.reason or 'copy'}{iou}")
    if len(beaten) > SHOWN_BEATEN:
        lines.append(f"and {len(beaten) - SHOWN_BEATEN} more")
    return lines


def branch_mask_facts(origins: Origins, branch: str, number: int) -> list[str]:
    """A mask of a branch."""
    mask = origins.branches[branch].masks[number]
    lines = _about(mask)
    position = origins.kept.get((branch, number))
    if position is not None:
        lines.append(f"in the label as mask {position}")
    elif (branch, number) in origins.lost:
        settings = origins.document["provenance"]["settings"]
        area_px = int(areas([mask.rle])[0])
        why = fate(origins.lost[branch, number], settings, area_px)
        lines.append(f"not in the label: {why}")
    else:
        lines.append("nothing is known about it in the label, which was corrected or is older")
    return lines


def fate(loser: Suppressed, settings: Mapping[str, Any], area_px: int) -> str:
    """Why a mask is not in a label, with the threshold that decided. settings: of the fusion, as the label has them."""
    winner = "a mask that left later" if loser.by is None else f"mask {loser.by} of the label"
    overlap = "" if loser.iou is None else f" at IoU {loser.iou:.2f}"
    sentences = {
        "copy": f"lost to {winner}{overlap}, above fusion.iou_threshold {settings.get('iou_threshold')}",
        "nested": f"nested with {winner}{overlap}, above fusion.nested_iou {settings.get('nested_iou')}",
        "poor": f"quality {loser.quality} is below fusion.min_quality {settings.get('min_quality')}",
        "small": f"{area_px} px are fewer than fusion.min_area_px {settings.get('min_area_px')}",
        "covered": f"the label reached fusion.coverage {settings.get('coverage')} without it",
    }
    return sentences.get(loser.reason, "the label does not say why")


def spectrum_table(spectrum: MaskSpectrum) -> list[list[str]]:
    """Header and rows as text: some bands, evenly spread, of the mask and of the ring around it."""
    last = len(spectrum.wavelengths_nm) - 1
    chosen = np.linspace(0, last, SHOWN_BANDS).round().astype(int)
    rows = [["nm", "mask", "+-", "ring", "+-"]]
    for band in dict.fromkeys(chosen.tolist()):  # fewer bands than lines: each once
        inside, ring = spectrum.inside, spectrum.ring
        values = (inside.mean[band], inside.deviation[band], ring.mean[band], ring.deviation[band])
        shown = [f"{value:.4g}" for value in values]
        rows.append([f"{spectrum.wavelengths_nm[band]:.0f}", *shown])
    return rows


def spectrum_sentence(spectrum: MaskSpectrum) -> str:
    """How far the mask's mean spectrum is from that of its ring."""
    if not spectrum.ring.n_px:
        return f"mean over {spectrum.inside.n_px} px; no pixel lies around it"
    n_px, n_ring = spectrum.inside.n_px, spectrum.ring.n_px
    return f"mean over {n_px} px, {n_ring} px in the ring; {spectrum.angle_rad:.3f} rad between both"


def _about(mask: Mask) -> list[str]:
    x0, y0, x1, y1 = (int(v) for v in boxes_xyxy([mask.rle])[0])
    quality = mask.extra.get("quality")
    expected = "" if quality is None else f", quality {quality:.2f}"
    if not mask.extra.get("quality_known", True):
        expected += " (it lies outside of what the predictor knows)"
    area_px = int(areas([mask.rle])[0])
    of_class = f"; class {mask.extra['name']}" if "name" in mask.extra else ""
    place = f"x {x0} to {x1 - 1}, y {y0} to {y1 - 1}"  # ends included
    return [f"{area_px} px, {place}; score {mask.score:.2f}{expected}{of_class}"]
