"""Generated scenes with ground truth, written as real raw files of five kinds of camera."""
