"""The gallery over many images: seconds and memory of `hvlabel report`.

python bench/gallery.py RESULTS [N_IMAGES]

RESULTS is a finished run of small images; its files are linked under N_IMAGES names (by default 1000) into a results
folder of their own. Ground truth is left out: real images have none.
"""

import os
import resource
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import ledger

from hvlabel.cache.index import StageIndex, all_indexes
from hvlabel.cache.publish import publish_bytes
from hvlabel.config import WarnBelow
from hvlabel.inspect.report import write_report
from hvlabel.layout import STAGES, Layout
from hvlabel.manifest import Scan, read_manifest

SHARD, MAX_PAGES = "0000", 24


def link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(source.absolute(), target_is_directory=source.is_dir())


def multiply(source: Layout, target: Layout, n_images: int) -> None:
    """Every image of a run under many names, all in one data set."""
    rows = read_manifest(source.manifest)
    entries = {}
    for stage in STAGES:
        for index in all_indexes(source, stage):
            for name, entry in index.images.items():
                entries[stage, index.dataset, name] = entry
    images = []
    indexes: dict[str, dict] = {stage: {} for stage in STAGES}
    for k in range(n_images):
        row = rows[k % len(rows)]
        name = f"{k:05d}_{row.image_id}"
        images.append(replace(row, dataset="many", image_id=name, shard=SHARD))
        for stage in STAGES:
            entry = entries.get((stage, row.dataset, row.image_id))
            if entry is None:
                continue
            link(source.output(stage, row.dataset, row.image_id), target.output(stage, "many", name))
            indexes[stage][name] = entry
    publish_bytes(target.manifest, Scan(tuple(images), ()).table().encode())
    for stage, of_stage in indexes.items():
        if of_stage:
            publish_bytes(target.index(stage, "many", SHARD), StageIndex(stage, "many", SHARD, of_stage).to_json())


def main(source: Path, n_images: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        target = Layout(Path(folder))
        multiply(Layout(source), target, n_images)
        start = time.perf_counter()
        made = write_report(target, MAX_PAGES, WarnBelow())
        seconds = time.perf_counter() - start
        page_bytes = target.report.stat().st_size
        pages = [path.stat().st_size for path in target.pages.glob("*/*.html")]
    own, workers = (resource.getrusage(who).ru_maxrss >> 10 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    quality = (
        f"{made.n_pictures} pictures, {made.n_pages} pages of images, largest {max(pages, default=0) / 1e6:.2f} MB; "
        f"gallery {page_bytes / 1e6:.2f} MB; peak {own} MiB, of a worker {workers} MiB"
    )
    cores = len(os.sched_getaffinity(0))
    ledger.append("gallery", f"{n_images} images, {cores} cores", seconds, "-", seconds, quality)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1000)
