"""HyperSL: a masked autoencoder of single spectra. It knows no space: a cube is as many spectra as it has pixels."""

from hvtrain.backbones.hypersl.encoder import HyperSlEncoder
from hvtrain.backbones.hypersl.mae import HyperSl
from hvtrain.backbones.hypersl.sizes import PUBLISHED, Sizes

__all__ = ["PUBLISHED", "HyperSl", "HyperSlEncoder", "Sizes"]
