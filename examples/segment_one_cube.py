"""One raw file to a label through the Python API: no configuration, no workflow.

python examples/segment_one_cube.py examples/colour_checker/ColorChecker25.mat examples/colour_checker/camera.yaml out
"""

import sys
from pathlib import Path

from hvlabel.config import CubeSettings, FusionSettings, MaterialSettings, RgbSettings, SequenceSettings
from hvlabel.descriptors import load_descriptor
from hvlabel.stages.convert import convert_file
from hvlabel.stages.fuse import fuse_files
from hvlabel.stages.segment import BranchRunner, segment_file


def main(raw: str, camera: str, out: str, backend: str = "regions") -> None:
    """Write cube, masks of three branches and label below `out`. backend: `auto` takes SAM where it is at hand."""
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    cube = folder / "cube.zarr"
    convert_file(Path(raw), load_descriptor("mine", camera), CubeSettings(), cube)
    settings = {
        "rgb": RgbSettings(backend=backend),
        "sequence": SequenceSettings(backend=backend),
        "material": MaterialSettings(backend=backend),
    }
    for branch, own in settings.items():
        masks = segment_file(BranchRunner(branch, own), cube, folder / f"{branch}.json")
        print(f"{branch}: {len(masks)} masks")
    label = fuse_files(
        [folder / f"{branch}.json" for branch in settings], FusionSettings(), folder / "label.json", cube
    )
    print(f"{folder / 'label.json'}: {len(label)} masks, {len(label.suppressed)} suppressed")


if __name__ == "__main__":
    main(*sys.argv[1:])
