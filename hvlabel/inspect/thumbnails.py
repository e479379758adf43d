"""What lies beside the gallery: a small picture of every label, and the pages of some images."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from tqdm import tqdm

from hvlabel import __version__
from hvlabel.cache.publish import publish_bytes
from hvlabel.cube import open_cube
from hvlabel.errors import HvError
from hvlabel.inspect.picture import fitted_overlay
from hvlabel.layout import Layout
from hvlabel.masks import read_masks
from hvlabel.viewer import build_page, is_page_of, jpeg, page_key

SIDE_PX = 220  # of the longer side
JPEG_QUALITY = 82
JPEG_START, JPEG_COMMENT = b"\xff\xd8", b"\xff\xfe"
HEAD_BYTES = 200  # of a thumbnail, in which it says what it was made from
MAX_PROCESSES = 4  # each may hold a whole cube
WORTH_PROCESSES_PAGES, WORTH_PROCESSES_THUMBNAILS = 6, 200  # starting processes takes a second or two


class Work(NamedTuple):
    """One image. with_page: make its page too."""

    dataset: str
    image_id: str
    with_page: bool


class Made(NamedTuple):
    """What could be made of an image; a file damaged since is no reason to stop: `hvlabel verify` names it."""

    work: Work
    has_thumbnail: bool
    has_page: bool


def thumbnail(layout: Layout, dataset: str, image_id: str) -> np.ndarray:
    """(h, w, 3) uint8: the picture with the label's masks, SIDE_PX on its longer side.

    CubeError or MaskFileError if one of the files is missing or damaged.
    """
    cube = open_cube(layout.cube(dataset, image_id))
    rgb = cube.rgb
    masks = read_masks(layout.label(dataset, image_id))
    height, width = rgb.shape[:2]
    width_px = round(SIDE_PX * min(1, width / height)) or 1  # a very tall picture is at least a line
    return fitted_overlay(rgb, masks, width_px)


def publish_all(layout: Layout, todo: Sequence[Work]) -> list[Made]:
    """Make the thumbnails and pages that are missing; those of an earlier report that this one does not show go."""
    with tqdm(total=len(todo), desc="gallery", unit="image", disable=not sys.stderr.isatty()) as bar:
        # a page takes a second: what it was made from tells whether that is needed
        pages_kept = [work.with_page and _is_current(layout, work) for work in todo]
        kept = []
        for work, is_kept in zip(todo, pages_kept, strict=True):
            kept.append(Made(work, _is_drawn(layout, work), is_kept))
        missing = [one for one in kept if not one.has_thumbnail or one.has_page != one.work.with_page]
        bar.update(len(todo) - len(missing))
        # a page that is there is not made again only because its thumbnail is missing
        works = [one.work._replace(with_page=one.work.with_page and not one.has_page) for one in missing]
        anew = {}
        for before, one in zip(missing, _mapped(layout, works), strict=True):
            has_page = one.has_page or (before.has_page and one.has_thumbnail)
            anew[before.work] = Made(before.work, one.has_thumbnail, has_page)
            bar.update()
        made = [anew.get(one.work, one) for one in kept]
    shown = set()
    for (dataset, image_id, _), has_thumbnail, has_page in made:
        if has_thumbnail:
            shown.add(layout.thumbnail(dataset, image_id))
        if has_page:
            shown.add(layout.page(dataset, image_id))
    # names with a dot in front are at work
    older = (*layout.pictures.glob("[!.]*.jpg"), *layout.pictures.glob("[!.]*.png"), *layout.pages.glob("*/[!.]*.html"))
    for path in older:
        if path not in shown:
            path.unlink()
    return made


def _is_current(layout: Layout, work: Work) -> bool:
    """Whether the page of an image is there, made from what there is now."""
    try:
        key = page_key(layout, work.dataset, work.image_id)
        return is_page_of(layout.page(work.dataset, work.image_id), key)
    except HvError:
        return False


def _is_drawn(layout: Layout, work: Work) -> bool:
    """Whether the thumbnail of an image is there, made from the label that there is now."""
    try:
        with layout.thumbnail(work.dataset, work.image_id).open("rb") as file:
            return _remark(layout, work) in file.read(HEAD_BYTES)
    except OSError:
        return False


def _remark(layout: Layout, work: Work) -> bytes:
    """What a thumbnail says of the label that it was made from, as a segment of a JPEG file (ITU-T T.81, B.2.4.5).

    Size and time of the file, not its seal: fifteen thousand files are looked at, not read. OSError if it is missing.
    """
    of_file = layout.label(work.dataset, work.image_id).stat()
    content = f"hvlabel {__version__} {of_file.st_size} {of_file.st_mtime_ns};".encode()
    length = (len(content) + 2).to_bytes(2, "big")  # which counts itself
    return JPEG_COMMENT + length + content


def _mapped(layout: Layout, todo: Sequence[Work]) -> Iterator[Made]:
    """What was made of every image, in their order; in several processes where there is much to do."""
    n_pages = sum(work.with_page for work in todo)
    n_processes = min(MAX_PROCESSES, len(os.sched_getaffinity(0)), len(todo))
    make = partial(_make, layout)
    if n_processes < 2 or (n_pages < WORTH_PROCESSES_PAGES and len(todo) < WORTH_PROCESSES_THUMBNAILS):
        yield from map(make, todo)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(n_processes, context, initializer=threadpool_limits, initargs=(1,)) as pool:
        # one at a time while there are pages, which take a hundred times as long as a thumbnail
        pages_first = sorted(range(len(todo)), key=lambda k: not todo[k].with_page)
        in_order: dict[int, Made] = {}
        # several thumbnails at once, in at least eight portions for each process
        chunk = max(1, min(16, len(todo) // (8 * n_processes)))
        with_pages, others = pages_first[:n_pages], pages_first[n_pages:]
        for numbers, size in ((with_pages, 1), (others, chunk)):
            works = [todo[k] for k in numbers]
            in_order |= zip(numbers, pool.map(make, works, chunksize=size), strict=True)
        yield from (in_order[k] for k in range(len(todo)))


def _make(layout: Layout, work: Work) -> Made:
    """Publish what can be made of one image."""
    dataset, image_id, with_page = work
    try:
        remark = _remark(layout, work)  # before the label is read: one that changes meanwhile is drawn again
        small = jpeg(thumbnail(layout, dataset, image_id), JPEG_QUALITY)
    except (HvError, OSError):
        return Made(work, has_thumbnail=False, has_page=False)
    start = len(JPEG_START)
    with_remark = small[:start] + remark + small[start:]  # first of all segments, so that HEAD_BYTES hold it
    publish_bytes(layout.thumbnail(dataset, image_id), with_remark)
    if not with_page:
        return Made(work, has_thumbnail=True, has_page=False)
    try:
        page = build_page(layout, dataset, image_id)
    except HvError:
        return Made(work, has_thumbnail=True, has_page=False)
    publish_bytes(layout.page(dataset, image_id), page)
    return Made(work, has_thumbnail=True, has_page=True)
