"""Networks with random weights, biases too, so that nothing is left out by chance; and images for them."""

import torch


def drawn(network):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for parameter in network.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.2)
    return network.eval()


def cube_of(n_bands=6, side=32, seed=0):
    return torch.rand(2, n_bands, side, side, generator=torch.Generator().manual_seed(seed))
