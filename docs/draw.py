"""Draws the pictures of docs/SETTINGS.md and docs/FIRST_HOUR.md from finished results folders.

python docs/draw.py knobs results docs/pictures          (after make demo)
python docs/draw.py masks results-first-hour docs/pictures
python docs/draw.py shown results demo-vis31/vis31_00 docs/pictures/demo.jpg
python docs/draw.py ranked results demo-vis31/vis31_00 docs/pictures/ranked_demo.jpg

`masks` after the run of docs/FIRST_HOUR.md; `shown` is what `hvlabel show` draws, in fewer bytes.
"""

import io
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from PIL import Image

from hvlabel.branches.material import MaterialSettings
from hvlabel.branches.rgb import RgbSettings
from hvlabel.branches.sequence import SequenceSettings
from hvlabel.config import BranchSettings
from hvlabel.config.fusion import FusionSettings
from hvlabel.cube import open_cube
from hvlabel.inspect.drawn import masks_picture
from hvlabel.inspect.origins import origins_of
from hvlabel.inspect.scores import RIGHT_IOU
from hvlabel.layout import Layout
from hvlabel.masks import MaskSet, decode, iou_matrix, read_document, read_masks
from hvlabel.stages.fuse import fuse_files
from hvlabel.stages.segment import BranchRunner, segment_file

SCENE = ("demo-vis31", "vis31_00")
CHECKER = ("checker", "ColorChecker25")
BRANCHES = ("rgb", "sequence", "material", "regions")

ENLARGED = 2  # times the image's pixels, so that outlines stay thin
COLOURS = 64  # of the photograph: a PNG with a palette takes a third of the bytes
RIGHT_RGB, WRONG_RGB, MISSED_RGB = (60, 230, 90), (255, 70, 60), (255, 225, 0)
WHITE, BLACK = (255, 255, 255), (20, 20, 20)
DIMMED = 0.35  # of the picture outside a mask that is shown alone
RANKED_PX, N_RANKED = 400, 15  # width of a panel, masks drawn
SHOWN_PX = 1400  # longest side of what `hvlabel show` draws, in these pages
CAPTION_PX, GAP_PX, TILES_A_ROW = 24, 8, 5


class Scene:
    """The demo scene that settings are shown on, with what the demo made of it."""

    def __init__(self, results: Path, scratch: Path) -> None:
        layout = Layout(results)
        self.cube = layout.cube(*SCENE)
        self.rgb = open_cube(self.cube).rgb
        self.truth = read_masks(layout.truth(*SCENE))
        self.made = {branch: layout.masks(branch, *SCENE) for branch in BRANCHES}
        self.scratch = scratch

    def label(self, files: Iterable[Path] | None = None, **fusion: object) -> MaskSet:
        """The label of some mask files, of all that the demo made unless they are named. fusion: settings to change."""
        chosen = list(files or self.made.values())
        settings = FusionSettings(**fusion)
        path = self.scratch / "label.json"
        fuse_files(chosen, settings, path, self.cube)
        return read_masks(path)

    def branch(self, name: str, settings: BranchSettings) -> Path:
        """Mask file of a branch with settings of its own."""
        path = self.scratch / f"{name}.json"
        segment_file(BranchRunner(name, settings), self.cube, path)
        return path

    def judged(self, caption: str, masks: MaskSet) -> np.ndarray:
        """A captioned picture: masks that show an object green, others red; objects without a mask yellow."""
        iou = iou_matrix(masks.rles, self.truth.rles)  # (N, objects)
        is_right = iou.max(axis=1, initial=0.0) >= RIGHT_IOU
        is_missed = iou.max(axis=0, initial=0.0) < RIGHT_IOU
        canvas = enlarged(self.rgb)
        # right ones last: a wrong mask around a right one must not hide it
        for k in np.argsort(is_right, kind="stable"):
            colour = RIGHT_RGB if is_right[k] else WRONG_RGB
            outline(canvas, decode(masks.masks[k].rle), colour)
        for k in np.flatnonzero(is_missed):
            outline(canvas, decode(self.truth.masks[k].rle), MISSED_RGB, width_px=2)
        n_right, n_missed = int(is_right.sum()), int(is_missed.sum())
        counts = f"{n_right} right, {len(masks) - n_right} wrong, {n_missed} missed"
        return captioned(canvas, f"{caption}: {counts}")


def knobs(results: str, out: str) -> None:
    """One picture per setting of SETTINGS.md: labels of one scene with two values of it."""
    with TemporaryDirectory() as folder:
        scene = Scene(Path(results), Path(folder))
        for name, pair in knob_pairs(scene).items():
            panels = [scene.judged(caption, masks) for caption, masks in pair.items()]
            save(Path(out) / f"knob_{name}.png", side_by_side(panels))


def knob_pairs(scene: Scene) -> dict[str, dict[str, MaskSet]]:
    """Setting -> caption -> masks."""
    default = scene.label()
    classical = [
        scene.branch("rgb", RgbSettings(backend="regions")),
        scene.branch("sequence", SequenceSettings(backend="regions")),
        scene.branch("material", MaterialSettings(backend="regions")),
    ]
    by_regions = scene.label(classical)
    coarse = scene.branch("rgb", RgbSettings(generator={"points_per_side": 4}))  # takes the place of the file above
    return {
        "backend": {
            "backend: sam": default,
            "backend: regions": by_regions,
        },
        "branches": {
            "branches: [rgb]": scene.label([scene.made["rgb"]]),
            "all branches (default)": default,
        },
        "min_quality": {
            "min_quality: 0": scene.label(min_quality=0),
            "min_quality: 0.5": scene.label(min_quality=0.5),
        },
        "iou_threshold": {
            "iou_threshold: 0.95": scene.label(iou_threshold=0.95),
            "iou_threshold: 0.5": scene.label(iou_threshold=0.5),
        },
        "points_per_side": {
            "rgb, points_per_side: 4": read_masks(coarse),
            "rgb, points_per_side: 16 (default)": read_masks(scene.made["rgb"]),
        },
    }


def masks(results: str, out: str) -> None:
    """Every mask of a label alone, with its number and score."""
    layout = Layout(Path(results))
    rgb = open_cube(layout.cube(*CHECKER)).rgb
    dark = (rgb * DIMMED).astype(np.uint8)
    tiles = []
    for k, mask in enumerate(read_masks(layout.label(*CHECKER)).masks):
        inside = decode(mask.rle)
        alone = np.where(inside[:, :, None], rgb, dark)
        canvas = np.ascontiguousarray(alone)  # OpenCV draws in place
        outline(canvas, inside, WHITE, scale=1)
        tiles.append(captioned(canvas, f"{k}: score {mask.score:.2f}"))
    n_blank = -len(tiles) % TILES_A_ROW
    tiles += [np.full_like(tiles[0], 255)] * n_blank
    starts = range(0, len(tiles), TILES_A_ROW)
    rows = [side_by_side(tiles[k : k + TILES_A_ROW]) for k in starts]
    save(Path(out) / "first_hour_masks.png", np.concatenate(rows, axis=0))


def shown(results: str, image: str, out: str) -> None:
    """The picture of `hvlabel show`."""
    dataset, image_id = image.split("/")
    layout = Layout(results)
    rgb = open_cube(layout.cube(dataset, image_id)).rgb
    content = masks_picture(image, rgb, origins_of(layout, dataset, image_id), top=48)
    drawn = Image.open(io.BytesIO(content)).convert("RGB")
    drawn.thumbnail((SHOWN_PX, SHOWN_PX))
    save(Path(out), np.asarray(drawn))


def ranked(results: str, image: str, out: str) -> None:
    """The best masks of an image's label by agreement of the branches, and by predicted quality."""
    dataset, image_id = image.split("/")
    layout = Layout(Path(results))
    cube = layout.cube(dataset, image_id)
    made_from = read_document(layout.label(dataset, image_id))["provenance"]["branches"]
    files = [layout.masks(branch, dataset, image_id) for branch in made_from]
    rgb = open_cube(cube).rgb
    scale = max(1, round(RANKED_PX / rgb.shape[1]))
    panels = []
    with TemporaryDirectory() as folder:
        for ranking in ("agreement", "quality"):
            path = Path(folder) / f"{ranking}.json"
            fuse_files(files, FusionSettings(ranking=ranking), path, cube)
            label = read_masks(path)
            canvas = cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
            for mask in label.masks[N_RANKED - 1 :: -1]:  # the best one last, on top
                outline(canvas, decode(mask.rle), RIGHT_RGB, width_px=2, scale=scale)
            panels.append(captioned(canvas, f"by {ranking}: best {min(N_RANKED, len(label))} of {len(label)}"))
    save(Path(out), side_by_side(panels))


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
    # no smoothed lines: they would need colours of their own in the palette
    cv2.drawContours(canvas, contours, -1, colour, width_px, cv2.LINE_8)


def captioned(canvas: np.ndarray, caption: str) -> np.ndarray:
    """The picture with a line of text below it."""
    strip = np.full((CAPTION_PX, canvas.shape[1], 3), 255, np.uint8)
    cv2.putText(strip, caption, (4, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.45, BLACK, 1, cv2.LINE_AA)
    return np.concatenate([canvas, strip], axis=0)


def side_by_side(panels: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures of one height in a row, with white gaps."""
    gap = np.full((panels[0].shape[0], GAP_PX, 3), 255, np.uint8)
    parts = [panels[0]]
    for panel in panels[1:]:
        parts += [gap, panel]
    return np.concatenate(parts, axis=1)


def save(path: Path, image: np.ndarray) -> None:
    """Write a JPEG, or a PNG with a palette, which suits outlines on few colours."""
    whole = Image.fromarray(image)
    if path.suffix == ".jpg":
        whole.save(path, quality=85)
    else:
        whole.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    kib = path.stat().st_size // 1024
    sys.stdout.write(f"{path}: {kib} KiB\n")


if __name__ == "__main__":
    verb, *arguments = sys.argv[1:]
    {"knobs": knobs, "masks": masks, "ranked": ranked, "shown": shown}[verb](*arguments)
