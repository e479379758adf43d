"""A further branch is one file and one row: added to a copy of the product, it runs from configuration to report."""

import hashlib
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import yaml
from small_scenes import NM, image
from verbs import counts_of, snakemake

from hvlabel.config.fusion import FusionSettings
from hvlabel.layout import Layout
from hvlabel.masks import decode, read_document, read_masks

FILE = '''
"""bright: what is bright in one band."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from hvlabel.config import BranchSettings
from hvlabel.masks import Mask, MaskSet, encode, interior_point, ranked

if TYPE_CHECKING:
    from hvlabel.cube import Cube


class BrightSettings(BranchSettings):
    """What is bright in one band."""

    version: ClassVar[int] = 1

    backend: Literal["threshold", "off"] = Field("threshold", description="off: no such branch")
    band: int = Field(0, ge=0, description="which band, in file order")
    quantile: float = Field(0.8, gt=0, lt=1, description="share of the pixels that are not bright")


def run(cube: Cube, settings: BrightSettings) -> MaskSet:
    """One mask."""
    plane = cube.values()[settings.band]
    bright = plane > np.quantile(plane, settings.quantile)
    mask = Mask(encode(bright), 0.9, "bright", interior_point(bright))
    return ranked([mask], cube.height_px, cube.width_px)
'''
ROW = """    Row(
        "bright",
        "what is bright in one band",
        module="hvlabel.branches.bright",
        settings_name="BrightSettings",
    ),
"""


@pytest.fixture(scope="module")
def product(repository, tmp_path_factory):
    """A copy of the product with one more file and one more row."""
    copy = tmp_path_factory.mktemp("product")
    for name in ("hvlabel", "workflow"):
        shutil.copytree(repository / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "resources").symlink_to(repository / "resources")
    (copy / "hvlabel/branches/bright.py").write_text(FILE)
    table = copy / "hvlabel/branches/table.py"
    before, after = table.read_text().split("\n)\n\nBRANCHES = ")
    table.write_text(f"{before}\n{ROW})\n\nBRANCHES = {after}")
    (copy / "workflow/schemas/config.schema.json").write_text(hvlabel(copy, "schema"))
    return copy


def hvlabel(product, *arguments):
    """What the copy's program says."""
    command = [sys.executable, "-m", "hvlabel", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(product)}
    done = subprocess.run(command, cwd=product, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_branch_is_one_file_and_one_row(product, tmp_path, monkeypatch):
    schema = json.loads((product / "workflow/schemas/config.schema.json").read_text())
    assert schema["properties"]["bright"]["description"].startswith("what is bright in one band; off")
    assert schema["$defs"]["BrightSettings"]["properties"]["band"]["description"] == "which band, in file order"
    assert "bright" in schema["$defs"]["BranchWeights"]["properties"]
    assert "bright" in schema["$defs"]["FusionSettings"]["properties"]["branches"]["anyOf"][0]["items"]["enum"]

    (tmp_path / "raw").mkdir()
    np.save(tmp_path / "raw" / "scene.npy", image(0))
    data = {"root": "raw", "glob": "*.npy", "descriptor": {"container": "npy", "wavelengths_nm": NM}}
    # at the vote of other branches: the predictor of quality may think little of a threshold
    tree = {"results": "results", "datasets": {"d": data}, "fusion": {"ranking": "votes"}}
    tree |= {"rgb": {"backend": "regions"}, "sequence": "off", "material": "off"}
    tree["bright"] = {"band": 1, "quantile": 0.7}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
    monkeypatch.setenv("PYTHONPATH", str(product))
    said = snakemake(tmp_path, "--configfile", "c.yaml", snakefile=product / "workflow" / "Snakefile")
    assert said.status == 0, said.text[-3000:]
    assert {name.split()[0] for name in counts_of(said)} == {"cubes", "rgb", "bright", "labels"}

    layout = Layout(tmp_path / "results")
    masks = read_masks(layout.masks("bright", "d", "scene"))
    assert decode(masks.rles[0]).mean() == pytest.approx(0.3, abs=0.05)  # many pixels have equal values
    label = read_document(layout.label("d", "scene"))
    assert any("bright" in annotation["votes"] for annotation in label["annotations"])
    provenance = label["provenance"]
    assert list(provenance["branches"]) == ["rgb", "bright"]
    assert provenance["branches"]["bright"]["backend"] == "threshold"
    page = layout.report.read_text()
    assert "rgb: regions, bright: threshold, sequence: off, material: off" in page
    assert "<th>bright</th>" in page

    # the verbs know it as well, and labels from before it came keep their key
    cube = layout.cube("d", "scene")
    assert hvlabel(product, "segment", "bright", cube, tmp_path / "one.json").endswith("one.json: 1 masks\n")
    code = "from hvlabel.config.fusion import FusionSettings as F; print(F().canonical())"
    environment = {**os.environ, "PYTHONPATH": str(product)}
    there = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert digest(there.stdout.strip()) == digest(FusionSettings().canonical())


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()
