"""A finished backbone, asked: what it is good for."""
