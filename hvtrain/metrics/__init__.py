"""Scores of downstream tasks as their benchmarks define them: arrays in, figures out, no files and no networks."""
