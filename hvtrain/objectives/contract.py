"""What an objective is. A new one is a file beside this one, a row in `table`, and its weight in the settings.

An objective looks at a batch and gives terms: scalars, some of which are added to the loss. It says which fields of
the batch it needs, so that no crop decodes masks or reads tokens for nobody. The student is encoded once per batch,
before the objectives that need its `features`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn

from hvtrain.data.batch import Batch

Terms = dict[str, Tensor]


class Objective(ABC):
    """A part of the loss.

    needs   : fields of hvtrain.data.batch.Batch that it reads; "features" are the student's maps
    weights : names of its terms that count towards the loss, each with its weight, in the order in which they are added
    shown   : names of further scalars that it gives, for the log
    heads   : networks and parameters that are trained with it and thrown away, by their names in a checkpoint
    """

    needs: frozenset[str]
    weights: Mapping[str, float]
    shown: tuple[str, ...] = ()
    heads: Mapping[str, nn.Module | nn.Parameter] = {}

    @abstractmethod
    def __call__(self, batch: Batch) -> Terms:
        """Scalars of a batch by the names of `weights` and `shown`; one is absent where a batch has nothing of it."""
