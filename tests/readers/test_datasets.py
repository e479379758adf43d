"""The shipped descriptors: every data set is read as its files are published, and as recorded where it was."""

import json

import numpy as np
import pytest
import yaml
from published_files import WRITERS, published
from verbs import hvlabel

from hvlabel.config.tree import parse_config
from hvlabel.cube import open_cube
from hvlabel.descriptors import SHIPPED, load_descriptor
from hvlabel.manifest import scan

KEYS = sorted(p.stem for p in SHIPPED.glob("*.yaml") if p.stem != "envi")
RECORDED = [
    "aphid", "arad_1k_16", "arad_1k_31", "cave", "deephsvis", "deephsviscor", "harvard", "hotrednir", "hotvis",
    "hs_sod", "hsidrive20", "hsodbitv2", "hykov2vis", "hyperblood", "hyperspectralcityv2", "libhsi", "umemm",
    "umld2015", "umns2002", "umri2015", "vnihdhiatlimafb",
]  # fmt: skip
NATIVE_RGB = {"arad_1k_31", "hotrednir", "hotvis", "hs_sod", "hsidrive20", "hsodbitv2", "libhsi"}


@pytest.mark.parametrize("key", RECORDED)
def test_recorded_data_sets_through_the_command(shared, tmp_path, key):
    folder = shared / "oracle" / "readers" / key
    meta = json.loads((folder / "meta.json").read_text())
    out = tmp_path / "a.zarr"
    assert hvlabel("convert", "--dataset", key, folder / meta["reader_path"], out).status == 0
    cube = open_cube(out)
    truth = np.load(folder / "truth.npz")["cube"].transpose(2, 0, 1)
    if truth.dtype.kind == "f":
        np.testing.assert_allclose(cube.read(), truth, rtol=1e-6, atol=1e-7 * np.abs(truth).max())
    else:
        np.testing.assert_array_equal(cube.read(), truth)
    assert (cube.attributes["rgb_source"] == "companion") == (key in NATIVE_RGB)
    if key in NATIVE_RGB:
        shown = np.load(folder / "official.npz")["transform"][..., -3:].astype(float)
        shown = shown * 255 if shown.max() <= 1 else shown
        assert np.abs(cube.rgb - shown).max() <= 4


@pytest.mark.parametrize("key", KEYS)
def test_every_data_set(tmp_path, key):
    raw, upright, rgb = published(key, tmp_path)
    out = tmp_path / "out" / "a.zarr"
    assert hvlabel("convert", "--dataset", key, raw, out).status == 0
    cube = open_cube(out)
    truth = upright.transpose(2, 0, 1)
    if key == "hyperspectralcityv2":
        np.testing.assert_allclose(cube.read(), truth, rtol=1e-5, atol=1e-5)
        assert cube.wavelengths_nm[[0, -1]].tolist() == [452, 452 + 127 * 4]  # the header's
    else:
        np.testing.assert_array_equal(cube.read(), truth)
        assert cube.dtype == truth.dtype
    assert (cube.attributes["rgb_source"] == "companion") == (rgb is not None)
    if rgb is not None:
        lossless = raw.suffix in (".npz", ".mat", "")
        assert np.abs(cube.rgb.astype(int) - rgb).max() <= (4 if lossless else 8)


@pytest.mark.parametrize("key", KEYS)
def test_a_scan_finds_the_files_of_every_data_set_without_a_glob(tmp_path, key):
    raw = published(key, tmp_path).path
    dataset = {"root": str(tmp_path), "descriptor": key}
    images = scan(parse_config({"results": str(tmp_path / "r"), "datasets": {"x": dataset}}, "test")).images
    assert [i.raw for i in images] in ([str(raw)], [str(raw.with_suffix(".hdr"))])


def test_there_are_31_data_sets_with_the_images_of_the_paper():
    assert len(KEYS) == 31
    assert WRITERS.keys() == set(KEYS)
    abouts = [load_descriptor(k, k).about for k in KEYS]
    assert sum(a.images for a in abouts) == 14_959
    assert all(a.title and a.source and a.licence for a in abouts)


def test_bands_and_wavelengths_agree_with_the_fact_sheet(shared):
    for fact in yaml.safe_load((shared / "datasets.yaml").read_text()):
        descriptor = load_descriptor(fact["key"], fact["key"])
        np.testing.assert_allclose(descriptor.known_wavelengths_nm(), fact["wavelengths"]["values_nm"], atol=2e-3)
        low = fact["wavelengths"]["confidence"].startswith("LOW")
        assert (descriptor.wavelength_confidence == "placeholder") == low, fact["key"]
        assert descriptor.about.images == fact["table1"]["images"]
