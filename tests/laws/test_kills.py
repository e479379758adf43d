"""A verb that is killed before any single change on disk: run again, it ends with the same bytes and leaves nothing.

A forked process counts what it is about to change - Python announces every opening for writing, renaming, removing and
making - and kills itself before the n-th.
"""

import json
import os
import shutil
import signal
import sys

import pytest
import raw_files
import yaml
from small_scenes import NM, image
from verbs import hvlabel

from hvlabel.cache.left_overs import sweep

CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.utime"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
OF_THE_RUN = {"seconds", "made"}  # how long something took, and whether it was there already

pytestmark = pytest.mark.slow  # some hundred verbs

VERBS = (
    ("convert", "--shard", "d/0000"),
    ("segment", "material", "--shard", "d/0000"),
    ("fuse", "--shard", "d/0000"),
    ("report",),
)


def run(verb, folder):
    return hvlabel(*verb, "--results", folder / "results", "--config", folder / "c.yaml")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two raw images and a configuration, scanned; every trial takes place in this one folder."""
    folder = tmp_path_factory.mktemp("run") / "here"
    (folder / "raw").mkdir(parents=True)
    for seed in range(2):
        raw_files.npy(folder / "raw" / f"scene{seed}.npy", image(seed))
    dataset = {"root": str(folder / "raw"), "descriptor": {"container": "npy", "files": "*.npy", "wavelengths_nm": NM}}
    off = {"rgb": "off", "sequence": "off", "material": {"backend": "regions"}}
    tree = {"results": str(folder / "results"), "datasets": {"d": dataset}, **off}
    (folder / "c.yaml").write_text(yaml.safe_dump(tree))
    assert hvlabel("scan", "--config", folder / "c.yaml").status == 0
    return folder


@pytest.fixture(scope="module")
def states(folder):
    """Verb -> a copy of the folder before it, and what lies there after it."""
    states = {}
    for verb in VERBS:
        before = folder.with_name(f"before-{verb[0]}")
        shutil.copytree(folder, before)
        said = run(verb, folder)
        assert said.status == 0, said.err
        states[verb] = before, contents(folder)
    return states


def contents(folder):
    """File -> bytes; of JSON and of the groups' attributes without how long they took. Locks and logs are left out."""
    found = {}
    for path in sorted((folder / "results").rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() or name.startswith(("results/locks", "results/logs")):
            continue
        content = path.read_bytes()
        if path.suffix == ".json":
            content = json.dumps(timeless(json.loads(content)), sort_keys=True).encode()
        if path.suffix == ".html":
            content = str(len(content) // 1000).encode()  # the gallery says when it was made
        found[name] = content
    return found


def timeless(tree):
    """Without durations, and without the checksums over them."""
    if isinstance(tree, dict):
        return {k: timeless(v) for k, v in tree.items() if k not in OF_THE_RUN and "crc32c" not in k and k != "seal"}
    return [timeless(v) for v in tree] if isinstance(tree, list) else tree


def killed(verb, folder, n):
    """Run a verb in a forked process that kills itself before its n-th change on disk; whether it came to that."""
    pid = os.fork()
    if pid == 0:
        counted = 0

        def count(event, args):
            nonlocal counted
            writes = event == "open" and isinstance(args[2], int) and args[2] & WRITING
            if not (writes or event in CHANGES) or "/proc/" in str(args[0]) or str(args[0]) == os.devnull:
                return
            counted += 1
            if counted == n:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        try:
            run(verb, folder)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb[0])
def test_a_verb_killed_before_any_change_is_made_good_by_the_next(folder, states, verb):
    before, expected = states[verb]
    n = 1
    while True:
        shutil.rmtree(folder)
        shutil.copytree(before, folder)
        if not killed(verb, folder, n):
            break
        sweep(folder / "results")  # as every run begins
        said = run(verb, folder)
        assert said.status == 0, f"after a kill before change {n}: {said.err}"
        assert contents(folder) == expected, f"after a kill before change {n}"
        n += 1
    assert n > 5
    assert contents(folder) == expected  # nobody was killed
