"""Masked autoencoding around each backbone that has one: it learns, resumes, draws, and says what cannot be."""

import shutil

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hvlabel.config import MaskedSettings
from hvlabel.errors import BandError, ConfigError
from hvlabel.layout import Layout
from hvtrain.backbones.parts.masking import masking
from hvtrain.backbones.table import BACKBONES, autoencoder_of
from hvtrain.engine.run_folder import RunFiles, read_metrics
from hvtrain.objectives.table import make_objective
from hvtrain.pretrain import pretrain
from hvtrain.student import load_exported, make_student

from ..conftest import tiny

SIDE_PX = 64
NM = [430.0 + 12 * k for k in range(40)]
SMALL = {
    "hypersigma": {"hypersigma": {"width": 24, "heads": 2, "bands": 100, "range_nm": [400, 1000], "spectral": True}},
    "hypersl": {"hypersl": {"width": 16, "heads": 2, "stride_px": 8}},
    "specaware": {"specaware": {"width": 24, "heads": 2}},
}
CASES = [(backbone, name) for backbone, row in BACKBONES.items() for name in row.autoencoders]
RATIOS = {"hypersl": 0.5}  # of nine and of sixteen bands the published .95 keeps none


def settings_of(backbone, objective, **changes):
    student = {"backbone": backbone, "size": "small", "crop_px": SIDE_PX, **SMALL.get(backbone, {})}
    masked = {"mask_ratio": RATIOS.get(backbone), "spectra": 8}
    return tiny(student=student, objective=objective, masked=masked, **changes)


def autoencoder(backbone, name, **masked):
    settings = settings_of(backbone, name)
    student = make_student(settings.student, 0).backbone
    torch.manual_seed(0)
    return student, autoencoder_of(name, student, MaskedSettings(spectra=8, **masked))


def cube(seed=0, n=2):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, len(NM), SIDE_PX, SIDE_PX, generator=generator)


@pytest.mark.parametrize(("backbone", "name"), CASES)
def test_gradients_reach_encoder_and_decoder_and_no_weight_is_there_twice(backbone, name):
    student, of = autoencoder(backbone, name)
    student.train()
    of.reconstruct(cube(), NM, [1.0, 1.0], 3).loss.backward()
    own = {id(p): key for key, p in student.named_parameters()}
    touched = {key for key, p in student.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert len(touched) > 10
    heads = torch.nn.Module()
    for key, head in of.heads.items():
        setattr(heads, key, head)
    learning = [(key, p) for key, p in heads.named_parameters() if p.requires_grad]
    assert learning
    assert all(p.grad is not None for _, p in learning), [key for key, p in learning if p.grad is None]
    assert not [key for key, p in learning if id(p) in own]


@pytest.mark.parametrize(("backbone", "name"), CASES)
def test_what_is_removed_follows_from_the_seed(backbone, name):
    student, of = autoencoder(backbone, name)
    student.train()
    first, again, other = (of.reconstruct(cube(), NM, [1.0, 1.0], seed) for seed in (3, 3, 4))
    assert torch.equal(first.removed, again.removed)
    assert torch.equal(first.loss, again.loss)
    assert not torch.equal(first.removed, other.removed)


@pytest.mark.parametrize(("backbone", "name"), CASES)
def test_spectra_are_given_with_what_was_removed_of_them(backbone, name):
    student, of = autoencoder(backbone, name)
    student.eval()
    said = of.spectra(cube(), NM, [1.0, 1.0], 3)
    assert said.target.shape == said.prediction.shape == said.removed.shape
    assert said.removed.any()
    assert torch.isfinite(said.prediction).all()
    assert not torch.allclose(said.target, said.prediction)


def test_what_is_said_of_removed_patches_comes_from_the_others():
    """Not so in specaware, whose kernels know thumbnails of every band, and in hypersl, whose tokens see neighbours."""
    student, of = autoencoder("hypersigma", "spatial_mae")
    student.eval()
    x = cube()
    said = of.reconstruct(x, NM, [1.0, 1.0], 3)
    cells = SIDE_PX // student.stride_px
    removed_px = torch.nn.functional.interpolate(said.removed.view(2, 1, cells, cells), scale_factor=student.stride_px)
    changed = torch.where(removed_px > 0, torch.rand_like(x), x)
    again = of.reconstruct(changed, NM, [1.0, 1.0], 3)
    assert torch.equal(again.prediction, said.prediction)
    assert again.loss != said.loss


@pytest.mark.parametrize(("backbone", "name"), CASES)
def test_a_few_steps_lower_the_loss_of_one_batch(backbone, name):
    student, of = autoencoder(backbone, name, mask_ratio=0.5)
    student.train()
    heads = [p for h in of.heads.values() for p in ([h] if isinstance(h, torch.nn.Parameter) else h.parameters())]
    x = cube().cumsum(dim=1) / len(NM)  # smooth along the spectrum
    optimiser = torch.optim.AdamW([*student.parameters(), *(p for p in heads if p.requires_grad)], lr=3e-3)
    losses = []
    for _ in range(12):
        optimiser.zero_grad()
        loss = of.reconstruct(x, NM, [1.0, 1.0], 0).loss
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize(("backbone", "name"), CASES)
def test_a_run_is_trained_logged_drawn_and_handed_on(layout, backbone, name):
    files = RunFiles(pretrain(layout, settings_of(backbone, name, run=f"{backbone}-{name}"), distill=False))
    logged = read_metrics(files.metrics)
    assert [float(row[name]) for row in logged] == [float(row["loss"]) for row in logged]
    assert "mask" not in logged[0]
    picture = cv2.imread(str(files.picture(4).with_stem(f"{files.picture(4).stem}_{name}")))
    assert picture.std() > 0
    network = load_exported(files.weights)
    maps = network.encode(torch.rand(1, 31, SIDE_PX, SIDE_PX), np.linspace(420, 900, 31).tolist(), [1.0])
    assert torch.isfinite(maps[-1]).all()


def test_an_interrupted_run_ends_with_the_same_weights_and_objectives_add_up(layout, tmp_path):
    copy = Layout(tmp_path / "results")
    shutil.copytree(layout.root, copy.root, ignore=shutil.ignore_patterns("pretrain"))
    objective = "masks+distil+hyper_mae"
    whole = RunFiles(pretrain(copy, settings_of("specaware", objective, run="whole"), distill=True))
    row = read_metrics(whole.metrics)[0]
    assert {"mask", "iou", "distill", "hyper_mae"} <= set(row)
    half = settings_of("specaware", objective, run="half")
    stopped = half.model_copy(update={"optimiser": half.optimiser.model_copy(update={"steps": 4})})

    class StopError(Exception):
        pass

    import hvtrain.engine.loop as loop

    original = loop.Loop._picture

    def stop_after_the_checkpoint(self, batch):
        if self.step == 3:
            raise StopError
        original(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Loop, "_picture", stop_after_the_checkpoint)
        with pytest.raises(StopError):
            pretrain(copy, stopped, distill=True)
    resumed = RunFiles(pretrain(copy, half, distill=True))
    first, second = (load_file(files.weights) for files in (whole, resumed))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("backbone", "objective", "changes", "message"),
    [
        (
            "hyperfree",
            "hyper_mae",
            {},
            "no masked autoencoder of backbone hyperfree: it has none; hyper_mae is of specaware",
        ),
        ("specaware", "spatial_mae", {}, "it has hyper_mae; spatial_mae is of hypersigma"),
        ("hypersigma", "spectral_mae", {"spectral": False}, "set hypersigma.spectral to true"),
        ("hypersigma", "spectral_mae", {"bands": 20}, "20 cannot be; choose a multiple of 100"),
        ("hypersigma", "spatial_mae", {"attention": "ssa"}, "set hypersigma.attention to mhsa"),
        ("hypersigma", "spatial_mae", {"embedding": "dictionary"}, "set hypersigma.embedding to resampled"),
    ],
)
def test_what_a_backbone_cannot_be_trained_by_is_one_sentence(backbone, objective, changes, message):
    settings = settings_of(backbone, objective)
    own = SMALL.get(backbone, {}).get(backbone, {}) | changes
    student = settings.student.model_dump() | (
        {backbone: {**settings.student.model_dump()[backbone], **own}} if changes else {}
    )
    student = type(settings.student).model_validate(student)
    with pytest.raises(ConfigError, match=message):
        make_objective(make_student(student, 0), settings.model_copy(update={"student": student}), torch.zeros(0))


def test_distillation_alone_needs_a_teacher():
    settings = tiny(objective="distil")
    with pytest.raises(ConfigError, match="leaves nothing to learn from, as there is no teacher"):
        make_objective(make_student(settings.student, 0), settings, torch.zeros(0))


@pytest.mark.parametrize(("objective", "message"), [("mask", "knows no 'mask'"), ("masks+masks", "names one twice")])
def test_an_unknown_objective_is_named(objective, message):
    with pytest.raises(ValueError, match=message):
        tiny(objective=objective)


def test_a_camera_of_too_few_bands_is_named_before_the_first_step(layout):
    settings = settings_of("hypersl", "spectral_mae", run="few")
    published = settings.model_copy(update={"masked": MaskedSettings()})
    with pytest.raises(
        BandError, match=r"camera mosaic .*, spectral_mae: a mask ratio of 0\.95 keeps none of 16 bands"
    ):
        pretrain(layout, published, distill=False)


def test_band_dropout_leaves_an_autoencoder_something(layout):
    """Of sixteen bands .9 keeps one, of fifteen already none."""
    settings = settings_of("hypersl", "spectral_mae", run="dropped", data={"band_dropout": 0.9})
    settings = settings.model_copy(update={"masked": settings.masked.model_copy(update={"mask_ratio": 0.9})})
    files = RunFiles(pretrain(layout, settings, distill=False))
    assert len(read_metrics(files.metrics)) == 4


def test_too_few_bands_for_a_ratio_are_refused_with_the_largest_that_works():
    _, of = autoencoder("hypersl", "spectral_mae")
    with pytest.raises(BandError, match=r"a mask ratio of 0\.95 keeps none of 9 bands.*at most 0\.88"):
        of.reconstruct(cube()[:, :9], NM[:9], [1.0, 1.0], 0)
    assert masking(9, 1, mask_ratio=0.88).n_kept == 1
