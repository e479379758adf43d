"""HyperSIGMA: a spatial and a spectral vision transformer, sparse sampling attention, and gates between them."""

from hvtrain.backbones.hypersigma.attention import SparseAttention
from hvtrain.backbones.hypersigma.fusion import PatchClassification, Segmentation
from hvtrain.backbones.hypersigma.mae import SpatMae, SpecMae
from hvtrain.backbones.hypersigma.sizes import PUBLISHED, DecoderSizes, Sizes
from hvtrain.backbones.hypersigma.spatial import SpatVit
from hvtrain.backbones.hypersigma.spectral import SpecVit

__all__ = [
    "PUBLISHED",
    "DecoderSizes",
    "PatchClassification",
    "Segmentation",
    "Sizes",
    "SparseAttention",
    "SpatMae",
    "SpatVit",
    "SpecMae",
    "SpecVit",
]
