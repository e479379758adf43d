"""Why a pixel is in the masks that it is in, or in none: what covered it, what that lost to, what would change it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from hvlabel.config import parse_stage
from hvlabel.config.fusion import FusionSettings
from hvlabel.cube import open_cube
from hvlabel.errors import ConfigError
from hvlabel.inspect.drawn import legend_line
from hvlabel.inspect.mask_facts import fate
from hvlabel.inspect.origins import Origins, origins_of
from hvlabel.layout import Layout
from hvlabel.masks import Mask, MaskSet, Suppressed, areas, decode, is_corrected, read_document
from hvlabel.stages.fuse import fusion_entry

SHOWN_CANDIDATES = 12
MOST_TRIES = 12  # fusions with another threshold; each takes a fraction of a second
ROUNDING = 1e-4  # what files keep of a quality or an IoU, with a margin


class Candidate(NamedTuple):
    """A branch's mask over the pixel that is not in the label."""

    mask: Mask
    loser: Suppressed


class Change(NamedTuple):
    """A setting of the fusion that would let a candidate in. distance: from the value that it has, relative to that."""

    setting: str
    before: Any
    after: Any
    distance: float


def why(layout: Layout, dataset: str, image_id: str, pixel_xy: tuple[int, int]) -> list[str]:
    """Sentences about one pixel; ConfigError if it lies outside of the image.

    pixel_xy : column and row, px
    """
    origins = origins_of(layout, dataset, image_id)
    where = f"pixel {pixel_xy[0]},{pixel_xy[1]} of {dataset}/{image_id}"
    _require_inside(where, origins.label, pixel_xy)
    covering = covering_masks(origins.label, pixel_xy)
    lines = [f"{where}: in {len(covering)} masks of the label"]
    if origins.remark():
        lines.append(origins.remark())
    lines += [f"  mask {legend_line(k, origins.label.masks[k])}" for k in covering]
    candidates = _candidates(origins, pixel_xy)
    settings = origins.document["provenance"]["settings"]
    lines.append(f"{len(candidates)} more were proposed there and are not in the label")
    for candidate in candidates[:SHOWN_CANDIDATES]:
        area_px = int(areas([candidate.mask.rle])[0])
        loser = candidate.loser
        lines.append(f"  mask {loser.mask_id} of {loser.branch}, {area_px} px: {fate(loser, settings, area_px)}")
    if len(candidates) > SHOWN_CANDIDATES:
        lines.append(f"  and {len(candidates) - SHOWN_CANDIDATES} more")
    if covering or origins.changed:
        return lines
    if is_corrected(origins.document):
        return [*lines, "a person corrected this label, so no threshold decides"]
    return [*lines, _what_would_help(layout, dataset, image_id, origins, candidates, pixel_xy)]


def covering_masks(masks: MaskSet, pixel_xy: tuple[int, int]) -> list[int]:
    """Positions of the masks that hold a pixel."""
    x, y = pixel_xy
    return [k for k, rle in enumerate(masks.rles) if decode(rle)[y, x]]


def changes_for(candidates: Sequence[Candidate], settings: FusionSettings) -> list[Change]:
    """Settings of which each alone may let a candidate in, the nearest to what is set first."""
    changes = [_change_for(candidate, settings) for candidate in candidates]
    possible = {change for change in changes if change is not None}
    return sorted(possible, key=lambda change: change.distance)


def _change_for(candidate: Candidate, settings: FusionSettings) -> Change | None:
    """The setting that its reason names, with a value that would have spared it."""
    mask, loser = candidate
    if loser.reason == "poor" and loser.quality is not None:
        # files keep four digits: a little less lets the mask in for sure
        least = max(0.0, round(loser.quality - ROUNDING, 4))
        return _change("min_quality", settings.min_quality, least)
    if loser.reason == "small":
        area_px = int(areas([mask.rle])[0])
        return _change("min_area_px", settings.min_area_px, area_px)
    if loser.reason in ("copy", "nested") and loser.iou is not None:
        name = "iou_threshold" if loser.reason == "copy" else "nested_iou"
        above = min(1.0, round(loser.iou + ROUNDING, 4))  # a little more, for the same reason
        return _change(name, getattr(settings, name), above)
    if loser.reason == "covered" and settings.coverage is not None:
        return Change("coverage", settings.coverage, None, 1 - settings.coverage)
    return None


def _change(setting: str, before: float, after: float) -> Change:
    distance = abs(after - before) / max(abs(before), 1e-9)  # a setting of 0 is far from all others
    return Change(setting, before, after, distance)


def _what_would_help(
    layout: Layout,
    dataset: str,
    image_id: str,
    origins: Origins,
    candidates: Sequence[Candidate],
    pixel_xy: tuple[int, int],
) -> str:
    """The nearest change of one threshold after which a mask covers the pixel: tried, not guessed."""
    if not candidates:
        return "no branch proposed a mask there: no threshold of the fusion gives one; see the branches' own settings"
    # as the label has them: today's configuration may be another one
    settings = parse_stage(FusionSettings, json.dumps(origins.document["provenance"]["settings"]))
    documents = [read_document(layout.masks(branch, dataset, image_id)) for branch in origins.branches]
    cube = open_cube(layout.cube(dataset, image_id))
    entry = fusion_entry(documents, settings, cube)
    # a change lets its candidate in, which may then lose to another one: only trying tells
    changes = changes_for(candidates, settings)
    for change in changes[:MOST_TRIES]:
        other = settings.model_copy(update={change.setting: change.after})
        tried = replace(entry, settings=other).fused()
        now = covering_masks(tried, pixel_xy)
        if now:
            return (
                f"nearest: fusion.{change.setting} {_shown(change.after)} instead of {_shown(change.before)} "
                f"gives mask {legend_line(now[0], tried.masks[now[0]])}"
            )
    if len(changes) > MOST_TRIES:
        return f"none of the {MOST_TRIES} nearest changes of a threshold gives a mask there"
    return "no single threshold gives a mask there: what is let in loses to another one"


def _shown(value: Any) -> str:
    return "none" if value is None else f"{value:g}"


def _candidates(origins: Origins, pixel_xy: tuple[int, int]) -> list[Candidate]:
    """Lost masks over a pixel, the best first."""
    candidates = []
    for name, masks in origins.branches.items():
        for k in covering_masks(masks, pixel_xy):
            if (name, k) in origins.lost:
                candidates.append(Candidate(masks.masks[k], origins.lost[name, k]))
    return sorted(candidates, key=_worst_last)


def _worst_last(candidate: Candidate) -> float:
    """Sorts by quality, or by score where none was predicted; highest first."""
    quality = candidate.loser.quality
    return -(candidate.mask.score if quality is None else quality)


def _require_inside(where: str, label: MaskSet, pixel_xy: tuple[int, int]) -> None:
    x, y = pixel_xy
    if not (0 <= x < label.width_px and 0 <= y < label.height_px):
        raise ConfigError(
            f"{where}: outside of the image of {label.width_px} x {label.height_px} px (width x height), "
            f"expected X 0 to {label.width_px - 1} and Y 0 to {label.height_px - 1}"
        )
