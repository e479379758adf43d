"""Several objectives of one student."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from hvtrain.data.batch import Batch
from hvtrain.data.feature_maps import FeatureMaps
from hvtrain.objectives.contract import Objective, Terms

# (student, batch, whether it trains) -> maps
Encode = Callable[[nn.Module, Batch, bool], FeatureMaps]


class CombinedObjective(nn.Module):
    """A student and the objectives that train it; `forward` gives the loss of a batch.

    encode     : how the student is shown a batch
    objectives : their terms are computed and added in this order
    registered : the same ones, in the order of their heads in checkpoints and optimiser; none: as objectives
    """

    def __init__(
        self,
        student: nn.Module,
        encode: Encode,
        objectives: Sequence[Objective],
        registered: Sequence[Objective] | None = None,
    ) -> None:
        super().__init__()
        self.student, self.encode = student, encode
        self.objectives = tuple(objectives)
        for objective in registered or objectives:
            for name, head in objective.heads.items():
                setattr(self, name, head)

    @property
    def needs(self) -> frozenset[str]:
        """Fields of a batch that some objective reads."""
        return frozenset().union(*(objective.needs for objective in self.objectives))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the scalars that `forward` may give, the loss first."""
        names = ["loss"]
        for objective in self.objectives:
            names += [*objective.weights, *objective.shown]
        return tuple(names)

    def forward(self, batch: Batch) -> Terms:
        """Scalars: `loss` to go down, its unweighted terms, and what else the objectives show."""
        if "features" in self.needs:
            batch.features = self.encode(self.student, batch, self.training)
        terms: Terms = {}
        loss: Tensor | None = None
        for objective in self.objectives:
            terms |= objective(batch)
            for name, weight in objective.weights.items():
                if name in terms:
                    weighted = weight * terms[name]
                    loss = weighted if loss is None else loss + weighted
        assert loss is not None
        return {**terms, "loss": loss}


def full_precision(device: torch.device) -> torch.autocast:
    """A context in which heads and losses are computed as they are written: half precision loses small errors."""
    return torch.autocast(device.type, enabled=False)
