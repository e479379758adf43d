"""The stages on files: what each needs, its cache key, how its output is checked and made.

`contract` is what all of them promise, `shard` the walk that asks them. Only branches with a network load PyTorch.
"""
