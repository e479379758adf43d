"""Recipe of the quality predictor: from runs on generated scenes to resources/models/quality.json.

python -m hvtrain.recipes.quality OUT.json RESULTS [RESULTS ...]

Each results folder holds demo scenes with their masks (config/quality_scenes.yaml makes one); what is learned of them
is said in quality_examples. The fit minimises cross-entropy against the IoU, so its output is an estimate of it; a
monotone curve fitted on scenes that training did not see takes out what is left.
"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from hvlabel.cache.publish import publish_bytes
from hvlabel.errors import HvError
from hvlabel.quality import NAMES
from hvtrain.recipes.calibration import monotone
from hvtrain.recipes.quality_examples import CORRUPTED_WEIGHT, Examples, collect

SEED = 20
# several small networks: their mean depends less on a seed than each of them
MEMBERS, HIDDEN = 5, (32, 16)
STEPS, BATCH, RATE, DECAY = 1500, 1024, 4e-3, 2e-3
INPUT_JITTER = 0.1  # deviations added to a feature, which has spread 1: scenes are not learned by heart
HELD_OUT = 4  # every fourth scene decides the curve
QUANTILES = (0.002, 0.998)  # range of a feature in training: one outlier shall not set its scale
MIN_SPREAD = 1e-6  # of a feature that is the same in all examples
DIGITS = 4  # of the numbers in the file


def fit(examples: Examples, seed: int = SEED) -> dict[str, object]:
    """The content of a predictor's file, as hvlabel.quality reads it.

    seed : of the first of MEMBERS networks; the others take the next ones
    """
    held_out = examples.scene % HELD_OUT == HELD_OUT - 1  # whole scenes: masks of one scene are alike
    low, high = np.quantile(examples.features, QUANTILES, axis=0)  # each (F,)
    clipped = np.clip(examples.features, low, high)
    centre = clipped.mean(axis=0)
    spread = np.maximum(clipped.std(axis=0), MIN_SPREAD)
    scaled = (clipped - centre) / spread  # as the predictor scales what it is given
    x = torch.tensor(scaled, dtype=torch.float32)  # (N, F)
    target = torch.tensor(examples.iou, dtype=torch.float32)  # (N,)
    weight = torch.tensor(examples.weight, dtype=torch.float32)  # (N,)
    learn = torch.from_numpy(~held_out)
    members, outputs = [], []
    for member in range(MEMBERS):
        network = _train(x[learn], target[learn], weight[learn], seed + member)
        with torch.no_grad():
            logits = network(x)[:, 0]
        outputs.append(torch.sigmoid(logits).numpy())
        members.append(_plain_layers(network))
    real = held_out & (examples.weight > CORRUPTED_WEIGHT)  # the curve is of what branches made, which weighs more
    predicted = np.mean(outputs, axis=0)  # (N,)
    knots = monotone(predicted[real], examples.iou[real])
    n_scenes = int(examples.scene.max()) + 1
    return {
        "features": list(NAMES),
        "low": _short(low),
        "high": _short(high),
        "centre": _short(centre),
        "spread": _short(spread),
        "members": members,
        "knots": _short(knots),
        "trained_on": {"scenes": n_scenes, "masks": len(examples.iou), "seed": seed},
    }


def _train(x: torch.Tensor, target: torch.Tensor, weight: torch.Tensor, seed: int) -> nn.Sequential:
    """One network from features (N, F) to a logit (N, 1) of the IoU, target (N,), each example with its weight (N,)."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)  # of the first weights
    sizes = [x.shape[1], *HIDDEN]
    layers: list[nn.Module] = []
    for n_inputs, n_outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(n_inputs, n_outputs), nn.Tanh()]
    last = nn.Linear(sizes[-1], 1)
    network = nn.Sequential(*layers, last)
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=DECAY)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=STEPS)
    for _ in range(STEPS):
        rows = torch.randint(len(x), (BATCH,), generator=generator)
        deviations = torch.randn(len(rows), x.shape[1], generator=generator)
        jitter = deviations * INPUT_JITTER
        logits = network(x[rows] + jitter)[:, 0]
        # cross-entropy against an IoU is least where the output is its mean: no ranking, an estimate
        loss = nn.functional.binary_cross_entropy_with_logits(logits, target[rows], weight[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        rate.step()
    return network


def _plain_layers(network: nn.Sequential) -> list[list[object]]:
    """[weight (inputs, outputs), bias] of each linear layer, as lists."""
    plain = []
    for layer in network:
        if isinstance(layer, nn.Linear):
            weight = layer.weight.detach().numpy()  # (outputs, inputs), as torch has it
            bias = layer.bias.detach().numpy()
            plain.append([_short(weight.T), _short(bias)])
    return plain


def _short(values: np.ndarray) -> object:
    """Numbers of DIGITS digits, as lists."""
    numbers = np.asarray(values, float).tolist()
    text = json.dumps(numbers)
    # rounded as they are read back, however deep the lists are
    return json.loads(text, parse_float=_rounded)


def _rounded(number: str) -> float:
    return float(f"{float(number):.{DIGITS}g}")


def main() -> None:
    """Train on the runs named and write the predictor."""
    if len(sys.argv) < 3:
        raise SystemExit("python -m hvtrain.recipes.quality OUT.json RESULTS [RESULTS ...]")
    out, *folders = (Path(argument) for argument in sys.argv[1:])
    torch.set_num_threads(1)  # the same bytes each time
    try:
        examples = collect(folders, np.random.default_rng(SEED))
    except HvError as error:
        raise SystemExit(str(error)) from None
    content = fit(examples)
    text = json.dumps(content, separators=(",", ":"))
    publish_bytes(out, f"{text}\n".encode())
    print(f"{out}: {content['trained_on']}")  # noqa: T201 (the answer)


if __name__ == "__main__":
    main()
