"""What the tests of exports share: the demo run, its layout, and one format written."""

import pytest

from hvlabel.exports import export
from hvlabel.exports.source import Source
from hvlabel.layout import Layout


@pytest.fixture(scope="session")
def layout(demo_run):
    """Two labelled demo images. Only to be read."""
    return Layout(demo_run / "results")


@pytest.fixture
def written(layout, tmp_path):
    """The function that writes one format and returns its folder."""

    def write(name, **options):
        return export(Source(layout, **options), [name], tmp_path / name)[0].folder

    return write
