"""What a backbone is asked: clicks against plain twins, probes on features that are known to hold the answer or not."""

import numpy as np
import pytest
import torch

from hvtrain.data.corpus import read_corpus
from hvtrain.data.crops import Crops
from hvtrain.data.label_pack import open_pack
from hvtrain.objectives.prompts import correction
from hvtrain.objectives.table import make_objective
from hvtrain.pretrain import pretrain
from hvtrain.student import make_student
from hvtrain.tasks.clicks import click_iou, constant_iou
from hvtrain.tasks.evaluate import PROBES, evaluate
from hvtrain.tasks.probe import probe_miou
from hvtrain.tasks.table import markdown, table

from ..conftest import tiny


class Oracle:
    """Stands for a network: knows the masks, and answers a first click badly, several clicks right."""

    def __init__(self, masks, known_from):
        self.masks, self.known_from, self.calls = masks, known_from, []

    def decode(self, neck, points_xy, labels, masks, multimask):
        self.calls.append((points_xy.clone(), labels.clone(), multimask, masks is not None))
        good = torch.from_numpy(self.masks).float() * 20 - 10
        bad = torch.full_like(good, 10.0)
        answer = good if points_xy.shape[1] >= self.known_from else bad
        n = 3 if multimask else 1
        iou = torch.tensor([[0.1, 0.9, 0.2][:n]] * len(good))
        logits = torch.full((len(good), n, *good.shape[1:]), -10.0)
        logits[:, iou[0].argmax()] = answer
        return logits, iou


def test_clicks_go_where_the_mask_is_wrong():
    masks = np.zeros((1, 16, 16), bool)
    masks[0, 2:7, 2:7] = True
    network = Oracle(masks, known_from=2)
    scores = click_iou(network, torch.zeros(1, 4, 4, 4), masks, (1, 2, 3))
    assert scores.shape == (3, 1)
    assert scores[:, 0].tolist() == [pytest.approx(25 / 256), 1.0, 1.0]
    first, second, third = network.calls
    assert first[0].tolist() == [[[4.0, 4.0]]]
    assert (first[2:], second[2:]) == ((True, False), (False, True))
    assert second[1].tolist() == [[1, 0]]  # everything was taken: the second click says not here
    x, y = second[0][0, 1].int().tolist()
    assert not masks[0, y, x]
    assert third[1].tolist() == [[1, 0, 1]]  # nothing is wrong any more: inside again


def test_the_constant_is_the_best_answer_without_a_prompt():
    masks = np.zeros((3, 8, 8), bool)
    for n, rows in enumerate((4, 5, 6)):
        masks[n, :rows] = True
    assert constant_iou(masks).tolist() == pytest.approx([4 / 5, 1, 5 / 6])


def test_corrections_lie_in_the_error_and_say_what_is_there():
    rng = np.random.default_rng(0)
    mask, target = (torch.from_numpy(rng.random((50, 8, 8)) > 0.5) for _ in range(2))
    mask[0] = target[0]  # nothing wrong
    points, labels = correction(mask, target, torch.from_numpy(rng.random(50)).float(), 32)
    for n in range(50):
        x, y = ((points[n, 0] + 0.5) / 4 - 0.5).round().int().tolist()
        assert bool(target[n, y, x]) == bool(labels[n, 0])
        assert n == 0 or mask[n, y, x] != target[n, y, x]
    assert labels[0, 0] == 1
    hits = {
        tuple(correction(mask[1:2], target[1:2], torch.tensor([u]), 32)[0].flatten().tolist())
        for u in np.linspace(0, 0.999, 400)
    }
    assert len(hits) == int((mask[1] ^ target[1]).sum())  # every wrong pixel is reached


def test_a_probe_reads_what_is_linear_and_nothing_else():
    rng = np.random.default_rng(0)
    images = []
    for _ in range(4):
        classes = rng.integers(0, 3, (4, 4)).repeat(4, 0).repeat(4, 1).astype(np.uint8)
        one_hot = torch.from_numpy(np.eye(3)[classes[::2, ::2]]).permute(2, 0, 1).float()
        classes[0, 0] = 255
        images.append((one_hot, classes))
    assert probe_miou(images[:2], images[2:], 0) > 0.8
    noise = [(torch.from_numpy(rng.normal(size=f.shape)).float(), c) for f, c in images]
    assert probe_miou(noise[:2], noise[2:], 0) < 0.45
    assert np.isnan(probe_miou([], images, 0))


def test_an_evaluated_run_has_a_row_per_camera_and_no_nan(layout, tmp_path):
    settings = tiny(run="evaluated", optimiser={"steps": 2})
    pretrain(layout, settings, distill=True)
    scores = evaluate(layout, settings, distill=True)
    assert [(s.name.split()[0], s.seen) for s in scores] == [("vis", True), ("mosaic", True), ("new", False)]
    for s in scores:
        assert s.truth
        assert s.n_masks > 0
        assert len(s.clicks) == 3
        assert all(0 <= v <= 1 for v in (*s.clicks, *s.untrained, s.constant, *s.probes.values()))
        assert set(s.probes) == set(PROBES)
    rows = table(scores, (1, 3, 5))
    assert len({len(r) for r in rows}) == 1
    assert markdown(rows).count("\n") == len(rows[0]) + 1
    again = evaluate(layout, settings, distill=True)
    assert again == scores


def test_the_objective_learns_a_single_batch(layout):
    settings = tiny(data={"masks_per_image": 4, "flip": False}, prompts={"corrections": 1, "box_share": 0.0})
    corpus = read_corpus(layout, settings.data, distill=True)
    images = corpus.of("train")
    student = make_student(settings.student, 0)
    objective = make_objective(student, settings, torch.from_numpy(corpus.teacher_centre)).train()
    pack = open_pack(layout.root / "pretrain", images)
    batch = Crops(corpus, images, pack, settings, objective.needs, 8, 32).batch([(0, k, k) for k in range(2)])
    optimiser = torch.optim.AdamW(objective.parameters(), 1e-3)
    rows = []
    for _ in range(40):
        terms = objective(batch)
        terms["loss"].backward()
        optimiser.step()
        optimiser.zero_grad()
        rows.append({k: float(v.detach()) for k, v in terms.items()})
    for name in ("loss", "mask", "distill", "dense", "shortcut"):
        assert rows[-1][name] < 0.9 * rows[0][name], name
    objective(batch)["loss"].backward()
    idle = [n for n, p in objective.named_parameters() if p.grad is None and "contras" not in n]
    assert all("point_embeddings" in n or "_bank" in n for n in idle), idle
