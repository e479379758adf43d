"""Demo scenes on disk: raw files in the camera's format; ground truth as SA-1B JSON and a PNG of material classes."""

from __future__ import annotations

import zlib
from pathlib import Path

import cv2

from hvlabel.cache.publish import publish_bytes
from hvlabel.config import Dataset
from hvlabel.demo.cameras import CAMERAS
from hvlabel.demo.paths import demo_paths
from hvlabel.demo.scenes import Instance, make_scene
from hvlabel.layout import Layout
from hvlabel.masks import Mask, MaskSet, dump_masks, encode, interior_point

SEEDS_APART = 1_000_003  # a prime: seeds of a data set and names of its scenes do not add up to the same


def write_scenes(name: str, dataset: Dataset, results: Path) -> int:
    """Write all scenes of a demo data set; returns their number. Equal settings give equal files."""
    assert dataset.demo is not None
    camera = CAMERAS[dataset.demo]
    layout = Layout(results)
    size_px = dataset.demo_size_px
    paths = demo_paths(name, dataset, results)
    for k, path in enumerate(paths):
        seed = dataset.demo_seed * SEEDS_APART + zlib.crc32(f"{dataset.demo}/{k}".encode())
        scene = make_scene(camera, size_px, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        camera.write(path, scene.signal, scene.companion)
        truth = MaskSet(size_px, size_px, tuple(_mask(instance) for instance in scene.instances))
        provenance = {"stage": "truth", "seed": seed}
        publish_bytes(layout.demo_truth(name, path.stem), dump_masks(truth, path.stem, provenance, dataset=name))
        _, png = cv2.imencode(".png", scene.materials)
        publish_bytes(layout.materials(name, path.stem), png.tobytes())
    return len(paths)


def _mask(instance: Instance) -> Mask:
    return Mask(
        encode(instance.mask),
        score=1.0,
        branch="truth",
        point_xy=interior_point(instance.mask),
        extra={"material": instance.material, "spectral_only": instance.spectral_only},
    )
