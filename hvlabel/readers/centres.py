"""Which band centres and widths an image has: the descriptor's or the file's own, of the bands that are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hvlabel.descriptors import Form
from hvlabel.errors import RawFileError
from hvlabel.readers.stored import StoredArray
from hvlabel.wavelengths import Centres, widths_nm


def wavelengths_of(
    path: Path, form: Form, stored: StoredArray, wanted: np.ndarray, bands: np.ndarray
) -> tuple[tuple[float, ...], str]:
    """Centres of the bands kept, nm, and where they come from.

    wanted : bands that the form keeps; a descriptor may list the centres of these or of the good ones alone
    bands  : those of them that the file does not call bad
    """
    given = form.known_wavelengths_nm()
    candidates: dict[str, tuple[float, ...]] = {}
    if given is not None:
        kept = np.isin(wanted, bands)
        candidates["descriptor"] = tuple(np.asarray(given)[kept]) if len(given) == len(wanted) else tuple(given)
    if stored.centres is not None:
        try:
            candidates["file"] = _from_file(path, stored, stored.centres, bands)
        except RawFileError:
            if given is None:
                raise
    if not candidates:
        raise RawFileError(
            f"{path}: the file names no wavelengths; give the {len(bands)} band centres as descriptor.wavelengths_nm"
        )
    origin = form.wavelengths_first if form.wavelengths_first in candidates else next(iter(candidates))
    chosen = candidates[origin]
    if len(chosen) != len(bands):
        raise _unequal(path, len(chosen), len(bands), stored)
    return tuple(float(w) for w in chosen), origin


def _from_file(path: Path, stored: StoredArray, centres: Centres, bands: np.ndarray) -> tuple[float, ...]:
    """The file's own centres of some bands in nm; RawFileError where they cannot be believed."""
    if len(centres.values) != stored.n_bands:
        raise _unequal(path, len(centres.values), stored.n_bands, stored)
    try:
        return centres.in_nm(bands)
    except ValueError as error:
        raise RawFileError(f"{path}: {error}; mend the file, or give descriptor.wavelengths_nm") from error


def fwhm_of(stored: StoredArray, bands: np.ndarray) -> tuple[float, ...] | None:
    """The file's band widths of some bands in nm, where it gives as many as it has bands."""
    widths, centres = stored.fwhm, stored.centres
    if widths is None or centres is None or len(widths) != stored.n_bands or len(centres.values) != stored.n_bands:
        return None
    try:
        chosen = [centres.values[k] for k in bands]
        return widths_nm([widths[k] for k in bands], stored.fwhm_unit, chosen, centres.unit)
    except ValueError:
        return None


def _unequal(path: Path, n_wavelengths: int, n_bands: int, stored: StoredArray) -> RawFileError:
    sizes = "x".join(str(stored.array.shape[stored.axes.index(a)]) for a in "cyx")
    return RawFileError(
        f"{path}: {n_wavelengths} wavelengths for {n_bands} bands (stored band x row x column {sizes}); "
        "they must be equal: check descriptor.axes, drop_bands and wavelengths_nm"
    )
