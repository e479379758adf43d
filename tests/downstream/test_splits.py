"""Parts of a task's images: drawn, listed, by scene, and how near they lie."""

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hvlabel.errors import ConfigError
from hvtrain.downstream.splits import PARTS, labelled_share, leak_of, read_list, scenes_of, split_of
from hvtrain.downstream.task_file import SHIPPED, OrderSettings, SplitSettings

COUNTS = {"hyko2": (81, 32, 49), "hsidrive": (451, 150, 151), "hcv2": (527, 105, 422)}
ORDER = {"pattern": r"(\d+)", "near": 1, "scene_gap": 2}


def shipped(name):
    """Settings and names of a shipped split, as if all images were there."""
    split = yaml.safe_load((SHIPPED / f"{name}.yaml").read_text())["split"]
    lists = {part: str(SHIPPED / file) for part, file in split["lists"].items()}
    names = [entry.rpartition(".")[0] or entry for file in lists.values() for entry in read_list(SHIPPED / file)]
    return split | {"lists": lists}, names


@pytest.mark.parametrize("name", COUNTS)
def test_shipped_lists_are_disjoint_and_have_the_published_sizes(name):
    settings, names = shipped(name)
    parts = split_of(names, SplitSettings(**settings))
    assert tuple(len(parts[part]) for part in PARTS) == COUNTS[name]
    assert len({n for part in PARTS for n in parts[part]}) == sum(COUNTS[name])


def test_the_leak_of_hcv2_is_what_its_names_tell():
    """Half of its test frames were taken within 16 s of a training frame, a quarter within 10 s."""
    settings, names = shipped("hcv2")
    split = SplitSettings(**settings)
    parts = split_of(names, split)
    leak = leak_of(parts["train"], parts["test"], split.order)
    assert leak.median_gap == pytest.approx(16, abs=1)
    assert leak.quarter_gap == pytest.approx(10, abs=0.5)
    assert leak.near_share >= 0.25
    assert "of the test frames lie within 10 of a training frame" in leak.sentence("test")
    by_scene = split_of(names, SplitSettings(**settings, by="scene"))
    apart = leak_of(by_scene["train"], by_scene["test"], split.order)
    assert apart.near_share == 0
    assert len(by_scene["test"]) == pytest.approx(422, rel=0.1)


@given(st.sets(st.integers(0, 400), min_size=8, max_size=40), st.integers(0, 5))
def test_scenes_are_never_torn(numbers, seed):
    names = [f"f{n:03d}" for n in numbers]
    order = OrderSettings(**ORDER)
    scenes = scenes_of(names, order)
    assert sorted(n for scene in scenes for n in scene) == sorted(names)
    settings = SplitSettings(by="scene", order=ORDER, seed=seed, shares={"train": 0.5, "test": 0.5})
    try:
        parts = split_of(names, settings)
    except ConfigError:
        assert len(scenes) == 1  # it cannot be on both sides
        return
    of = {name: part for part in PARTS for name in parts[part]}
    assert all(len({of[name] for name in scene}) == 1 for scene in scenes)
    assert leak_of(parts["train"], parts["test"], order).near_share == 0


@given(st.integers(1, 200), st.floats(0.5, 100), st.floats(0.5, 100), st.integers(0, 3))
def test_smaller_shares_of_labels_are_part_of_larger_ones(n, one, other, seed):
    names = [f"n{k}" for k in range(n)]
    (few, pixels), (many, more_pixels) = (labelled_share(names, p, seed) for p in sorted((one, other)))
    assert set(few) <= set(many)
    assert len(few) * pixels <= len(many) * more_pixels + 1e-9
    assert len(few) == max(1, round(min(one, other) / 100 * n))
    assert labelled_share(names, 100, seed) == (names, 1.0)


def test_below_one_image_a_share_of_its_pixels_is_left():
    assert labelled_share(["a", "b", "c", "d"], 1, 0)[1] == pytest.approx(0.04)


@pytest.mark.parametrize("per_cent", [0, -1, 101, float("nan")])
def test_what_is_no_share_is_refused(per_cent):
    with pytest.raises(ConfigError, match=r"--labels .* is no share; give per cent above 0 and up to 100"):
        labelled_share(["a"], per_cent, 0)


def lists(folder, **parts):
    for part, text in parts.items():
        (folder / part).write_text(text)
    return SplitSettings(lists={part: str(folder / part) for part in parts})


@pytest.mark.parametrize(
    ("train", "test", "sentence"),
    [
        ("a\nz.mat\n", "b\n", r"train: names 1 images that are not there, e.g. z.mat; restore them, or set split"),
        ("a\nb\n", "b.mat\n", "test: image b is in train already; name it once"),
        ("\n", "b\n", "train: an empty list; name at least one image"),
        ("a\n", "\udcff", "no readable list"),
    ],
)
def test_wrong_lists_are_one_sentence(tmp_path, train, test, sentence):
    settings = lists(tmp_path, train=train, test="b")
    (tmp_path / "test").write_bytes(test.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError, match=sentence):
        split_of(["a", "b"], settings)


def test_missing_images_may_be_left_out_but_a_part_may_not_be_empty(tmp_path):
    settings = lists(tmp_path, train="a\nz\n", test="b").model_copy(update={"allow_missing": True})
    assert split_of(["a", "b"], settings) == {"train": ["a"], "val": [], "test": ["b"]}
    with pytest.raises(ConfigError, match="no image is left for test"):
        split_of(["a"], settings)
    with pytest.raises(ConfigError, match=r"image x: its name does not tell its place by split.order.pattern"):
        scenes_of(["x"], OrderSettings(**ORDER))


def test_shares_lose_no_image_and_depend_on_the_seed():
    names = [f"n{k}" for k in range(11)]
    parts = split_of(names, SplitSettings())
    assert sorted(n for part in PARTS for n in parts[part]) == sorted(names)
    assert [len(parts[part]) for part in PARTS] == [7, 2, 2]
    assert parts == split_of(names[::-1], SplitSettings())
    assert parts != split_of(names, SplitSettings(seed=1))
    assert np.isclose(sum(SplitSettings().shares.values()), 1)
