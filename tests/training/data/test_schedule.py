"""The order of samples: a pure function of seed and step."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvtrain.data.schedule import BatchOrder, Schedule

IMAGES = [[0, 1, 2, 3, 4], [5, 6], [7]]


@given(st.integers(0, 1000), st.integers(1, 4), st.integers(1, 40))
def test_batches_hold_one_camera_and_show_each_image_before_any_again(seed, batch, steps):
    schedule = Schedule(IMAGES, batch, steps, seed, 2.0)
    seen = [Counter() for _ in IMAGES]
    for step in range(steps):
        images = schedule.images(step)
        camera = int(schedule.cameras[step])
        assert len(images) == batch
        assert set(images) <= set(IMAGES[camera])
        for image in images:
            seen[camera][image] += 1
            counts = [seen[camera][i] for i in IMAGES[camera]]
            assert max(counts) - min(counts) <= 1


@given(st.integers(0, 100), st.integers(0, 19), st.sampled_from([(1, 1), (2, 1), (1, 2), (2, 2), (4, 1)]))
def test_processes_and_parts_share_a_step_exactly_from_any_start(seed, first, shape):
    world, parts = shape
    schedule = Schedule(IMAGES, 4, 20, seed, 1.0)
    whole = list(BatchOrder(schedule, first))
    orders = [list(BatchOrder(schedule, first, rank=r, world=world, parts=parts)) for r in range(world)]
    for step, wanted in enumerate(whole):
        shared = [s for part in range(parts) for order in orders for s in order[step * parts + part]]
        assert shared == wanted
    assert all(len(order) == len(BatchOrder(schedule, first, world=world, parts=parts)) for order in orders)


def test_temperature_evens_out_cameras():
    sizes = [list(range(900)), list(range(900, 1000)), []]
    share = [(Schedule(sizes, 1, 4000, 0, t).cameras == 1).mean() for t in (1.0, 2.0, 1e9)]
    assert share == [pytest.approx(0.1, abs=0.03), pytest.approx(0.25, abs=0.03), pytest.approx(0.5, abs=0.03)]
    assert not (Schedule(sizes, 1, 4000, 0, 1e9).cameras == 2).any()
