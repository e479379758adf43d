"""Five simulated cameras: band responses, RGB rendering, and the raw file each of them writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import h5py
import numpy as np

from hvlabel.config import CubeSettings
from hvlabel.cube.render import GAMMA, choose_rendering
from hvlabel.demo.materials import GRID_NM
from hvlabel.descriptors import Descriptor

# Filter positions of the 4x4 mosaic, in pixel order: real mosaics are not sorted by wavelength
MOSAIC_NM = (493, 482, 471, 504, 592, 603, 581, 614, 548, 559, 537, 570, 515, 526, 465, 625)
# RGB camera beside the 25-band one: centre and width of red, green, blue, nm
COMPANION_NM = ((605.0, 30.0), (540.0, 32.0), (460.0, 25.0))
FWHM_PER_SIGMA = 2.3548  # of a Gaussian
WHITE_PERCENTILE = 99.5  # of the companion's exposure
MATLAB_HEADER = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Thu Jan 01 00:00:00 1970 HDF5 schema 1.00 ."
MATLAB_MARK = b"\x00\x02IM"  # version and byte order, behind 124 bytes of text

Writer = Callable[[Path, np.ndarray, np.ndarray], None]


@dataclass(frozen=True)
class DemoCamera:
    """A simulated camera.

    centres_nm, fwhm_nm : bands in file order
    write               : (path, (C, H, W) float32 signal in [0, about 1], (H, W, 3) uint8 companion) -> raw file(s)
    """

    centres_nm: np.ndarray
    fwhm_nm: float
    descriptor: Descriptor
    write: Writer
    has_companion: bool = False

    def response(self) -> np.ndarray:
        """(C, L) band responses on GRID_NM, rows summing to 1."""
        sigma_nm = self.fwhm_nm / FWHM_PER_SIGMA
        distance = (GRID_NM[None] - self.centres_nm[:, None]) / sigma_nm  # (C, L)
        shape = np.exp(-0.5 * distance**2)
        return shape / shape.sum(axis=1, keepdims=True)

    def rgb_response(self) -> np.ndarray:
        """(3, L) linear map from a signal spectrum to the RGB that the pipeline will show for this camera."""
        if self.has_companion:
            return companion_response()
        rendering = choose_rendering(self.centres_nm, CubeSettings())
        return rendering.weights @ self.response()  # (3, C) by (C, L)


def companion_response() -> np.ndarray:
    """(3, L) response of the RGB companion camera, rows summing to 1."""
    lobes = []
    for centre_nm, width_nm in COMPANION_NM:
        distance = (GRID_NM - centre_nm) / width_nm  # (L,)
        lobes.append(np.exp(-0.5 * distance**2))
    shape = np.stack(lobes)
    return shape / shape.sum(axis=1, keepdims=True)


def companion_rgb(linear: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 photograph of a (3, H, W) linear signal, exposed for its 99.5th percentile."""
    white = np.percentile(linear, WHITE_PERCENTILE)
    exposed = np.clip(linear / white, 0, 1) ** GAMMA
    levels = exposed.transpose(1, 2, 0) * 255 + 0.5  # the type cuts off: a half more rounds
    return levels.astype(np.uint8)


def drawn_camera(rng: np.random.Generator) -> DemoCamera:
    """A camera that exists nowhere: 12 to 140 bands, not quite evenly spaced, over 150 nm or more of 400 to 1000 nm."""
    log_bands = rng.uniform(np.log(12), np.log(140))  # equal chances for equal ratios
    n_bands = round(float(np.exp(log_bands)))
    low_nm = rng.uniform(400.0, 700.0)
    high_nm = rng.uniform(low_nm + 150.0, 1000.0)
    step_nm = (high_nm - low_nm) / (n_bands - 1)
    beside = rng.uniform(-0.3, 0.3, n_bands)  # under half a step: centres stay in order
    position = np.arange(n_bands) + beside
    centres_nm = low_nm + step_nm * position
    fwhm_nm = max(5.0, step_nm * rng.uniform(0.8, 1.8))
    descriptor = Descriptor(container="npy", axes="yxc", wavelengths_nm=centres_nm.tolist())
    return DemoCamera(centres_nm, fwhm_nm, descriptor, _write_npy)


def _write_mosaic(path: Path, signal: np.ndarray, companion: np.ndarray) -> None:
    n_bands, height, width = signal.shape
    side = int(n_bands**0.5)
    by_place = signal.reshape(side, side, height, width)
    tiles = by_place.transpose(2, 0, 3, 1)  # (H, side, W, side)
    frame = tiles.reshape(height * side, width * side)
    cv2.imwrite(str(path), _counts(frame * 900, 1023))  # 10 bits


def _write_npy(path: Path, signal: np.ndarray, companion: np.ndarray) -> None:
    by_pixel = signal.transpose(1, 2, 0)  # (H, W, C)
    np.save(path, _counts(by_pixel * 3600, 4095))  # 12 bits
    beside = path.with_name(path.stem + "_rgb.png")
    cv2.imwrite(str(beside), companion[:, :, ::-1])  # OpenCV writes blue first


def _write_mat73(path: Path, signal: np.ndarray, companion: np.ndarray) -> None:
    with h5py.File(path, "w", userblock_size=512) as file:
        stored = signal.transpose(0, 2, 1).astype(np.float32)  # MATLAB (y, x, c) seen through HDF5 is (c, x, y)
        one_band = (1, *stored.shape[1:])
        file.create_dataset("cube", data=stored, chunks=one_band, compression="gzip", compression_opts=3)
        file["cube"].attrs["MATLAB_class"] = np.bytes_("single")
    with path.open("r+b") as file:
        file.write(MATLAB_HEADER.ljust(124) + MATLAB_MARK)


def _write_tiff(path: Path, signal: np.ndarray, companion: np.ndarray) -> None:
    import tifffile  # only here: slow to import

    tifffile.imwrite(path, _counts(signal * 4000, 4095), photometric="minisblack")


def _write_envi(path: Path, signal: np.ndarray, companion: np.ndarray) -> None:
    n_bands, height, width = signal.shape
    by_lines = signal.transpose(1, 0, 2)  # (H, C, W), ENVI's bil
    counts = _counts(by_lines * 10_000, 65_535)
    counts.astype("<u2").tofile(path.with_suffix(".raw"))
    wavelengths = ", ".join(f"{w:.2f}" for w in CAMERAS["vnir128"].centres_nm)
    path.write_text(
        f"ENVI\ndescription = {{generated scene}}\nsamples = {width}\nlines = {height}\nbands = {n_bands}\n"
        "header offset = 0\nfile type = ENVI Standard\ndata type = 12\ninterleave = bil\nbyte order = 0\n"
        f"reflectance scale factor = 10000\nwavelength units = nm\nwavelength = {{{wavelengths}}}\n"
    )


def _counts(values: np.ndarray, largest: int) -> np.ndarray:
    """uint16, rounded and clipped as a sensor does."""
    return np.clip(values + 0.5, 0, largest).astype(np.uint16)


def _evenly_spaced(first_nm: float, last_nm: float, n_bands: int) -> list[float]:
    return np.linspace(first_nm, last_nm, n_bands).tolist()


def _camera(fwhm_nm: float, write: Writer, descriptor: Descriptor, *, has_companion: bool = False) -> DemoCamera:
    """A camera whose descriptor gives its band centres."""
    centres_nm = np.array(descriptor.known_wavelengths_nm(), float)
    return DemoCamera(centres_nm, fwhm_nm, descriptor, write, has_companion)


CAMERAS: dict[str, DemoCamera] = {
    "mosaic16": _camera(
        14.0,
        _write_mosaic,
        Descriptor(container="mosaic_png", mosaic_px=4, wavelengths_nm=[float(w) for w in MOSAIC_NM]),
    ),
    "nir25": _camera(
        18.0,
        _write_npy,
        Descriptor(
            container="npy",
            axes="yxc",
            wavelengths_nm=_evenly_spaced(600.0, 975.0, 25),
            rgb_companion="{stem}_rgb.png",
        ),
        has_companion=True,
    ),
    "vis31": _camera(
        12.0,
        _write_mat73,
        Descriptor(
            container="matlab",
            variable="cube",
            axes="yxc",
            wavelengths_nm=_evenly_spaced(400.0, 700.0, 31),
            unit="radiance",
        ),
    ),
    "vnir61": _camera(
        10.0,
        _write_tiff,
        Descriptor(container="tiff", axes="cyx", wavelengths_nm=_evenly_spaced(430.0, 910.0, 61)),
    ),
    # its header names the centres
    "vnir128": DemoCamera(np.linspace(400.0, 1000.0, 128), 7.0, Descriptor(container="envi"), _write_envi),
}
