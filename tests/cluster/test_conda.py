"""`snakemake --use-conda pseudolabels`: with conda where it is on PATH, otherwise with a stand-in for it."""

import shutil
import sys
from pathlib import Path

import pytest
import yaml
from verbs import snakemake

from hvlabel.layout import Layout
from hvlabel.manifest import read_manifest

pytestmark = pytest.mark.slow


@pytest.fixture
def conda(tmp_path, monkeypatch) -> bool:
    """Whether it is the real one."""
    if shutil.which("conda"):
        return True
    tools = tmp_path / "tools"
    tools.mkdir()
    script = Path(__file__).with_name("conda_stand_in.py")
    (tools / "conda").write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n')
    (tools / "conda").chmod(0o755)
    monkeypatch.setenv("CONDA_STAND_IN", str(tmp_path / "prefix"))
    monkeypatch.setenv("PATH", str(tools), prepend=":")
    return False


def test_jobs_run_in_the_environment_of_their_rule(conda, tmp_path):
    tree = {
        "results": str(tmp_path / "results"),
        "datasets": {"vis31": {"demo": "vis31", "demo_scenes": 1, "demo_size_px": 64}},
        "sequence": "off",
        "fusion": {"ranking": "votes"},
    }
    tree |= {branch: {"backend": "regions"} for branch in ("rgb", "material")}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
    said = snakemake(tmp_path, "--configfile", "c.yaml", "--no-hooks", "--use-conda", "pseudolabels")
    assert said.status == 0, said.text[-3000:]
    layout = Layout(tmp_path / "results")
    (row,) = read_manifest(layout.manifest)
    assert layout.label(row.dataset, row.image_id).is_file()
    # one environment for all rules, with what the script after it installs, and jobs whose Python is its own
    (python,) = (tmp_path / ".snakemake/conda").glob("*/bin/python")
    assert list(python.parents[1].glob("lib/python3.11/site-packages/sam2"))
    assert "Activating conda environment" in said.text

    again = snakemake(tmp_path, "--configfile", "c.yaml", "--no-hooks", "--use-conda", "pseudolabels")
    assert again.status == 0, again.text[-3000:]
    assert "Nothing to be done" in again.text
