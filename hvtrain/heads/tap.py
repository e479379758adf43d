"""What a prompt decoder makes on its way to a mask, for losses that teach it from inside."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class DecoderTap:
    """The last call of a SAM mask decoder.

    upscaled : (N, D/8, L, L) image features at the size of its output
    vectors  : (N, M, D/8) what its mask tokens multiply them with, one per answer
    """

    upscaled: Tensor
    vectors: Tensor

    def __init__(self, decoder: Any) -> None:
        self._of_call: list[Tensor] = []
        decoder.output_upscaling[-1].register_forward_hook(self._keep_map)
        for hypernetwork in decoder.output_hypernetworks_mlps:
            hypernetwork.register_forward_hook(self._keep_vector)

    def _keep_map(self, _: nn.Module, __: Any, out: Tensor) -> None:
        self.upscaled = out
        self._of_call.clear()  # upscaling comes before the hypernetworks of a call

    def _keep_vector(self, _: nn.Module, __: Any, out: Tensor) -> None:
        self._of_call.append(out)
        self.vectors = torch.stack(self._of_call, dim=1)
