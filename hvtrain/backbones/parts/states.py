"""State dicts of published networks: cleaned of wrappers, put into a network whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from hvlabel.errors import WeightsError

# of DataParallel, of torch.compile, and of recordings
PREFIXES = ("module.", "_orig_mod.", "w/")
COUNTER = ".num_batches_tracked"  # of batch norms; files leave it out, and no output depends on it

N = TypeVar("N", bound=nn.Module)


def cleaned(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Tensors by their plain names; half precision becomes float32, integers stay.

    state : tensors or numpy arrays; names may begin with any of PREFIXES
    """
    plain = {}
    for name, value in state.items():
        for prefix in PREFIXES:
            name = name.removeprefix(prefix)
        tensor = torch.as_tensor(value)
        # files are of any precision, parity is a matter of float32
        plain[name] = tensor.float() if tensor.is_floating_point() else tensor
    return plain


def only(parts: Sequence[Mapping[str, Tensor]], source: str, network: str) -> Mapping[str, Tensor]:
    """The state dict of a network that lies in one file; WeightsError for several."""
    if len(parts) != 1:
        raise WeightsError(f"{source}: {len(parts)} files; a {network} network lies in one")
    return parts[0]


def depth_of(state: Mapping[str, Tensor], blocks: str) -> int:
    """How many blocks there are under a prefix such as `blocks.`."""
    below = [name.removeprefix(blocks) for name in state if name.startswith(blocks)]
    numbers = {name.split(".")[0] for name in below}
    return len(numbers)


def shape_of(state: Mapping[str, Tensor], name: str, source: str, network: str) -> tuple[int, ...]:
    """Shape of a tensor that tells a network's sizes; WeightsError where it is missing."""
    if name not in state:
        some = ", ".join(sorted(state)[:3])
        raise WeightsError(
            f"{source}: no {network} network: it has no {name} (but {some}); is it another network's file, or cut off?"
        )
    return tuple(state[name].shape)


def filled(network: N, state: Mapping[str, Tensor], source: str, *, unused: Iterable[str] = ()) -> N:
    """The network, in evaluation mode, with every tensor of a state dict.

    unused : starts of names that the network never reads: they may be missing, and then stay as they are
    WeightsError names what is missing, unknown or of another shape.
    """
    expected = network.state_dict()
    may_miss = tuple(unused)
    absent = [name for name in expected if name not in state]
    required = [name for name in absent if not name.startswith(may_miss)]
    missing = [name for name in required if not name.endswith(COUNTER)]
    unknown = [name for name in state if name not in expected]
    shared = [name for name in expected if name in state]
    wrong = [name for name in shared if state[name].shape != expected[name].shape]
    if missing or unknown or wrong:
        raise WeightsError(
            f"{source}: does not fit its own sizes: {len(missing)} tensors missing, {len(unknown)} unknown, "
            f"{len(wrong)} of another shape, e.g. {', '.join((missing + unknown + wrong)[:3])}; "
            "is it another network's file, or cut off?"
        )
    # not strict: what may be missing was looked at above
    network.load_state_dict(dict(state), strict=False)
    return network.eval()
