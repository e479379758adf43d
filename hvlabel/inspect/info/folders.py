"""Folders: cubes and features as Zarr groups, results, training runs, packed labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from hvlabel.cache.receipt import damage, read_attributes
from hvlabel.cube import open_cube
from hvlabel.errors import HvError
from hvlabel.group_file import GROUP_FILE
from hvlabel.inspect.info.answer import Info
from hvlabel.inspect.info.json_files import json_info
from hvlabel.inspect.info.weights import weights_health
from hvlabel.inspect.summary import summarise
from hvlabel.layout import Layout

PACK = ("starts", "sizes", "boxes_xywh", "offsets", "counts")  # files of packed labels
SIZES_ONLY = "whole: every file has the size of its receipt (`hvlabel verify --deep` reads them too)"
# attributes of a cube or of features that say what it was made from
ORIGIN = ("source", "descriptor", "reader_version", "wavelengths_from", "gains_applied", "bad_bands", "key")


def folder_info(path: Path) -> Info | None:
    """What a folder is; None for a foreign one."""
    if (path / GROUP_FILE).is_file():
        return _group_info(path)
    if (path / "identity.json").is_file() or (path / "run.json").is_file():
        return _run_info(path)
    if all((path / f"{name}.npy").is_file() for name in PACK):
        return _pack_info(path)
    if (path / "export.json").is_file():
        return json_info(path / "export.json")
    layout = Layout(path)
    return _results_info(path, layout) if layout.manifest.is_file() else None


def _group_info(path: Path) -> Info | None:
    try:
        attributes = read_attributes(path)
    except HvError as error:
        return Info(path, "a Zarr group", health=str(error))
    if "checkpoint_sha256" in attributes:
        return _maps_info(path, attributes)
    # a cube may have gigabytes: an answer to a question shall not read them all
    health = damage(path, deep=False) or SIZES_ONLY
    if "stride_yx_px" in attributes:
        return _features_info(path, attributes, health)
    return _cube_info(path, health) if "wavelengths_nm" in attributes else None


def _cube_info(path: Path, health: str) -> Info:
    try:
        cube = open_cube(path)
    except HvError as error:
        return Info(path, "a cube", health=str(error))
    attributes = cube.attributes
    nm = cube.wavelengths_nm
    facts = {
        "shape": f"{cube.shape[0]} bands of {cube.width_px} x {cube.height_px} px (width x height)",
        "wavelengths": f"{nm.min():g} to {nm.max():g} nm, {attributes.get('wavelength_confidence')}",
        "stored": f"{cube.dtype}, {attributes.get('min')} to {attributes.get('max')}",
        "scale": f"{cube.scale:g} {attributes.get('unit') or ''}".strip(),
        "picture": attributes.get("rgb_source"),
        "dead bands": attributes.get("dead_bands") or None,
        "pixels without a value": attributes.get("n_invalid_px") or None,
        "georeference": attributes.get("georeference"),
    }
    return Info(path, "a cube", facts | _origin(attributes), health)


def _features_info(path: Path, attributes: dict[str, Any], health: str) -> Info:
    shape = zarr.open_array(path / "features", mode="r", zarr_format=3).shape
    facts = {
        "shape": f"{shape[0]} x {shape[1]} tokens of {shape[2]} channels",
        "stride": f"{attributes['stride_yx_px']} px (y, x)",
        "model": attributes.get("model"),
        "weights": attributes.get("weights"),
        "cube": attributes.get("cube_key"),
    }
    return Info(path, "features of a frozen teacher", facts | _origin(attributes), health)


def _maps_info(path: Path, attributes: dict[str, Any]) -> Info:
    group = zarr.open_group(path, mode="r", zarr_format=3)
    shapes = {name: "x".join(map(str, array.shape)) for name, array in sorted(group.arrays())}
    facts = {
        "maps (channels x rows x columns)": shapes,
        "stride": f"{attributes.get('stride_px')} px",
        "weights": attributes["checkpoint_sha256"],
    }
    return Info(path, "feature maps of a backbone (hvtrain features)", facts)


def _origin(attributes: dict[str, Any]) -> dict[str, Any]:
    facts = {name: attributes.get(name) for name in ORIGIN}
    return facts | {"made by": f"hvlabel {attributes.get('hvlabel_version', '?')} in {attributes.get('seconds')} s"}


def _results_info(path: Path, layout: Layout) -> Info:
    try:
        made = summarise(layout)
    except HvError as error:
        return Info(path, "a results folder", health=str(error))
    facts: dict[str, Any] = {"images": made.n_images, "labelled": len(made.labelled), "not done": made.n_undone}
    for stage in made.stages:
        facts[stage.stage] = f"{stage.n_ok} made, {stage.n_failed} failed, {stage.masks} masks, {stage.seconds:.0f} s"
    facts["backends"] = ", ".join(made.backends) or None
    facts["caution"] = made.caution or None
    return Info(path, "a results folder", facts, "`hvlabel verify` checks every file")


def _run_info(path: Path) -> Info:
    ended = path / "run.json"  # written last
    source = ended if ended.is_file() else path / "identity.json"
    try:
        facts = dict(json.loads(source.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        return Info(path, "a training run", health=f"{source.name} is damaged: {str(error)[:80]}")
    health = weights_health(path / "student.safetensors") if ended.is_file() else "it has not ended: no run.json"
    return Info(path, "a training run", facts, health)


def _pack_info(path: Path) -> Info:
    """Packed labels; counts alone are read."""
    starts = np.load(path / "starts.npy", mmap_mode="r")
    n_bytes = sum(file.stat().st_size for file in path.iterdir() if file.is_file())
    facts = {"images": len(starts) - 1, "masks": int(starts[-1]), "bytes": n_bytes}
    return Info(path, "labels packed for training", facts)
