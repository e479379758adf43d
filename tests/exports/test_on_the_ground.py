"""Exports with a place on the ground: polygons and label images lie where rasterio says that the pixels are."""

import json

import numpy as np
import pytest
from verbs import hvlabel

from hvlabel.masks import decode, dump_masks, read_document, read_masks

rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed: pip install 'hvlabel[geo]'")
geopandas = pytest.importorskip("geopandas", reason="geopandas is not installed: pip install 'hvlabel[geo]'")

TRANSFORM = [2.0, 0.0, 500_000.0, 0.0, -2.0, 5_400_000.0]  # two metres a pixel, UTM zone 32


@pytest.fixture(scope="module")
def results(layout, tmp_path_factory):
    """The labels of the demo: the first in UTM, the second in its own coordinates."""
    root = tmp_path_factory.mktemp("ground") / "results"
    places = {
        "vis31_00": {"crs": "EPSG:32632", "transform": TRANSFORM, "source": "test"},
        "vis31_01": {"crs": None, "transform": TRANSFORM, "source": "test"},
    }
    for name, place in places.items():
        path = root / "labels" / "d" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        before = read_document(layout.label("d", name))["provenance"]
        provenance = {k: v for k, v in before.items() if k != "content_sha256"} | {"georeference": place}
        path.write_bytes(dump_masks(read_masks(layout.label("d", name)), name, provenance, dataset="d"))
        path.with_suffix(".png").write_bytes(layout.label("d", name).with_suffix(".png").read_bytes())
    return root


@pytest.fixture(scope="module")
def exported(results):
    """All formats that know the ground."""
    said = hvlabel("export", results.parent / "out", "--to", "geojson,gpkg,labels-tif", "--results", results)
    assert said.status == 0, said.err
    assert "images without a coordinate system" in said.out
    return results.parent / "out"


@pytest.fixture(scope="module")
def masks(results):
    return [decode(rle) for rle in read_masks(results / "labels/d/vis31_00.json").rles]


def test_geopackage_polygons_cover_the_pixels(exported, masks):
    frame = geopandas.read_file(exported / "gpkg/masks.gpkg", layer="d__vis31_00")
    assert frame.crs.to_epsg() == 32632
    assert len(frame) == len(masks)
    features = pytest.importorskip("rasterio.features")
    drawn = [
        features.rasterize([shape], masks[0].shape, transform=rasterio.Affine(*TRANSFORM)) for shape in frame.geometry
    ]
    assert np.array_equal(np.array(drawn, bool), masks)
    assert np.allclose(frame.geometry.area, [mask.sum() * 4 for mask in masks])  # 4 m^2 a pixel


def test_geojson_is_in_longitude_and_latitude(exported, masks):
    document = json.loads((exported / "geojson/d/vis31_00.geojson").read_text())
    frame = geopandas.GeoDataFrame.from_features(document["features"], crs="EPSG:4326").to_crs("EPSG:32632")
    for shape, mask in zip(frame.geometry, masks, strict=True):
        rows, columns = np.nonzero(mask)
        left, bottom, right, top = shape.bounds
        assert left == pytest.approx(500_000 + 2 * columns.min(), abs=0.05)  # seven digits of a degree
        assert right == pytest.approx(500_000 + 2 * (columns.max() + 1), abs=0.05)
        assert top == pytest.approx(5_400_000 - 2 * rows.min(), abs=0.05)
        assert bottom == pytest.approx(5_400_000 - 2 * (rows.max() + 1), abs=0.05)


def test_label_images_lie_in_place(exported, masks):
    with rasterio.open(exported / "labels-tif/d/vis31_00.tif") as file:
        assert file.crs.to_epsg() == 32632
        assert list(file.transform)[:6] == TRANSFORM
        assert np.array_equal(file.read(1) > 0, np.any(masks, axis=0))
    with rasterio.open(exported / "labels-tif/d/vis31_01.tif") as file:
        assert file.crs is None
        assert list(file.transform)[:6] == TRANSFORM


def test_without_a_place_coordinates_are_pixels(layout, tmp_path):
    said = hvlabel("export", tmp_path / "out", "--to", "geojson", "--results", layout.root)
    assert said.status == 0, said.err
    assert "coordinates in px" in said.out
    document = json.loads((tmp_path / "out/d/vis31_00.geojson").read_text())
    frame = geopandas.GeoDataFrame.from_features(document["features"])
    areas = [decode(rle).sum() for rle in read_masks(layout.label("d", "vis31_00")).rles]
    assert frame.geometry.area.tolist() == areas
