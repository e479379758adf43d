"""Small real images through conversion and all branches, by configuration only."""

import numpy as np
import pytest

from hvlabel.branches import material, rgb, sequence
from hvlabel.branches.material import MaterialSettings
from hvlabel.branches.rgb import RgbSettings
from hvlabel.branches.sequence import SequenceSettings
from hvlabel.config import CubeSettings, Dataset
from hvlabel.config.fusion import FusionSettings
from hvlabel.cube import open_cube
from hvlabel.fusion import fuse
from hvlabel.stages.convert import convert_file

# folder, file, descriptor, shape (C, H, W), what the file's own oddity must give
IMAGES = {
    "house": ("house_fpi", "house_radiance_4band.npz", {"container": "npy", "variable": "cube", "wavelength_variable": "wavelengths", "unit": "radiance"}, (4, 400, 400)),
    "house raw, comma after the last wavelength": ("house_fpi", "house_crop_4b_RAW.hdr", {"container": "envi", "wavelengths_nm": [450, 550, 600, 650]}, (4, 400, 400)),
    "corn, no byte order": ("corn_kernel", "corn-kernel-hyperspectral.hdr", {"container": "envi"}, (580, 31, 43)),
    "drill core, reflectance scale": ("drillcore_hippo", "image.hdr", {"container": "envi"}, (450, 38, 23)),
    "colour checker": ("colorchecker25", "ColorChecker25.mat", {"container": "matlab", "variable": "I_HS", "wavelengths_nm": {"start_nm": 600, "stop_nm": 975, "count": 25}}, (25, 105, 220)),
    "airborne": ("gatorsense_airborne", "an_hsi_image_sub_for_demo.mat", {"container": "matlab", "wavelength_variable": "wavelengths"}, (72, 51, 88)),
    "airborne targets": ("gatorsense_airborne", "an_hsi_img_for_tgt_det_demo.mat", {"container": "matlab", "wavelength_variable": "wavelengths"}, (72, 36, 36)),
    "airborne classes": ("gatorsense_airborne", "an_hsi_img_for_class_demo.mat", {"container": "matlab", "wavelength_variable": "wavlength"}, (72, 31, 20)),
    "aviris": ("gatorsense_airborne", "a_hsi_img_for_VI_demo.mat", {"container": "matlab", "wavelength_variable": "wavelengths"}, (224, 90, 90)),
}  # fmt: skip


@pytest.mark.parametrize("name", IMAGES)
def test_from_raw_file_to_label(shared, tmp_path, name):
    folder, file, described, shape = IMAGES[name]
    dataset = Dataset(root=str(shared / "real_hsi" / folder), glob=file, descriptor=described)
    attributes = convert_file(
        shared / "real_hsi" / folder / file, dataset.descriptor, CubeSettings(), tmp_path / "a.zarr"
    )
    cube = open_cube(tmp_path / "a.zarr")
    assert cube.shape == shape
    assert cube.rgb.std() > 10
    if "scale" in name:
        assert attributes["scale"] == pytest.approx(1 / 65535)
        assert 0 <= cube.values().min() < cube.values().max() <= 1
    assert 300 < cube.wavelengths_nm.min() < cube.wavelengths_nm.max() < 2600
    branches = [
        rgb.run(cube, RgbSettings()),
        sequence.run(cube, SequenceSettings(max_frames=3)),
        material.run(cube, MaterialSettings()),
    ]
    label = fuse(branches, FusionSettings())
    assert len(label) >= 5
    assert np.isfinite([m.score for m in label.masks]).all()
