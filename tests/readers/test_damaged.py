"""Damaged and hostile files: one sentence each, nothing huge allocated, nothing executed, and never a cube."""

import contextlib
import pickle
import shutil
import struct
import tracemalloc
import zipfile
import zlib

import cv2
import h5py
import numpy as np
import pytest
import scipy.io
import tifffile

from hvlabel.config import CubeSettings
from hvlabel.cube import open_cube
from hvlabel.describe import describe
from hvlabel.descriptors import Descriptor
from hvlabel.errors import RawFileError
from hvlabel.stages.convert import convert_file

H, W, C = 24, 18, 12
NM = [500.0 + 10 * k for k in range(C)]
YXC = np.random.default_rng(0).integers(0, 4000, (H, W, C)).astype("<u2")
MOST_BYTES = 96 << 20
HUGE = 10**12


def settings(container, **more):
    return Descriptor(container=container, **{"wavelengths_nm": NM, **more})


def npy(path, array=YXC):
    np.save(path, array)
    return path


def npz(path):
    np.savez_compressed(path, cube=YXC, other=np.arange(5))
    return path


def mat5(path, compressed=True, **content):
    scipy.io.savemat(path, content or {"cube": YXC, "t": np.ones((3, 2))}, do_compression=compressed)
    return path


def hdf5(path, **options):
    with h5py.File(path, "w") as file:
        file.create_dataset("cube", data=YXC, **options)
    return path


def envi(path):
    YXC.transpose(0, 2, 1).tofile(path.with_suffix(".raw"))
    path.write_text(
        f"ENVI\nsamples = {W}\nlines = {H}\nbands = {C}\ndata type = 12\ninterleave = bil\nbyte order = 0\n"
    )
    return path


def tiff(path, **options):
    tifffile.imwrite(path, YXC.transpose(2, 0, 1), photometric="minisblack", **options)
    return path


def mosaic(path):
    frame = YXC[..., :9].reshape(H, W, 3, 3).transpose(0, 2, 1, 3).reshape(3 * H, 3 * W)
    cv2.imwrite(str(path), np.ascontiguousarray(frame))
    return path


def hsd(path):
    rng = np.random.default_rng(1)
    parts = (rng.normal(size=C), rng.normal(size=(4, C)), rng.normal(size=(H * W, 4)))
    path.write_bytes(
        struct.pack("<5ifi", H, W, C, 4, 500, 10.0, 610) + b"".join(p.astype("<f4").tobytes() for p in parts)
    )
    return path


def bands(path):
    path.mkdir()
    for k in range(C):
        cv2.imwrite(str(path / f"b_{k:02d}.png"), np.ascontiguousarray(YXC[..., k]))
    return path


# how to write a sound file -> (its name, its descriptor)
SOUND = {
    "npy": (npy, "a.npy", settings("npy")),
    "npz": (npz, "a.npz", settings("npy", variable="cube")),
    "mat5": (mat5, "a.mat", settings("matlab", variable="cube")),
    "mat5 plain": (lambda p: mat5(p, compressed=False), "a.mat", settings("matlab", variable="cube")),
    "hdf5 gzip": (lambda p: hdf5(p, chunks=(8, 9, 12), compression="gzip", shuffle=True), "a.h5", settings("hdf5")),
    "hdf5 plain": (hdf5, "a.h5", settings("hdf5")),
    "hdf5 lzf": (lambda p: hdf5(p, chunks=(8, 9, 12), compression="lzf", fletcher32=True), "a.h5", settings("hdf5")),
    "envi": (envi, "a.hdr", settings("envi")),
    "tiff": (tiff, "a.tif", settings("tiff", axes="cyx")),
    "tiff zlib": (lambda p: tiff(p, compression="zlib"), "a.tif", settings("tiff", axes="cyx")),
    "mosaic": (mosaic, "a.png", settings("mosaic_png", mosaic_px=3, wavelengths_nm=NM[:9])),
    "hsd": (hsd, "a.hsd", settings("hsd")),
    "bands": (bands, "scene", settings("band_png")),
}
# files without any checksum: a flipped bit among the values is only another value
UNCHECKED = {"npy", "mat5 plain", "hdf5 plain", "envi", "tiff", "hsd", "hdf5 gzip", "tiff zlib"}


def victim_of(path):
    return next(path.glob("*05.png")) if path.is_dir() else path.with_suffix(".raw") if path.suffix == ".hdr" else path


def refused(path, descriptor, folder):
    """The sentence, or None where a cube came out; whatever happens, nothing is left over and little was allocated."""
    out = folder / "out" / "a.zarr"
    before = {p.name for p in folder.iterdir()}
    tracemalloc.start()
    sentence = None
    try:
        convert_file(path, descriptor, CubeSettings(), out)
    except RawFileError as error:
        sentence = str(error)
        assert "\n" not in sentence
        assert len(sentence) < 1200
        assert not out.exists()
        assert list(out.parent.iterdir()) == [] if out.parent.exists() else True
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < MOST_BYTES, peak
    assert {p.name for p in folder.iterdir()} - before <= {"out"}
    return sentence


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


@pytest.mark.parametrize("kind", SOUND)
def test_flipped_bits(tmp_path, kind):
    """Each flip is either noticed or changes nothing but values (where the format has no checksum)."""
    write, name, descriptor = SOUND[kind]
    path = write(tmp_path / name)
    convert_file(path, descriptor, CubeSettings(), tmp_path / "sound.zarr")
    sound = open_cube(tmp_path / "sound.zarr").read()
    victim = victim_of(path)
    content = victim.read_bytes()
    rng = np.random.default_rng(zlib.crc32(kind.encode()))
    head = rng.integers(0, min(len(content), 600), 40)
    for position in (*head, *rng.integers(0, len(content), 20)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << int(rng.integers(0, 8))
        victim.write_bytes(bytes(damaged))
        if refused(path, descriptor, tmp_path) is None:
            cube = open_cube(tmp_path / "out" / "a.zarr").read()
            changed = cube.shape != sound.shape or not np.array_equal(cube, sound)
            assert kind in UNCHECKED or not changed, (kind, position)
        _forget(tmp_path)


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
            if (descriptor.container, SOUND[other][2].container) == ("envi", "envi"):
                continue
            sentences.append(refused(victim, descriptor, folder))
    assert len(sentences) > 100
    assert None not in sentences


# ------------------------------------------------------------------------------------- files that lie or attack


class Evil:
    """Leaves a file behind when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def header_of_size(folder, shape):
    path = npy(folder / "a.npy")
    content = path.read_bytes()
    text = f"{{'descr': '<u2', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    path.write_bytes(content[:8] + struct.pack("<H", len(text)) + text + content[128:])
    return path, settings("npy")


def lying_npz(folder):
    inner = header_of_size(folder, (10**4, 10**4, 10**4))[0].read_bytes()
    (folder / "a.npy").unlink()
    with zipfile.ZipFile(folder / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cube.npy", inner)
    return folder / "a.npz", settings("npy", variable="cube")


def zip_bomb(folder):
    shape = (3000, 6000, C)
    with (
        zipfile.ZipFile(folder / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("cube.npy", "w", force_zip64=True) as member,
    ):
        np.lib.format.write_array_header_1_0(member, {"descr": "<u2", "fortran_order": False, "shape": shape})
        for _ in range(shape[0]):
            member.write(bytes(2 * 6000 * C))
    return folder / "a.npz", settings("npy", variable="cube")


def mat5_of_size(folder, shape, payload=b""):
    element = struct.pack("<IIII", 6, 8, 11, 0) + struct.pack("<IIiii", 5, 12, *shape) + b"\0" * 4
    element += (
        struct.pack("<II", 1, 4)
        + b"cube\0\0\0\0"
        + struct.pack("<II", 4, min(abs(2 * int(np.prod(shape, dtype=object))), 2**32 - 1))
        + payload
    )
    packed = zlib.compress(struct.pack("<II", 14, len(element) & 0xFFFFFFFF) + element)
    path = folder / "a.mat"
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + struct.pack("<II", 15, len(packed)) + packed)
    return path, settings("matlab")


def hdf5_with(folder, make):
    path = folder / "a.h5"
    with h5py.File(path, "w") as file:
        make(file, folder)
    return path, settings("hdf5", variable="cube")


def deep(file, folder):
    group = file
    for _ in range(200):
        group = group.create_group("g")
    group["cube"] = YXC


def circle(file, folder):
    file["a"] = h5py.SoftLink("/b")
    file["b"] = h5py.SoftLink("/a")
    file["cube"] = h5py.SoftLink("/a")
    file.create_group("group")["again"] = file["/"]


def external_link(file, folder):
    hdf5(folder / "other.h5")
    file["cube"] = h5py.ExternalLink("other.h5", "cube")


def external_storage(file, folder):
    (folder / "secret.bin").write_bytes(YXC.tobytes())
    file.create_dataset("cube", YXC.shape, "<u2", external=[(str(folder / "secret.bin"), 0, h5py.h5f.UNLIMITED)])


def virtual(file, folder):
    hdf5(folder / "other.h5")
    layout = h5py.VirtualLayout(YXC.shape, "<u2")
    layout[:] = h5py.VirtualSource(str(folder / "other.h5"), "cube", YXC.shape)
    file.create_virtual_dataset("cube", layout)


def png_of_size(folder, width, height):
    def part(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    body = (
        part(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0))
        + part(b"IDAT", zlib.compress(bytes(999)))
        + part(b"IEND", b"")
    )
    (folder / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return folder / "a.png", settings("mosaic_png", mosaic_px=3, wavelengths_nm=NM[:9])


def hsd_of_size(folder, *header):
    path = hsd(folder / "a.hsd")
    path.write_bytes(struct.pack("<5ifi", *header, 500, 10.0, 610) + path.read_bytes()[28:])
    return path, settings("hsd")


def envi_with(folder, old, new):
    path = envi(folder / "a.hdr")
    path.write_text(path.read_text().replace(old, new))
    return path, settings("envi")


def tiff_of_height(folder, height):
    path = tiff(folder / "a.tif", compression="zlib")
    with tifffile.TiffFile(path, mode="r+b") as file:
        for page in file.pages:
            page.tags["ImageLength"].overwrite(height)
    return path, settings("tiff", axes="cyx")


def objects(folder):
    array = np.empty((2, 2, C), object)
    array[...] = [Evil(folder / "executed")] * C
    np.save(folder / "a.npy", array, allow_pickle=True)
    return folder / "a.npy", settings("npy")


def objects_in_npz(folder):
    array = np.full((2, 2, C), Evil(folder / "executed"), object)
    np.savez(folder / "a.npz", cube=array)
    return folder / "a.npz", settings("npy", variable="cube")


def bare_pickle(folder):
    (folder / "a.npy").write_bytes(pickle.dumps(Evil(folder / "executed")))
    return folder / "a.npy", settings("npy")


def code_in_header(folder):
    path = npy(folder / "a.npy")
    text = f"{{'descr': open({str(folder / 'executed')!r}, 'w')}}".ljust(117).encode() + b"\n"
    path.write_bytes(path.read_bytes()[:8] + struct.pack("<H", len(text)) + text)
    return path, settings("npy")


def zeros_gzip(file, folder):
    file.create_dataset("cube", (4000, 4000, C), "<u2", chunks=(500, 4000, C), compression="gzip", data=None)
    file["cube"][:500] = 0


ATTACKS = {
    "npy of 10^12": lambda d: header_of_size(d, (10**4, 10**4, 10**4)),
    "npy beyond 64 bit": lambda d: header_of_size(d, (2**40, 2**40, 2**40)),
    "npy negative": lambda d: header_of_size(d, (-1, 4, C)),
    "npy empty": lambda d: header_of_size(d, (0, 4, C)),
    "npz of 10^12": lying_npz,
    "npz bomb": zip_bomb,
    "npy of objects": objects,
    "npz of objects": objects_in_npz,
    "pickle": bare_pickle,
    "npy header with code": code_in_header,
    "npy of text": lambda d: (npy(d / "a.npy", np.full((3, 4, C), "text")), settings("npy")),
    "npy of dates": lambda d: (npy(d / "a.npy", np.zeros((3, 4, C), "M8[s]")), settings("npy")),
    "npy of records": lambda d: (npy(d / "a.npy", np.zeros((3, 4, C), [("a", "u2"), ("b", "f4")])), settings("npy")),
    "mat of 10^12": lambda d: mat5_of_size(d, (10**4, 10**4, 10**4)),
    "mat negative": lambda d: mat5_of_size(d, (-5, 6, C)),
    "mat bomb": lambda d: mat5_of_size(d, (3000, 3000, C), bytes(2 * 3000 * 3000 * C)),
    "mat without values": lambda d: mat5_of_size(d, (H, W, C)),
    "mat of text": lambda d: (mat5(d / "a.mat", cube=np.full((3, 4, C), "x")), settings("matlab")),
    "mat of cells": lambda d: (mat5(d / "a.mat", cube=np.full((3, 4, C), "text", object)), settings("matlab")),
    "mat of complex": lambda d: (mat5(d / "a.mat", cube=YXC * 1j), settings("matlab")),
    "mat of truths": lambda d: (mat5(d / "a.mat", cube=YXC > 5), settings("matlab")),
    "mat in a struct": lambda d: (mat5(d / "a.mat", cube={"cube": YXC}), settings("matlab", variable="cube")),
    "hdf5 deep": lambda d: hdf5_with(d, deep),
    "hdf5 circle": lambda d: hdf5_with(d, circle),
    "hdf5 external link": lambda d: hdf5_with(d, external_link),
    "hdf5 external storage": lambda d: hdf5_with(d, external_storage),
    "hdf5 virtual": lambda d: hdf5_with(d, virtual),
    "hdf5 of 10^12": lambda d: hdf5_with(
        d, lambda f, _: f.create_dataset("cube", (HUGE // C, 1, C), "<u2", chunks=(4096, 1, C), compression="gzip")
    ),
    "hdf5 of 10^12 unchunked": lambda d: hdf5_with(d, lambda f, _: f.create_dataset("cube", (10**4, 10**7, C), "<u2")),
    "hdf5 bomb": lambda d: hdf5_with(d, zeros_gzip),
    "hdf5 of text": lambda d: hdf5_with(d, lambda f, _: f.create_dataset("cube", data=np.full((3, 4, C), b"text"))),
    "hdf5 of references": lambda d: hdf5_with(d, lambda f, _: f.create_dataset("cube", (3, 4, C), h5py.ref_dtype)),
    "hdf5 of records": lambda d: hdf5_with(
        d, lambda f, _: f.create_dataset("cube", (3, 4, C), [("a", "u2"), ("b", "f4")])
    ),
    "hdf5 of four axes": lambda d: hdf5_with(d, lambda f, _: f.create_dataset("cube", (3, 4, C, 2), "f4")),
    "hdf5 without values": lambda d: hdf5_with(d, lambda f, _: f.create_dataset("cube", data=h5py.Empty("f4"))),
    "hdf5 many": lambda d: hdf5_with(d, lambda f, _: [f.create_group(f"g{k}") for k in range(11_000)]),
    "envi of 10^12": lambda d: envi_with(d, f"lines = {H}", f"lines = {HUGE}"),
    "envi negative": lambda d: envi_with(d, f"lines = {H}", "lines = -24"),
    "envi offset": lambda d: envi_with(d, "byte order", "header offset = 99999999999\nbyte order"),
    "envi of endless digits": lambda d: envi_with(d, f"bands = {C}", "bands = " + "9" * 5000),
    "png of 4 Gpx": lambda d: png_of_size(d, 65_535, 65_535),
    "png of 2^31": lambda d: png_of_size(d, 2**31 - 1, 2**31 - 1),
    "png without pixels": lambda d: png_of_size(d, 0, 0),
    "hsd of 10^12": lambda d: hsd_of_size(d, 10**6, 10**6, C, 4),
    "hsd negative": lambda d: hsd_of_size(d, -H, W, C, 4),
    "hsd more components than bands": lambda d: hsd_of_size(d, H, W, 2, 4),
    "hsd of many bands": lambda d: hsd_of_size(d, 1, 1, 2**31 - 1, 1),
    "tiff of 4 Grows": lambda d: tiff_of_height(d, 2**32 - 1),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_lies_and_attacks(tmp_path, attack):
    path, descriptor = ATTACKS[attack](tmp_path)
    sentence = refused(path, descriptor, tmp_path)
    assert sentence is not None
    assert path.stem in sentence
    assert not (tmp_path / "executed").exists()
    with contextlib.suppress(RawFileError):  # looking into it is as safe
        describe(path)
    assert not (tmp_path / "executed").exists()


# ------------------------------------------------------------------------------------- bombs inside pieces


def test_a_tiff_strip_that_unpacks_to_more_than_its_page(tmp_path):
    path = tiff(tmp_path / "a.tif", compression="zlib")
    bomb = zlib.compress(bytes(300 << 20))
    with tifffile.TiffFile(path) as file:
        tags = file.pages[3].tags
        offset_at, count_at = tags["StripOffsets"].valueoffset, tags["StripByteCounts"].valueoffset
    content = bytearray(path.read_bytes())
    content[offset_at : offset_at + 4] = struct.pack("<I", len(content))
    content[count_at : count_at + 4] = struct.pack("<I", len(bomb))
    path.write_bytes(bytes(content) + bomb)
    assert refused(path, settings("tiff", axes="cyx"), tmp_path) is not None


@pytest.mark.parametrize("filters", [{}, {"fletcher32": True}])
def test_an_hdf5_chunk_that_unpacks_to_more_than_it_should(tmp_path, filters):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        cube = file.create_dataset("cube", YXC.shape, "<u2", chunks=YXC.shape, compression="gzip", **filters)
        cube.id.write_direct_chunk((0, 0, 0), zlib.compress(bytes(300 << 20)) + bytes(4 if filters else 0))
    assert "does not unpack to" in refused(path, settings("hdf5"), tmp_path)


def test_an_hdf5_chunk_far_larger_than_the_data(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        cube = file.create_dataset(
            "cube", YXC.shape, "<u2", maxshape=(None, None, C), chunks=(9000, 9000, C), compression="gzip"
        )
        cube.id.write_direct_chunk((0, 0, 0), zlib.compress(bytes(1000)))
    assert "one chunk (9000, 9000, 12) unpacks to" in refused(path, settings("hdf5"), tmp_path)


def test_text_and_truths_of_matlab_73_are_no_images(tmp_path):
    path = tmp_path / "a.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, kind in (("words", "char"), ("mask", "logical")):
            file[name] = YXC.T
            file[name].attrs["MATLAB_class"] = np.bytes_(kind)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file")
    assert "0 three-dimensional numeric arrays" in refused(path, settings("matlab"), tmp_path)
    assert "has type char, expected numbers" in refused(path, settings("matlab", variable="words"), tmp_path)
