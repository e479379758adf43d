"""A finished backbone, asked: prompt masks on held-out images and a linear probe on materials, per camera."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from hvlabel.config import PretrainSettings
from hvlabel.errors import ResultsError
from hvlabel.layout import Layout
from hvtrain.backbones.contract import Backbone
from hvtrain.data.corpus import Corpus, TrainImage
from hvtrain.data.feature_maps import FeatureMaps
from hvtrain.data.inputs import PICTURE_NM
from hvtrain.engine.run_folder import RunFiles, is_complete
from hvtrain.heads.prompted import decoder_of
from hvtrain.pretrain import corpus_of, run_key
from hvtrain.student import grid_of, load_exported, make_student
from hvtrain.tasks.clicks import click_iou, constant_iou
from hvtrain.tasks.crops import Crop, middle_crop
from hvtrain.tasks.probe import probe_miou

NAN = float("nan")  # where there is nothing to measure on
PROBES = ("trained", "untrained", "trained, RGB only", "teacher", "mean spectrum")


@dataclass(frozen=True)
class CameraScores:
    """One camera. Every score is in [0, 1]; nan where there is nothing to measure it on.

    seen      : images of it were trained on
    truth     : masks are compared with ground truth, otherwise with pseudo-labels
    clicks    : mean IoU after each number of clicks
    untrained : mean IoU of the untrained network, after the same clicks
    constant  : mean IoU of the best answer that ignores the prompt
    probes    : mIoU of a linear probe on tokens of one grid, by what they are: the last map of the trained and the
                untrained network, the trained one's given only the picture, the teacher's, and the mean spectrum under
                each token
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


@dataclass
class _Samples:
    """What a linear probe is fitted on and tested on: features (D, h, w) and classes (S, S) of each image."""

    fit: list[tuple[Tensor, np.ndarray]] = field(default_factory=list)
    test: list[tuple[Tensor, np.ndarray]] = field(default_factory=list)


def evaluate(layout: Layout, settings: PretrainSettings, *, distill: bool) -> list[CameraScores]:
    """Scores of the run that the settings name, camera by camera; ResultsError if it is not finished."""
    files = RunFiles(layout.pretrain(settings.run))
    torch.set_num_threads(settings.hardware.threads)
    torch.set_flush_denormal(True)  # as in training: they are many times slower
    corpus = corpus_of(layout, settings, distill=distill)
    if not is_complete(files, run_key(settings, corpus)):
        raise ResultsError(
            f"{files.folder}: not the finished run of these settings and labels; "
            "`hvtrain fit` or `snakemake pretrain` makes it"
        )
    networks = _networks(files, settings)
    groups = []
    for dataset in dict.fromkeys(image.dataset for image in corpus.images):
        test, fit = _groups(corpus, dataset)
        if test:
            groups.append((test, fit))
    scores = []
    for test, fit in tqdm(groups, desc="evaluation", unit="camera", disable=None):
        of_camera = _camera_scores(layout, settings, corpus, networks, test=test, fit=fit)
        scores.append(of_camera)
    return scores


def _networks(files: RunFiles, settings: PretrainSettings) -> dict[str, Backbone]:
    """The run's network and, to compare it with, the same one with first weights drawn from the run's seed."""
    on_gpu = settings.hardware.accelerator != "cpu" and torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    from_scratch = settings.student.model_copy(update={"checkpoint": None})
    return {
        "trained": load_exported(files.weights).to(device),
        "untrained": make_student(from_scratch, settings.seed).eval().to(device),
    }


def _groups(corpus: Corpus, dataset: str) -> tuple[list[TrainImage], list[TrainImage]]:
    """Images of a data set to test, and to fit a probe on; those of one kept out of training are halved."""
    unseen = _of_dataset(corpus.of("unseen"), dataset)
    if unseen:
        return unseen[1::2], unseen[::2]
    held_out = _of_dataset(corpus.of("heldout"), dataset)
    trained_on = _of_dataset(corpus.of("train"), dataset)
    return held_out, trained_on


def _of_dataset(images: Sequence[TrainImage], dataset: str) -> list[TrainImage]:
    return [image for image in images if image.dataset == dataset]


def _camera_scores(
    layout: Layout,
    settings: PretrainSettings,
    corpus: Corpus,
    networks: Mapping[str, Backbone],
    *,
    test: Sequence[TrainImage],
    fit: Sequence[TrainImage],
) -> CameraScores:
    """Scores on images of one camera: clicks on those of `test`, probes fitted on `fit` and tested on `test`."""
    camera = test[0].camera
    bands = corpus.cameras[camera].wavelengths_nm
    numbers = settings.evaluation.clicks
    trained = networks["trained"]
    test = test[: settings.evaluation.max_images]
    fit = fit[: settings.evaluation.probe_images]
    clicks: dict[str, list[np.ndarray]] = {name: [] for name in networks}  # each (numbers of clicks, masks)
    constants: list[np.ndarray] = []  # each (masks,)
    samples = {name: _Samples() for name in PROBES}
    for image in (*test, *fit):
        crop = middle_crop(layout, settings, image, grid_of(trained), trained.input_range)
        maps = {}
        for name, network in networks.items():
            maps[name] = _features(network, crop.values, bands, crop, settings)
        is_test = image in test
        if is_test and len(crop.masks):
            constants.append(constant_iou(crop.masks))
            for name, network in networks.items():
                neck = maps[name][-1]  # (1, D, g, g)
                iou = click_iou(decoder_of(network), neck, crop.masks, numbers)
                clicks[name].append(iou)
        if crop.materials is None:
            continue
        for name, features in _probed(trained, maps, crop, settings).items():
            part = samples[name].test if is_test else samples[name].fit
            part.append((features, crop.materials))
    probes = {}
    for name, of_name in samples.items():
        probes[name] = probe_miou(of_name.fit, of_name.test, settings.seed)
    return CameraScores(
        name=f"{test[0].dataset} ({len(bands)} bands, {min(bands):.0f}-{max(bands):.0f} nm)",
        seen=any(image.camera == camera for image in corpus.of("train")),
        truth=all(layout.truth(image.dataset, image.image_id).exists() for image in test),
        n_images=len(test),
        n_masks=sum(len(of_image) for of_image in constants),
        clicks=_means(clicks["trained"], len(numbers)),
        untrained=_means(clicks["untrained"], len(numbers)),
        constant=float(np.concatenate(constants).mean()) if constants else NAN,
        probes=probes,
    )


def _means(scores: Sequence[np.ndarray], n_numbers: int) -> tuple[float, ...]:
    """Mean over all masks of (numbers of clicks, masks) IoU of each image; nan where there is no mask."""
    if not scores:
        return (NAN,) * n_numbers
    of_all = np.concatenate(scores, axis=1)  # masks count alike, not images
    return tuple(of_all.mean(axis=1).tolist())


def _probed(
    trained: Backbone, maps: Mapping[str, FeatureMaps], crop: Crop, settings: PretrainSettings
) -> dict[str, Tensor]:
    """(D, h, w) features of a crop by the names of PROBES; those of the teacher only where there are any."""
    features: dict[str, Tensor] = {}
    for name, of_network in maps.items():
        features[name] = of_network[-1][0].cpu()  # (D, g, g)
    of_picture = _features(trained, crop.rgb, PICTURE_NM, crop, settings)
    features["trained, RGB only"] = of_picture[-1][0].cpu()
    if crop.tokens is not None:
        features["teacher"] = crop.tokens
    grid = grid_of(trained)
    features["mean spectrum"] = F.adaptive_avg_pool2d(crop.values[0], grid)  # what needs no network
    return features


@torch.no_grad()
def _features(
    network: Backbone, values: Tensor, bands: Sequence[float], crop: Crop, settings: PretrainSettings
) -> FeatureMaps:
    """Maps of values (1, C, S, S) with band centres (C,), nm, taken from a crop."""
    device = next(network.parameters()).device
    gsd_m = crop.zoom * settings.student.gsd_m  # m per px of the input
    return network.encode(values.to(device), bands, [gsd_m])
