"""Raw files to cubes."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from hvlabel import __version__
from hvlabel.cache.index import Entry
from hvlabel.cache.key import cache_key
from hvlabel.cache.publish import publish_folder, temporary_beside
from hvlabel.cache.receipt import damage, is_cube, read_attributes, seal_folder, update_attributes
from hvlabel.config import CubeSettings
from hvlabel.cube import write_cube
from hvlabel.descriptors import Descriptor, Form
from hvlabel.errors import CubeError, RawFileError, ResultsError
from hvlabel.layout import Layout
from hvlabel.manifest import Image
from hvlabel.readers import READER_VERSION, RawImage, open_raw, raw_sha256, read_rgb


def convert_file(
    raw_path: Path, descriptor: Descriptor, settings: CubeSettings, out: Path, threads: int = 1
) -> dict[str, Any]:
    """Convert one raw file into a sealed cube at `out`, replacing an older one; returns the cube's attributes."""
    if out.suffix != ".zarr" or (out.exists() and not is_cube(out)):
        raise CubeError(f"{out}: not the path of a cube; name a new folder or an older cube, ending in .zarr")
    form = descriptor.form_for(raw_path)
    raw = open_raw(raw_path, form)
    companion = _companion(raw_path, form, settings)
    rgb = _native_rgb(raw, form, companion, settings)
    files = (*raw.files, *([companion] if companion is not None else []))
    temporary = temporary_beside(out)
    shutil.rmtree(temporary, ignore_errors=True)
    start = time.monotonic()
    try:
        confidence = confidence_of(form, raw)
        with ThreadPoolExecutor(1) as beside:  # hashing the raw files costs as much time as reading them
            hashing = beside.submit(raw_sha256, files)
            facts, checksums = write_cube(temporary, raw, rgb, settings, threads, invented=confidence == "placeholder")
            digest = hashing.result()
        attributes = {
            **facts,
            "key": _cube_key(digest, form, settings),
            "source": {"path": str(raw_path), "sha256": digest, "files": _stamps(files)},
            "descriptor": json.loads(form.canonical()),
            "wavelength_confidence": confidence,
            "reader_version": READER_VERSION,
            "hvlabel_version": __version__,
            "seconds": round(time.monotonic() - start, 3),
        }
        seal_folder(temporary, attributes, checksums)
        publish_folder(temporary, out)
    except OSError as error:
        if isinstance(error, ResultsError):
            raise
        raise ResultsError(
            f"{out}: cannot write the cube ({error}); check space, permissions and the setting `results`"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return attributes


class CubeStage:
    """Raw files of one data set to cubes."""

    name = "cubes"

    def __init__(self, layout: Layout, descriptor: Descriptor, settings: CubeSettings, threads: int = 1) -> None:
        self.layout, self.descriptor, self.settings, self.threads = layout, descriptor, settings, threads

    def blocked(self, image: Image) -> None:
        """Nothing comes before this stage."""

    def key(self, image: Image) -> str:
        """Key from the raw files' content; files whose size and time are as recorded in the cube are not read again.

        Without a cube there is nothing to compare with; the conversion itself will hash the files, beside reading them.
        """
        out = self.layout.cube(image.dataset, image.image_id)
        try:
            source = read_attributes(out)["source"]
        except (CubeError, KeyError):
            return ""
        raw_path = Path(image.raw)
        form = self.descriptor.form_for(raw_path)
        companion = _companion(raw_path, form, self.settings)
        files = (*open_raw(raw_path, form).files, *([companion] if companion is not None else []))
        stamps = _stamps(files)
        digest = source["sha256"] if source["files"] == stamps else raw_sha256(files)
        if digest == source["sha256"] and (source["files"], source["path"]) != (stamps, image.raw):
            moved = {"path": image.raw, "sha256": digest, "files": stamps}
            update_attributes(out, {"source": moved})  # touched or moved, but the same: not to be read again next time
        return _cube_key(digest, form, self.settings)

    def valid(self, image: Image, key: str) -> Entry | None:
        """The entry of a whole cube with this key."""
        path = self.layout.cube(image.dataset, image.image_id)
        if damage(path, deep=False) is not None or read_attributes(path).get("key") != key:
            return None
        return self._entry(path, read_attributes(path))

    def make(self, image: Image, key: str) -> Entry:
        """Convert the raw file."""
        path = self.layout.cube(image.dataset, image.image_id)
        convert_file(Path(image.raw), self.descriptor, self.settings, path, self.threads)
        return self._entry(path, read_attributes(path))

    def discard(self, image: Image) -> None:
        """An older cube stays: it was costly, and nothing reads it while the index says failed."""

    def _entry(self, path: Path, attributes: dict[str, Any]) -> Entry:
        counts = {
            "bands": len(attributes["wavelengths_nm"]),
            "rgb": attributes["rgb_source"],
            "centres": attributes["wavelength_confidence"],
            "from_nm": min(attributes["wavelengths_nm"]),
            "to_nm": max(attributes["wavelengths_nm"]),
        }
        return Entry(
            "ok", str(path.relative_to(self.layout.root)), attributes["key"], attributes["seconds"], counts=counts
        )


def confidence_of(form: Form, raw: RawImage) -> str:
    """How far an image's band centres can be trusted: as the descriptor says, else by where they come from."""
    return form.wavelength_confidence or ("calibrated" if raw.wavelengths_from == "file" else "nominal")


def without_cube(cubes: Mapping[str, Entry], image: Image) -> str | None:
    """Why a stage that reads cubes must leave an image out, or None. cubes: entries of the shard's conversion."""
    entry = cubes.get(image.image_id)
    if entry is not None and entry.status == "ok":
        return None
    return "no cube: " + (entry.reason if entry else "not converted yet")


def _companion(raw_path: Path, form: Form, settings: CubeSettings) -> Path | None:
    """The RGB companion, if the settings use one; RawFileError if it is missing and not optional."""
    companion = form.companion_of(raw_path) if settings.rgb in ("auto", "companion") else None
    if companion is None or companion.is_file():
        return companion
    assert form.rgb_companion is not None  # it names one
    if form.rgb_companion.optional and settings.rgb == "auto":
        return None
    raise RawFileError(
        f"{companion}: the RGB companion of {raw_path.name} is missing; restore it or drop descriptor.rgb_companion"
    )


def _native_rgb(raw: RawImage, form: Form, companion: Path | None, settings: CubeSettings) -> np.ndarray | None:
    """(h, w, 3) uint8 of the companion or of the picture inside the raw file; None: to be rendered."""
    if companion is not None:
        assert form.rgb_companion is not None  # it names one
        rgb = read_rgb(companion)
        return rgb.transpose(1, 0, 2) if form.rgb_companion.transpose else rgb
    inner = raw.inner_rgb() if settings.rgb in ("auto", "companion") else None
    if inner is not None:
        return inner
    if settings.rgb == "companion":
        raise RawFileError(
            f"{raw.files[0]}: rgb: companion is set but the descriptor finds no RGB picture; give rgb_companion or rgb_variable, or use rgb: auto"
        )
    return None


def _cube_key(digest: str, form: Form, settings: CubeSettings) -> str:
    return cache_key("cubes", [digest], f"{settings.canonical()}|{form.canonical()}|{READER_VERSION}", None)


def _stamps(files: tuple[Path, ...]) -> dict[str, list[int]]:
    return {str(p): [p.stat().st_size, p.stat().st_mtime_ns] for p in files}
