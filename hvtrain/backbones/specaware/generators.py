"""Networks that make the weights of other layers: matrices U V of low rank, and a bias."""

from __future__ import annotations

from torch import Tensor, nn

from hvtrain.backbones.specaware.fusion import DROPOUT


class MatrixGenerator(nn.Module):
    """U (rows, rank), V (rank, columns) and a bias (rows,), each from a vector (w,)."""

    def __init__(self, planes: int, rows: int, columns: int, rank: int) -> None:
        super().__init__()
        self.rank = rank
        self.u_generator = _matrix(planes, rows * rank)
        self.v_generator = _matrix(planes, rank * columns)
        self.bias_generator = nn.Sequential(
            nn.LayerNorm(planes), nn.Linear(planes, planes // 2), nn.GELU(), nn.Linear(planes // 2, rows)
        )

    def factors(self, bands: Tensor) -> tuple[Tensor, Tensor]:
        """U (..., rows, rank) and V (..., rank, columns) of (..., w)."""
        u = self.u_generator(bands).unflatten(-1, (-1, self.rank))
        v = self.v_generator(bands).unflatten(-1, (self.rank, -1))
        return u, v

    def matrices(self, bands: Tensor) -> Tensor:
        """U V, (..., rows, columns), of (..., w)."""
        u, v = self.factors(bands)
        return u @ v

    def bias(self, vector: Tensor) -> Tensor:
        """(..., rows) of (..., w)."""
        return self.bias_generator(vector)

    def keep_scale(self) -> None:
        """Draw weights by which what U V makes is about as large as what it is made of; the bias is left as it is.

        With the published ones each of the six layers makes its input smaller: tokens begin at 1e-7 (small) to 1e-4
        (b) of their positions, and a small network learns nothing in hundreds of steps.
        """
        for generator in (self.u_generator, self.v_generator):
            for layer in generator:
                if isinstance(layer, nn.Linear):
                    nn.init.normal_(layer.weight, std=layer.in_features**-0.5)


def _matrix(planes: int, numbers: int) -> nn.Sequential:
    """A network from a vector to the numbers of a matrix."""
    return nn.Sequential(
        nn.LayerNorm(planes),
        nn.Linear(planes, planes),
        nn.GELU(),
        nn.Dropout(DROPOUT),
        nn.Linear(planes, planes // 2),
        nn.GELU(),
        nn.Linear(planes // 2, numbers),
    )
