"""Damaged files: one sentence each, nothing huge allocated, and never a cube."""

import shutil
import zlib

import numpy as np
import pytest
from sound_files import SOUND, refused

from hvlabel.config import CubeSettings
from hvlabel.cube import open_cube
from hvlabel.stages.convert import convert_file

# files without any checksum: a flipped bit among the values is only another value
UNCHECKED = {"npy", "mat5 plain", "hdf5 plain", "envi", "tiff", "hsd", "hdf5 gzip", "tiff zlib"}


def victim_of(path):
    """The file that holds the values."""
    if path.is_dir():
        return next(path.glob("*05.png"))
    return path.with_suffix(".raw") if path.suffix == ".hdr" else path


@pytest.mark.parametrize("kind", SOUND)
def test_sound_files_are_read(tmp_path, kind):
    write, name, descriptor = SOUND[kind]
    assert refused(write(tmp_path / name), descriptor, tmp_path) is None


@pytest.mark.parametrize("kind", SOUND)
def test_truncations(tmp_path, kind):
    write, name, descriptor = SOUND[kind]
    path = write(tmp_path / name)
    victim = victim_of(path)
    content = victim.read_bytes()
    sentences = 0
    for keep in (0, 1, 3, 8, 60, 127, 200, *(int(len(content) * k / 12) for k in range(1, 12)), len(content) - 1):
        victim.write_bytes(content[:keep])
        sentence = refused(path, descriptor, tmp_path)
        if sentence is None:  # only what no reader needs was cut off
            assert keep > 0.8 * len(content), keep
        else:
            sentences += 1
            assert path.name in sentence or victim.name in sentence
        _forget(tmp_path)
    assert sentences >= 15


def flipped(content, kind, n_head, n_anywhere):
    """Copies of a file's content with one bit flipped, most of them where headers lie; and where."""
    rng = np.random.default_rng(zlib.crc32(kind.encode()))
    head = rng.integers(0, min(len(content), 600), n_head)
    anywhere = rng.integers(0, len(content), n_anywhere)
    for position in (*head, *anywhere):
        damaged = bytearray(content)
        damaged[position] ^= 1 << int(rng.integers(0, 8))
        yield bytes(damaged), position


@pytest.mark.parametrize("kind", SOUND)
@pytest.mark.parametrize(("n_head", "n_anywhere"), [(20, 8), pytest.param(120, 60, marks=pytest.mark.slow)])
def test_flipped_bits(tmp_path, kind, n_head, n_anywhere):
    """Each flip is either noticed or changes nothing but values (where the format has no checksum)."""
    write, name, descriptor = SOUND[kind]
    path = write(tmp_path / name)
    convert_file(path, descriptor, CubeSettings(), tmp_path / "sound.zarr")
    sound = open_cube(tmp_path / "sound.zarr").read()
    victim = victim_of(path)
    for damaged, position in flipped(victim.read_bytes(), kind, n_head, n_anywhere):
        victim.write_bytes(damaged)
        if refused(path, descriptor, tmp_path) is None:
            cube = open_cube(tmp_path / "out" / "a.zarr").read()
            changed = cube.shape != sound.shape or not np.array_equal(cube, sound)
            assert kind in UNCHECKED or not changed, (kind, position)
        _forget(tmp_path)


@pytest.mark.parametrize("kind", ["mosaic", "bands"])
@pytest.mark.parametrize("chunk", [b"IHDR", b"IDAT", b"IEND"])
def test_a_png_that_asks_for_gigabytes_gets_what_it_holds(tmp_path, kind, chunk):
    write, name, descriptor = SOUND[kind]
    path = write(tmp_path / name)
    victim = victim_of(path)
    content = bytearray(victim.read_bytes())
    length_at = content.find(chunk) - 4
    content[length_at : length_at + 4] = (2**31 - 1).to_bytes(4, "big")
    victim.write_bytes(content)
    refused(path, descriptor, tmp_path)  # it takes little memory, whether or not the values can be had


def _forget(folder):
    shutil.rmtree(folder / "out", ignore_errors=True)


def test_files_of_every_other_format(tmp_path):
    sentences = []
    for kind, (_, name, descriptor) in SOUND.items():
        for other, (write, other_name, _) in SOUND.items():
            if SOUND[other][2].container in (descriptor.container, "band_png") or descriptor.container == "band_png":
                continue
            folder = tmp_path / f"{kind}-{other}".replace(" ", "_")
            folder.mkdir()
            write(folder / other_name)
            victim = folder / other_name
            victim = victim.rename(folder / name) if victim.is_file() else victim
            sentences.append(refused(victim, descriptor, folder))
    assert len(sentences) > 100
    assert None not in sentences


@pytest.mark.parametrize("kind", ["hdf5 gzip", "hdf5 lzf"])
@pytest.mark.parametrize("move", [1 << 53, 1], ids=["far outside", "between chunks"])
def test_chunks_that_an_hdf5_file_has_lost_are_no_fill_values(tmp_path, kind, move):
    write, name, descriptor = SOUND[kind]
    path = write(tmp_path / name)
    content = bytearray(path.read_bytes())
    tree = content.find(b"TREE\x01")  # the list of a data set's chunks, version 1
    n_chunks = int.from_bytes(content[tree + 6 : tree + 8], "little")
    axes, address = 3, 8
    key = 8 + 8 * (axes + 1)  # size and skipped filters, then the first index on each axis and in the value
    last = tree + 24 + (n_chunks - 1) * (key + address) + 8
    corner = int.from_bytes(content[last : last + 8], "little")
    content[last : last + 8] = (corner + move).to_bytes(8, "little")
    path.write_bytes(content)
    sentence = refused(path, descriptor, tmp_path)
    assert sentence is not None
    assert name in sentence
