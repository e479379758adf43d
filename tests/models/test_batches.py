"""How much a device decodes at once."""

import torch

from hvlabel.models.batches import Ceilings, bytes_per_point, in_batches, plan_points
from hvlabel.models.decoder import MaskDecoder


def test_a_short_last_part_that_fails_once_lowers_nothing_for_good():
    ceilings, tried = Ceilings(), []

    def call(part):
        tried.append(part.stop - part.start)
        if tried[-1] == 5 and tried.count(5) == 1:
            raise torch.OutOfMemoryError
        return part

    parts = [p for p, _ in in_batches(69, 64, ceilings, "points", call)]
    assert tried == [64, 5, 2, 2, 1]
    assert [p.stop for p in parts] == [64, 66, 68, 69]
    assert ceilings.lowered() == {}


def test_the_plan_grows_with_the_network_and_the_image():
    decoder, ceilings = MaskDecoder(8, num_heads=2, mlp_hidden=8, iou_hidden=8), Ceilings()
    small, fine, large = (bytes_per_point(decoder, g, s) for g, s in ((8, 128), (16, 128), (8, 1024)))
    assert small < fine
    assert large - small == 3 * 9 * (1024**2 - 128**2)
    assert plan_points(64, small, torch.device("cpu"), ceilings) == ""
    assert ceilings.lowered() == {}
