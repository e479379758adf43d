"""The gallery over many images: seconds, memory and files of `hvlabel report`, and what a browser makes of its page.

python bench/gallery.py RESULTS [N_IMAGES]

RESULTS is a finished run of small images; its files are linked under N_IMAGES names (by default 1000) into a results
folder of their own. Ground truth is left out: real images have none. Where Playwright and Chromium are installed, the
page is opened on two screens, sorted and filtered.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import ledger
import psutil

from hvlabel.cache.index import StageIndex, all_indexes
from hvlabel.cache.publish import publish_bytes
from hvlabel.config import WarnBelow
from hvlabel.inspect.report import write_report
from hvlabel.layout import STAGES, Layout
from hvlabel.manifest import Scan, read_manifest

MAX_PAGES, SHARD_IMAGES = 24, 100
LOOK_EVERY_S = 0.5
CHROMIUM = "/usr/bin/chromium"
SCREENS = ((1280, 800), (390, 844))  # px
ACTS = {
    "sort": "s => { s.value = 'masks, falling'; s.dispatchEvent(new Event('input', { bubbles: true })); }",
    "name": "s => { s.value = '777'; s.dispatchEvent(new Event('input', { bubbles: true })); }",
}


def link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(source.absolute(), target_is_directory=source.is_dir())


def multiply(source: Layout, target: Layout, n_images: int) -> None:
    """Every image of a run under many names, in its data set."""
    rows = read_manifest(source.manifest)
    entries = {}
    for stage in STAGES:
        for index in all_indexes(source, stage):
            for name, entry in index.images.items():
                entries[stage, index.dataset, name] = entry
    images = []
    indexes: dict[tuple[str, str, str], dict[str, Any]] = defaultdict(dict)
    for k in range(n_images):
        row = rows[k % len(rows)]
        name = f"{k:05d}_{row.image_id}"
        shard = f"{k // len(rows) // SHARD_IMAGES:04d}"
        images.append(replace(row, image_id=name, shard=shard))
        for stage in STAGES:
            entry = entries.get((stage, row.dataset, row.image_id))
            if entry is None:
                continue
            link(source.output(stage, row.dataset, row.image_id), target.output(stage, row.dataset, name))
            indexes[stage, row.dataset, shard][name] = entry
    publish_bytes(target.manifest, Scan(tuple(images), ()).table().encode())
    for place, entries_of_shard in indexes.items():
        publish_bytes(target.index(*place), StageIndex(*place, entries_of_shard).to_json())


class Memory:
    """The most that this process and its children held together, MiB; shared pages count once."""

    def __init__(self) -> None:
        self.peak_mib = 0
        self._over = threading.Event()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look at it until the block ends."""
        watcher = threading.Thread(target=self._watch)
        watcher.start()
        yield
        self._over.set()
        watcher.join()

    def _watch(self) -> None:
        own = psutil.Process()
        while not self._over.wait(LOOK_EVERY_S):
            total = 0
            for process in (own, *own.children(recursive=True)):
                try:
                    total += process.memory_full_info().pss
                except psutil.Error:  # it has just ended
                    continue
            self.peak_mib = max(self.peak_mib, total >> 20)


def in_browser(page_file: Path) -> str:
    """What opening, sorting and filtering took, and whether the first picture is above the fold."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return "no browser"
    said = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for width, height in SCREENS:
            page = browser.new_page(viewport={"width": width, "height": height})
            start = time.perf_counter()
            page.goto(page_file.as_uri(), wait_until="commit")
            page.wait_for_function("() => document.images.length > 0 && document.images[0].naturalWidth > 0")
            seconds = time.perf_counter() - start
            box = page.locator("#cards img").first.bounding_box()
            assert box is not None
            place = "above" if box["y"] + box["height"] <= height else "below"
            said.append(f"{width} px: first picture after {seconds:.2f} s, {place} the fold (y {box['y']:.0f} px)")
            for act, script in ACTS.items():
                start = time.perf_counter()
                page.eval_on_selector(f"#{act}", script)
                page.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
                said.append(f"{act} {time.perf_counter() - start:.2f} s")
            page.close()
        browser.close()
    return ", ".join(said)


def main(source: Path, n_images: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        target = Layout(Path(folder))
        multiply(Layout(source), target, n_images)
        memory = Memory()
        start = time.perf_counter()
        with memory.watched():
            made = write_report(target, MAX_PAGES, WarnBelow())
        seconds = time.perf_counter() - start
        start = time.perf_counter()
        write_report(target, MAX_PAGES, WarnBelow())
        again_s = time.perf_counter() - start
        files = [path for path in target.report.parent.rglob("*") if path.is_file()]
        total_mb = sum(path.stat().st_size for path in files) / 1e6
        fullest = max(len(list(path.iterdir())) for path in target.report.parent.rglob("*") if path.is_dir())
        page_mb = target.report.stat().st_size / 1e6
        seen = in_browser(target.report)
    times = os.times()
    quality = (
        f"again {again_s:.1f} s; {made.n_pictures} pictures, {made.n_pages} pages of images; {len(files)} files of "
        f"{total_mb:.0f} MB, at most {fullest} in a folder; gallery {page_mb:.2f} MB; peak of all processes "
        f"{memory.peak_mib} MiB; {seen}"
    )
    busy_s = times.user + times.system + times.children_user + times.children_system
    print(f"{busy_s:.0f} s of processors, both reports and the browser")
    cores = len(os.sched_getaffinity(0))
    ledger.append("gallery", f"{n_images} images, {cores} cores", seconds, "-", seconds, quality)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1000)
