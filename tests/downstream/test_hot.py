"""A small copy of HOT 2023 in its real file form, three cameras of mosaics, through the shipped task with each head."""

import json

import cv2
import numpy as np
import pytest
import yaml
from verbs import hvtrain

from hvtrain.backbones.table import BACKBONES
from hvtrain.downstream.sequences import BOXES_FILE, read_boxes
from hvtrain.downstream.task_file import SHIPPED

from .light import ROW, Bins, write_backbone

CAMERAS = {"HSI-VIS": 4, "HSI-NIR": 5, "HSI-RedNIR": 4}  # cells along a side of the mosaic's pattern
SIDE_PX, N_FRAMES, OBJECT_PX = 40, 3, 12


@pytest.fixture(autouse=True)
def _row(monkeypatch):
    monkeypatch.setitem(BACKBONES, Bins.name, ROW)


@pytest.fixture(scope="module")
def hot(tmp_path_factory):
    """training/ and validation/ with a folder per camera, two and one sequences each. Only to be read."""
    root = tmp_path_factory.mktemp("hot")
    rng = np.random.default_rng(0)
    for camera, cells in CAMERAS.items():
        for part, names in (("training", ("ball", "car")), ("validation", ("rider",))):
            for name in names:
                folder = root / part / camera / name
                folder.mkdir(parents=True)
                boxes = []
                for k in range(N_FRAMES):
                    bands = rng.integers(90, 110, (cells * cells, SIDE_PX, SIDE_PX))
                    x, y = 8 + 3 * k, 10 + 2 * k
                    bands[::2, y : y + OBJECT_PX, x : x + OBJECT_PX] += 200
                    mosaic = np.zeros((SIDE_PX * cells, SIDE_PX * cells), np.uint16)
                    for band, values in enumerate(bands):
                        mosaic[band // cells :: cells, band % cells :: cells] = values
                    cv2.imwrite(str(folder / f"{k + 1:04d}.png"), mosaic)
                    boxes.append(f"{x}\t{y}\t{OBJECT_PX}\t{OBJECT_PX}\n")
                (folder / BOXES_FILE).write_text("".join(boxes))
    return root


@pytest.mark.parametrize(("head", "shown"), [("center", "features"), ("xcorr", "features"), ("car", "features-rgb")])
def test_three_cameras_are_learnt_scored_and_followed(hot, tmp_path, head, shown):
    tree = yaml.safe_load((SHIPPED / "hot2023.yaml").read_text())
    tree["recipe"] = {"steps": 4, "batch_images": 2, "warmup_steps": 0, "validate_every": 4}
    task = tmp_path / "hot.yaml"
    task.write_text(yaml.safe_dump(tree | {"width": 16}))
    backbone = write_backbone(tmp_path / "bins.safetensors", side_px=40)
    shared = ("--results", tmp_path / "results", "--threads", 1, "--device", "cpu")
    chosen = ("--head", head, "--input", shown)
    said = hvtrain("adapt", task, "--backbone", backbone, "--data", hot, *chosen, *shared)
    assert said.status == 0, said.err
    folder = said.out.splitlines()[-1].split(": ")[0]
    with open(f"{folder}/run.json") as file:
        facts = json.load(file)
    scores = facts["scores"]["test"]
    assert {f"auc_{name}" for name in ("vis", "nir", "rednir")} < scores.keys()
    assert scores["auc_of_cameras"] == pytest.approx(np.mean([scores[f"auc_{n}"] for n in ("vis", "nir", "rednir")]))
    assert facts["notes"]["sequences"] == {"train": 5, "val": 1, "test": 3}
    for camera in CAMERAS:
        sequence = hot / "validation" / camera / "rider"
        said = hvtrain("predict", folder, sequence, tmp_path / "boxes.txt")
        assert said.status == 0, said.err
        assert read_boxes(tmp_path / "boxes.txt").shape == (N_FRAMES, 4)
