"""The workflow on a real SLURM; `one_machine.sh` makes a cluster of one machine with two stand-ins for GPUs."""

import importlib.util
import re
import shutil
import subprocess
import threading
from pathlib import Path

import pytest
import yaml
from verbs import rules_of, snakemake

from hvlabel.layout import Layout
from hvlabel.manifest import read_manifest
from hvlabel.masks import read_document


def answer(*command: str) -> str:
    """What a command of SLURM says, empty where it fails."""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def why_not() -> str | None:
    """What is missing for these tests."""
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        return "needs snakemake-executor-plugin-slurm"
    if shutil.which("sinfo") is None or "gpu:2" not in answer("sinfo", "--noheader", "--format=%G"):
        return "needs a SLURM cluster with two GPUs (tests/cluster/one_machine.sh start)"
    return None


pytestmark = [
    pytest.mark.slow,
    pytest.mark.slurm,
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]


class Watch(threading.Thread):
    """Reads what SLURM knows of its jobs while a run goes on, and ends one job as its time limit would.

    records : of each job by its number, the last that was said of it
    devices : at each look, the device of every job that had one
    killed  : number of the job that was ended, the first that asks for a GPU
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.records: dict[str, str] = {}
        self.devices: list[dict[str, str]] = []
        self.killed: str | None = None
        self.over = threading.Event()

    def run(self) -> None:
        before = set(self._jobs())
        while not self.over.wait(0.5):
            jobs = {number: record for number, record in self._jobs().items() if number not in before}
            self.records |= jobs
            held = {number: re.search(r" GRES=gpu:1\(IDX:(\d)\)", record) for number, record in jobs.items()}
            self.devices.append({number: match[1] for number, match in held.items() if match})
            for number, record in jobs.items():
                if self.killed is None and "gres:gpu" in record and "JobState=RUNNING" in record:
                    self.killed = number
                    answer("scancel", number)

    def _jobs(self) -> dict[str, str]:
        text = answer("scontrol", "--details", "--oneliner", "show", "job")
        return {m[1]: line for line in text.splitlines() if (m := re.match(r"JobId=(\d+) ", line))}


def tree_of(results: Path) -> dict:
    """Two images of which one branch asks a network: SAM, untrained."""
    return {
        "results": str(results),
        "datasets": {"vis31": {"demo": "vis31", "demo_scenes": 2, "demo_size_px": 64}},
        "rgb": {"backend": "sam", "sam": {"checkpoint": "random:1", "input_px": 256},
                "generator": {"points_per_side": 3, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}},
        "material": {"backend": "regions"},
        "sequence": "off",
        "fusion": {"ranking": "votes"},
        "run": {"shard_size": 1},
    }  # fmt: skip


def seals(results: Path) -> dict[str, str]:
    """Of every label."""
    layout = Layout(results)
    rows = read_manifest(layout.manifest)
    labels = [read_document(layout.label(row.dataset, row.image_id)) for row in rows]
    return {row.image_id: d["provenance"]["content_sha256"] for row, d in zip(rows, labels, strict=True)}


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> dict[str, str]:
    """Seals of a run without a scheduler."""
    folder = tmp_path_factory.mktemp("here")
    (folder / "c.yaml").write_text(yaml.safe_dump(tree_of(folder / "results")))
    said = snakemake(folder, "--configfile", "c.yaml", "--no-hooks")
    assert said.status == 0, said.text[-3000:]
    return seals(folder / "results")


@pytest.mark.parametrize("gpu_request", ["gpus", "gres"])
def test_a_killed_job_comes_again_and_the_labels_are_the_same(gpu_request, repository, tmp_path, here):
    tree = tree_of(tmp_path / "results")
    tree["run"]["gpu_request"] = gpu_request
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
    profile = ("--profile", str(repository / "workflow/profiles/slurm"), "--jobs", "4")
    quick = ("--slurm-init-seconds-before-status-checks", "3", "--slurm-no-account")
    small = ("--default-resources", "runtime=10 * attempt", "mem_mb_per_cpu=2000 * attempt")
    watch = Watch()
    watch.start()
    said = snakemake(tmp_path, "--configfile", "c.yaml", "--no-hooks", *profile, *quick, *small)
    watch.over.set()
    watch.join()
    assert said.status == 0, said.text[-3000:]
    assert seals(tmp_path / "results") == here

    # the GPUs: asked for by the branch with the network alone, in the words of the setting, and one device each
    with_gpu = {number: record for number, record in watch.records.items() if "gres:gpu" in record}
    assert len(watch.records) >= len(set(rules_of(said)))
    assert len(with_gpu) == 2 + 1
    words = {"gpus": "TresPerJob=gres:gpu:1", "gres": "TresPerNode=gres:gpu:1"}[gpu_request]
    assert all(words in record for record in with_gpu.values())
    assert {number for look in watch.devices for number in look} == set(with_gpu)
    assert all(len(set(look.values())) == len(look) for look in watch.devices)

    # the job that was ended: once more, with twice the time and memory
    assert "JobState=CANCELLED" in watch.records[watch.killed]
    limits = sorted(re.search(r"TimeLimit=(\S+)", record)[1] for record in with_gpu.values())
    assert limits == ["00:10:00", "00:10:00", "00:20:00"]
