"""HyperFree, which is also the published HyperVision model: a channel-adaptive ViT with SAM's prompt decoder."""

from hvlabel.models.hyperfree.checkpoint import infer_topology, load_hyperfree, published_topology
from hvlabel.models.hyperfree.network import HyperFree, Topology
from hvlabel.models.hyperfree.predictor import HyperFreePredictor
from hvlabel.models.hyperfree.spectral import ChannelChoice, choose_channels

__all__ = [
    "ChannelChoice",
    "HyperFree",
    "HyperFreePredictor",
    "Topology",
    "choose_channels",
    "infer_topology",
    "load_hyperfree",
    "published_topology",
]
