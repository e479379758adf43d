"""`snakemake --report` on a finished run: one file with the overview and the table, and nothing made anew."""

import base64
import re

import pytest
import yaml
from verbs import rules_of, snakemake

REGIONS = {"backend": "regions"}


@pytest.mark.slow
def test_it_takes_what_needs_no_other_file(tmp_path):
    demo = {"demo": "vis31", "demo_scenes": 1, "demo_size_px": 64}
    tree = {"results": "results", "datasets": {"d": demo}, "rgb": REGIONS, "material": REGIONS}
    tree["sequence"] = {**REGIONS, "max_frames": 2}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
    said = snakemake(tmp_path, "--configfile", "c.yaml")
    assert said.status == 0, said.text[-3000:]
    folder = tmp_path / "results" / "report"
    assert (folder / "pages" / "d" / "vis31_00.html").is_file()

    said = snakemake(tmp_path, "--configfile", "c.yaml", "--report", "report.html")
    assert said.status == 0, said.text[-3000:]
    packed = (tmp_path / "report.html").read_text()
    overview = base64.b64encode((folder / "overview.html").read_bytes()).decode()
    assert overview in packed
    for what in ("overview", "quality of every label", "Pictures of the worst labels", "A row per label"):
        assert re.search(what, packed)

    # the next run finds all there is, whatever the order in which outputs were written
    said = snakemake(tmp_path, "-n", "--configfile", "c.yaml")
    assert rules_of(said) == []
