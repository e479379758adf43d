"""Stage indexes changed as no run would change them."""

from dataclasses import replace

from hvlabel.cache.index import read_index


def change_entries(path, names=None, **changes):
    """Change fields of some entries of an index, of all unless they are named."""
    index = read_index(path)
    images = {n: replace(e, **changes) if names is None or n in names else e for n, e in index.images.items()}
    path.write_bytes(replace(index, images=images).to_json())
