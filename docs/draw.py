"""Draws the pictures of docs/SETTINGS.md and docs/FIRST_HOUR.md from finished results folders.

python docs/draw.py knobs results docs/pictures          (after make demo)
python docs/draw.py masks results-first-hour docs/pictures
python docs/draw.py shown results demo-vis31/vis31_00 docs/pictures/demo.jpg

`masks` after the run of docs/FIRST_HOUR.md; `shown` is what `hvlabel show` draws, in fewer bytes.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from PIL import Image

from hvlabel.config import FusionSettings, MaterialSettings, RgbSettings, SequenceSettings
from hvlabel.cube import open_cube
from hvlabel.evaluation import RIGHT_IOU
from hvlabel.inspect.picture import picture
from hvlabel.layout import Layout
from hvlabel.masks import MaskSet, decode, iou_matrix, read_masks
from hvlabel.stages.fuse import fuse_files
from hvlabel.stages.segment import BranchRunner, segment_file

SCENE = ("demo-vis31", "vis31_00")
CHECKER = ("checker", "ColorChecker25")
BRANCHES = ("rgb", "sequence", "material", "regions")
ENLARGED = 2  # times the image's pixels, so that outlines stay thin
COLOURS = 64  # of the photograph: a PNG with a palette takes a third of the bytes
RIGHT_RGB, WRONG_RGB, MISSED_RGB = (60, 230, 90), (255, 70, 60), (255, 225, 0)
DIMMED = 0.35  # of the picture outside a mask that is shown alone
CAPTION_PX, GAP_PX, TILES_A_ROW = 24, 8, 5

Panel = tuple[str, MaskSet]


def knobs(results: str, out: str) -> None:
    """One picture per setting of SETTINGS.md: labels of one demo scene before and after it was changed."""
    layout = Layout(Path(results))
    cube = layout.cube(*SCENE)
    made = {branch: layout.masks(branch, *SCENE) for branch in BRANCHES}
    with TemporaryDirectory() as folder:
        scratch = Path(folder)

        def label(files: Sequence[Path], **changes: object) -> MaskSet:
            return fuse_files(list(files), FusionSettings(**changes), scratch / "label.json", cube)

        def branch(name: str, settings: object) -> Path:
            path = scratch / f"{name}.json"
            segment_file(BranchRunner(name, settings), cube, path)
            return path

        default = label(made.values())
        classical = {
            "rgb": RgbSettings(backend="regions"),
            "sequence": SequenceSettings(backend="regions"),
            "material": MaterialSettings(backend="regions"),
        }
        regions = label([branch(name, settings) for name, settings in classical.items()])
        pairs = {
            "backend": [("backend: sam", default), ("backend: regions", regions)],
            "branches": [
                ("branches: [rgb]", label([made["rgb"]])),
                ("all branches (default)", default),
            ],
            "min_quality": [
                ("min_quality: 0", label(made.values(), min_quality=0)),
                ("min_quality: 0.5", label(made.values(), min_quality=0.5)),
            ],
            "iou_threshold": [
                ("iou_threshold: 0.95", label(made.values(), iou_threshold=0.95)),
                ("iou_threshold: 0.5", label(made.values(), iou_threshold=0.5)),
            ],
            "points_per_side": [
                ("rgb, points_per_side: 4", read_masks(branch("rgb", RgbSettings(generator={"points_per_side": 4})))),
                ("rgb, points_per_side: 16 (default)", read_masks(made["rgb"])),
            ],
        }
    truth = read_masks(layout.truth(*SCENE))
    rgb = open_cube(cube).rgb
    for name, panels in pairs.items():
        save(Path(out) / f"knob_{name}.png", side_by_side([judged(rgb, panel, truth) for panel in panels]))


def judged(rgb: np.ndarray, panel: Panel, truth: MaskSet) -> np.ndarray:
    """A captioned picture: outlines of masks that show an object green, of others red; objects without a mask yellow."""
    caption, masks = panel
    iou = iou_matrix(masks.rles, truth.rles)  # (N, objects)
    is_right = iou.max(axis=1, initial=0.0) >= RIGHT_IOU
    is_missed = iou.max(axis=0, initial=0.0) < RIGHT_IOU
    canvas = enlarged(rgb)
    for mask, right in sorted(zip(masks.masks, is_right, strict=True), key=lambda pair: bool(pair[1])):
        outline(canvas, decode(mask.rle), RIGHT_RGB if right else WRONG_RGB)
    for thing, missed in zip(truth.masks, is_missed, strict=True):
        if missed:
            outline(canvas, decode(thing.rle), MISSED_RGB, width_px=2)
    counts = f"{int(is_right.sum())} right, {int((~is_right).sum())} wrong, {int(is_missed.sum())} missed"
    return captioned(canvas, f"{caption}: {counts}")


def masks(results: str, out: str) -> None:
    """Every mask of a label alone, with its number and score."""
    layout = Layout(Path(results))
    rgb = open_cube(layout.cube(*CHECKER)).rgb
    tiles = []
    for k, mask in enumerate(read_masks(layout.label(*CHECKER)).masks):
        inside = decode(mask.rle)
        alone = np.where(inside[:, :, None], rgb, (rgb * DIMMED).astype(np.uint8))
        canvas = np.ascontiguousarray(alone)
        outline(canvas, inside, (255, 255, 255), scale=1)
        tiles.append(captioned(canvas, f"{k}: score {mask.score:.2f}"))
    blank = np.full_like(tiles[0], 255)
    tiles += [blank] * (-len(tiles) % TILES_A_ROW)
    rows = [side_by_side(tiles[k : k + TILES_A_ROW]) for k in range(0, len(tiles), TILES_A_ROW)]
    save(Path(out) / "first_hour_masks.png", np.concatenate(rows, axis=0))


def shown(results: str, image: str, out: str) -> None:
    """The picture of `hvlabel show`."""
    save(Path(out), picture(Layout(Path(results)), *image.split("/")))


def enlarged(rgb: np.ndarray) -> np.ndarray:
    """The picture in COLOURS colours, ENLARGED times as large.

    Fewer colours before anything is drawn: a palette made afterwards would merge thin outlines with the ground.
    """
    large = cv2.resize(rgb, None, fx=ENLARGED, fy=ENLARGED, interpolation=cv2.INTER_LINEAR)
    few = Image.fromarray(large).quantize(COLOURS, dither=Image.Dither.NONE)
    return np.array(few.convert("RGB"))


def outline(
    canvas: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int], width_px: int = 1, scale: int = ENLARGED
) -> None:
    """Draw a mask's border into a picture that is `scale` times as large as the mask."""
    large = cv2.resize(mask.astype(np.uint8), None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(large, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, contours, -1, colour, width_px, cv2.LINE_8)


def captioned(canvas: np.ndarray, caption: str) -> np.ndarray:
    """The picture with a line of text below it."""
    strip = np.full((CAPTION_PX, canvas.shape[1], 3), 255, np.uint8)
    cv2.putText(strip, caption, (4, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (20, 20, 20), 1, cv2.LINE_AA)
    return np.concatenate([canvas, strip], axis=0)


def side_by_side(panels: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures of one height in a row, with white gaps."""
    gap = np.full((panels[0].shape[0], GAP_PX, 3), 255, np.uint8)
    return np.concatenate([part for panel in panels for part in (panel, gap)][:-1], axis=1)


def save(path: Path, image: np.ndarray) -> None:
    """Write a JPEG, or a PNG with a palette, which suits outlines on few colours."""
    if path.suffix == ".jpg":
        Image.fromarray(image).save(path, quality=85)
    else:
        Image.fromarray(image).quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    sys.stdout.write(f"{path}: {path.stat().st_size // 1024} KiB\n")


if __name__ == "__main__":
    {"knobs": knobs, "masks": masks, "shown": shown}[sys.argv[1]](*sys.argv[2:])
