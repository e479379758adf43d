"""The place on the ground that files name, and how it follows the pixels."""

import numpy as np
import pytest
from described_scene import UTM, H, N, W, converted, envi, tiff

from hvlabel.branches.rgb import RgbSettings
from hvlabel.config.fusion import FusionSettings
from hvlabel.masks import read_document
from hvlabel.readers import open_raw
from hvlabel.stages.fuse import fuse_files
from hvlabel.stages.segment import BranchRunner, segment_file


def centres(transform, height_px, width_px):
    """Where the centres of an image's pixels lie on the ground: x and y, each (height, width)."""
    a, b, c, d, e, f = transform
    columns, rows = np.meshgrid(np.arange(width_px) + 0.5, np.arange(height_px) + 0.5)
    return a * columns + b * rows + c, d * columns + e * rows + f


def test_map_info_is_kept(tmp_path):
    kept = converted(*envi(tmp_path, map_info=UTM)).attributes["georeference"]
    assert kept["crs"] == "EPSG:32633"
    assert kept["transform"] == [2, 0, 500000, 0, -2, 4600000]


@pytest.mark.parametrize("rot90", range(4))
def test_the_place_follows_turns_and_cut_rows(tmp_path, rot90):
    path, descriptor = envi(tmp_path, map_info=UTM)
    stored_x, stored_y = centres((2, 0, 500000, 0, -2, 4600000), H, W)
    turned = open_raw(path, descriptor.model_copy(update={"rot90": rot90, "drop_rows": (0, 1)}))
    x, y = centres(turned.georeference.transform, *turned.shape[1:])
    np.testing.assert_allclose(x, np.rot90(stored_x[2:], rot90))
    np.testing.assert_allclose(y, np.rot90(stored_y[2:], rot90))


def test_a_gap_between_rows_leaves_no_place(tmp_path):
    path, descriptor = envi(tmp_path, map_info=UTM)
    assert open_raw(path, descriptor.model_copy(update={"drop_rows": (5,)})).georeference is None


def test_exchanged_axes_exchange_the_place_too(tmp_path):
    path, descriptor = envi(tmp_path, map_info=UTM)
    turned = open_raw(path, descriptor.model_copy(update={"axes": "xyc"}))
    assert turned.shape == (N, W, H)
    assert turned.georeference.transform == (0, 2, 500000, -2, 0, 4600000)


def test_arbitrary_map_info_is_no_place(tmp_path):
    path, descriptor = envi(tmp_path, map_info="{Arbitrary, 1, 1, 0, 0, 1, 1}")
    assert open_raw(path, descriptor).georeference is None


def test_geotiff_tags_are_kept(tmp_path):
    scale = (33550, "d", 3, (30.0, 30.0, 0.0), True)
    corner = (33922, "d", 6, (0.0, 0.0, 0.0, 600000.0, 5000000.0, 0.0), True)
    of_area = (34735, "H", 16, (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32616), True)
    kept = converted(*tiff(tmp_path, tags=[scale, corner, of_area])).attributes["georeference"]
    assert (kept["crs"], kept["transform"]) == ("EPSG:32616", [30, 0, 600000, 0, -30, 5000000])
    # pixels are points here: the corner named is the centre of the first one
    of_point = (34735, "H", 16, (1, 1, 0, 3, 1024, 0, 1, 2, 1025, 0, 1, 2, 2048, 0, 1, 4326), True)
    point = open_raw(*tiff(tmp_path, tags=[scale, corner, of_point])).georeference
    assert (point.crs, point.transform) == ("EPSG:4326", (30, 0, 599985, 0, -30, 5000015))


def test_the_place_travels_to_masks_and_label(tmp_path):
    cube = converted(*envi(tmp_path, map_info=UTM))
    segment_file(BranchRunner("rgb", RgbSettings(backend="regions")), cube.path, tmp_path / "rgb.json")
    fuse_files([tmp_path / "rgb.json"], FusionSettings(), tmp_path / "label.json", cube.path)
    for name in ("rgb.json", "label.json"):
        provenance = read_document(tmp_path / name)["provenance"]
        assert provenance["georeference"]["crs"] == "EPSG:32633"
        assert provenance["wavelength_confidence"] == "calibrated"
