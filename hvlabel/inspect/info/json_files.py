"""JSON files: masks and labels, indexes, material groups, runs, the quality predictor."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from hvlabel.cache.index import read_index
from hvlabel.checksummed import FIELD, is_whole
from hvlabel.errors import HvError, MaskFileError
from hvlabel.inspect.info.answer import Info
from hvlabel.masks import image_name, is_corrected, read_document
from hvlabel.masks.sa1b import is_mask_document

# entries of a provenance that say what masks were made from
ORIGIN = (
    "backend",
    "fallback",
    "drawn_in",
    "imported_from",
    "branches",
    "settings",
    "weights",
    "weights_sha256",
    "precision",
    "cube_key",
    "key",
)
# keys that only one file has -> what it is; its content is shown as it stands
PLAIN_KINDS = (
    ({"key", "weights_sha256"}, "facts of a run"),
    ({"key", "facts"}, "which run this is"),
    ({"format", "images", "masks", "remarks"}, "an export (hvlabel export)"),
    ({"dataset", "scenes"}, "the index of generated scenes"),
    ({"host", "pid"}, "who is at work on a results folder"),
)


def json_info(path: Path) -> Info | None:
    """What a JSON file is; None for a foreign one."""
    stored = path.read_bytes()
    try:
        content = json.loads(stored)
    except ValueError as error:
        return Info(path, "a JSON file", health=f"damaged: {str(error)[:80]}")
    if not isinstance(content, dict):
        return None
    if is_mask_document(content):
        return _mask_info(path, content)
    if {"stage", "dataset", "shard", "images"} <= content.keys():
        return _index_info(path, content)
    if {"materials", "images", "wavelengths_nm"} <= content.keys():
        return _materials_info(path, content, stored)
    if {"members", "knots", "features"} <= content.keys():
        facts = {"networks": len(content["members"]), "features": ", ".join(content["features"])}
        return Info(path, "a quality predictor", facts)
    kinds = (kind for keys, kind in PLAIN_KINDS if keys <= content.keys())
    kind = next(kinds, None)
    return None if kind is None else Info(path, kind, content)


def _mask_info(path: Path, content: dict[str, Any]) -> Info:
    # damaged ones are shown as far as they can be read: what they claim may help to mend them
    health = "whole: the content matches its seal"
    try:
        content = read_document(path)
    except MaskFileError as error:
        health = str(error)
    provenance = content["provenance"]
    stage = provenance.get("stage")
    kinds = {"labels": "a label", "truth": "ground truth"}
    image = content["image"]
    suppressed = Counter(loser.get("reason", "") for loser in content.get("suppressed", []))
    facts: dict[str, Any] = {
        "image": f"{image_name(content)}, {image.get('width')} x {image.get('height')} px (width x height)",
        "masks": len(content["annotations"]),
        **_numbers(content["annotations"]),
        "suppressed": dict(suppressed) or None,
        "share of the image": provenance.get("foreground_share"),
        "corrected": "by hand" if is_corrected(content) else None,
        **{name: provenance.get(name) for name in ORIGIN},
        "made by": f"hvlabel {provenance.get('hvlabel_version', '?')} in {provenance.get('seconds')} s",
    }
    return Info(path, kinds.get(str(stage), f"masks of branch {stage}"), facts, health)


def _numbers(annotations: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and range of what a mask file says about its masks."""
    facts = {}
    for name in ("area", "score", "quality"):
        values = [a[name] for a in annotations if isinstance(a.get(name), int | float)]
        if values:
            mean = sum(values) / len(values)
            facts[name] = f"mean {mean:.3g}, {min(values):.3g} to {max(values):.3g}"
    found_by = Counter("+".join(a["votes"]) for a in annotations if a.get("votes"))
    if not found_by:  # masks of a branch have no votes
        return facts
    return {**facts, "found by": dict(found_by)}


def _index_info(path: Path, content: dict[str, Any]) -> Info:
    facts: dict[str, Any] = {"stage": content["stage"], "shard": f"{content['dataset']}/{content['shard']}"}
    try:
        entries = read_index(path).images
    except HvError as error:
        return Info(path, "the index of a shard", facts, str(error))
    states = Counter(entry.status for entry in entries.values())
    n_masks = sum(entry.counts.get("masks", 0) for entry in entries.values())
    facts |= {"images": len(entries), "states": dict(states), "masks": n_masks}
    failed = [f"{name}: {entry.reason}" for name, entry in entries.items() if entry.status != "ok"]
    facts["first failure"] = failed[0] if failed else None
    return Info(path, "the index of a shard", facts, "whole" if FIELD in content else "of a version without checksums")


def _materials_info(path: Path, content: dict[str, Any], stored: bytes) -> Info:
    too_long = ("images", "materials", "wavelengths_nm", FIELD)
    facts = {name: value for name, value in content.items() if name not in too_long}
    facts["materials"] = len(content["materials"])
    facts["images"] = len(content["images"])
    health = "whole" if is_whole(stored) else "damaged: its checksum does not fit; run `hvlabel materials` again"
    return Info(path, "material groups of a data set", facts, health)
