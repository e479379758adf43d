"""A finished head on a cube: its classes as a picture, on the ground where the cube knows its place."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from PIL import Image as Picture
from PIL.PngImagePlugin import PngInfo

from hvlabel.cache.publish import publish_bytes
from hvlabel.cube import Cube, open_cube
from hvlabel.errors import ConfigError
from hvtrain.downstream.dense_inputs import PseudoRgbSettings, input_of, network_values, picture_of
from hvtrain.downstream.head_file import FinishedHead
from hvtrain.downstream.samples import taps_of
from hvtrain.downstream.shown_maps import shown_maps
from hvtrain.heads.views import View

# GeoTIFF 1.1: tags, and keys of the key directory
TRANSFORMATION, KEY_DIRECTORY = 34264, 34735
MODEL_TYPE, RASTER_TYPE, GEOGRAPHIC_CRS, PROJECTED_CRS = 1024, 1025, 2048, 3072
PROJECTED, GEOGRAPHIC, PIXEL_IS_AREA = 1, 2, 1
EPSG_GEOGRAPHIC = range(4000, 5000)  # codes of latitude and longitude
EPSG_MAX = 32767  # what a key can hold
CLASSES = "classes"  # text in a PNG: names of the values, in order


def predict_classes(head: FinishedHead, cube_path: Path, out: Path) -> str:
    """Write the class of every pixel as .png (with a palette) or .tif; says in a few words what it is.

    ConfigError for another ending; CubeError and BandError for a cube that cannot be read or shown.
    """
    if out.suffix.lower() not in (".png", ".tif", ".tiff"):
        raise ConfigError(f"{out}: classes are written as .png or .tif; choose one of these endings")
    cube = open_cube(cube_path)
    classes = classes_of(head, cube)
    names = head.facts["classes"]
    if out.suffix.lower() == ".png":
        publish_bytes(out, _png(classes, names, head.facts["colours"]))
        place = ""
    else:
        georeference = cube.attributes.get("georeference")
        publish_bytes(out, _tiff(classes, names, georeference))
        place = ", georeferenced" if georeference else ""
    present = [names[k] for k in np.unique(classes)]
    return f"{classes.shape[0]} x {classes.shape[1]} px{place}, classes: {', '.join(present)}"


@torch.no_grad()
def classes_of(head: FinishedHead, cube: Cube) -> np.ndarray:
    """(H, W) uint8, the class of every pixel of a cube, by the order of the head's classes."""
    logits = class_logits(head, cube)
    return logits.argmax(axis=0).astype(np.uint8)


@torch.no_grad()
def class_logits(head: FinishedHead, cube: Cube) -> np.ndarray:
    """(K, H, W) float32 of a cube; where the head was trained on every n-th pixel, each stands for its n x n."""
    facts = head.facts
    every = facts["every_px"]
    chosen = input_of(facts["input"])
    rgb = facts["pseudo_rgb"]
    picture = None
    if chosen.picture:
        pseudo = None if rgb is None else PseudoRgbSettings.model_validate(rgb)
        values = picture_of(cube, chosen.picture, every, pseudo)
        picture = torch.from_numpy(values)[None]  # (1, C, h, w)
        _require_channels(cube, picture.shape[1], facts["plan"])
    maps: list[torch.Tensor] = []
    stride_px = 1.0
    if head.backbone is not None:
        values, wavelengths_nm = network_values(cube, chosen.shown, every)
        gsd_m = facts["gsd_m"] * every
        made = shown_maps(head.backbone, chosen.shown, values, wavelengths_nm, gsd_m)
        taps = taps_of(made, neck=head.backbone.has_neck)
        # the cache holds half precision: what a head was trained on
        maps = [of_scale.half().float() for of_scale in taps]
        stride_px = taps.strides_px[-1]
    # rounded up, as every n-th pixel from the first on is counted
    height, width = (-(-side // every) for side in (cube.height_px, cube.width_px))
    device = next(head.network.parameters()).device
    picture = None if picture is None else picture.to(device)
    maps = [of_scale.to(device) for of_scale in maps]
    view = View((height, width), picture, maps, stride_px)
    logits = head.network(view)[0].float().cpu().numpy()  # (K, h, w)
    whole = logits.repeat(every, axis=1).repeat(every, axis=2)
    return whole[:, : cube.height_px, : cube.width_px]


def _require_channels(cube: Cube, n_channels: int, plan: dict[str, Any]) -> None:
    """ConfigError for a cube of another camera, where the head sees the picture itself."""
    # a head of pooled cells keeps the channels of its picture as the width of its only map
    expected = plan["options"]["widths"][0] if plan["pooled_px"] else plan["n_channels"]
    if n_channels != expected:
        raise ConfigError(
            f"{cube.path}: has {n_channels} bands, the head was trained on {expected}; give a cube of that camera or a "
            "head whose input is features"
        )


def _png(classes: np.ndarray, names: list[str], colours: list[list[int]]) -> bytes:
    """A palette picture with the names of its values in a text chunk."""
    # a palette: programs show colours, arrays hold the classes
    picture = Picture.fromarray(classes, mode="P")
    picture.putpalette([value for colour in colours for value in colour])
    text = PngInfo()
    text.add_text(CLASSES, ", ".join(names))
    content = io.BytesIO()
    picture.save(content, format="PNG", pnginfo=text)
    return content.getvalue()


def _tiff(classes: np.ndarray, names: list[str], georeference: dict[str, Any] | None) -> bytes:
    """A TIFF of one band; with the tags of its place where the cube has one."""
    tags: list[Any] = []
    if georeference is not None:
        a, b, c, d, e, f = georeference["transform"]
        to_x, to_y = (a, b, 0, c), (d, e, 0, f)  # of column, row, 0, 1
        to_z, to_one = (0, 0, 0, 0), (0, 0, 0, 1)
        matrix = (*to_x, *to_y, *to_z, *to_one)
        tags.append((TRANSFORMATION, "d", 16, tuple(map(float, matrix)), True))
        keys = _geo_keys(georeference["crs"])
        tags.append((KEY_DIRECTORY, "H", len(keys), tuple(keys), True))
    content = io.BytesIO()
    # TIFF texts are ASCII; names of classes may not be
    description = f"{CLASSES}: {', '.join(names)}".encode("ascii", "replace").decode()
    tifffile.imwrite(
        content,
        classes,
        photometric="minisblack",
        compression="zlib",
        description=description,
        metadata=None,
        extratags=tags,
    )
    return content.getvalue()


def _geo_keys(crs: str | None) -> list[int]:
    """The key directory of a coordinate system; of one without an EPSG code it says only what a pixel is."""
    keys = [(RASTER_TYPE, PIXEL_IS_AREA)]
    code = crs.removeprefix("EPSG:") if crs else ""
    if code.isdecimal() and int(code) <= EPSG_MAX:
        is_geographic = int(code) in EPSG_GEOGRAPHIC
        # keys have to rise
        keys.insert(0, (MODEL_TYPE, GEOGRAPHIC if is_geographic else PROJECTED))
        keys.append((GEOGRAPHIC_CRS if is_geographic else PROJECTED_CRS, int(code)))
    flat = [1, 1, 0, len(keys)]
    for key, value in keys:
        flat += [key, 0, 1, value]  # 0, 1: one value, which stands here and not in another tag
    return flat
