"""Invented band centres are said aloud wherever a run speaks, and make no colours."""

import numpy as np
import pytest
import yaml
from verbs import hvlabel

from hvlabel.config.tree import load_config
from hvlabel.cube import open_cube
from hvlabel.inspect.datacard import data_card
from hvlabel.layout import Layout
from hvlabel.manifest import scan
from hvlabel.masks import read_document

H, W, C = 40, 44, 31


@pytest.fixture
def folder(tmp_path):
    """Two data sets of the same values: one with invented centres, one with calibrated ones; descriptors beside the configuration."""
    rng = np.random.default_rng(0)
    spectra = rng.uniform(100, 4000, (2, C))
    place = np.zeros((H, W), int)
    place[8:25, 10:30] = 1
    for name, confidence in (("invented", "placeholder"), ("known", "calibrated")):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "a.npy", (spectra[place] + rng.normal(0, 5, (H, W, C))).astype("u2"))
        descriptor = {
            "container": "npy",
            "files": "*.npy",
            "wavelengths_nm": {"start_nm": 400, "stop_nm": 1000, "count": C},
            "wavelength_confidence": confidence,
        }
        (tmp_path / "mine").mkdir(exist_ok=True)
        (tmp_path / "mine" / f"{name}.yaml").write_text(yaml.safe_dump(descriptor))
    datasets = {n: {"root": str(tmp_path / n), "descriptor": f"{n}.yaml"} for n in ("invented", "known")}
    tree = {"results": str(tmp_path / "results"), "datasets": datasets, "sequence": {"max_frames": 2}}
    (tmp_path / "mine" / "c.yaml").write_text(yaml.safe_dump(tree))
    return tmp_path


def test_every_page_says_so(monkeypatch, folder):
    monkeypatch.chdir(folder)  # the descriptors lie beside the configuration, not here
    config, results = folder / "mine" / "c.yaml", folder / "results"
    where = ("--config", config, "--results", results)
    assert hvlabel("scan", "--config", config, "--table")[0] == 0
    for name in ("invented", "known"):
        for verb in (["convert"], ["segment", "rgb"], ["segment", "sequence"], ["segment", "material"], ["fuse"]):
            assert hvlabel(*verb, "--shard", f"{name}/0000", *where)[0] == 0
    layout = Layout(results)
    invented, known = (open_cube(layout.cube(name, "a")) for name in ("invented", "known"))
    assert (invented.attributes["rgb_source"], known.attributes["rgb_source"]) == ("triplet", "cie")
    assert invented.attributes["wavelength_confidence"] == "placeholder"
    for path in (layout.masks("rgb", "invented", "a"), layout.label("invented", "a")):
        assert read_document(path)["provenance"]["wavelength_confidence"] == "placeholder"
    _, summary, _ = hvlabel("summary", *where)
    assert "invented: the band centres of 1 images are placeholders" in summary
    assert "known: the band centres" not in summary
    assert hvlabel("report", "--results", results)[0] == 0
    page = layout.report.read_text()
    assert "placeholders" in page
    settings = load_config(config)
    card = data_card(settings, scan(settings))
    assert [dict(zip(card.rows()[0], row, strict=True))["centres"] for row in card.rows()[1:]] == [
        "placeholder",
        "calibrated",
    ]
    assert "invented: 1 images" in card.markdown()
    old = layout.report.parent / "pictures" / "known__gone.png"
    old.write_bytes(b"of an image that left")
    hvlabel("report", "--results", results)
    assert not old.exists()
    assert sorted(path.name for path in old.parent.iterdir()) == ["invented__a.jpg", "known__a.jpg"]


def test_a_single_file_warns_and_cie_is_refused(folder):
    descriptor, raw = folder / "mine" / "invented.yaml", folder / "invented" / "a.npy"
    status, _, err = hvlabel("convert", "--dataset", descriptor, raw, folder / "a.zarr")
    assert status == 0
    assert "placeholders" in err
    demanded = ("--settings", '{"rgb": "cie"}')
    status, _, err = hvlabel("convert", "--dataset", descriptor, raw, folder / "b.zarr", *demanded)
    assert status == 2
    assert "placeholders" in err
    assert len(err.strip().splitlines()) == 1
