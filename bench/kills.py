"""Whole runs of three tiny images, killed at random moments and started again until they end: what is lost?

python bench/kills.py [KILLS] [SEED]
python bench/kills.py together [TIMES]      two runs started at the same moment on one folder

Killed is the orchestrator alone, so that its jobs work on as orphans; one job of it; or all processes at once. After
each series the results are compared with those of an undisturbed run. A row of the ledger counts what went wrong.
Ctrl-C: no more kills; the series at hand is finished, and the row written.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import ledger
import numpy as np
import psutil
import yaml

ROOT = Path(__file__).resolve().parent.parent
SNAKEMAKE = Path(sys.executable).with_name("snakemake")
SIDE_PX, N_BANDS, N_IMAGES = 40, 9, 3
OF_THE_RUN = {"seconds", "made", "seal", "self_crc32c"}  # how long something took, and checksums over that
KINDS = ("orchestrator", "job", "all")
FIRST_S = 1.0  # of a run: nothing of ours has begun
LATEST_SHARE = 0.5  # of an undisturbed run: a later run goes on where it was, so that every moment has its turn
ORPHANS_S = 120.0


@dataclass
class Tally:
    """What happened.

    until  : number of kills
    faults : sentences about what should not have been
    """

    until: int
    n_kills: Counter[str] = field(default_factory=Counter)
    n_series: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def is_done(self) -> bool:
        """Whether enough was killed."""
        return self.n_kills.total() >= self.until

    def stop(self, *_: object) -> None:
        """No more kills."""
        self.until = 0


def write_raw(folder: Path) -> None:
    """Raw files and a configuration without networks."""
    (folder / "raw").mkdir(parents=True)
    for seed in range(N_IMAGES):
        cube = np.full((SIDE_PX, SIDE_PX, N_BANDS), 1000.0)
        cube[5:20, 5:22] = 2500
        cube[24:36, 18:34, 4:] = 1800
        noise = np.random.default_rng(seed).normal(0, 15, cube.shape)
        np.save(folder / "raw" / f"scene{seed}.npy", (cube + noise).astype("uint16"))
    centres = {"start_nm": 450, "stop_nm": 650, "count": N_BANDS}
    descriptor = {"container": "npy", "files": "*.npy", "wavelengths_nm": centres}
    regions = {"backend": "regions"}
    tree = {
        "results": "results",
        "datasets": {"d": {"root": "raw", "descriptor": descriptor}},
        "rgb": regions,
        "sequence": {**regions, "max_frames": 2},
        "material": regions,
        "run": {"device": "cpu", "shard_size": 2},
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(tree))


def start(folder: Path, said: Path) -> subprocess.Popen[bytes]:
    """A run of its own process group, as a user would start it; what it says goes into a file."""
    command = [SNAKEMAKE, "-s", ROOT / "workflow/Snakefile", "--configfile", "c.yaml", "--cores", "2", "pseudolabels"]
    environment = {**os.environ, "HVLABEL_SHOW": "jobs"}
    with said.open("wb") as file:
        return subprocess.Popen(
            command, cwd=folder, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )


def jobs_of(run: psutil.Process) -> list[psutil.Process]:
    """The verbs that a run has started."""
    return [p for p in run.children(recursive=True) if "hvlabel" in p.cmdline()]


def kill(run: subprocess.Popen[bytes], kind: str, chance: random.Random) -> bool:
    """Kill a part of a run; False if it has ended. For a job it waits until there is one."""
    try:
        if kind == "orchestrator":
            run.kill()
        elif kind == "all":
            os.killpg(run.pid, signal.SIGKILL)
        else:
            jobs: list[psutil.Process] = []
            while not jobs and run.poll() is None:
                time.sleep(0.02)
                jobs = jobs_of(psutil.Process(run.pid))
            if not jobs:
                return False
            chance.choice(jobs).kill()
    except (psutil.NoSuchProcess, ProcessLookupError):
        return False
    return True


def outputs(results: Path) -> dict[Path, int]:
    """Time of every finished output; of a cube that of its attributes."""
    patterns = ("cubes/*/*/zarr.json", "masks/*/*/*.json", "labels/*/*.json")
    found = [path for pattern in patterns for path in results.glob(pattern) if not hidden(path)]
    return {path: path.stat().st_mtime_ns for path in found}


def hidden(path: Path) -> bool:
    """Whether a path is private to a process."""
    return any(part.startswith(".") for part in path.parts)


def contents(results: Path) -> dict[str, str | bytes]:
    """File -> bytes, without how long things took; locks, logs and pages, which say when they were made, are not."""
    found: dict[str, str | bytes] = {}
    for path in sorted(results.rglob("*")):
        name = path.relative_to(results).as_posix()
        if path.is_dir() or name.startswith(("locks/", "logs/")) or path.suffix == ".html":
            continue
        content = path.read_bytes()
        is_json = path.suffix == ".json"
        found[name] = json.dumps(timeless(json.loads(content)), sort_keys=True) if is_json else content
        if path.suffix == ".jpg":  # a thumbnail says when its label was made
            found[name] = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR).tobytes()
        if name.startswith("cubes/") and path.parent.suffix == ".zarr" and is_json:
            assert "receipt" in json.loads(content)["attributes"]  # only finished ones lie there
    return found


def timeless(tree: object) -> object:
    """JSON without durations and the checksums over them."""
    if isinstance(tree, dict):
        return {key: timeless(value) for key, value in tree.items() if key not in OF_THE_RUN}
    return [timeless(value) for value in tree] if isinstance(tree, list) else tree


def wait_for_orphans(folder: Path) -> None:
    """Until no job works in a folder any more."""
    deadline = time.monotonic() + ORPHANS_S
    while time.monotonic() < deadline:
        here = [p for p in psutil.process_iter(["cmdline", "cwd"]) if p.info["cwd"] == str(folder)]
        if not here:
            return
        time.sleep(0.2)


def differences(results: Path, expected: dict[str, str | bytes]) -> list[str]:
    """What of a finished run is not as it would be undisturbed."""
    found = contents(results)
    names = sorted(found.keys() ^ expected.keys())
    names += [name for name in sorted(found.keys() & expected.keys()) if found[name] != expected[name]]
    private = [str(path) for path in results.rglob(".*")]
    return [f"differs: {name}" for name in names] + [f"left over: {name}" for name in private]


def undisturbed(folder: Path) -> tuple[dict[str, str | bytes], float]:
    """Contents of a run that nobody disturbs, and how long it took, s."""
    begun = time.monotonic()
    run = start(folder, folder / "said.txt")
    if run.wait() != 0:
        raise SystemExit((folder / "said.txt").read_text())
    expected = contents(folder / "results")
    shutil.rmtree(folder / "results")
    shutil.rmtree(folder / ".snakemake")
    return expected, time.monotonic() - begun


def series(folder: Path, expected: dict[str, str | bytes], whole_s: float, tally: Tally) -> None:
    """One folder of results, killed again and again until a run comes to its end."""
    results, said = folder / "results", folder / "said.txt"
    chance = random.Random(tally.n_series)
    while True:
        before = outputs(results)
        run = start(folder, said)
        kind = KINDS[tally.n_kills.total() % len(KINDS)]
        try:
            run.wait(None if tally.is_done else chance.uniform(FIRST_S, LATEST_SHARE * whole_s))
        except subprocess.TimeoutExpired:
            tally.n_kills[kind] += kill(run, kind, chance)
        status = run.wait()
        text = said.read_text(errors="replace")
        after = outputs(results)
        tally.faults += [f"remade or lost: {path}" for path in before if after.get(path) != before[path]]
        if "--unlock" in text or "Traceback" in text:
            tally.faults.append(f"said: {text[-1500:]}")
        print(dict(tally.n_kills), kind, status, len(after), tally.faults, flush=True)
        if status == 0:
            break
    wait_for_orphans(folder)
    tally.faults += differences(results, expected)
    tally.n_series += 1
    shutil.rmtree(results)
    shutil.rmtree(folder / ".snakemake")


def killed_at_random(n_kills: int, seed: int) -> None:
    """Append a row about whole runs that were killed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).absolute()
        write_raw(folder)
        expected, whole_s = undisturbed(folder)
        tally = Tally(n_kills, n_series=seed)
        signal.signal(signal.SIGINT, tally.stop)
        begun = time.monotonic()
        while not tally.is_done:
            series(folder, expected, whole_s, tally)
    counts = ", ".join(f"{n} of {kind}" for kind, n in sorted(tally.n_kills.items()))
    ledger.append(
        "kills",
        f"{tally.n_kills.total()} kills at random of whole runs of {N_IMAGES} images: {counts}",
        time.monotonic() - begun,
        "an undisturbed run",
        whole_s,
        f"{len(tally.faults)} faults in {tally.n_series - seed} series; {len(expected)} files each compared",
    )


def started_together(n_times: int) -> None:
    """Append a row about two runs started at the same moment."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).absolute()
        write_raw(folder)
        expected, whole_s = undisturbed(folder)
        ends: Counter[str] = Counter()
        faults: list[str] = []
        begun = time.monotonic()
        for _ in range(n_times):
            files = [folder / "said1.txt", folder / "said2.txt"]
            runs = [start(folder, said) for said in files]
            statuses = [run.wait() for run in runs]
            texts = [said.read_text(errors="replace") for said in files]
            refused = [text for text in texts if "a run is at work here" in text]
            ends[f"{statuses.count(0)} ended well, {len(refused)} said who is at work"] += 1
            if 0 not in statuses or statuses.count(0) + len(refused) < len(runs):
                faults.append(texts[0][-800:] + texts[1][-800:])
            faults += differences(folder / "results", expected)
            shutil.rmtree(folder / "results")
            shutil.rmtree(folder / ".snakemake")
            print(dict(ends), faults, flush=True)
    ledger.append(
        "kills",
        f"two runs of {N_IMAGES} images started together, {n_times} times",
        time.monotonic() - begun,
        "one run",
        whole_s,
        f"{'; '.join(f'{n} times {how}' for how, n in ends.items())}; {len(faults)} faults",
    )


def main() -> None:
    if sys.argv[1:2] == ["together"]:
        started_together(int(sys.argv[2]) if len(sys.argv) > 2 else 10)
        return
    n_kills = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    killed_at_random(n_kills, seed)


if __name__ == "__main__":
    main()
