"""Networks that can be pre-trained: one contract, a file or a package each, one row each in the table."""

from hvtrain.backbones.published import load_backbone

__all__ = ["load_backbone"]
