"""The stages on files: what each needs, its cache key, how its output is checked and made. One module per stage:
only `segment` loads PyTorch."""
