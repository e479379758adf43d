"""SAM: what the branches find on generated scenes, and what it costs.

python bench/sam.py sequence|composites|carrying|boxes|sizes|skipping

It needs SAM's weights only. bench/sam_onnx.py has its speed beside the package's own graphs.
"""

import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import numpy as np
import torch
from sam_scenes import CAMERA_NAMES, predictor, scenes, scenes_of

from hvlabel.branches import material, rgb, sequence, voters
from hvlabel.branches.discover import Track, carry
from hvlabel.branches.material import MaterialSettings
from hvlabel.branches.prompts import PromptsSettings
from hvlabel.branches.prompts import run as run_prompts
from hvlabel.branches.rgb import RgbSettings
from hvlabel.branches.sequence import SequenceSettings
from hvlabel.branches.voters import RegionsSettings
from hvlabel.config import GeneratorSettings
from hvlabel.cube import Cube
from hvlabel.cube.bands import false_colour_frames
from hvlabel.cube.render import as_picture, false_colour
from hvlabel.inspect.scores import score
from hvlabel.masks import MaskSet, boxes_xyxy, encode, iou_matrix
from hvlabel.prompt_files import ObjectPrompt

FOUND_IOU = 0.5  # with a mask, from which an object counts as found
SIDES_PX = (512, 1024, 2048)
N_FRAMES = 8
BRANCHES = {
    "rgb": (rgb, RgbSettings),
    "sequence": (sequence, SequenceSettings),
    "material": (material, MaterialSettings),
}


def figures(pairs: list[tuple[MaskSet, MaskSet]], seconds: list[float]) -> str:
    """Cells of a row, of pairs (masks, ground truth)."""
    scores = score(pairs)
    of_images, only_of_images = [], []
    for masks, truth in pairs:
        best_iou = iou_matrix(truth.rles, masks.rles).max(axis=1, initial=0)
        of_images.append(best_iou >= FOUND_IOU)
        only_of_images.append(np.array([bool(target.extra["spectral_only"]) for target in truth.masks], bool))
    is_found = np.concatenate(of_images)
    spectral_only = np.concatenate(only_of_images)
    return (
        f"| {scores.masks_per_image:.0f} | {is_found.sum()} of {len(is_found)} "
        f"| {is_found[spectral_only].sum()} of {spectral_only.sum()} | {scores.ar:.3f} "
        f"| {scores.precision:.2f} | {np.mean(seconds):.1f} |"
    )


def branch_row(name: str, run: Callable[[Cube], MaskSet], of: list[tuple[Cube, MaskSet]]) -> None:
    """Print the row of a branch."""
    pairs, seconds = [], []
    for cube, truth in of:
        start = time.perf_counter()
        masks = run(cube)
        seconds.append(time.perf_counter() - start)
        pairs.append((masks, truth))
    print(f"| {name} {figures(pairs, seconds)}", flush=True)


def header() -> None:
    print(
        "| | masks/image | objects found | spectral-only | AR@100 | right of all | s/image |\n"
        "|---|---|---|---|---|---|---|"
    )


def sequences() -> None:
    """Objects found by number of frames, with and without carrying."""
    model, of = predictor(), scenes(1)
    header()
    branch_row("RGB", lambda cube: rgb.run(cube, RgbSettings(backend="sam"), model), of)
    for key_frames in (1, 2, 3, 4):
        for carries in (False, True) if key_frames > 1 else (False,):
            settings = SequenceSettings(backend="sam", key_frames=key_frames, carry=carries)
            how = ", carried" if carries else ""
            branch_row(f"{key_frames} frames{how}", lambda cube, s=settings: sequence.run(cube, s, model), of)


def composites_table() -> None:
    """Objects found by number of false-colour composites, and by regions."""
    model, of = predictor(), scenes(1)
    header()
    for n in (1, 2, 3):
        settings = MaterialSettings(backend="sam", n_composites=n)
        branch_row(f"{n} composites", lambda cube, s=settings: material.run(cube, s, model), of)
    branch_row("regions as voters", lambda cube: voters.run(cube, RegionsSettings()), of)


def carrying() -> None:
    """Mean IoU with the truth on every frame, of masks that start from true boxes on the first."""
    model = predictor()
    titles = " | ".join(f"frame {k}" for k in range(N_FRAMES))
    print(f"| camera | {titles} |\n|---|" + "---|" * N_FRAMES)
    lenient = GeneratorSettings(pred_iou_thresh=-1, stability_score_thresh=0)  # no track shall end
    for name, (cube, truth) in zip(CAMERA_NAMES, scenes(1), strict=True):
        frames = false_colour_frames(cube.wavelengths_nm, N_FRAMES)
        values = cube.values()
        boxes = boxes_xyxy(truth.rles)
        tracks: list[Track] = []
        row = []
        for frame in frames:
            picture = as_picture(false_colour(values[list(frame.bands)]))
            embedding = model.embed(picture)
            if not tracks:
                logits, _ = model.decode_clear(embedding, boxes)
                full = (model.upscale(logits, embedding) > 0).cpu().numpy()
                tracks = [Track(k, frame, boxes[k], logits[k], encode(full[k])) for k in range(len(boxes))]
            else:
                carry(model, embedding, tracks, lenient, link_iou=1e-9)
            iou = iou_matrix([track.last for track in tracks], truth.rles)
            row.append(float(np.diag(iou).mean()))  # a track's own object is of its number
        cells = " | ".join(f"{iou:.3f}" for iou in row)
        print(f"| {name} | {cells} |", flush=True)


def boxes_table() -> None:
    """Masks from true boxes: mean IoU, of all objects and of those that only the spectrum shows."""
    model, of = predictor(), scenes(1)
    print("| pictures | mean IoU | spectral-only | decoded on RGB |\n|---|---|---|---|")
    for n in (0, 1, 2):
        ious, only, on_rgb = [], [], []
        for cube, truth in of:
            marks = [ObjectPrompt(tuple(box), object_id=str(k)) for k, box in enumerate(boxes_xyxy(truth.rles))]
            answers = run_prompts(cube, PromptsSettings(backend="sam", n_composites=n), model, marks)
            by_object = {int(mask.extra["prompt"]): mask for mask in answers.masks}
            for k, target in enumerate(truth.masks):
                mask = by_object.get(k)
                ious.append(0.0 if mask is None else float(iou_matrix([mask.rle], [target.rle])[0, 0]))
                only.append(bool(target.extra["spectral_only"]))
                on_rgb.append(mask is not None and mask.extra["picture"] == "rgb")
        iou, spectral = np.array(ious), np.array(only)
        print(
            f"| RGB and {n} composites | {iou.mean():.3f} | {iou[spectral].mean():.3f} | {np.mean(on_rgb):.2f} |",
            flush=True,
        )


def _one_size(side_px: int, backend: str, pipe: Connection) -> None:
    """Send seconds of each branch, and the process' peak of memory, KiB."""
    torch.set_num_threads(1)
    cube, _ = scenes_of("vis31", 1, side_px)[0]
    model = predictor() if backend == "sam" else None
    seconds = {}
    for name, (branch, settings) in BRANCHES.items():
        start = time.perf_counter()
        branch.run(cube, settings(backend=backend), model)
        seconds[name] = time.perf_counter() - start
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pipe.send((seconds, peak_kib))


def sizes() -> None:
    """Seconds and peak memory per image at several sizes, SAM beside regions, each in a process of its own."""
    print("| px | backend | rgb s | sequence s | material s | peak MiB |\n|---|---|---|---|---|---|")
    context = multiprocessing.get_context("spawn")
    for side_px in SIDES_PX:
        for backend in ("sam", "regions"):
            near, far = context.Pipe()
            process = context.Process(target=_one_size, args=(side_px, backend, far))
            process.start()
            far.close()  # ours: only then a process that dies ends the wait for what it sends
            seconds, peak_kib = near.recv()
            process.join()
            row = " | ".join(f"{seconds[name]:.1f}" for name in BRANCHES)
            print(f"| {side_px} | {backend} | {row} | {peak_kib >> 10} |", flush=True)


def skipping() -> None:
    """The same pictures with all grid points and with those that lie in confident masks left out."""
    model, of = predictor(), scenes(1)
    header()
    default = MaterialSettings().generator
    for enough in (0, 1, 2, 3):
        skipping_after = default.model_copy(update={"skip_after": enough})
        settings = MaterialSettings(backend="sam", generator=skipping_after)
        name = f"skipped after {enough}" if enough else "all points"
        branch_row(name, lambda cube, s=settings: material.run(cube, s, model), of)


CASES = {
    "sequence": sequences,
    "composites": composites_table,
    "carrying": carrying,
    "boxes": boxes_table,
    "sizes": sizes,
    "skipping": skipping,
}

if __name__ == "__main__":
    CASES[sys.argv[1]]()
