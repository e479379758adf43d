"""A finished backbone, asked: prompt masks on held-out images and a linear probe on materials, per camera."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from hvlabel.cache.features import open_features
from hvlabel.config import PretrainSettings
from hvlabel.cube import open_cube
from hvlabel.errors import ResultsError
from hvlabel.layout import Layout
from hvlabel.masks import decode, read_masks
from hvlabel.models.hyperfree import HyperFree
from hvtrain.clicks import click_iou, constant_iou
from hvtrain.corpus import Corpus, TrainImage, read_corpus
from hvtrain.loop import run_key
from hvtrain.probe import probe_miou
from hvtrain.run import RunFiles, is_complete
from hvtrain.samples import MIN_CELLS, to_logits, tokens_of_box
from hvtrain.student import load_exported, make_student, network_input, topology

RGB_NM = (640.0, 550.0, 460.0)  # as whose bands the network is shown the picture's red, green and blue


@dataclass(frozen=True)
class CameraScores:
    """One camera. Every score is in [0, 1]; nan where there is nothing to measure it on.

    seen      : images of it were trained on
    truth     : masks are compared with ground truth, otherwise with pseudo-labels
    clicks    : mean IoU after each number of clicks
    untrained : mean IoU of the untrained network, after the same clicks
    constant  : mean IoU of the best answer that ignores the prompt
    probes    : mIoU of a linear probe on tokens of one grid, by what they are: the last map of the trained and the untrained
                network, the trained one's given only the picture, the teacher's, and the mean spectrum under each token
    """

    name: str
    seen: bool
    truth: bool
    n_images: int
    n_masks: int
    clicks: tuple[float, ...]
    untrained: tuple[float, ...]
    constant: float
    probes: dict[str, float]


@dataclass(frozen=True)
class Crop:
    """The middle of an image at the size of the network's input.

    values    : (1, C, S, S) network input
    rgb       : (1, 3, S, S) the picture, as network input
    tokens    : (D, g, g) of the teacher, or None
    zoom      : px of the cube per px of the network's input
    masks     : (N, S, S) bool
    materials : (S, S) uint8, or None
    """

    values: Tensor
    rgb: Tensor
    tokens: Tensor | None
    zoom: float
    masks: np.ndarray
    materials: np.ndarray | None


PROBES = ("trained", "untrained", "trained, RGB only", "teacher", "mean spectrum")


def evaluate(layout: Layout, settings: PretrainSettings, *, distill: bool) -> list[CameraScores]:
    """Scores of the run that the settings name, camera by camera; ResultsError if it is not finished."""
    files = RunFiles(layout.pretrain(settings.run))
    torch.set_num_threads(settings.hardware.threads)
    torch.set_flush_denormal(True)
    corpus = read_corpus(layout, settings.data, distill=distill)
    if not is_complete(files, run_key(settings, corpus)):
        raise ResultsError(
            f"{files.folder}: not the finished run of these settings and labels; `hvtrain fit` or `snakemake pretrain` makes it"
        )
    scratch = settings.student.model_copy(update={"checkpoint": None})
    device = torch.device("cuda" if settings.hardware.accelerator != "cpu" and torch.cuda.is_available() else "cpu")
    networks = {
        "trained": load_exported(files.weights).to(device),
        "untrained": make_student(scratch, settings.seed).eval().to(device),
    }
    datasets = dict.fromkeys(i.dataset for i in corpus.images)
    groups = [(dataset, test, fit) for dataset in datasets for test, fit in [_groups(corpus, dataset)] if test]
    return [
        _camera_scores(layout, settings, corpus, networks, *group)
        for group in tqdm(groups, desc="evaluation", unit="camera", disable=None)
    ]


def _groups(corpus: Corpus, dataset: str) -> tuple[list[TrainImage], list[TrainImage]]:
    """Images of a data set to test, and to fit a probe on; those of one kept out of training are halved."""
    unseen = [i for i in corpus.of("unseen") if i.dataset == dataset]
    if unseen:
        return unseen[1::2], unseen[::2]
    held_out = [i for i in corpus.of("heldout") if i.dataset == dataset]
    return held_out, [i for i in corpus.of("train") if i.dataset == dataset]


def _camera_scores(
    layout: Layout,
    settings: PretrainSettings,
    corpus: Corpus,
    networks: dict[str, HyperFree],
    dataset: str,
    test: list[TrainImage],
    fit: list[TrainImage],
) -> CameraScores:
    wanted = settings.evaluation
    camera = test[0].camera
    bands = corpus.cameras[camera].wavelengths_nm
    test, fit = test[: wanted.max_images], fit[: wanted.probe_images]
    clicks: dict[str, list[np.ndarray]] = {name: [] for name in networks}
    constants: list[np.ndarray] = []
    samples: dict[str, dict[str, list[tuple[Tensor, np.ndarray]]]] = {p: {"fit": [], "test": []} for p in PROBES}
    for part, images in (("test", test), ("fit", fit)):
        for image in images:
            crop = _crop(layout, settings, image)
            features = {name: _features(network, crop, bands, settings) for name, network in networks.items()}
            if part == "test" and len(crop.masks):
                constants.append(constant_iou(crop.masks))
                for name, network in networks.items():
                    clicks[name].append(click_iou(network, features[name][-1], crop.masks, wanted.clicks))
            if crop.materials is None:
                continue
            rgb = _features(networks["trained"], replace(crop, values=crop.rgb), RGB_NM, settings)
            maps: dict[str, Tensor | None] = {name: found[-1][0].cpu() for name, found in features.items()}
            maps |= {
                "trained, RGB only": rgb[-1][0].cpu(),
                "teacher": crop.tokens,
                "mean spectrum": _pooled(crop.values[0], settings),
            }
            for name, values in maps.items():
                if values is not None:
                    samples[name][part].append((values, crop.materials))
    probes = {name: probe_miou(s["fit"], s["test"], settings.seed) for name, s in samples.items()}
    means = {name: tuple(np.concatenate(s, axis=1).mean(axis=1).tolist()) if s else () for name, s in clicks.items()}
    nothing = (float("nan"),) * len(wanted.clicks)
    return CameraScores(
        name=f"{dataset} ({len(bands)} bands, {min(bands):.0f}-{max(bands):.0f} nm)",
        seen=any(i.camera == camera for i in corpus.of("train")),
        truth=all(layout.truth(i.dataset, i.image_id).exists() for i in test),
        n_images=len(test),
        n_masks=sum(len(c) for c in constants),
        clicks=means["trained"] or nothing,
        untrained=means["untrained"] or nothing,
        constant=float(np.concatenate(constants).mean()) if constants else float("nan"),
        probes=probes,
    )


def _crop(layout: Layout, settings: PretrainSettings, image: TrainImage) -> Crop:
    side_px = settings.student.crop_px
    cube = open_cube(image.cube)
    side = min(side_px, cube.height_px, cube.width_px)
    y, x = (cube.height_px - side) // 2, (cube.width_px - side) // 2
    box = np.s_[y : y + side, x : x + side]
    still = torch.zeros(1, 2, dtype=torch.bool)
    values = network_input(torch.from_numpy(cube.plain(cube.read(*box)))[None], still, side_px)
    rgb = network_input(torch.from_numpy(np.ascontiguousarray(cube.rgb[box].transpose(2, 0, 1)))[None], still, side_px)
    tokens = None
    if image.features is not None:
        grid = topology(settings.student).decoder_grid
        found = tokens_of_box(open_features(image.features), (y, x, side), grid)
        tokens = torch.from_numpy(found.astype(np.float32)).permute(2, 0, 1)
    truth = layout.truth(image.dataset, image.image_id)
    best = read_masks(truth if truth.exists() else image.label).masks[: settings.data.best_masks]
    masks = [_resized(decode(m.rle)[box], side_px) for m in best]
    good = [m for m in masks if _can_be_asked(m, settings)][: settings.evaluation.max_masks]
    materials = _read_classes(layout.materials(image.dataset, image.image_id))
    return Crop(
        values,
        rgb,
        tokens,
        side / side_px,
        np.stack(good) if good else np.zeros((0, side_px, side_px), bool),
        None if materials is None else _resized(materials[box], side_px),
    )


def _read_classes(path: Path) -> np.ndarray | None:
    """(H, W) uint8 of a PNG, None if there is none."""
    return cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE) if path.exists() else None


def _can_be_asked(mask: np.ndarray, settings: PretrainSettings) -> bool:
    """The rule of training: at least some cells of the decoder's output, and not nearly everything."""
    cells = to_logits(mask, 4 * topology(settings.student).decoder_grid)
    return MIN_CELLS <= int(cells.sum()) <= settings.data.max_area_share * cells.size


def _resized(classes: np.ndarray, side_px: int) -> np.ndarray:
    """A bool mask or class map at (side, side), nearest."""
    if classes.shape == (side_px, side_px):
        return classes
    out = cv2.resize(classes.astype(np.uint8), (side_px, side_px), interpolation=cv2.INTER_NEAREST)
    return out.astype(classes.dtype)


@torch.no_grad()
def _features(network: HyperFree, crop: Crop, bands: tuple[float, ...], settings: PretrainSettings) -> list[Tensor]:
    device = next(network.parameters()).device
    return network.encode(crop.values.to(device), bands, [crop.zoom * settings.student.gsd_m])


def _pooled(values: Tensor, settings: PretrainSettings) -> Tensor:
    """(C, g, g) mean spectrum of each token."""
    return F.adaptive_avg_pool2d(values, topology(settings.student).decoder_grid)


def table(scores: list[CameraScores], clicks: tuple[int, ...]) -> list[list[str]]:
    """Header and rows as text, one row per camera."""
    probes = [p for p in PROBES if any(not np.isnan(s.probes[p]) for s in scores)]
    header = ["camera", "in training", "masks from", "images", "masks"]
    header += [f"{n}-click mIoU" for n in clicks] + [f"untrained {clicks[0]}-click", "prompt ignored"]
    header += [f"probe mIoU: {p}" for p in probes]
    rows = [header]
    for s in scores:
        facts = [s.name, "yes" if s.seen else "no", "truth" if s.truth else "labels", str(s.n_images), str(s.n_masks)]
        figures = [*s.clicks, s.untrained[0], s.constant, *(s.probes[p] for p in probes)]
        rows.append(facts + [f"{v:.3f}" for v in figures])
    return rows


def markdown(rows: list[list[str]]) -> str:
    """The table turned on its side, so that it fits a screen: one column per camera."""
    turned = [list(column) for column in zip(*rows, strict=True)]
    lines = ["| " + " | ".join(row) + " |" for row in turned]
    return "\n".join([lines[0], "|---|" + "---:|" * (len(rows) - 1), *lines[1:]]) + "\n"
