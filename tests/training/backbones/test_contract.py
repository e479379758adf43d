"""Laws of all backbones, and a second one that is a file and a row: a few lines, trained by the same command."""

import random

import numpy as np
import pytest
import torch
from torch import nn

from hvlabel.config import StudentSettings
from hvlabel.errors import BandError, ConfigError
from hvtrain.backbones.contract import Backbone
from hvtrain.backbones.table import BACKBONES, Row
from hvtrain.backbones.weights import export
from hvtrain.data.feature_maps import FeatureMaps
from hvtrain.engine.run_folder import RunFiles, read_metrics
from hvtrain.heads.prompted import PromptedBackbone, decoder_of
from hvtrain.pretrain import pretrain
from hvtrain.student import grid_of, load_exported, make_student
from hvtrain.tasks.evaluate import evaluate

from ..conftest import tiny


class MeanSpectrum(Backbone):
    """Patches of a few coarse bands through a small network: the least that reads any camera."""

    name = "mean_spectrum"
    input_range = "stored"
    COARSE_NM = tuple(range(350, 2550, 100))

    def __init__(self, side_px, width):
        super().__init__()
        self.side_px, self.stride_px, self.dim = side_px, 4, width
        self.layers = nn.Sequential(
            nn.Conv2d(len(self.COARSE_NM), width, 4, stride=4), nn.GELU(), nn.Conv2d(width, width, 3, padding=1)
        )

    def encode(self, cube, wavelengths_nm, gsd_m, *, rng=None):
        self.require_bands(wavelengths_nm)
        coarse = []
        for start_nm in self.COARSE_NM:
            inside = [k for k, nm in enumerate(wavelengths_nm) if start_nm <= nm < start_nm + 100]
            coarse.append(cube[:, inside].mean(dim=1) if inside else torch.zeros_like(cube[:, 0]))
        maps = self.layers(torch.stack(coarse, dim=1) / 1000)
        return FeatureMaps.of([maps], cube.shape[-1])

    def require_bands(self, wavelengths_nm):
        if not any(350 <= nm < 2550 for nm in wavelengths_nm):
            raise BandError("no band lies in 350-2550 nm")

    def sizes(self):
        return {"side_px": self.side_px, "width": self.dim}


ROW = Row(
    build=lambda settings: MeanSpectrum(settings.crop_px, 32),
    rebuild=lambda sizes: MeanSpectrum(**sizes),
    require_bands=lambda bands: MeanSpectrum.require_bands(None, bands),
)
ALL = {**BACKBONES, MeanSpectrum.name: ROW}
CAMERAS = {
    "few bands": np.linspace(460, 640, 16),
    "many bands": np.linspace(400, 1000, 40)[::-1],
    "infrared": np.linspace(1000, 2400, 30),
}


@pytest.fixture(autouse=True)
def _rows(monkeypatch):
    monkeypatch.setitem(BACKBONES, MeanSpectrum.name, ROW)


def student_of(name, seed=0):
    return make_student(StudentSettings(backbone=name, size="small", crop_px=64), seed).eval()


def cube_of(wavelengths_nm, batch=2):
    values = np.random.default_rng(0).random((batch, len(wavelengths_nm), 64, 64))
    return torch.from_numpy(values).float()


@pytest.mark.parametrize("camera", CAMERAS)
@pytest.mark.parametrize("name", ALL)
def test_any_camera_gives_maps_of_the_promised_width_and_stride(name, camera):
    bands = CAMERAS[camera].tolist()
    student = student_of(name)
    with torch.no_grad():
        features = student.encode(cube_of(bands), bands, [1.0, 2.0])
    last = features[-1]
    grid = grid_of(student)
    assert last.shape == (2, student.dim, grid, grid)
    assert len(features) == len(features.maps) == len(features.strides_px)
    assert features.strides_px[-1] == student.stride_px >= 4
    assert features.side_px == student.side_px == 64
    assert torch.isfinite(last).all()


@pytest.mark.parametrize("name", ALL)
def test_an_images_maps_do_not_depend_on_the_others_of_its_batch(name):
    bands = CAMERAS["few bands"]
    student, cube = student_of(name), cube_of(bands)
    with torch.no_grad():
        whole = student.encode(cube, bands.tolist(), [1.0, 1.0])[-1]
        alone = student.encode(cube[:1], bands.tolist(), [1.0])[-1]
    torch.testing.assert_close(alone, whole[:1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ALL)
def test_without_a_source_of_draws_maps_are_the_same_and_with_one_they_are_its(name):
    bands = CAMERAS["many bands"].tolist()
    student, cube = student_of(name), cube_of(bands)
    with torch.no_grad():
        still = [student.encode(cube, bands, [1.0, 1.0])[-1] for _ in range(2)]
        drawn = [student.encode(cube, bands, [1.0, 1.0], rng=random.Random(5))[-1] for _ in range(2)]
    assert torch.equal(*still)
    assert torch.equal(*drawn)


@pytest.mark.parametrize("name", ALL)
def test_bands_that_cannot_be_read_are_one_sentence(name):
    student = student_of(name)
    with pytest.raises(BandError, match="no band lies in"):
        student.require_bands([3000.0, 3100.0])
    with pytest.raises(BandError, match="no band lies in"):
        student.encode(cube_of([3000.0, 3100.0]), [3000.0, 3100.0], [1.0, 1.0])
    student.require_bands([550.0])


@pytest.mark.parametrize("name", ALL)
def test_an_exported_student_is_made_again_from_its_file(name, tmp_path):
    student = student_of(name, seed=3)
    export(student.state_dict(), tmp_path / "s.safetensors", student.sizes(), student.name)
    again = load_exported(tmp_path / "s.safetensors")
    assert (type(again), again.sizes()) == (type(student), student.sizes())
    bands = CAMERAS["few bands"].tolist()
    with torch.no_grad():
        first, second = (s.encode(cube_of(bands), bands, [1.0, 1.0]) for s in (student, again))
    assert torch.equal(first[-1], second[-1])


@pytest.mark.parametrize("name", ALL)
def test_first_weights_are_drawn_from_the_seed_and_listen_to_prompts(name):
    same, other = student_of(name, seed=1), student_of(name, seed=2)
    again = student_of(name, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(same.state_dict().values(), again.state_dict().values(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(same.parameters(), other.parameters(), strict=True))
    bands = CAMERAS["few bands"].tolist()
    points = torch.tensor([[[8.0, 8.0]], [[50.0, 40.0]]])
    with torch.no_grad():
        neck = same.encode(cube_of(bands, 1), bands, [1.0])[-1]
        logits, _ = decoder_of(same).decode(neck, points_xy=points, labels=torch.ones(2, 1, dtype=torch.int64))
    assert logits.shape[-1] == 4 * grid_of(same)
    assert (logits[0] - logits[1]).std() > 0.05 * logits.std()


def test_a_backbone_without_a_prompt_decoder_is_given_one():
    student = student_of(MeanSpectrum.name)
    assert isinstance(student, PromptedBackbone)
    bands = CAMERAS["few bands"].tolist()
    with torch.no_grad():
        maps = student.encode(cube_of(bands), bands, [1.0, 1.0])
    assert [m.shape[1] for m in maps] == [32, 128]  # its own, then the neck's


def test_a_second_backbone_is_trained_resumed_exported_and_evaluated_by_the_same_commands(layout):
    settings = tiny(run="second", student={"backbone": MeanSpectrum.name, "crop_px": 64}, optimiser={"steps": 3})
    files = RunFiles(pretrain(layout, settings, distill=True))
    rows = read_metrics(files.metrics)
    assert [row["step"] for row in rows] == ["1", "2", "3"]
    assert all(float(row[name]) > 0 for row in rows for name in ("mask", "distill", "dense", "shortcut"))
    assert isinstance(load_exported(files.weights), PromptedBackbone)
    scores = evaluate(layout, settings, distill=True)
    assert all(0 <= value <= 1 for s in scores for value in (*s.clicks, *s.untrained))


def test_an_unknown_backbone_is_one_sentence_with_those_there_are():
    with pytest.raises(ConfigError, match=r"backbone 'none' is unknown; there are: hyperfree, .*mean_spectrum"):
        student_of("none")


def test_the_first_backbone_changes_no_key_and_another_does():
    settings = tiny()
    other = settings.model_copy(update={"student": settings.student.model_copy(update={"backbone": "mean_spectrum"})})
    assert "backbone" not in settings.relevant()["student"]
    assert other.relevant()["student"]["backbone"] == "mean_spectrum"


@pytest.mark.parametrize("name", [name for name in BACKBONES if name != "hyperfree"])
def test_a_backbones_own_settings_are_in_the_key_of_its_runs_alone(name):
    ours = tiny(student={"backbone": name}).relevant()["student"]
    assert ours[name]
    assert not ours.keys() & ({*BACKBONES} - {name, "hyperfree"})
    assert not tiny().relevant()["student"].keys() & {*BACKBONES}


def test_settings_of_another_backbone_are_refused():
    with pytest.raises(ValueError, match="specaware has no size h; choose small, b or l"):
        StudentSettings(backbone="specaware", size="h")
    with pytest.raises(ValueError, match="merging is of hyperfree alone"):
        StudentSettings(backbone="hypersl", merging=True)
    with pytest.raises(ValueError, match="crop_px 100 is no multiple of 8"):
        StudentSettings(backbone="hypersigma", crop_px=100)


@pytest.mark.parametrize("name", [name for name in BACKBONES if name != "hyperfree"])
def test_every_published_backbone_trains_resumes_exports_and_is_evaluated(layout, name, monkeypatch):
    """What breaks off between two steps ends with the weights of a run that did not, its own draws included."""
    student = {"backbone": name, "crop_px": 64}
    unbroken = tiny(run=f"{name}-unbroken", student=student, data={"band_dropout": 0.3})
    files = RunFiles(pretrain(layout, unbroken, distill=True))
    rows = read_metrics(files.metrics)
    assert all(float(row[term]) > 0 for row in rows for term in ("mask", "distill", "dense", "shortcut"))

    broken = unbroken.model_copy(update={"run": f"{name}-broken"})
    kind = type(student_of(name).backbone)
    n_calls, encode = 0, kind.encode

    def breaks_off(self, *arguments, **more):
        nonlocal n_calls
        n_calls += 1
        if n_calls == 4:
            raise KeyboardInterrupt
        return encode(self, *arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(kind, "encode", breaks_off)
        with pytest.raises(KeyboardInterrupt):
            pretrain(layout, broken, distill=True)
    resumed = RunFiles(pretrain(layout, broken, distill=True))
    ours, theirs = load_exported(resumed.weights), load_exported(files.weights)
    assert isinstance(ours, PromptedBackbone)
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))
    scores = evaluate(layout, unbroken, distill=True)
    assert all(0 <= value <= 1 for s in scores for value in (*s.clicks, *s.untrained))


@pytest.mark.parametrize("name", BACKBONES)
def test_recomputing_changes_no_gradient(name):
    bands = CAMERAS["few bands"].tolist()
    gradients = []
    for recompute in (False, True):
        student = student_of(name).train()
        if recompute:
            student.save_memory()
        student.encode(cube_of(bands), bands, [1.0, 1.0], rng=random.Random(3))[-1].square().mean().backward()
        gradients.append([p.grad for p in student.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1])
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again, atol=1e-6, rtol=1e-4)
