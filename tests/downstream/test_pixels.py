"""HyperSL-FC and HyperSL-RU-Net: the vector of each pixel's spectrum as the input of a head."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from verbs import hvtrain

from hvlabel.cube import open_cube
from hvtrain.downstream.frozen import load_frozen
from hvtrain.downstream.predict import load_finished
from hvtrain.downstream.segment_predict import classes_of
from hvtrain.downstream.shown_maps import pixel_vectors
from hvtrain.heads.spectra import SpectrumClassifier
from hvtrain.metrics.segmentation import split_figures

from .conftest import WIDTH, scene

PIXELS = ("--input", "features-pixels")


def test_every_pixel_has_the_vector_of_its_spectrum(hypersl, own_data):
    backbone = load_frozen(str(hypersl))
    cube = open_cube(own_data / "a.zarr")
    values, bands_nm = cube.values(), cube.wavelengths_nm.tolist()
    maps = pixel_vectors(backbone, values, bands_nm)
    assert maps.maps[0].shape == (1, WIDTH, 24, 20)
    assert maps.strides_px == (1.0,)
    unit = torch.from_numpy(values / values.max())
    alone = backbone.network.features(unit[:, 5, 7][None], bands_nm)  # the spectrum of one pixel, (1, 1, D)
    np.testing.assert_allclose(maps.maps[0][0, :, 5, 7], alone[0, 0].detach(), atol=1e-5)


@pytest.mark.parametrize("head", ["linear", "runet"])
def test_from_a_task_file_to_classes(task, adapt, own_data, hypersl, head):
    said = adapt(task(), "--head", head, *PIXELS, "--steps", 3, source=hypersl)
    assert said.status == 0, said.err
    folder = Path(said.out.split(": ")[0])
    facts = json.loads((folder / "run.json").read_bytes())
    assert f"spectra.{head}.features-pixels" in folder.name
    if head == "linear":  # HyperSL-FC behind a norm
        fc = SpectrumClassifier(load_frozen(str(hypersl)).network, 2).fc
        assert facts["trainable_parameters"] == sum(p.numel() for p in fc.parameters()) + 2 * WIDTH
    finished = load_finished(folder)
    pairs = [(classes_of(finished, open_cube(own_data / f"{n}.zarr")), scene("abcdefghij".index(n))[1]) for n in "ghi"]
    assert split_figures(pairs, 2, 255) == pytest.approx(facts["scores"]["test"], abs=1e-6)


def test_a_mirrored_image_is_not_encoded_again(task, adapt, hypersl, tmp_path):
    assert adapt(task(), *PIXELS, source=hypersl).status == 0
    kept = list((tmp_path / "results/downstream/features").rglob("*.safetensors"))
    assert len(kept) == 9  # of a to i
    assert not any("flipped" in path.name for path in kept)


def test_another_backbone_is_one_sentence(task, adapt):
    said = adapt(task(), *PIXELS)
    assert said.status == 2
    assert "backbone tiny has no vector of a single spectrum; give one of" in said.err
    assert len(said.err.strip().splitlines()) == 1


def test_a_head_that_refines_cells_is_refused(task, adapt, hypersl):
    said = adapt(task(), *PIXELS, "--head", "ladder", source=hypersl)
    assert said.status == 2
    assert "input features-pixels is as fine as the image; choose head linear" in said.err


def test_the_program_names_the_input():
    assert "features-pixels" in hvtrain("adapt", "--help").out
