"""Every head with every input: it works from the task file to a picture, or is refused in one sentence."""

from itertools import product

import pytest
from verbs import hvtrain

from hvtrain.downstream.dense_inputs import INPUTS
from hvtrain.heads.table import HEADS, heads_of

PICTURES = {"cube", "pca1", "mean", "rgb", "features-pixels"}
WORKS = (
    {("linear", chosen) for chosen in INPUTS if chosen != "features+cube"}
    | {("ladder", chosen) for chosen in ("features", "features+cube", "features-rgb")}
    | set(product(heads_of("picture"), PICTURES))
)


@pytest.mark.slow
@pytest.mark.parametrize(("head", "chosen"), list(product(HEADS, INPUTS)))
def test_every_choice_works_or_is_one_sentence(task, adapt, own_data, hypersl, backbone, tmp_path, head, chosen):
    source = hypersl if chosen == "features-pixels" else backbone
    said = adapt(task(), "--head", head, "--input", chosen, "--steps", 1, source=source)
    if (head, chosen) not in WORKS:
        assert said.status == 2
        assert len(said.err.strip().splitlines()) == 1
        return
    assert said.status == 0, said.err
    said = hvtrain("predict", said.out.split(": ")[0], own_data / "j.zarr", tmp_path / "j.png")
    assert said.status == 0, said.err
