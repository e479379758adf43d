"""Verbs on files."""

import numpy as np
import torch
import zarr
from verbs import hvtrain

from hvlabel.cube import open_cube
from hvlabel.models.hyperfree import HyperFreePredictor, load_hyperfree
from hvlabel.models.weights import read_state_dict
from hvtrain.backbones.weights import export
from hvtrain.pretrain import pretrain
from hvtrain.student import make_student

from .conftest import tiny


def test_a_runs_averaged_student_is_exported_and_gives_features_of_a_cube(layout, tmp_path):
    folder = pretrain(layout, tiny(run="exported", student={"crop_px": 128}, optimiser={"steps": 2}), distill=False)
    status, out, _ = hvtrain("export", folder, tmp_path / "s.pth")
    assert (status, out) == (0, f"{tmp_path}/s.pth: 265 tensors, step 2\n")
    final = read_state_dict(folder / "student.safetensors")
    assert all(torch.equal(v, final[k]) for k, v in read_state_dict(tmp_path / "s.pth").items())
    cube_path = layout.cube("vis", "vis31_00")
    status, out, _ = hvtrain("features", cube_path, tmp_path / "f.zarr", "--checkpoint", tmp_path / "s.pth")
    assert status == 0
    assert out.endswith("128 x 16 x 16, 128 x 16 x 16, 128 x 16 x 16, 128 x 16 x 16\n")
    cube, network = open_cube(cube_path), load_hyperfree(final)
    predictor = HyperFreePredictor(network, cube.wavelengths_nm.tolist())
    wanted = predictor.embed(cube.values().transpose(1, 2, 0)).features[0].numpy()
    group = zarr.open_group(tmp_path / "f.zarr", mode="r")
    np.testing.assert_allclose(group["scale3"][:], wanted, atol=1e-6)
    assert group.attrs["stride_px"] == [6.0] * 4  # an image of 96 px on 16 tokens


def test_features_of_a_wide_image_leave_the_padding_out(make_cube, tmp_path):
    values = np.random.default_rng(0).integers(0, 999, (24, 40, 80)).astype("uint16")
    make_cube(tmp_path / "w.zarr", values)
    export(make_student(tiny(student={"crop_px": 128}).student, 0).state_dict(), tmp_path / "s.safetensors")
    status, out, _ = hvtrain(
        "features",
        tmp_path / "w.zarr",
        tmp_path / "f.zarr",
        "--checkpoint",
        tmp_path / "s.safetensors",
    )
    assert (status, out.split(": ")[1]) == (0, ", ".join(["128 x 8 x 16"] * 4) + "\n")


def test_errors_are_one_line(layout, tmp_path):
    for arguments, wanted in (
        (["export", tmp_path, tmp_path / "o.pth"], "no checkpoint; is this the folder of a run?"),
        (["features", tmp_path / "no.zarr", tmp_path / "o", "--checkpoint", "x"], "no such cube"),
        (["fit", "--config", tmp_path / "no.yaml"], "cannot read the file"),
    ):
        status, _, err = hvtrain(*arguments)
        assert status == 2
        assert wanted in err
        assert err.count("\n") == 1
