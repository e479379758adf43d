"""Small copies of the three sets of HS3-Bench in their real file forms, through the shipped task files."""

import cv2
import numpy as np
import pytest
import raw_files as raw
import yaml

from hvtrain.downstream.adapt import Request, adapt, open_file
from hvtrain.downstream.head_run import HeadFiles
from hvtrain.downstream.place import place_in
from hvtrain.downstream.splits import PARTS, read_list
from hvtrain.downstream.task_file import SHIPPED
from hvtrain.downstream.truth import remapped
from hvtrain.engine.run_folder import read_identity

H, W = 20, 24
VARIABLE = "label_Semantic Classes for Urban Scenes"
STORED = {"hyko2": range(11), "hsidrive": range(11), "hcv2": [*range(19), 255]}  # values that the truth may hold
BANDS = {"hyko2": 15, "hsidrive": 25, "hcv2": 128}


def stored_truth(name, seed):
    rng = np.random.default_rng(seed)
    values = np.array(STORED[name], np.uint8)
    small = rng.choice(values, (H // 4, W // 4))
    return small.repeat(4, axis=0).repeat(4, axis=1)


def write_image(name, folder, entry, cube, truth):
    """One image of a set as it is downloaded. cube: (C, H, W)."""
    if name == "hyko2":
        raw.mat5(folder / entry, data=cube.transpose(1, 2, 0), **{VARIABLE: truth})
    elif name == "hsidrive":
        for part in ("cubes", "labels"):
            (folder / part).mkdir(exist_ok=True)
        raw.mat5(folder / "cubes" / f"{entry}_TC.mat", cube=cube)
        cv2.imwrite(str(folder / "labels" / f"{entry}.png"), truth)
    else:
        n = len(cube)
        scores = cube.transpose(1, 2, 0).reshape(-1, n)
        raw.hsd(folder / entry, (H, W), np.zeros(n), np.eye(n), scores, 450, 4.0, 958)
        cv2.imwrite(str(folder / f"rgb{entry.removesuffix('.hsd')}_gray.png"), truth)


@pytest.fixture
def published(tmp_path):
    """Writes some images of each part of a set, and its task file with lists that name only these."""

    def write(name, **changes):
        data = tmp_path / name
        data.mkdir()
        tree = yaml.safe_load((SHIPPED / f"{name}.yaml").read_text())
        truths = {}
        for k, (part, n) in enumerate(zip(PARTS, (3, 1, 2), strict=True)):
            entries = read_list(SHIPPED / tree["split"]["lists"][part])[:n]
            (tmp_path / f"{part}.csv").write_text("\n".join(entries))
            tree["split"]["lists"][part] = f"{part}.csv"
            for entry in entries:
                truth = stored_truth(name, 10 * k + len(truths))
                cube = truth[None] / 20 + np.random.default_rng(1).uniform(0, 0.1, (BANDS[name], H, W))
                write_image(name, data, entry, cube.astype("f4"), truth)
                truths[part, entry] = truth
        path = tmp_path / f"{name}.yaml"
        tree["recipe"] = {"steps": 2, "batch_images": 2, "validate_every": 2}
        path.write_text(yaml.safe_dump(tree | changes))
        return path, data, truths

    return write


def run(path, data, backbone, tmp_path, **more):
    request = Request(str(path), str(backbone) if backbone else None, data=data, **more)
    folder = adapt(request, place_in(tmp_path / "results"), device="cpu", threads=1)
    files = HeadFiles(folder)
    with np.load(files.tables) as tables:
        return read_identity(files)["facts"], tables["confusion"]


@pytest.mark.parametrize("name", STORED)
@pytest.mark.parametrize("compat", [False, True])
def test_a_small_copy_is_read_trained_on_and_scored_from_end_to_end(published, backbone, tmp_path, name, compat):
    path, data, truths = published(name, hs3bench_compat=compat)
    facts, confusion = run(path, data, backbone, tmp_path, head="linear", input="features")
    settings = open_file(path)[1]
    n_outputs = len(settings.classes) if compat else len(settings.classes) - 1
    assert confusion.shape == (n_outputs, n_outputs)
    assert facts["notes"]["images"] == {"train": 3, "val": 1, "test": 2}
    # rows of the matrix are the true classes: they are known from what was written
    expected = np.zeros(len(settings.classes), int)
    for (part, _), truth in truths.items():
        if part == "test":
            every = settings.images.every_px
            mapped = remapped(truth, settings.truth.mapping)[::every, ::every]
            expected += np.bincount(mapped.ravel(), minlength=len(expected))
    expected[settings.void] = 0
    labelled = expected if compat else np.delete(expected, settings.void)
    np.testing.assert_array_equal(confusion.sum(axis=1), labelled)
    assert {"acc_micro", "acc_macro", "f1_macro", "jaccard"} == facts["scores"]["test"].keys()
    assert "leak" in facts["notes"]


@pytest.mark.parametrize(
    ("name", "chosen", "channels"), [("hyko2", "rgb", 3), ("hsidrive", "pca1", 1), ("hcv2", "cube", BANDS["hcv2"])]
)
def test_pictures_need_no_backbone(published, tmp_path, name, chosen, channels):
    path, data, _ = published(name)
    facts, _ = run(path, data, None, tmp_path, head="linear", input=chosen)
    assert facts["backbone"] == "none"
    n_classes = len(open_file(path)[1].classes) - 1
    assert facts["trainable_parameters"] == 2 * channels + channels * n_classes + n_classes
