"""Hostile files: lying headers, bombs, links, code. One sentence each, nothing huge allocated, nothing executed, never a cube."""

import contextlib
import pickle
import struct
import zipfile
import zlib

import h5py
import numpy as np
import pytest
import tifffile
from sound_files import NM, YXC, C, H, W, envi, hdf5, hsd, mat5, npy, refused, settings, tiff

from hvlabel.describe import describe
from hvlabel.errors import RawFileError

HUGE = 10**12


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


def test_an_npz_packed_by_another_method(tmp_path):
    path = tmp_path / "a.npz"
    np.save(tmp_path / "cube.npy", np.zeros((4000, 4000, C), "<u2"))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.write(tmp_path / "cube.npy", "cube.npy")
    (tmp_path / "cube.npy").unlink()
    assert "cube.npy is packed by method 12" in refused(path, settings("npy", variable="cube"), tmp_path)


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
