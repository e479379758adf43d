"""Heads of HS3-Bench through the table, against recorded output of the published networks."""

import importlib.util
import json

import numpy as np
import pytest
import torch

from hvlabel.errors import ConfigError, WeightsError
from hvtrain.heads.table import HEADS, build_head, load_head

from ..backbones.recordings import close, listing, recording, shapes

COUNTED = ((15, 11), (25, 10), (128, 20), (3, 10), (1, 10))
PUBLISHED = {"unet": "unet", "runet": "runet", "agunet": "agunet", "deeplabv3plus": "deeplabv3plus_mobilenet"}


@pytest.fixture(scope="module")
def oracle(shared):
    return shared / "oracle" / "runet"


def without_counters(state):
    """A recorded state dict; counters of batches, which change nothing, may be left out of it."""
    return {name: tensor for name, tensor in state.items() if not name.startswith("__")}


@pytest.mark.parametrize(
    ("topology", "size"),
    [
        ("agunet_c25_k10", "37x51"),
        ("agunet_c25_k10", "33x17"),
        ("agunet_c25_k10", "64x48"),
        ("agunet_c128_k20", "37x51"),
    ],
)
@torch.no_grad()
def test_every_level_of_the_gated_network_gives_the_recorded_output(oracle, topology, size):
    _, _, state = recording(oracle / f"{topology}_weights.npz")
    _, _, r = recording(oracle / f"{topology}_{size}.npz")
    network = load_head("agunet", without_counters(state))
    levels = {}
    for name in ("inc", "down1", "down2", "down3", "down4", "up1", "up2", "up3", "up4"):
        getattr(network, name).register_forward_hook(lambda _, __, out, name=name: levels.update({name: out}))
    for k in range(1, 5):
        gate = getattr(network, f"ag{k}")
        gate.register_forward_hook(lambda _, __, out, k=k: levels.update({f"ag{k}_gated": out}))
        gate.register_forward_hook(lambda m, given, __, k=k: levels.update({f"ag{k}_coeff": m.weights(*given)}))
    close(network(r["x"]), r["logits"])
    compared = levels.keys() & r.keys()
    assert {"down4", "up1", "ag4_coeff"} <= compared
    for name in compared:
        close(levels[name], r[name])


@pytest.mark.parametrize("name", ["runet", "unet"])
@torch.no_grad()
def test_the_loader_takes_files_of_the_benchmarks_own_training(oracle, name):
    topology = {"runet": "runet_c25_k10_dr6", "unet": "unet_c15_k11"}[name]
    _, _, state = recording(oracle / f"{topology}_weights.npz")
    _, _, r = recording(oracle / f"{topology}_37x51.npz")
    saved = {f"model.{key}": tensor for key, tensor in without_counters(state).items()}
    network = load_head(name, saved | {"criterion.weight": torch.ones(10)})
    close(network(r["x"]), r["logits"])


def filled(network, shared, seed):
    """The state dict that the recording was made with: filled by its rule, then kept in bounds."""
    path = shared / "oracle" / "hyperfree" / "fill_rule.py"
    spec = importlib.util.spec_from_file_location("fill_rule", path)
    rule = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rule)
    floats = {name: tensor for name, tensor in network.state_dict().items() if tensor.is_floating_point()}
    state = rule.fill_sorted(floats, seed)
    for name, value in state.items():
        if name.endswith("running_var"):
            state[name] = value.abs() / 4 + 0.5
        elif name.endswith("running_mean"):
            state[name] = value - 1
        elif value.dim() == 4 and value.shape[1] > 1:
            state[name] = 1.5 * value
    return network.state_dict() | state


@torch.no_grad()
def test_deeplab_gives_the_recorded_fingerprint(oracle, shared):
    facts, _, r = recording(oracle / "deeplabv3plus_mobilenet_c25_k10_45x67.npz")
    network = build_head("deeplabv3plus", 25, 10)
    network = load_head("deeplabv3plus", filled(network, shared, facts["seed"]))
    parts = {}
    network.input_layer.register_forward_hook(lambda _, __, out: parts.update(input_layer=out))
    network.backbone.register_forward_hook(
        lambda _, __, out: parts.update(low_level=out[0][:, ::2], out=out[1][:, ::5])
    )
    network.classifier.aspp.register_forward_hook(lambda _, __, out: parts.update(aspp=out[:, ::4]))
    network.classifier.register_forward_hook(lambda _, __, out: parts.update(head=out))
    logits = network(r["x"])
    parts["logits_sub"] = logits[:, :, ::3, ::3]
    for name, value in parts.items():
        # logits reach 53; the tests' kernels, the same bits on a busy machine, add up in another order
        close(value, r[name], atol=1e-5 * float(r[name].abs().max()))
    assert parts.keys() == {"input_layer", "low_level", "out", "aspp", "head", "logits_sub"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes_have_the_published_names_and_counts(oracle, name):
    counts = json.loads((oracle / "param_counts.json").read_text())
    for n_channels, n_classes in COUNTED:
        with torch.device("meta"):
            network = build_head(name, n_channels, n_classes)
        sizes = f"{PUBLISHED[name]}_{n_channels}ch_{n_classes}cls"
        assert sum(p.numel() for p in network.parameters()) == counts[sizes]
        names = oracle / f"keys_{sizes}.txt"
        if names.exists():
            assert shapes(network) == listing(names)


@pytest.mark.parametrize("name", PUBLISHED)
@torch.no_grad()
def test_what_is_saved_is_loaded_again(name):
    torch.manual_seed(0)
    options = {} if name == "deeplabv3plus" else {"width": 2}
    network = build_head(name, 5, 4, **options).eval()
    x = torch.rand(1, 5, 33, 47)
    saved = {key: tensor.numpy() for key, tensor in network.state_dict().items() if "num_batches" not in key}
    again = load_head(name, saved)
    np.testing.assert_array_equal(again(x), network(x))
    assert network(x).shape == (1, 4, 33, 47)


def test_another_heads_weights_are_refused():
    state = build_head("agunet", 3, 2, width=2).state_dict()
    for name in HEADS.keys() - {"agunet"}:
        with pytest.raises(WeightsError, match=f"not of the head {name}"):
            load_head(name, state)
    with pytest.raises(ConfigError, match="head 'segformer' is unknown; there are: linear, ladder, unet"):
        build_head("segformer", 3, 2)


@pytest.mark.parametrize("name", [name for name, row in HEADS.items() if row.takes == "picture"])
def test_what_is_no_state_dict_is_one_sentence(name):
    whole = {"state_dict": dict(build_head(name, 3, 2).state_dict()), "epoch": 3}
    with pytest.raises(WeightsError, match="give the entry state_dict"):
        load_head(name, whole)
    with pytest.raises(WeightsError, match="not of the head"):
        load_head(name, {"inc.double_conv.0.weight": np.zeros(3)})


@pytest.mark.parametrize(
    ("name", "sizes", "options", "message"),
    [
        ("linear", (3, 3), {}, "see build_head for its options"),
        ("agunet", (3, 3), {"reduced": 3}, "see build_head for its options"),
        ("unet", (0, 3), {}, "0 channels and 3 classes"),
        ("ladder", (0, 0), {"width": 64}, "0 channels and 0 classes"),
    ],
)
def test_a_head_that_cannot_be_is_one_sentence(name, sizes, options, message):
    with pytest.raises(ConfigError, match=message):
        build_head(name, *sizes, **options)


@pytest.mark.parametrize("name", ["unet", "runet", "agunet"])
def test_too_small_an_image_is_one_sentence(name):
    with pytest.raises(ConfigError, match=r"an image of 16 x 15 px; this head .* give 16 px a side"):
        build_head(name, 3, 2, width=8)(torch.zeros(1, 3, 16, 15))
