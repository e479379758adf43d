"""Generated scenes with ground truth, written as real raw files of four kinds of camera."""
