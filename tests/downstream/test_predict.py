"""Finished heads request: label pictures, their place on the ground, and runs side by side."""

import csv
import json
import shutil

import numpy as np
import pytest
import raw_files as raw
import tifffile
from PIL import Image
from verbs import hvtrain

from hvlabel.config import CubeSettings
from hvlabel.cube import open_cube
from hvlabel.descriptors import Descriptor
from hvlabel.readers.formats.tiff import read as read_tiff
from hvlabel.stages.convert import convert_file
from hvtrain.downstream.predict import load_finished
from hvtrain.downstream.segment_predict import classes_of
from hvtrain.metrics.segmentation import split_figures

from .conftest import N_BANDS, scene

UTM = "{UTM, 1, 1, 500000, 4600000, 2, 2, 33, North, WGS-84}"


@pytest.fixture(
    params=[("linear", "features"), ("ladder", "features+cube"), ("deeplabv3plus", "cube"), ("linear", "rgb")]
)
def run(request, task, adapt, backbone, tmp_path):
    """Folder of a run of some head on some input."""
    head, chosen = request.param
    said = adapt(task(), "--head", head, "--input", chosen, "--steps", 2)
    assert said.status == 0, said.err
    return tmp_path / said.out.split(": ")[0]


def test_predictions_are_those_that_were_scored(run, own_data):
    """The figures of the test part, again, from cubes one by one."""
    head = load_finished(run)
    pairs = [(classes_of(head, open_cube(own_data / f"{n}.zarr")), scene("abcdefghij".index(n))[1]) for n in "ghi"]
    scores = json.loads((run / "run.json").read_bytes())["scores"]["test"]
    assert split_figures(pairs, 2, 255) == pytest.approx(scores, abs=1e-6)


def test_a_picture_of_classes_with_their_names_and_colours(run, own_data, tmp_path):
    said = hvtrain("predict", run, own_data / "j.zarr", tmp_path / "j.png")
    assert said.status == 0, said.err
    assert "24 x 20 px, classes: " in said.out
    expected = classes_of(load_finished(run), open_cube(own_data / "j.zarr"))
    with Image.open(tmp_path / "j.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), expected)
        assert picture.text["classes"] == "plain, thing"
        assert len(set(picture.convert("RGB").getdata())) == len(np.unique(expected))


def georeferenced(folder, map_info):
    cube, _ = scene(3)
    path = raw.envi(folder / "g.hdr", cube, map_info=map_info)
    camera = Descriptor(container="envi", wavelengths_nm=np.linspace(500, 900, N_BANDS).tolist())
    convert_file(path, camera, CubeSettings(), folder / "g.zarr")
    return folder / "g.zarr"


@pytest.mark.parametrize("map_info", [UTM, "{Geographic Lat/Lon, 1, 1, 12.5, 48.25, 0.001, 0.001, WGS-84}"])
def test_a_tiff_lies_where_its_cube_lies(task, adapt, tmp_path, map_info):
    head = adapt(task(), "--input", "cube", source=None).out.split(": ")[0]
    cube_path = georeferenced(tmp_path, map_info)
    said = hvtrain("predict", head, cube_path, tmp_path / "g.tif")
    assert "georeferenced" in said.out, said.err
    expected = open_cube(cube_path).attributes["georeference"]
    # our own reader of GeoTIFF reads the place back, from a TIFF that it takes for a cube
    classes = tifffile.imread(tmp_path / "g.tif")
    with tifffile.TiffFile(tmp_path / "g.tif") as file:
        tags = [
            (tag.code, tag.dtype, tag.count, tag.value, True) for tag in file.pages[0].tags.values() if tag.code > 33000
        ]
    raw.tiff(tmp_path / "two.tif", np.stack([classes, classes]), tags=tags)
    place = read_tiff(tmp_path / "two.tif", Descriptor(container="tiff", wavelengths_nm=[500, 600])).georeference
    assert (place.crs, list(place.transform)) == (expected["crs"], pytest.approx(expected["transform"]))


def test_without_a_place_a_tiff_is_plain(task, adapt, own_data, tmp_path):
    head = adapt(task(), "--input", "cube", source=None).out.split(": ")[0]
    said = hvtrain("predict", head, own_data / "a.zarr", tmp_path / "a.tif")
    assert said.status == 0
    assert "georeferenced" not in said.out
    said = hvtrain("predict", head, own_data / "a.zarr", tmp_path / "a.jpg")
    assert "classes are written as .png or .tif; choose one of these endings" in said.err


def test_a_head_that_sees_a_picture_refuses_another_camera(task, adapt, make_cube, tmp_path):
    head = adapt(task(), "--input", "cube", source=None).out.split(": ")[0]
    make_cube(tmp_path / "other.zarr", np.ones((4, 20, 20), "f4") * np.arange(20, dtype="f4"))
    said = hvtrain("predict", head, tmp_path / "other.zarr", tmp_path / "o.png")
    assert "has 4 bands, the head was trained on 6" in said.err


def test_a_box_is_for_tracking(task, adapt, own_data, tmp_path):
    folder = adapt(task(), "--steps", 1).out.split(": ")[0]
    said = hvtrain("predict", folder, own_data / "a.zarr", tmp_path / "a.png", "--box", 1, 2, 3, 4)
    assert said.status == 2
    assert "--box says where an object is to be followed from" in said.err
    assert "is a head of kind segment" in said.err


def test_half_size_and_raw_files_of_ones_own(task, adapt, tmp_path):
    """Raw files under a descriptor, every second pixel: the prediction has the size of the cube."""
    data = tmp_path / "data"
    (data / "labels").mkdir(parents=True)
    for k, name in enumerate("abcdefghi"):
        cube, truth = scene(k)
        raw.npy(data / f"{name}.npy", cube)
        tifffile.imwrite(data / "labels" / f"{name}.tif", truth)
    camera = {"container": "npy", "files": "*.npy", "axes": "cyx", "wavelengths_nm": np.linspace(500, 900, 6).tolist()}
    file = task(images={"descriptor": camera, "every_px": 2}, truth={"file": "labels/{name}.tif"})
    said = adapt(file, data=data)
    assert said.status == 0, said.err
    folder = tmp_path / said.out.split(": ")[0]
    cubes = sorted((tmp_path / "results/downstream/cubes/own").iterdir())
    assert len(cubes) == 9
    head = load_finished(folder)
    classes = classes_of(head, open_cube(cubes[6]))
    assert classes.shape == (24, 20)
    np.testing.assert_array_equal(classes[::2], classes[1::2])
    converted = cubes[0].stat().st_mtime_ns
    assert adapt(file, "--seed", 1, data=data).status == 0
    assert cubes[0].stat().st_mtime_ns == converted


def test_runs_side_by_side(task, adapt, tmp_path):
    for seed in (0, 1):
        for share in (40, 100):
            assert adapt(task(), "--seed", seed, "--labels", share, "--steps", 1).status == 0
    folder = tmp_path / "results/downstream/runs"
    said = hvtrain("compare", folder)
    assert said.status == 0, said.err
    with (folder / "compare.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert [(row["labels"], row["seeds"]) for row in rows] == [("40", "2"), ("100", "2")]
    scores = [json.loads(path.read_bytes()) for path in folder.rglob("run.json")]
    whole = [run["scores"]["test"]["jaccard"] for run in scores if run["labels"] == 100]
    assert float(rows[1]["jaccard"]) == pytest.approx(np.mean(whole), abs=1e-4)
    assert float(rows[1]["jaccard sd"]) == pytest.approx(np.std(whole, ddof=1), abs=1e-4)
    assert int(rows[0]["total"]) > int(rows[0]["trainable"]) > 0
    assert (folder / "compare.md").read_text().strip() == said.out.strip()
    assert (folder / "labels_own.png").exists()
    shutil.rmtree(folder)
    folder.mkdir()
    assert "no finished run of a downstream task below it" in hvtrain("compare", folder).err
