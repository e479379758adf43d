"""The scan: images that are there now, in shards that never move."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from hvlabel.config.tree import Config
from hvlabel.layout import Layout
from hvlabel.manifest.files import Files, files_of
from hvlabel.manifest.rows import Image, Scan, read_manifest


def scan(config: Config) -> Scan:
    """Images that are there now, in the shards that the manifest on disk already gave them; nothing is written.

    Vanished images leave their shard; new ones are appended to the data set's last shard until it is full.
    """
    results = Path(config.results)
    known = read_manifest(Layout(results).manifest)
    images: list[Image] = []
    remembered: list[Image] = []
    problems: list[str] = []
    for name, dataset in config.datasets.items():
        files, problems_here = files_of(name, dataset, results)
        problems += problems_here
        earlier = [image for image in known if image.dataset == name]
        if files:
            images += _in_shards(name, files, earlier, config.run.shard_size)
        else:
            remembered += earlier  # the disk may only be away
    return Scan(tuple(images), tuple(problems), tuple(remembered))


def _in_shards(name: str, files: Mapping[str, Files], earlier: Sequence[Image], shard_size: int) -> list[Image]:
    """Rows of a data set: images keep their shard and their order, new ones follow.

    files   : image_id -> what is there now
    earlier : rows of the manifest on disk
    """
    rows = [Image(name, row.image_id, row.shard, *files[row.image_id]) for row in earlier if row.image_id in files]
    n_in_shard = Counter(int(row.shard) for row in rows)
    # of vanished images too: their shard is not filled up behind newer ones
    shard = max((int(row.shard) for row in earlier), default=0)
    known = {row.image_id for row in earlier}
    for image_id in sorted(files.keys() - known):
        if n_in_shard[shard] >= shard_size:
            shard += 1
        n_in_shard[shard] += 1
        rows.append(Image(name, image_id, f"{shard:04d}", *files[image_id]))
    return rows
