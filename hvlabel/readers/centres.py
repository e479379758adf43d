"""Which band centres and widths an image has: the descriptor's or the file's own, of the bands that are kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hvlabel.descriptors import Form
from hvlabel.errors import RawFileError
from hvlabel.readers.contract import StoredArray
from hvlabel.wavelengths import Centres, widths_nm


def wavelengths_of(
    path: Path, form: Form, stored: StoredArray, not_dropped: np.ndarray, bands: np.ndarray
) -> tuple[tuple[float, ...], str]:
    """Centres of the bands kept, nm, and where they come from: "file" or "descriptor".

    not_dropped : bands that the form keeps; a descriptor may list the centres of these or of the good ones alone
    bands       : those of them that the file does not call bad
    RawFileError where there are none, not as many as bands, or none that can be believed.
    """
    given = form.known_wavelengths_nm()
    candidates: dict[str, Sequence[float]] = {}
    if given is not None:
        candidates["descriptor"] = _of_good_bands(given, not_dropped, bands)
    if stored.centres is not None:
        try:
            candidates["file"] = _from_file(path, stored, stored.centres, bands)
        except RawFileError:
            if given is None:  # else the descriptor's stand in for them
                raise
    if not candidates:
        raise RawFileError(
            f"{path}: the file names no wavelengths; give the {len(bands)} band centres as descriptor.wavelengths_nm"
        )
    # where only one of both gives centres, it counts whoever should go first
    only_one = next(iter(candidates))
    origin = form.wavelengths_first if form.wavelengths_first in candidates else only_one
    chosen = candidates[origin]
    if len(chosen) != len(bands):
        raise _unequal(path, len(chosen), len(bands), stored)
    return tuple(float(w) for w in chosen), origin


def fwhm_of(stored: StoredArray, bands: np.ndarray) -> tuple[float, ...] | None:
    """The file's band widths of some bands in nm, where it gives as many as it has bands, and centres too."""
    widths, centres = stored.fwhm, stored.centres
    if widths is None or centres is None:
        return None
    if len(widths) != stored.n_bands or len(centres.values) != stored.n_bands:
        return None
    chosen_widths = [widths[k] for k in bands]
    chosen_centres = [centres.values[k] for k in bands]
    try:
        return widths_nm(chosen_widths, stored.fwhm_unit, chosen_centres, centres.unit)
    except ValueError:  # widths are a remark in the cube: no reason to refuse an image
        return None


def _of_good_bands(given: Sequence[float], not_dropped: np.ndarray, bands: np.ndarray) -> Sequence[float]:
    """A descriptor's centres without those of bad bands, if it lists these too."""
    if len(given) != len(not_dropped):
        return given  # of the good bands alone; any other number is refused later
    is_good = np.isin(not_dropped, bands)
    return tuple(np.asarray(given)[is_good])


def _from_file(path: Path, stored: StoredArray, centres: Centres, bands: np.ndarray) -> tuple[float, ...]:
    """The file's own centres of some bands in nm; RawFileError where they cannot be believed."""
    if len(centres.values) != stored.n_bands:
        raise _unequal(path, len(centres.values), stored.n_bands, stored)
    try:
        return centres.in_nm(bands)
    except ValueError as error:
        raise RawFileError(f"{path}: {error}; mend the file, or give descriptor.wavelengths_nm") from error


def _unequal(path: Path, n_wavelengths: int, n_bands: int, stored: StoredArray) -> RawFileError:
    shape = [stored.array.shape[stored.axes.index(letter)] for letter in "cyx"]
    sizes = "x".join(map(str, shape))
    return RawFileError(
        f"{path}: {n_wavelengths} wavelengths for {n_bands} bands (stored band x row x column {sizes}); "
        "they must be equal: check descriptor.axes, drop_bands and wavelengths_nm"
    )
