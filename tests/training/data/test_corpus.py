"""What there is to train on: splits, and one sentence for what does not belong together."""

import shutil

import numpy as np
import pytest

from hvlabel.cache.features import open_features, write_features
from hvlabel.cache.receipt import read_attributes, update_attributes
from hvlabel.errors import BandError, ConfigError, ResultsError
from hvlabel.layout import Layout
from hvtrain.backbones import hyperfree
from hvtrain.data.corpus import read_corpus

from ..conftest import tiny


@pytest.fixture
def own(layout, tmp_path):
    """A copy of the folder that a test may change."""
    shutil.copytree(layout.root, tmp_path / "own", ignore=shutil.ignore_patterns("pretrain"))
    return Layout(tmp_path / "own")


def test_holdout_takes_a_share_of_each_camera_and_unseen_sets_stay_out(layout):
    corpus = read_corpus(layout, tiny().data, distill=True)
    assert {(i.dataset, i.split) for i in corpus.images if i.split != "train"} == {
        ("vis", "heldout"),
        ("mosaic", "heldout"),
        ("new", "unseen"),
    }
    assert len(corpus.of("train")) == 6
    assert corpus.teacher_channels == 96


def test_refusals(own, layout, tmp_path):
    data = tiny().data
    with pytest.raises(ResultsError, match="no labels to train on; run `snakemake pseudolabels`"):
        read_corpus(Layout(tmp_path / "empty"), data, distill=False)
    with pytest.raises(ConfigError, match=r"unseen names 'nothing'.* there are: mosaic, new, vis"):
        read_corpus(layout, data.model_copy(update={"unseen": ["nothing"]}), distill=False)
    with pytest.raises(ConfigError, match="no image is left to train on"):
        read_corpus(layout, data.model_copy(update={"unseen": ["vis", "mosaic", "new"]}), distill=False)
    image = read_corpus(own, data, distill=True).of("train")[0]
    features = own.teacher(image.dataset, image.image_id)
    model = read_attributes(features)["model"]
    update_attributes(features, {"model": {**model, "tile_px": 128}})
    with pytest.raises(ResultsError, match="teacher features of another network or tile size"):
        read_corpus(own, data, distill=True)
    update_attributes(features, {"model": model})
    write_features(
        own.teacher(image.dataset, image.image_id),
        np.zeros((9, 9, 96)),
        {**open_features(own.teacher(image.dataset, image.image_id)).attributes},
    )
    with pytest.raises(ResultsError, match=r"grid of teacher features covers .* the cube has 96 x 96"):
        read_corpus(own, data, distill=True)
    shutil.rmtree(own.root / "index/teacher")
    with pytest.raises(ResultsError, match="no teacher features of 10 of 10"):
        read_corpus(own, data, distill=True)
    nm = read_attributes(image.cube)["wavelengths_nm"]
    update_attributes(image.cube, {"wavelengths_nm": [value * 1000 for value in nm]})
    with pytest.raises(BandError, match="no band lies in the dictionary's range"):
        read_corpus(own, data, distill=False, require_bands=hyperfree.require_bands)
