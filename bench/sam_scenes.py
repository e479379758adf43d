"""What all benches of SAM share: its predictor, and generated scenes of four cameras with their ground truth."""

import tempfile
from pathlib import Path

from hvlabel.config import CubeSettings, Dataset, SamModel
from hvlabel.cube import Cube, open_cube
from hvlabel.demo.cameras import CAMERAS
from hvlabel.demo.files import write_scenes
from hvlabel.demo.paths import demo_paths
from hvlabel.layout import Layout
from hvlabel.masks import MaskSet, read_masks
from hvlabel.models.device import choose_device, computes_in_bfloat16
from hvlabel.models.sam import SamPredictor, sam_of
from hvlabel.stages.convert import convert_file

SEED = 1234  # of scenes that nothing was tuned on
CAMERA_NAMES = ("mosaic16", "nir25", "vis31", "vnir128")


def predictor(*, half: bool = True) -> SamPredictor:
    """SAM's; half: in bfloat16 where the machine has instructions for it."""
    device = choose_device("auto")
    network = sam_of(SamModel()).to(device)
    return SamPredictor(network, half=half and computes_in_bfloat16(device))


def scenes_of(name: str, n: int, side_px: int = 256) -> list[tuple[Cube, MaskSet]]:
    """Cubes of one camera with their ground truth."""
    folder = Path(tempfile.mkdtemp())
    dataset = Dataset(demo=name, demo_scenes=n, demo_size_px=side_px, demo_seed=SEED)
    write_scenes(name, dataset, folder)
    with_truth = []
    for path in demo_paths(name, dataset, folder):
        out = folder / f"{path.stem}.zarr"
        convert_file(path, CAMERAS[name].descriptor, CubeSettings(), out)
        truth = read_masks(Layout(folder).truth(name, path.stem))
        with_truth.append((open_cube(out), truth))
    return with_truth


def scenes(n_each: int) -> list[tuple[Cube, MaskSet]]:
    """The same of every camera."""
    return [scene for name in CAMERA_NAMES for scene in scenes_of(name, n_each)]
