"""Downstream tasks on a frozen backbone: task files, cached features, heads trained on them, scores, predictions."""
