"""Recorded output of published networks: arrays in float32, weights apart, and listings of names and shapes."""

import json
import re

import numpy as np
import torch


def recording(path):
    """Configuration, weights by name, and all other arrays of a recorded .npz file, as float32 tensors."""
    stored = np.load(path, allow_pickle=False)
    weights, arrays, config = {}, {}, {}
    for name in stored.files:
        value = stored[name]
        if name in ("__config__", "__meta__"):
            config = json.loads(str(value))
        elif value.dtype.kind in "US":
            arrays[name] = value
        else:
            floats = value.astype(np.float32) if value.dtype == np.float16 else value
            into = weights if name.startswith(("w/", "sent/")) else arrays
            into[name] = torch.from_numpy(np.array(floats))
    return config, weights, arrays


def listing(path):
    """Shape of each name of a recorded listing."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    fields = [re.match(r"(\S+)\s+(\([^)]*\))", line).groups() for line in lines]
    return dict(fields)


def shapes(network):
    """Shape of each name of a network, as a listing writes it."""
    return {name: str(tuple(tensor.shape)) for name, tensor in network.state_dict().items()}


def close(ours, recorded, atol=1e-4):
    """Whether ours is within the tolerance that the recordings ask for."""
    np.testing.assert_allclose(np.asarray(ours.detach()), np.asarray(recorded), rtol=0, atol=atol)
