"""SpecAware: a masked autoencoder whose patch embedding is generated for each band from what is known of it."""

from hvtrain.backbones.specaware.camera import Camera
from hvtrain.backbones.specaware.encoder import SpecAwareEncoder
from hvtrain.backbones.specaware.mae import SpecAwareMae
from hvtrain.backbones.specaware.sizes import PUBLISHED, Sizes
from hvtrain.backbones.specaware.upernet import SpecAwareSegmentation

__all__ = ["PUBLISHED", "Camera", "Sizes", "SpecAwareEncoder", "SpecAwareMae", "SpecAwareSegmentation"]
