"""Whatever is wrong with a task, its data or a choice is one sentence."""

import shutil

import cv2
import numpy as np
import pytest


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"kind": "count"}, "kind 'count' of a downstream task is unknown; there are: segment"),
        ({"classes": ["one"]}, "classes"),
        ({"head": "segformer"}, "head 'segformer' is unknown; there are: linear, ladder"),
        ({"input": "pictures"}, "input 'pictures' is unknown; there are: features"),
        ({"truth": {}}, "give file, variable or demo: there is no truth otherwise"),
        ({"truth": {"file": "truth/{name}.png"}}, "image a: no truth truth/a.png below"),
        ({"truth": {"file": "labels/{stem}.png"}}, "may use {name} only"),
        ({"truth": {"file": "labels/{name}.png", "mapping": {1: 7}}}, "class 7 in its truth, expected 0 to 1 or 255"),
        ({"truth": {"file": "labels/{name}.png", "transpose": True}}, "is 20 x 24 px, its cube 24 x 20 px"),
        (
            {"truth": {"file": "labels/{name}.png", "mapping": {0: 255, 1: 255}}},
            "no pixel of the training part is labelled",
        ),
        ({"images": {"cubes": True, "demo": {"demo": "vis31"}}}, "give one of descriptor, cubes, dataset and demo"),
        ({"images": {"dataset": "nowhere"}}, "no cube .* in it"),
        ({"split": {"shares": {"train": 0.5}}}, "add up to 1, not 0.5"),
        ({"split": {"lists": {"train": "none.txt"}}}, "no readable list of images"),
        ({"split": {"by": "scene"}}, "by: scene needs the group order"),
        ({"split": {"order": {"pattern": "x", "near": 1, "scene_gap": 1}}}, "needs one group in parentheses, it has 0"),
        (
            {"split": {"order": {"pattern": "x(1)", "near": 1, "scene_gap": 1}}},
            "does not tell its place by split.order",
        ),
        ({"classes": {"plain": [0, 0, 300], "thing": [0, 0, 0]}}, "classes.plain.2"),
        ({"classes": ["plain", "plain"]}, "classes name 'plain' twice"),
        ({"classes": [f"c{k}" for k in range(256)]}, "classes: .* at most 255 items"),
        ({"void": 0}, "beside void there is one class only"),
        (
            {"truth": {"file": "labels/{name}.png", "mapping": {1: 0}}},
            "the training part holds one class only, plain: nothing is to be told apart",
        ),
        ({"truth": {"variable": "labels"}}, "image a: its cube does not say which raw file truth.variable is in"),
        ({"input": "rgb", "pseudo_rgb": {"bands": [-1, 0, 1]}}, "pseudo_rgb.bands.0"),
        (
            {"input": "rgb", "pseudo_rgb": {"bands": [2, 0, 1], "ranges": [[0, 1], [1, 1], [0, 1]]}},
            "from 1 to 1 does not",
        ),
        ({"recipe": {"lr": float("inf")}}, "recipe.lr"),
        ({"void": 2}, "void 2 is none of the 2 classes"),
        ({"hs3bench_compat": True}, "hs3bench_compat needs void"),
        ({"recipe": {"steps": 0}}, "recipe.steps"),
        ({"recipes": {}}, "unknown key 'recipes'; did you mean 'recipe'"),
        ({"head": "deeplabv3plus", "input": "cube", "recipe": {"batch_images": 1}}, "batch_images is 1, but its norms"),
    ],
)
def test_a_wrong_task_file(task, adapt, changes, sentence):
    said = adapt(task(**changes))
    assert said.status == 2
    assert len(said.err.strip().splitlines()) == 1
    import re

    assert re.search(sentence, said.err), said.err


@pytest.mark.parametrize(
    ("options", "more", "sentence"),
    [
        (("--head", "unet"), {}, "head unet takes a picture, not the maps of input features"),
        (("--head", "ladder", "--input", "cube"), {}, "head ladder needs maps of a backbone"),
        (("--head", "car"), {}, "head car is for tracking; choose one of linear, ladder, unet"),
        (("--input", "features+cube"), {}, "head linear sees no picture beside its maps"),
        (("--labels", 0), {}, "--labels 0 is no share"),
        (("--labels", 1e-4), {}, "--labels 0.0001: no pixel of"),
        ((), {"source": None}, "input features needs a backbone: give --backbone"),
        ((), {"source": "nowhere.safetensors"}, "no such backbone; give the folder of a finished run"),
        ((), {"data": None}, "where are its images? give their folder with --data"),
    ],
)
def test_a_wrong_choice(task, adapt, options, more, sentence):
    said = adapt(task(), *options, **more)
    assert said.status == 2
    assert sentence in said.err
    assert len(said.err.strip().splitlines()) == 1


def test_an_unknown_task_lists_the_known_ones(adapt):
    assert "known: demo_materials, hcv2, hot2023, hs_sod, hsidrive, hyko2, own_folder" in adapt("cityscapes").err


def test_two_files_of_one_name(copy, task, adapt):
    shutil.copytree(copy / "a.zarr", copy / "more" / "a.zarr")
    assert "would both be image a; correct images.remove or .glob" in adapt(task(), data=copy).err


def test_a_test_part_without_labels_cannot_be_scored(copy, task, adapt):
    for name in "ghi":
        cv2.imwrite(str(copy / "labels" / f"{name}.png"), np.full((24, 20), 255, np.uint8))
    assert "no pixel of the test part is labelled: nothing could be scored" in adapt(task(), data=copy).err


@pytest.fixture
def copy(own_data, tmp_path):
    return shutil.copytree(own_data, tmp_path / "copy")


def test_damaged_and_wrong_truth_files(copy, task, adapt):
    label = copy / "labels" / "a.png"
    sound = label.read_bytes()
    label.write_bytes(sound[:60])
    assert "not a readable label picture" in adapt(task(), data=copy).err
    cv2.imwrite(str(label), np.zeros((24, 20, 3), np.uint8))
    assert "a picture of mode RGB, expected one number a pixel" in adapt(task(), data=copy).err
    label.write_bytes(sound)
    (copy / "more" / "labels").mkdir(parents=True)
    shutil.copy(label, copy / "more" / "labels" / "a.png")
    assert "image a: 2 truth files labels/a.png below" in adapt(task(), data=copy).err


def test_images_of_two_cameras_share_maps_but_no_picture(copy, task, adapt, make_cube):
    shutil.rmtree(copy / "b.zarr")
    make_cube(copy / "b.zarr", np.random.default_rng(0).random((4, 24, 20)).astype("f4"))
    said = adapt(task(), "--input", "cube", data=copy)
    assert "input cube needs images of one camera; choose input features" in said.err
    assert adapt(task(), data=copy).status == 0
