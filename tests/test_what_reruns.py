"""What re-runs what: every row of the table in docs/RUNS.md, on a finished run of two small images.

A dry run tells the jobs that Snakemake would start, a real one what each of them makes and what it keeps.
"""

import json
import os
import re
import shutil

import numpy as np
import pytest
import raw_files
import yaml
from small_scenes import NM, image
from verbs import SNAKEFILE, counts_of, snakemake

pytestmark = pytest.mark.slow  # two whole runs a row

LATER_NS = 2_000_000_000  # past the run's own files, on disks that count whole seconds too


def write_config(folder, **changes):
    nano = {"config": "sam2_nano.yaml", "checkpoint": "nano.safetensors"}
    tree = {
        "results": "results",
        "datasets": {"mine": {"root": "raw", "descriptor": "camera.yaml"}},
        "rgb": {"backend": "sam2", "sam2": nano, "generator": {"points_per_side": 2}},
        "sequence": "off",
        "run": {"device": "cpu"},
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(tree | changes))


def write_camera(folder, **changes):
    camera = {"container": "npy", "files": "*.npy", "wavelengths_nm": NM}
    (folder / "camera.yaml").write_text(yaml.safe_dump(camera | changes))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, repository):
    """A folder with raw files, settings, weights and the results of a run. Only to be copied."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "raw").mkdir()
    for seed in range(2):
        raw_files.npy(folder / "raw" / f"scene{seed}.npy", image(seed))
    models = repository / "resources" / "models"
    shutil.copy(models / "sam2_nano.yaml", folder)
    shutil.copy(models / "sam2_nano.safetensors", folder / "nano.safetensors")
    write_camera(folder)
    write_config(folder)
    said = snakemake(folder, "--configfile", "c.yaml")
    assert said.status == 0, said.text[-3000:]
    return folder


def later(path):
    """A file's time moved past everything that the run has made."""
    time_ns = path.stat().st_mtime_ns + LATER_NS
    os.utime(path, ns=(time_ns, time_ns))


def with_own_code(folder):
    """The package and the rules copied into the folder, as a newer version would be; the Snakefile there."""
    repository = SNAKEFILE.parent.parent
    code = folder / "code"
    for part in ("hvlabel", "hvtrain", "workflow", "resources"):
        shutil.copytree(repository / part, code / part, ignore=shutil.ignore_patterns("__pycache__"))
    return code / "workflow" / "Snakefile"


def nothing(folder):
    pass


def fusion_setting(folder):
    write_config(folder, fusion={"iou_threshold": 0.6})


def material_setting(folder):
    write_config(folder, material={"backend": "regions", "regions": {"min_area_share": 0.01}})


def setting_of_speed(folder):
    write_config(folder, run={"device": "cpu", "threads": 3})


def weights(folder):
    """The same name and size, other content."""
    path = folder / "nano.safetensors"
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)


def raw_file(folder):
    path = folder / "raw" / "scene0.npy"
    size = path.stat().st_size
    raw_files.npy(path, image(7))
    assert path.stat().st_size == size
    later(path)


def raw_file_touched(folder):
    later(folder / "raw" / "scene0.npy")


def image_added(folder):
    raw_files.npy(folder / "raw" / "scene2.npy", image(2))


def image_removed(folder):
    (folder / "raw" / "scene1.npy").unlink()


def descriptor(folder):
    write_camera(folder, drop_rows=[0])


def about_the_descriptor(folder):
    write_camera(folder, about={"title": "Two scenes"})


def stage_version(folder):
    snakefile = with_own_code(folder)
    settings = snakefile.parent.parent / "hvlabel" / "config" / "cube.py"
    text, n_changed = re.subn(r"version: ClassVar\[int\] = \d+", "version: ClassVar[int] = 1000", settings.read_text())
    assert n_changed == 1
    settings.write_text(text)
    return snakefile


def quality_predictor(folder):
    snakefile = with_own_code(folder)
    predictor = snakefile.parent.parent / "resources" / "models" / "quality.json"
    content = json.loads(predictor.read_bytes())
    content["knots"] = (np.array(content["knots"]) * [1, 0.99]).tolist()
    predictor.write_text(json.dumps(content))
    later(predictor)
    return snakefile


MADE, KEPT, ONE_MADE = (2, 0, 0, 0), (0, 2, 0, 0), (1, 1, 0, 0)  # images: made, kept, failed, left out


def every_stage(counts):
    return dict.fromkeys(("cubes", "rgb", "material", "labels"), counts)


ROWS = {
    nothing: {},
    setting_of_speed: {},
    fusion_setting: {"labels": MADE},
    quality_predictor: {"labels": MADE},
    material_setting: {"material": MADE, "labels": MADE},
    weights: {"rgb": MADE, "labels": MADE},
    stage_version: every_stage(MADE),
    descriptor: every_stage(MADE),
    about_the_descriptor: every_stage(KEPT),
    raw_file: every_stage(ONE_MADE),
    raw_file_touched: every_stage(KEPT),
    image_added: every_stage((1, 2, 0, 0)),
    image_removed: every_stage((0, 1, 0, 0)),
}


@pytest.mark.parametrize("change", ROWS, ids=lambda change: change.__name__)
def test_a_change_makes_what_depends_on_it_and_nothing_else(finished, tmp_path, change):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    snakefile = change(folder) or SNAKEFILE
    planned = snakemake(folder, "-n", "--configfile", "c.yaml", snakefile=snakefile)
    outputs = re.findall(r"output: results/index/(\w+)/mine/0000.json", planned.text)
    assert set(outputs) == set(ROWS[change]), planned.text[-3000:]
    said = snakemake(folder, "--configfile", "c.yaml", snakefile=snakefile)
    assert said.status == 0, said.text[-3000:]
    assert counts_of(said) == {f"{stage} mine/0000": counts for stage, counts in ROWS[change].items()}
