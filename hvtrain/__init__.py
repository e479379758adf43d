"""Pre-training on pseudo-labels; needs neither sam2 nor the label pipeline's workflow."""
