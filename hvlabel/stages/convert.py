"""Raw files to cubes."""

from __future__ import annotations

import json
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hvlabel import __version__
from hvlabel.cache.index import Entry
from hvlabel.cache.key import cache_key
from hvlabel.cache.publish import publish_folder, temporary_beside
from hvlabel.cache.receipt import is_cube, read_attributes, seal_folder, update_attributes, valid_and_sealed
from hvlabel.config import CubeSettings
from hvlabel.cube import write_cube
from hvlabel.descriptors import Descriptor, Form
from hvlabel.errors import CubeError, RawFileError, ResultsError
from hvlabel.layout import Layout
from hvlabel.manifest import Image
from hvlabel.readers import READER_VERSION, RawImage, open_raw, raw_sha256, read_rgb


def convert_file(
    raw_path: Path | str, descriptor: Descriptor, settings: CubeSettings, out: Path | str, threads: int = 1
) -> dict[str, Any]:
    """Convert one raw file into a sealed cube at `out`, replacing an older one; returns the cube's attributes."""
    raw_path, out = Path(raw_path), Path(out)
    _require_place_of_a_cube(out)
    return convert_source(open_source(raw_path, descriptor, settings), settings, out, threads)


@dataclass(frozen=True)
class Source:
    """A raw file whose headers were read, and what belongs to it.

    companion : its RGB picture, where the settings use one
    stamps    : path -> [bytes, time of change in ns] of every file, from before anything of it was read: what changes
                later is noticed by the next run
    """

    path: Path
    form: Form
    raw: RawImage
    companion: Path | None
    files: tuple[Path, ...]
    stamps: dict[str, list[int]]


def open_source(raw_path: Path, descriptor: Descriptor, settings: CubeSettings) -> Source:
    """A raw file ready to be converted; RawFileError where it or its companion is missing or not what is expected."""
    form = descriptor.form_for(raw_path)
    raw = open_raw(raw_path, form)
    companion = _companion(raw_path, form, settings)
    files = raw.files if companion is None else (*raw.files, companion)
    stamps = _stamps(files)
    return Source(raw_path, form, raw, companion, tuple(files), stamps)


def convert_source(
    source: Source, settings: CubeSettings, out: Path, threads: int = 1, digest: str | None = None, key: str = ""
) -> dict[str, Any]:
    """Publish the cube of an opened raw file; returns its attributes.

    digest : sha256 over the raw files, where it is known
    key    : of the cube; "": it is made here
    """
    start = time.monotonic()
    confidence = confidence_of(source.form, source.raw)
    rgb = _native_rgb(source, settings)
    temporary = temporary_beside(out)
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with ThreadPoolExecutor(1) as beside:  # hashing the raw files costs as much time as reading them
            hashing = None if digest else beside.submit(raw_sha256, source.files)
            invented = confidence == "placeholder"
            facts, checksums = write_cube(temporary, source.raw, rgb, settings, threads, invented=invented)
            if hashing is not None:
                digest = hashing.result()
        assert digest is not None  # given or hashed
        origin = {"path": str(source.path), "sha256": digest, "files": source.stamps}
        attributes = {
            **facts,
            "key": key or _cube_key(digest, source.form, settings),
            "source": origin,
            "descriptor": json.loads(source.form.canonical()),
            "wavelength_confidence": confidence,
            "reader_version": READER_VERSION,
            "hvlabel_version": __version__,
            "seconds": round(time.monotonic() - start, 3),
        }
        seal_folder(temporary, attributes, checksums)
        publish_folder(temporary, out)
    except ResultsError:  # an OSError too, but one that says it all
        raise
    except OSError as error:
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
        self.layout = layout
        self.descriptor = descriptor
        self.settings = settings
        self.threads = threads
        # what the key has opened and hashed, the conversion need not again
        self._at_hand: _AtHand | None = None

    def blocked(self, image: Image) -> None:
        """Nothing comes before this stage."""
        self._at_hand = None

    def key(self, image: Image) -> str:
        """Key from the raw files' content; files whose size and time are as recorded in the cube are not read again.

        Without a cube there is nothing to compare with; the conversion itself will hash the files, beside reading them.
        """
        out = self._output(image)
        try:
            recorded = read_attributes(out)["source"]
        except (CubeError, KeyError):
            return ""
        source = open_source(Path(image.raw), self.descriptor, self.settings)
        untouched = recorded["files"] == source.stamps
        digest = recorded["sha256"] if untouched else raw_sha256(source.files)
        same_place = untouched and recorded["path"] == image.raw
        if digest == recorded["sha256"] and not same_place:
            # touched or moved, but the same: not to be read again next time
            moved = {"path": image.raw, "sha256": digest, "files": source.stamps}
            update_attributes(out, {"source": moved})
        self._at_hand = _AtHand(image, source, digest)
        return _cube_key(digest, source.form, self.settings)

    def valid(self, image: Image, key: str) -> Entry | None:
        """The entry of a whole cube with this key."""
        path = self._output(image)
        attributes = valid_and_sealed(path, key)
        return None if attributes is None else self._entry(path, attributes)

    def make(self, image: Image, key: str) -> Entry:
        """Convert the raw file."""
        path = self._output(image)
        _require_place_of_a_cube(path)
        at_hand = self._at_hand
        if at_hand is not None and at_hand.image == image:
            source, digest = at_hand.source, at_hand.digest
        else:
            source = open_source(Path(image.raw), self.descriptor, self.settings)
            digest = None  # hashed beside the conversion
        attributes = convert_source(source, self.settings, path, self.threads, digest, key)
        return self._entry(path, attributes)

    def discard(self, image: Image) -> None:
        """An older cube stays: it was costly, and nothing reads it while the index says failed."""

    def _output(self, image: Image) -> Path:
        return self.layout.cube(image.dataset, image.image_id)

    def _entry(self, path: Path, attributes: dict[str, Any]) -> Entry:
        centres_nm = attributes["wavelengths_nm"]  # in file order, so that either end may be the lowest
        counts = {
            "bands": len(centres_nm),
            "rgb": attributes["rgb_source"],
            "centres": attributes["wavelength_confidence"],
            "from_nm": min(centres_nm),
            "to_nm": max(centres_nm),
        }
        relative = str(path.relative_to(self.layout.root))
        return Entry("ok", relative, attributes["key"], attributes["seconds"], counts=counts)


@dataclass(frozen=True)
class _AtHand:
    """What making a cube's key has opened and hashed, for making the cube."""

    image: Image
    source: Source
    digest: str


def confidence_of(form: Form, raw: RawImage) -> str:
    """How far an image's band centres can be trusted: as the descriptor says, else by where they come from."""
    by_origin = "calibrated" if raw.wavelengths_from == "file" else "nominal"
    return form.wavelength_confidence or by_origin


def _require_place_of_a_cube(out: Path) -> None:
    """CubeError unless nothing is lost by putting a cube there."""
    if out.suffix != ".zarr" or (out.exists() and not is_cube(out)):
        raise CubeError(f"{out}: not the path of a cube; name a new folder or an older cube, ending in .zarr")


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


def _native_rgb(source: Source, settings: CubeSettings) -> np.ndarray | None:
    """(h, w, 3) uint8 of the companion or of the picture inside the raw file; None: to be rendered."""
    if source.companion is not None:
        assert source.form.rgb_companion is not None  # it names one
        rgb = read_rgb(source.companion)
        return rgb.transpose(1, 0, 2) if source.form.rgb_companion.transpose else rgb
    inner = source.raw.inner_rgb() if settings.rgb in ("auto", "companion") else None
    if inner is None and settings.rgb == "companion":
        raise RawFileError(
            f"{source.raw.files[0]}: rgb: companion is set but the descriptor finds no RGB picture; give rgb_companion "
            "or rgb_variable, or use rgb: auto"
        )
    return inner


def _cube_key(digest: str, form: Form, settings: CubeSettings) -> str:
    made_by = f"{settings.canonical()}|{form.canonical()}|{READER_VERSION}"
    return cache_key("cubes", [digest], made_by, None)


def _stamps(files: tuple[Path, ...]) -> dict[str, list[int]]:
    stats = {str(path): path.stat() for path in files}
    return {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}
