"""Rates, decays and averaged weights."""

import pytest
import torch

from hvtrain.engine.optimiser import cosine_rate, moving_average, parameter_groups

from ..conftest import tiny


def test_rates_rise_and_fall_and_depend_on_inputs():
    settings = tiny(optimiser={"steps": 100, "warmup_steps": 10, "lr_fan_in": 64, "decoder_lr": 0.5}).optimiser
    factors = [cosine_rate(step, settings) for step in range(100)]
    assert factors[0] == 0.1
    assert max(factors) == factors[9] == 1
    assert sorted(factors[10:], reverse=True) == factors[10:]
    assert factors[-1] == pytest.approx(0.01, abs=1e-3)
    module = torch.nn.Module()
    module.wide, module.narrow = torch.nn.Linear(256, 2), torch.nn.Linear(8, 2)
    module.student = torch.nn.Module()
    module.student.prompt_encoder = torch.nn.Linear(8, 1, bias=False)
    found = {
        (g["peak_lr"] / settings.lr, g["weight_decay"] > 0): len(g["params"])
        for g in parameter_groups(module, settings)
    }
    assert found == {(0.25, True): 1, (1.0, True): 1, (1.0, False): 2, (0.5, True): 1}


@pytest.mark.parametrize(("first", "share"), [(0.02, 0.02), (-0.5, 0.5), (0.0, 1.0), (3.0, 1.0)])
def test_a_gate_moves_in_proportion_to_its_first_value(first, share):
    settings = tiny().optimiser
    module = torch.nn.Module()
    module.gate = torch.nn.Parameter(torch.tensor(first))
    (group,) = parameter_groups(module, settings)
    assert group["peak_lr"] / settings.lr == pytest.approx(share)


def test_averaged_weights_forget_the_first_ones_and_follow_slowly():
    network = torch.nn.Linear(1, 1, bias=False)
    average = moving_average(network, 0.99)
    wanted = None
    for n in range(2000):
        torch.nn.init.constant_(network.weight, float(n))
        average.update_parameters(network)
        decay = min(0.99, (1 + n) / (10 + n))
        wanted = float(n) if wanted is None else decay * wanted + (1 - decay) * n
        if n == 30:
            assert average.module.weight.item() > 20  # a plain average of this decay would stand at 4
    assert average.module.weight.item() == pytest.approx(wanted, rel=1e-5)
    assert 1999 - average.module.weight.item() == pytest.approx(99, abs=1)
