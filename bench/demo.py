"""The whole demo, set-up excluded: this checkout against another one, each from nothing, one after the other.

python bench/demo.py OTHER_CHECKOUT

Both run with this interpreter, whose environment must suit both.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ledger

HERE = Path(__file__).resolve().parent.parent


def run(checkout: Path, results: Path) -> tuple[float, float, dict[str, float]]:
    """Seconds, seconds of all processes on the cores, and seconds inside each branch."""
    snakemake = Path(sys.executable).with_name("snakemake")
    command = [snakemake, "--cores", "2", "--no-hooks", "--configfile", "config/config.yaml"]
    command += ["--config", f"results={results}", "--", "pseudolabels"]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    subprocess.run(command, cwd=checkout, check=True, capture_output=True, env=environment)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    inside = {}
    for branch in ("rgb", "sequence", "material"):
        files = (results / "masks" / branch).rglob("*.json")
        inside[branch] = sum(json.loads(f.read_text())["provenance"]["seconds"] for f in files)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, inside


def labels(results: Path) -> dict[str, list[str]]:
    """The masks of each label file."""
    documents = {f.name: json.loads(f.read_text()) for f in (results / "labels").rglob("*.json")}
    return {
        name: [a["segmentation"]["counts"] for a in d["annotations"]]
        for name, d in documents.items()
        if "annotations" in d
    }


def parts(cpu_s: float, inside: dict[str, float]) -> str:
    return f"{cpu_s:.0f} s on the cores, of which " + ", ".join(f"{k} {v:.0f}" for k, v in inside.items())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        before, now = Path(folder, "before"), Path(folder, "now")
        other_s, other_cpu_s, other_inside = run(Path(sys.argv[1]).resolve(), before)
        ours_s, ours_cpu_s, ours_inside = run(HERE, now)
        old, new = labels(before), labels(now)
    commit = ["git", "-C", sys.argv[1], "rev-parse", "--short", "HEAD"]
    peer = subprocess.run(commit, capture_output=True, text=True, check=True).stdout.strip()
    same = sum(old[name] == new[name] for name in new)
    seconds = f"{parts(ours_cpu_s, ours_inside)}; before {parts(other_cpu_s, other_inside)}"
    quality = f"{same} of {len(new)} labels with the same masks; {seconds}"
    ledger.append("demo", "12 scenes, 2 cores", ours_s, f"commit {peer}", other_s, quality)
