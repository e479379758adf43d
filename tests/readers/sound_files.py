"""Small sound files of every format, and what reading a damaged one must do."""

import struct
import tracemalloc

import cv2
import h5py
import numpy as np
import scipy.io
import tifffile

from hvlabel.config import CubeSettings
from hvlabel.descriptors import Descriptor
from hvlabel.errors import RawFileError
from hvlabel.stages.convert import convert_file

H, W, C = 24, 18, 12
NM = [500.0 + 10 * k for k in range(C)]
YXC = np.random.default_rng(0).integers(0, 4000, (H, W, C)).astype("<u2")
MOST_BYTES = 96 << 20


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
