"""SAM: MobileSAM's TinyViT or SAM's ViT as image encoder, SAM's prompt encoder and mask decoder."""

from hvlabel.models.sam.checkpoint import folded, load_sam, sam_of
from hvlabel.models.sam.network import Sam
from hvlabel.models.sam.predictor import SamPredictor
from hvlabel.models.sam.tiny_vit import TinyViT

__all__ = ["Sam", "SamPredictor", "TinyViT", "folded", "load_sam", "sam_of"]
