"""A run with every stage done, and copies of it to be spoilt."""

import shutil
from dataclasses import replace

import pytest
import yaml
from stage_run import CASES, Run, configuration, write_raw_files
from verbs import hvlabel

from hvlabel.manifest import Scan, read_manifest


@pytest.fixture(scope="session")
def finished(tmp_path_factory, repository):
    """A run with every stage done. Only to be read or copied."""
    folder = tmp_path_factory.mktemp("laws")
    for name in ("raw", "boxes"):
        (folder / name).mkdir()
    write_raw_files(folder)
    (folder / "c.yaml").write_text(yaml.safe_dump(configuration(folder, repository)))
    run = Run(folder)
    for stage, case in CASES.items():
        run.write_config(f"{stage}.yaml", case.changed)
    assert hvlabel("scan", "--config", folder / "c.yaml").status == 0
    assert set(run.walk_all().values()) == {(3, 0, 0, 0)}
    return run


@pytest.fixture
def run(finished, tmp_path):
    """A copy of it, to be spoilt. Its manifest names the original's raw files, which nobody spoils."""
    shutil.copytree(finished.folder, tmp_path / "run")
    return Run(tmp_path / "run")


@pytest.fixture
def moved(run, finished):
    """A copy whose manifest names its own raw files and marks."""
    there, here = str(finished.folder), str(run.folder)
    images = []
    for image in read_manifest(run.layout.manifest):
        images.append(replace(image, raw=image.raw.replace(there, here), prompts=image.prompts.replace(there, here)))
    run.layout.manifest.write_text(Scan(tuple(images), ()).table())
    return run
