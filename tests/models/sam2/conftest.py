"""A small SAM2 of random weights, and frames."""

import numpy as np
import pytest
import torch

from hvlabel.config import Sam2Model
from hvlabel.models.sam2 import load_sam2

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def network(repository):
    return load_sam2(Sam2Model(config=str(repository / "resources/models/sam2_nano.yaml"), checkpoint="random:1"), CPU)


@pytest.fixture(scope="module")
def local_network(repository):
    """Random weights whose masks depend on the click: image tokens attend to the prompt at their own place, logits are spread out."""
    network = load_sam2(
        Sam2Model(config=str(repository / "resources/models/sam2_nano.yaml"), checkpoint="random:1"), CPU
    )
    decoder = network.sam_mask_decoder
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(2)
        for layer in decoder.transformer.layers:
            attention = layer.cross_attn_image_to_token
            torch.nn.init.orthogonal_(attention.q_proj.weight, gain=8)
            attention.k_proj.weight.copy_(attention.q_proj.weight)
            attention.out_proj.weight.mul_(4)
        for mlp in decoder.output_hypernetworks_mlps:
            mlp.layers[-1].weight.mul_(30)
    return network


@pytest.fixture(scope="module")
def frames():
    rng = np.random.default_rng(1)
    yy, xx = np.mgrid[:120, :150]
    images = []
    for t in range(6):
        disc = ((xx - 60 - 2 * t) ** 2 + (yy - 50) ** 2 < 30**2).astype(float)
        images.append(
            (0.2 + 0.1 * t + 0.5 * disc[..., None] * [1, 0.5, 0.2] + rng.normal(0, 0.02, (120, 150, 3)))
            .clip(0, 1)
            .astype(np.float32)
        )
    return images
