"""Sequences on disk: frames of raw files or cubes in a folder, and the box of an object in each."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from hvlabel.config import CubeSettings
from hvlabel.cube import open_cube
from hvlabel.cube.render import choose_rendering
from hvlabel.descriptors import Descriptor, load_descriptor
from hvlabel.errors import ConfigError, RawFileError
from hvlabel.readers import open_raw
from hvlabel.walk import matching
from hvtrain.data.inputs import PICTURE_NM
from hvtrain.downstream.contract import Part
from hvtrain.downstream.splits import PARTS
from hvtrain.downstream.track_file import TrackCameraSettings, TrackSettings

BOXES_FILE = "groundtruth_rect.txt"
CUBES = "*.zarr"
LARGEST = 2  # sides of a box, in longest sides of the frame
BRIGHT = 0.999  # quantile of the first frame that is 1 for a network that takes values up to 1
MEMORY_BYTES = 1 << 30  # of frames kept; what does not fit is read again

Shown = Literal["cube", "rgb"]


@dataclass(frozen=True)
class Track:
    """A sequence of T frames of one camera.

    name       : its folder below the data
    boxes_xywh : (T, 4) float64 px, or the first box alone (1, 4); a box of no size: the object is not there
    boxes_from : where the boxes come from, for messages
    """

    name: str
    camera: str
    frames: tuple[Path, ...]
    boxes_xywh: np.ndarray
    descriptor: Descriptor | None
    boxes_from: str

    def __len__(self) -> int:
        return len(self.frames)

    @cached_property
    def visible(self) -> np.ndarray:
        """(n,) indices of the frames in which the object is."""
        has_size = (self.boxes_xywh[:, 2:] > 0).all(axis=1)
        return np.flatnonzero(has_size)

    def read(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """(C, H, W) float32 values of a frame and (C,) band centres, nm; errors as the reader's."""
        path = self.frames[k]
        if self.descriptor is None:
            cube = open_cube(path)
            return cube.live_values(), cube.live_wavelengths_nm
        raw = open_raw(path, self.descriptor)
        values = raw.read().astype(np.float32)
        return values, np.array(raw.wavelengths_nm)


class Frames:
    """Frames as a backbone is shown them, kept in memory as long as it suffices.

    shown : cube: all bands; rgb: the colours that the pipeline would show, linear
    """

    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        self._kept: OrderedDict[tuple[str, int], np.ndarray] = OrderedDict()
        self._bands: dict[str, np.ndarray] = {}
        self._sizes: dict[str, tuple[int, int]] = {}
        self._brightest: dict[str, float] = {}
        self._n_bytes = 0

    def of(self, track: Track, k: int) -> np.ndarray:
        """(C, H, W) float32 of a frame; RawFileError for one of another size or other bands than the first."""
        key = (track.name, k)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        values, bands_nm = track.read(k)
        # remembered apart from the frames, which may be dropped: each is compared with the first
        first_nm = self._bands.setdefault(track.name, bands_nm)
        if not np.array_equal(first_nm, bands_nm):
            raise RawFileError(f"{track.frames[k]}: has other bands than the frames before it; restore it")
        size_px = (values.shape[1], values.shape[2])
        first_px = self._sizes.setdefault(track.name, size_px)
        if size_px != first_px:
            raise RawFileError(
                f"{track.frames[k]}: is {size_px[0]} x {size_px[1]} px, frames before it {first_px[0]} x {first_px[1]} "
                "px; restore it"
            )
        if self._shown == "rgb":
            values = _colours(values, bands_nm)
        self._kept[key] = values
        self._n_bytes += values.nbytes
        # pairs are drawn from all sequences: what was not looked at for longest is the least likely to be next
        while self._n_bytes > MEMORY_BYTES and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._n_bytes -= oldest.nbytes
        return values

    def bands_nm(self, track: Track) -> tuple[float, ...]:
        """(C,) band centres of what `of` gives."""
        if self._shown == "rgb":
            return PICTURE_NM
        if track.name not in self._bands:
            self.of(track, 0)
        return tuple(self._bands[track.name].tolist())

    def brightest(self, track: Track) -> float:
        """What is 1 in all frames of a sequence: a scale of each frame's own would flicker with every glint."""
        if track.name not in self._brightest:
            first = np.nan_to_num(self.of(track, 0))
            level = float(np.quantile(first, BRIGHT))
            self._brightest[track.name] = level if level > 0 else 1.0
        return self._brightest[track.name]


def _colours(values: np.ndarray, bands_nm: np.ndarray) -> np.ndarray:
    """(3, H, W) float32 of (C, H, W)."""
    weights = choose_rendering(bands_nm, CubeSettings()).weights  # (3, C)
    colours = np.tensordot(weights, values, axes=1)
    return colours.astype(np.float32)


def tracks_of(data: Path, settings: TrackSettings) -> list[Track]:
    """All sequences below a folder, by name; ConfigError where there are none."""
    tracks = []
    for path in matching(data, [f"**/{BOXES_FILE}"]) if data.is_dir() else []:
        name = path.parent.relative_to(data).as_posix()
        for camera, of_camera in settings.cameras.items():
            # the names differ between releases of a benchmark, the folders of its cameras do not
            if of_camera.folder is None or of_camera.folder in Path(name).parts:
                tracks.append(open_track(path.parent, name, camera, of_camera))
                break
    if not tracks:
        raise ConfigError(
            f"{data}: no sequence in it (a folder with frames and {BOXES_FILE}); correct --data, or cameras.*.folder"
        )
    return tracks


def open_track(folder: Path, name: str, camera: str, settings: TrackCameraSettings) -> Track:
    """A sequence with all its boxes; RawFileError as require_boxes, and for no frames."""
    track = open_to_track(folder, name, camera, settings)
    require_boxes(track)
    return track


def open_to_track(
    folder: Path, name: str, camera: str, settings: TrackCameraSettings, box_xywh: Sequence[float] | None = None
) -> Track:
    """A sequence of which the first box alone has to be there; RawFileError for no frames or no box in the first.

    box_xywh : (4,) the first box, px; none: the file in the folder says it
    """
    pattern = CUBES if settings.descriptor is None else settings.frames
    frames = matching(folder, [pattern])
    if not frames:
        way_out = ", and raw frames a descriptor" if settings.descriptor is None else ""
        raise RawFileError(f"{folder}: no frame {pattern} in it; a sequence needs at least one{way_out}")
    descriptor = None if settings.descriptor is None else load_descriptor(camera, settings.descriptor)
    file = folder / BOXES_FILE
    if box_xywh:
        boxes_from, boxes = "--box", np.array([box_xywh], np.float64)
    else:
        boxes_from, boxes = str(file), read_boxes(file)
    # also false for what is no number
    if not (boxes[0, 2:] > 0).all():
        raise RawFileError(f"{boxes_from}: the first box has no size; a tracker is given the object there")
    return Track(name, camera, tuple(frames), boxes, descriptor, boxes_from)


def require_boxes(track: Track) -> None:
    """RawFileError if there is not a box for every frame."""
    if len(track.boxes_xywh) != len(track.frames):
        raise RawFileError(
            f"{track.boxes_from}: {len(track.boxes_xywh)} boxes for {len(track.frames)} frames; "
            "give one line per frame, 0 0 0 0 where the object is not there"
        )


def require_inside(track: Track, size_px: tuple[int, int]) -> None:
    """RawFileError if the first box does not touch the frame, and as require_sizes. size_px: (H, W)."""
    require_sizes(track, size_px)
    x, y, width, height = track.boxes_xywh[0]
    # put so that a place that is no number is refused too
    is_before_end = x < size_px[1] and y < size_px[0]
    is_behind_start = x + width > 0 and y + height > 0
    if not (is_before_end and is_behind_start):
        raise RawFileError(
            f"{track.boxes_from}: the first box {x:g} {y:g} {width:g} {height:g} lies outside the frame of "
            f"{size_px[0]} x {size_px[1]} px; boxes are x y w h in px of the cube, not of the mosaic"
        )


def require_sizes(track: Track, size_px: tuple[int, int]) -> None:
    """RawFileError for a box that no frame could hold. size_px: (H, W)."""
    is_larger = track.boxes_xywh[:, 2:] > LARGEST * max(size_px)
    too_large = np.flatnonzero(is_larger.any(axis=1))
    if len(too_large):
        width, height = track.boxes_xywh[too_large[0], 2:]
        raise RawFileError(
            f"{track.boxes_from}: box {too_large[0] + 1} is {width:g} x {height:g} px, the frame {size_px[1]} x "
            f"{size_px[0]} px; boxes are x y w h in px of the cube"
        )


def read_boxes(path: Path) -> np.ndarray:
    """(T, 4) float64 of lines x y w h, apart by tabs, spaces or commas; what is no number is a box of no size.

    RawFileError for what cannot be read, an empty file, or a line without four numbers.
    """
    try:
        text = path.read_text().replace(",", " ")
        lines = [line.split() for line in text.splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise RawFileError(f"{path}: no readable file of boxes ({error}); a sequence needs one") from error
    boxes = []
    for number, fields in enumerate(lines, start=1):
        if not fields:
            continue
        try:
            box = [float(field) for field in fields]
        except ValueError:
            box = []
        if len(box) != 4:
            raise RawFileError(f"{path}: line {number} is no box of four numbers x y w h; correct it")
        is_box = np.isfinite(box).all()
        boxes.append(box if is_box else [0.0] * 4)
    if not boxes:
        raise RawFileError(f"{path}: no box in it; give one line x y w h per frame")
    return np.array(boxes)


def parts_of_tracks(tracks: list[Track], settings: TrackSettings) -> dict[Part, list[Track]]:
    """Sequences by part; ConfigError where none is left for training or test."""
    parts: dict[Part, list[Track]] = {part: [] for part in PARTS}
    if settings.parts is None:
        _deal(tracks, settings.shares, settings.split_seed, parts)
    else:
        train = _below(settings.parts["train"], tracks)
        parts["test"] = _below(settings.parts["test"], tracks)
        shares: dict[Part, float] = {"train": 1 - settings.holdout_share, "val": settings.holdout_share}
        _deal(train, shares, settings.split_seed, parts)
    for part in ("train", "test"):
        if not parts[part]:
            raise ConfigError(f"no sequence is left for {part} ({len(tracks)} sequences); give more, or other shares")
    return parts


def _below(folder: str, tracks: list[Track]) -> list[Track]:
    """Sequences that lie below a folder of this name, however deep."""
    return [track for track in tracks if folder in Path(track.name).parts]


def _deal(tracks: list[Track], shares: dict[Part, float], seed: int, parts: dict[Part, list[Track]]) -> None:
    """Add sequences to parts, drawn at random in shares."""
    order = np.random.default_rng(seed).permutation(len(tracks))
    first, share = 0, 0.0
    for part in PARTS:
        share += shares.get(part, 0.0)
        last = round(share * len(tracks))  # of the running sum, so that no sequence is lost by rounding
        if part in shares:
            drawn = sorted(order[first:last])
            parts[part] = [tracks[k] for k in drawn]
        first = last
