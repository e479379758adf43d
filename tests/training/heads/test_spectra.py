"""RU-Net against recorded output of the published network, and HyperSL under both of its heads."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from hvtrain.backbones.hypersl import HyperSlEncoder, Sizes
from hvtrain.heads.spectra import SpectralSegmentation, SpectrumClassifier
from hvtrain.heads.unet import UNet

from ..backbones.recordings import close, listing, recording, shapes

SMALL = Sizes(width=16, depth=2, heads=2, table_bands=1)
NM = np.linspace(420, 980, 9).tolist()
PARTS = ("inc", "down1", "down2", "down3", "down4", "up1", "up2", "up3", "up4")


@pytest.fixture(scope="module")
def oracle(shared):
    return shared / "oracle" / "runet"


def unet_of(config):
    return UNet(
        config["n_channels"],
        config["n_classes"],
        width=config["base_width"],
        norms=config["batch_norm"],
        dropout=config["dropout"],
        reduced=config["dim_reduction"],
    )


@pytest.mark.parametrize(
    ("topology", "size"),
    [
        ("runet_c25_k10", "37x51"),
        ("runet_c25_k10", "33x17"),
        ("runet_c25_k10", "64x48"),
        ("runet_c25_k10_dr6", "37x51"),
        ("runet_c128_k20", "37x51"),
        ("unet_c15_k11", "37x51"),
        ("unet_c15_k11", "33x17"),
    ],
)
@torch.no_grad()
def test_every_level_gives_the_recorded_output(oracle, topology, size):
    config, _, state = recording(oracle / f"{topology}_weights.npz")
    _, _, r = recording(oracle / f"{topology}_{size}.npz")
    network = unet_of(config)
    network.load_state_dict(state, strict=False)
    levels = {}
    for name in PARTS:
        getattr(network, name).register_forward_hook(lambda _, __, out, name=name: levels.update({name: out}))
    logits = network.eval()(r["x"])
    for name in set(PARTS) & r.keys():
        close(levels[name], r[name])
    close(logits, r["logits"])


@pytest.mark.parametrize(("kind", "norms"), [("runet", True), ("unet", False)])
def test_published_sizes_have_the_published_names_shapes_and_counts(oracle, kind, norms):
    counts = json.loads((oracle / "param_counts.json").read_text())
    for n_channels, n_classes in ((15, 11), (25, 10), (128, 20), (256, 10)):
        with torch.device("meta"):
            network = UNet(n_channels, n_classes, norms=norms)
        assert sum(p.numel() for p in network.parameters()) == counts[f"{kind}_{n_channels}ch_{n_classes}cls"]
        path = oracle / f"keys_{kind}_{n_channels}ch_{n_classes}cls.txt"
        if path.exists():
            assert shapes(network) == listing(path)


def cube_of(side=18):
    return torch.rand(2, 9, side, side, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_each_pixel_is_classified_by_its_own_spectrum():
    network, x = SpectrumClassifier(HyperSlEncoder(SMALL), 5).eval(), cube_of()
    logits = network(x, NM)
    assert logits.shape == (2, 5, 18, 18)
    torch.testing.assert_close(network(x[:, :, 3:4, 7:8], NM), logits[:, :, 3:4, 7:8], atol=1e-5, rtol=1e-4)


def test_a_frozen_encoder_stays_as_it_is_and_the_head_learns():
    torch.manual_seed(0)
    network, x = SpectralSegmentation(HyperSlEncoder(SMALL), 3, width=4).train(), cube_of()
    target = (x[:, 0] * 3).long().clamp(max=2)
    frozen = {name: tensor.clone() for name, tensor in network.encoder.state_dict().items()}
    optimiser = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(12):
        loss = F.cross_entropy(network(x, NM), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(torch.equal(tensor, frozen[name]) for name, tensor in network.encoder.state_dict().items())
    tuned = SpectralSegmentation(HyperSlEncoder(SMALL), 3, frozen=False, width=4)
    tuned(x, NM).sum().backward()
    assert tuned.encoder.encoder_blocks[0].attn.qkv.weight.grad.any()
