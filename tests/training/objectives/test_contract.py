"""A new objective is a file and a row: what it needs is made, what it gives is logged and counts."""

import pytest
import torch

from hvtrain.data.batch import Batch
from hvtrain.data.feature_maps import FeatureMaps
from hvtrain.engine.checkpoint import read_checkpoint
from hvtrain.engine.run_folder import RunFiles, read_metrics
from hvtrain.objectives.combined import CombinedObjective
from hvtrain.objectives.contract import Objective
from hvtrain.objectives.table import OBJECTIVES, make_objective
from hvtrain.pretrain import pretrain
from hvtrain.student import make_student

from ..conftest import tiny


class Loudness(Objective):
    """Features shall have a mean square that a head of one number says."""

    needs = frozenset({"features"})
    shown = ("mean_square",)

    def __init__(self, weight):
        self.level = torch.nn.Parameter(torch.tensor(2.0))
        self.weights = {"loudness": weight}
        self.heads = {"level": self.level}

    def __call__(self, batch):
        mean_square = batch.features[-1].square().mean()
        return {"loudness": (mean_square - self.level).square(), "mean_square": mean_square}


def test_a_new_objective_is_trained_logged_and_kept_in_checkpoints(layout, monkeypatch):
    rows = {"loudness": lambda of: Loudness(0.5), **OBJECTIVES}
    monkeypatch.setattr("hvtrain.objectives.table.OBJECTIVES", rows)
    files = RunFiles(pretrain(layout, tiny(run="loud", optimiser={"steps": 2}), distill=False))
    logged = read_metrics(files.metrics)
    assert all(float(row["loudness"]) > 0 and float(row["mean_square"]) > 0 for row in logged)
    assert float(read_checkpoint(files.checkpoint)["objective"]["level"]) != 2.0


def test_the_loss_is_the_weighted_sum_of_the_terms_and_heads_are_parameters():
    objective = CombinedObjective(
        torch.nn.Linear(1, 1), lambda *_: FeatureMaps((torch.ones(1, 1, 2, 2),), (4.0,)), [Loudness(0.5), Quiet()]
    )
    terms = objective(Batch(names=("a",)))
    assert float(terms["loss"].detach()) == pytest.approx(0.5 * (1 - 2) ** 2 + 3.0 * 7)
    assert objective.names == ("loss", "loudness", "mean_square", "quiet")
    assert {name for name, _ in objective.named_parameters()} == {"level", "student.weight", "student.bias"}
    terms["loss"].backward()
    assert objective.level.grad is not None


class Quiet(Objective):
    needs = frozenset()
    weights = {"quiet": 3.0}

    def __call__(self, batch):
        return {"quiet": torch.tensor(7.0)}


def test_maps_are_made_only_for_who_needs_them():
    def refused(*_):
        raise AssertionError("encoded for nobody")

    assert float(CombinedObjective(torch.nn.Linear(1, 1), refused, [Quiet()])(Batch(names=()))["loss"]) == 21


@pytest.mark.parametrize(
    ("loss", "teacher", "terms"),
    [
        ({"dense": 0.0, "shortcut": 0.0}, 0, {"mask", "iou"}),
        ({"dense": 0.3, "shortcut": 1.0}, 0, {"mask", "iou", "shortcut", "dense"}),
        ({"dense": 0.0, "shortcut": 0.0}, 5, {"mask", "iou", "distill"}),
    ],
)
def test_settings_say_which_objectives_there_are_and_these_what_a_batch_must_hold(loss, teacher, terms):
    settings = tiny(loss=loss)
    objective = make_objective(make_student(settings.student, 0), settings, torch.zeros(teacher))
    assert {name for o in objective.objectives for name in o.weights} == terms
    assert ("teacher" in objective.needs) == ("distill" in terms)
    assert {"features", "masks", "weights", "points_xy", "boxes_xyxy", "boxed", "uniform"} <= objective.needs
