"""One raw file to a label through the Python API: no configuration, no workflow.

python examples/segment_one_cube.py examples/colour_checker/ColorChecker25.mat examples/colour_checker/camera.yaml out
"""

import sys
from pathlib import Path

from hvlabel.branches.table import CORE_BRANCHES, row_of
from hvlabel.config import CubeSettings
from hvlabel.config.fusion import FusionSettings
from hvlabel.descriptors import load_descriptor
from hvlabel.masks import read_masks
from hvlabel.stages.convert import convert_file
from hvlabel.stages.fuse import fuse_files
from hvlabel.stages.segment import BranchRunner, segment_file


def main(raw: str, camera: str, out: str, backend: str = "regions") -> None:
    """Write cube, masks of three branches and label below `out`. backend: `auto` takes SAM where it is at hand."""
    folder = Path(out)
    cube = folder / "cube.zarr"
    descriptor = load_descriptor("mine", camera)  # the first is a name for error messages
    convert_file(Path(raw), descriptor, CubeSettings(), cube)
    files = []
    for branch in CORE_BRANCHES:
        settings = row_of(branch).settings(backend=backend)
        runner = BranchRunner(branch, settings)
        path = folder / f"{branch}.json"
        segment_file(runner, cube, path)
        print(f"{branch}: {len(read_masks(path))} masks")
        files.append(path)
    out_path = folder / "label.json"
    fuse_files(files, FusionSettings(), out_path, cube)
    label = read_masks(out_path)
    print(f"{out_path}: {len(label)} masks, {len(label.suppressed)} suppressed")


if __name__ == "__main__":
    main(*sys.argv[1:])
