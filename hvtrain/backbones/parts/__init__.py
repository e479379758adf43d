"""What published backbones have in common: transformer blocks, position codes, masking, state dicts, draws."""
