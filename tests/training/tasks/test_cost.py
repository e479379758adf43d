"""What encoding costs, against counts by hand."""

from dataclasses import replace

import pytest
from verbs import hvtrain

from hvlabel.config import StudentSettings
from hvtrain.tasks.cost import Asked, cost, cost_table

SIDE_PX = 64


def asked(backbone, n_bands=12, **changes):
    settings = StudentSettings.model_validate({"backbone": backbone, "size": "small", "crop_px": SIDE_PX, **changes})
    return Asked(settings, n_bands, threads=1, repeats=1)


def test_products_are_counted_as_by_hand():
    """HyperSIGMA: a patch embedding, and of each block four products of width x width, two of an MLP, attention's two."""
    width, n_tokens, patch_px, bands = 24, 64, 8, 20
    own = {"width": width, "heads": 2, "depth": 1, "bands": bands}
    counted = cost(asked("hypersigma", hypersigma=own))
    resampling = bands * 12 * SIDE_PX**2
    embedding = n_tokens * bands * patch_px**2 * width
    block = n_tokens * width**2 * (4 + 8) + 2 * n_tokens**2 * width
    assert counted.gmac == pytest.approx((resampling + embedding + block) / 1e9, rel=0.02)


@pytest.mark.parametrize("backbone", ["hyperfree", "specaware", "hypersigma", "hypersl"])
def test_every_backbone_has_a_cost(backbone):
    counted = cost(asked(backbone))
    assert counted.parameters > 10_000
    assert counted.gmac > 0
    assert counted.peak_mib >= 0
    in_half = cost(replace(asked(backbone), bf16=True))
    assert in_half.gmac == counted.gmac
    header, row = cost_table([counted])
    assert header == ["bands", "M parameters", "GMAC", "seconds", "peak MiB"]
    assert row[0] == "12"


def test_the_verb_measures_each_number_of_bands_in_a_process_of_its_own():
    said = hvtrain(
        "cost", "--backbone", "hypersl", "--size", "small", "--side-px", "64", "--bands", "9", "--threads", "1"
    )
    assert said.status == 0, said.err
    assert [line.split("|")[1].strip() for line in said.out.splitlines()] == ["bands", "---", "9"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--bands", "9,x"), "--bands '9,x': expected numbers joined by commas"),
        (("--size", "tiny"), "size: Input should be 'small', 'b', 'l' or 'h'"),
        (("--backbone", "vit"), "'vit' is unknown; there are: hyperfree"),
        (("--side-px", "70"), "crop_px 70 is no multiple of 16"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(options, message):
    said = hvtrain("cost", *options)
    assert said.status == 2
    assert message in said.err
    assert said.err.count("\n") == 1
