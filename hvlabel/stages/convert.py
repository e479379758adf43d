"""Raw files to cubes."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from hvlabel import __version__
from hvlabel.cache.index import Entry
from hvlabel.cache.key import cache_key
from hvlabel.cache.publish import publish_folder, temporary_beside
from hvlabel.cache.receipt import GROUP_FILE, damage, read_attributes, seal_folder
from hvlabel.config import CubeSettings, Descriptor
from hvlabel.cube import write_cube
from hvlabel.errors import CubeError, RawFileError, ResultsError
from hvlabel.layout import Layout
from hvlabel.manifest import Image
from hvlabel.readers import READER_VERSION, open_raw, raw_sha256


def convert_file(raw_path: Path, descriptor: Descriptor, settings: CubeSettings, out: Path) -> dict[str, Any]:
    """Convert one raw file into a sealed cube at `out`, replacing an older one; returns the cube's attributes."""
    if out.suffix != ".zarr" or (out.exists() and not (out / GROUP_FILE).is_file()):
        raise CubeError(f"{out}: not the path of a cube; name a new folder or an older cube, ending in .zarr")
    raw = open_raw(raw_path, descriptor)
    companion = _companion(raw_path, descriptor, settings)
    if companion is not None and not companion.is_file():
        raise RawFileError(
            f"{companion}: the RGB companion of {raw_path.name} is missing; restore it or drop descriptor.rgb_companion"
        )
    files = (*raw.files, *([companion] if companion is not None else []))
    digest = raw_sha256(files)
    attributes = {
        "key": _cube_key(digest, descriptor, settings),
        "source": {"path": str(raw_path), "sha256": digest, "files": _stamps(files)},
        "descriptor": descriptor.model_dump(mode="json", exclude_defaults=True),
        "wavelength_confidence": (
            "calibrated"
            if descriptor.wavelengths_nm is None and "wavelength_confidence" not in descriptor.model_fields_set
            else descriptor.wavelength_confidence
        ),
        "reader_version": READER_VERSION,
        "hvlabel_version": __version__,
    }
    temporary = temporary_beside(out)
    shutil.rmtree(temporary, ignore_errors=True)
    start = time.monotonic()
    try:
        full = write_cube(temporary, raw, companion, settings, attributes)
        seal_folder(temporary, seconds=round(time.monotonic() - start, 3))
        publish_folder(temporary, out)
    except OSError as error:
        if isinstance(error, ResultsError):
            raise
        raise ResultsError(
            f"{out}: cannot write the cube ({error}); check space, permissions and the setting `results`"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return full


class CubeStage:
    """Raw files of one data set to cubes."""

    name = "cubes"

    def __init__(self, layout: Layout, descriptor: Descriptor, settings: CubeSettings) -> None:
        self.layout, self.descriptor, self.settings = layout, descriptor, settings

    def blocked(self, image: Image) -> None:
        """Nothing comes before this stage."""

    def key(self, image: Image) -> str:
        """Key from the raw files' content; files whose size and time are as recorded in the cube are not read again."""
        out = self.layout.cube(image.dataset, image.image_id)
        try:
            source = read_attributes(out)["source"]
            unchanged = source["files"] == _stamps(tuple(Path(name) for name in source["files"]))
        except (CubeError, KeyError, OSError):
            unchanged = False
        if unchanged and source["path"] == image.raw:
            return _cube_key(source["sha256"], self.descriptor, self.settings)
        raw_path = Path(image.raw)
        companion = _companion(raw_path, self.descriptor, self.settings)
        files = open_raw(raw_path, self.descriptor).files
        present = (*files, *([companion] if companion is not None and companion.is_file() else []))
        return _cube_key(raw_sha256(present), self.descriptor, self.settings)

    def valid(self, image: Image, key: str) -> Entry | None:
        """The entry of a whole cube with this key."""
        path = self.layout.cube(image.dataset, image.image_id)
        if damage(path, deep=False) is not None or read_attributes(path).get("key") != key:
            return None
        return self._entry(path, read_attributes(path))

    def make(self, image: Image, key: str) -> Entry:
        """Convert the raw file."""
        path = self.layout.cube(image.dataset, image.image_id)
        convert_file(Path(image.raw), self.descriptor, self.settings, path)
        return self._entry(path, read_attributes(path))

    def discard(self, image: Image) -> None:
        """An older cube stays: it was costly, and nothing reads it while the index says failed."""

    def _entry(self, path: Path, attributes: dict[str, Any]) -> Entry:
        counts = {
            "bands": len(attributes["wavelengths_nm"]),
            "rgb": attributes["rgb_source"],
            "from_nm": min(attributes["wavelengths_nm"]),
            "to_nm": max(attributes["wavelengths_nm"]),
        }
        return Entry(
            "ok", str(path.relative_to(self.layout.root)), attributes["key"], attributes["seconds"], counts=counts
        )


def _companion(raw_path: Path, descriptor: Descriptor, settings: CubeSettings) -> Path | None:
    """The RGB companion, if the settings use one."""
    return descriptor.companion_of(raw_path) if settings.rgb in ("auto", "companion") else None


def _cube_key(digest: str, descriptor: Descriptor, settings: CubeSettings) -> str:
    described = f"{settings.canonical()}|{descriptor.model_dump_json(exclude_defaults=True)}|{READER_VERSION}"
    return cache_key("cubes", [digest], described, None)


def _stamps(files: tuple[Path, ...]) -> dict[str, list[int]]:
    return {str(p): [p.stat().st_size, p.stat().st_mtime_ns] for p in files}
