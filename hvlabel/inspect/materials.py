"""Material groups of a data set: its labels' masks by their mean spectra, and the file that holds them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hvlabel.cache.publish import publish_bytes
from hvlabel.checksummed import BLANK, FIELD, is_whole, stamped
from hvlabel.cube import Cube, open_cube
from hvlabel.errors import HvError, ResultsError
from hvlabel.inspect.clusters import MOST_GROUPS, best_clusters, clusters
from hvlabel.inspect.spectra import mean_spectra
from hvlabel.layout import Layout
from hvlabel.masks import MaskSet, areas, decode, masks_of, read_document

UNKNOWN = -1  # the group of a mask without a pixel that holds a value
SAMPLE_PX = 64  # pixels of a mask that tell how much a spectrum varies within one thing
RIDGE = 1e-3  # share of the mean variance added to its diagonal, for bands that do not vary
N_COMPONENTS = 6  # of the whitened spectra: as many as the quality predictor looks at
RULE = f"the number from 2 to {MOST_GROUPS} of the highest mean silhouette"


@dataclass(frozen=True)
class Materials:
    """The material groups of one data set.

    wavelengths_nm : (L,) of the bands that are live in all images, rising
    spectra        : (K, L) mean of each group's masks, physical values
    groups         : image -> group of each mask of its label; UNKNOWN without a spectrum
    seals          : image -> seal of the label that was grouped
    facts          : number of groups, how it was chosen, silhouette, seed
    """

    dataset: str
    wavelengths_nm: np.ndarray
    spectra: np.ndarray
    groups: Mapping[str, Sequence[int]]
    seals: Mapping[str, str]
    facts: Mapping[str, Any]

    def names(self) -> list[str]:
        """Names of the groups, as categories; a last one for masks of none, if there are such."""
        has_unknown = any(UNKNOWN in groups for groups in self.groups.values())
        numbered = [f"{self.dataset} material {k}" for k in range(len(self.spectra))]
        return [*numbered, f"{self.dataset} unknown"] if has_unknown else numbered

    def groups_of(self, image: str, document: Mapping[str, Any]) -> list[int]:
        """Category of every mask of a label; ResultsError if another label was grouped. document: the label's."""
        if self.seals.get(image) != document["provenance"]["content_sha256"]:
            raise ResultsError(
                f"{self.dataset}/{image}: its material groups are of another label; run `hvlabel materials` again"
            )
        n_groups = len(self.spectra)
        return [n_groups if group == UNKNOWN else group for group in self.groups[image]]

    def to_json(self) -> bytes:
        """The file's content, sealed."""
        images = {name: {"label": self.seals[name], "groups": list(groups)} for name, groups in self.groups.items()}
        counted = [group for groups in self.groups.values() for group in groups]
        materials = []
        for k, spectrum in enumerate(self.spectra):
            mean = [float(f"{value:.6g}") for value in spectrum]
            materials.append({"id": k, "masks": counted.count(k), "mean": mean})
        content = {
            "dataset": self.dataset,
            **self.facts,
            "wavelengths_nm": self.wavelengths_nm.tolist(),
            "materials": materials,
            "images": images,
            FIELD: BLANK,
        }
        return stamped(json.dumps(content).encode() + b"\n")


def group_materials(
    layout: Layout, dataset: str, n_groups: int | None = None, seed: int = 0
) -> tuple[Materials, list[str]]:
    """The groups of a data set's label masks, and one sentence per image that was left out.

    n_groups : None: RULE
    ResultsError if there is no label, or no mask.
    Masks are compared by the shape of their mean spectra, in deviations of what varies within one mask: light and
    shadow on one thing then count little, and a band counts by how well it tells things apart.
    """
    paths = sorted((layout.labels / dataset).glob("[!.]*.json"))
    if not paths:
        raise ResultsError(f"{layout.labels / dataset}: no labels to group; run `snakemake pseudolabels` first")
    # one image is in memory at a time; what stays of it are mean spectra and a matrix
    looks, left_out = _looks(layout, dataset, paths)
    means = np.concatenate([look.means for look in looks]) if looks else np.zeros((0, 1))
    known = np.isfinite(means).all(axis=1)
    if not known.any():
        raise ResultsError(f"{layout.labels / dataset}: no mask with a spectrum to group; {'; '.join(left_out)[:200]}")
    n_sampled = sum(look.n_sampled for look in looks)
    scatter = np.sum([look.scatter for look in looks], axis=0)  # (L, L)
    spread = scatter / max(1, n_sampled)
    whitened = _whitened(means[known], spread)
    # whitened before they are grouped: noise of a band is no difference of materials
    chosen = best_clusters(whitened, seed) if n_groups is None else clusters(whitened, n_groups, seed)
    group_of = np.full(len(means), UNKNOWN)
    group_of[known] = _by_size(chosen.members)
    n_chosen = group_of.max() + 1
    spectra = np.stack([means[group_of == k].mean(axis=0) for k in range(n_chosen)])  # (K, L)
    # back to the images, in the order in which they were stacked
    ends = np.cumsum([len(look.means) for look in looks])
    parts = np.split(group_of, ends[:-1])
    has_silhouette = np.isfinite(chosen.silhouette)  # one group has none
    facts = {
        "n_groups": len(spectra),
        "chosen_by": RULE if n_groups is None else "the user",
        "silhouette": round(chosen.silhouette, 4) if has_silhouette else None,  # JSON has no nan
        "seed": seed,
    }
    return Materials(
        dataset=dataset,
        wavelengths_nm=looks[0].wavelengths_nm,
        spectra=spectra,
        groups={look.image: part.tolist() for look, part in zip(looks, parts, strict=True)},
        seals={look.image: look.seal for look in looks},
        facts=facts,
    ), left_out


def write_materials(layout: Layout, materials: Materials) -> Path:
    """Publish the groups, and their spectra as a table beside them; returns the path of the groups."""
    path = layout.material_groups(materials.dataset)
    publish_bytes(path, materials.to_json())
    header = ["wavelength_nm", *(f"material {k}" for k in range(len(materials.spectra)))]
    rows = [header]
    for nm, values in zip(materials.wavelengths_nm, materials.spectra.T, strict=True):
        of_groups = [f"{value:.6g}" for value in values]
        rows.append([f"{nm:g}", *of_groups])
    table = "".join("\t".join(row) + "\n" for row in rows)
    publish_bytes(path.with_suffix(".tsv"), table.encode())
    return path


def materials_of(layout: Layout, dataset: str) -> Materials:
    """The groups of a data set; ResultsError if there are none, or the file is damaged."""
    path = layout.material_groups(dataset)
    try:
        stored = path.read_bytes()
    except OSError as error:
        raise ResultsError(f"{path}: no material groups; run `hvlabel materials --dataset {dataset}` first") from error
    try:
        if not is_whole(stored):
            raise ValueError("its checksum does not fit")
        content = json.loads(stored)
        return Materials(
            dataset=content["dataset"],
            wavelengths_nm=np.array(content["wavelengths_nm"], float),
            spectra=np.array([material["mean"] for material in content["materials"]], float),
            groups={name: of["groups"] for name, of in content["images"].items()},
            seals={name: of["label"] for name, of in content["images"].items()},
            facts={name: content[name] for name in ("n_groups", "chosen_by", "silhouette", "seed")},
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ResultsError(
            f"{path}: damaged material groups ({str(error)[:60]}); run `hvlabel materials` again"
        ) from error


@dataclass(frozen=True)
class _Look:
    """One image.

    means   : (N, L) mean spectra of its masks
    scatter : (L, L) summed products of what pixels differ from their mask's mean, as unit spectra
    """

    image: str
    seal: str
    wavelengths_nm: np.ndarray
    means: np.ndarray
    scatter: np.ndarray
    n_sampled: int


def _looks(layout: Layout, dataset: str, paths: Sequence[Path]) -> tuple[list[_Look], list[str]]:
    """Every readable image with the bands of the first one, and a sentence about each other one."""
    looks: list[_Look] = []
    left_out = []
    for path in paths:
        try:
            document = read_document(path)
            cube = open_cube(layout.cube(dataset, path.stem))
            look = _look(path.stem, document, cube)
        except HvError as error:
            left_out.append(str(error))
            continue
        first = looks[0].wavelengths_nm if looks else look.wavelengths_nm
        if len(first) != len(look.wavelengths_nm) or not np.allclose(first, look.wavelengths_nm):
            left_out.append(
                f"{dataset}/{path.stem}: other bands than {looks[0].image}, so its spectra cannot be compared"
            )
            continue
        looks.append(look)
    return looks, left_out


def _look(image: str, document: dict[str, Any], cube: Cube) -> _Look:
    masks = masks_of(document)
    # rising, as `Materials` holds them
    order = np.argsort(cube.live_wavelengths_nm, kind="stable")
    values = cube.live_values()[order]  # (L, H, W)
    means = mean_spectra(values, masks.rles, cube.valid)  # (N, L)
    scatter, n_sampled = _scatter(values, masks)
    seal = str(document["provenance"]["content_sha256"])
    return _Look(image, seal, cube.live_wavelengths_nm[order], means, scatter, n_sampled)


def _scatter(values: np.ndarray, masks: MaskSet) -> tuple[np.ndarray, int]:
    """How unit spectra differ from their mask's mean: (L, L) summed products, and of how many pixels."""
    n_bands = len(values)
    total = np.zeros((n_bands, n_bands))
    n_sampled = 0
    for rle, area_px in zip(masks.rles, areas(masks.rles), strict=True):
        y, x = np.nonzero(decode(rle))
        n_some = min(SAMPLE_PX, int(area_px))
        some = np.linspace(0, len(y) - 1, n_some).astype(int)  # evenly spread, not drawn: equal masks, equal samples
        spectra = values[:, y[some], x[some]].T  # (n, L)
        pixels = _unit(spectra.astype(np.float64))
        difference = pixels - pixels.mean(axis=0)
        total += difference.T @ difference
        n_sampled += len(pixels)
    return total, n_sampled


def _whitened(means: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """(N, D) strongest components of unit spectra, in deviations of what varies within a mask, on a log scale.

    means  : (N, L)
    spread : (L, L) covariance within masks
    """
    n_bands = means.shape[1]
    ridge = max(RIDGE * np.trace(spread) / n_bands, 1e-12)
    variance, axes = np.linalg.eigh(spread + ridge * np.eye(n_bands))
    of_shape = _unit(means)
    centred = of_shape - of_shape.mean(axis=0)
    whitening = axes / np.sqrt(variance)  # (L, L)
    shapes = centred @ whitening  # (N, L)
    # what is left of noise lies in the weak components
    _, _, directions = np.linalg.svd(shapes, full_matrices=False)
    components = shapes @ directions[:N_COMPONENTS].T
    # a single thing of a rare spectrum is a hundred deviations away: it would decide the number of groups alone
    logarithms = np.log1p(np.abs(components))
    return np.asarray(np.sign(components) * logarithms)


def _unit(spectra: np.ndarray) -> np.ndarray:
    """(N, L) spectra of length 1; a single band stays as it is."""
    if spectra.shape[1] == 1:
        return spectra
    length = np.linalg.norm(spectra, axis=1, keepdims=True)  # (N, 1)
    return spectra / np.maximum(length, 1e-30)


def _by_size(members: np.ndarray) -> np.ndarray:
    """(N,) groups renamed so that 0 has most masks: equal data give equal numbers."""
    names, counts = np.unique(members, return_counts=True)
    order = names[np.argsort(-counts, kind="stable")]
    rank = {int(name): k for k, name in enumerate(order)}
    return np.array([rank[int(name)] for name in members])
