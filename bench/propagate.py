"""Masks carried along frames: ours against sam2's video predictor, on the same weights, frames, prompts and threads.

python bench/propagate.py [embedded|nano|tiny|base_plus] [N_OBJECTS ...]

Both begin with the same masks on the first frame and embed each frame once, which counts. Ours carries objects in
batches of 16. The package
runs in a process of its own, so that it has the memory allocator that it comes with and not the one that ours sets.
Peak memory
is what tracking takes on top of the network and the embedded frames, in a fresh process.
"""

import itertools
import multiprocessing
import sys
import time
import warnings
from pathlib import Path
from typing import Any, TypedDict

import ledger
import numpy as np
import sam2.sam2_video_predictor as package_video
import torch
from masks import CASES, PHOTO_SEED, network_of

from hvlabel.demo.scenes import make_photo
from hvlabel.models.device import choose_device, computes_in_bfloat16
from hvlabel.models.pictures import network_input
from hvlabel.models.sam2 import Sam2Predictor

FRAMES, OBJECTS = (8, 32), (1, 8, 32, 128)
KINDS = {  # bfloat16, frames remembered beside the first one (None: as the package)
    "exact": (False, None),
    "bfloat16": (True, None),
    "remembering the first frame alone": (False, 0),
    "fast, which is both": (True, 0),
}
MEASURED_MEMORY = ("exact", "fast, which is both")


class Switches(TypedDict):
    half: bool
    memory_frames: int | None


def sequence(side: int, n_frames: int, n_objects: int) -> tuple[list[np.ndarray], torch.Tensor]:
    """T frames (S, S, 3) uint8 of one photograph whose light and channels change, and (N, S, S) bool masks."""
    masks: list[np.ndarray] = []
    for k in itertools.count():
        masks += [i.mask for i in make_photo(side, PHOTO_SEED + k).instances]
        if len(masks) >= n_objects:
            break
    rgb = make_photo(side, PHOTO_SEED).rgb
    frames = [np.roll(np.uint8(rgb * (0.7 + 0.3 * np.cos(t / 5))), t % 3, axis=2) for t in range(n_frames)]
    return frames, torch.from_numpy(np.stack(masks[:n_objects]))


def ours(
    network: Any, frames: list[np.ndarray], masks: torch.Tensor, *, half: bool, memory_frames: int | None
) -> dict[tuple[int, int], np.ndarray]:
    model = Sam2Predictor(network, half=half, memory_frames=memory_frames)
    embeddings = [model.embed(f) for f in frames]
    found = {}
    for frame, objects, logits, _ in model.track(embeddings, 0, masks):
        for k, value in enumerate(logits, objects.start):
            found[frame, k] = np.packbits((value > 0).cpu().numpy())
    return found


def package(network: Any, frames: list[np.ndarray], masks: torch.Tensor) -> dict[tuple[int, int], np.ndarray]:
    """The package's predictor; it reads frames from JPEG files, here it is given the same tensors as ours."""
    predictor = package_video.SAM2VideoPredictor.__new__(package_video.SAM2VideoPredictor)
    torch.nn.Module.__init__(predictor)
    predictor.__dict__.update(network.__dict__)
    predictor.fill_hole_area, predictor.non_overlap_masks = 0, False
    predictor.clear_non_cond_mem_around_input = predictor.add_all_frames_to_correct_as_cond = False
    tensors = torch.cat([network_input(f, network.image_size, network.device) for f in frames])
    package_video.load_video_frames = lambda **_: (tensors, *frames[0].shape[:2])
    package_video.tqdm = lambda x, **_: x
    state = predictor.init_state("unused")
    for k, mask in enumerate(masks):
        predictor.add_new_mask(state, 0, k, mask)
    found = {}
    for frame, ids, logits in predictor.propagate_in_video(state):
        for k, value in zip(ids, logits, strict=True):
            found[frame, k] = np.packbits((value[0] > 0).cpu().numpy())
    return found


def _package_alone(name: str, n_frames: int, n_objects: int) -> tuple[float, dict[tuple[int, int], np.ndarray]]:
    warnings.simplefilter("ignore")
    network = network_of(name, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    frames, masks = sequence(CASES[name][2], n_frames, n_objects)
    return seconds(lambda: package(network, frames, masks))


def seconds(call: Any) -> tuple[float, dict[tuple[int, int], np.ndarray]]:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    found = call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start, found


def peak_mib(name: str, n_frames: int, n_objects: int, switches: Switches) -> float:
    """Memory of tracking on top of network and embedded frames: the least of three fresh processes."""
    peaks = []
    for _ in range(3):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            peaks.append(pool.apply(_peak, (name, n_frames, n_objects, switches)))
    return float(min(peaks))


def _peak(name: str, n_frames: int, n_objects: int, switches: Switches) -> float:
    device = choose_device("auto")
    network = network_of(name, device)
    frames, masks = sequence(CASES[name][2], n_frames, n_objects)
    model = Sam2Predictor(network, **switches)
    embeddings = [model.embed(f) for f in frames]
    before = _memory_mib("VmRSS", device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts anew
    for _ in model.track(embeddings, 0, masks):
        pass
    return _memory_mib("VmHWM", device) - before


def _memory_mib(kind: str, device: torch.device) -> float:
    if device.type == "cuda":
        return (torch.cuda.memory_allocated if kind == "VmRSS" else torch.cuda.max_memory_allocated)(device) / 2**20
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith(kind))
    return int(line.split()[1]) / 2**10


def compare(name: str, n_objects: int, n_frames: int) -> None:
    device = choose_device("auto")
    network = network_of(name, device)
    frames, masks = sequence(CASES[name][2], n_frames, n_objects)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        package_s, expected = pool.apply(_package_alone, (name, n_frames, n_objects))
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    for kind, (half, memory_frames) in KINDS.items():
        if half and not computes_in_bfloat16(device):
            continue
        switches: Switches = {"half": half, "memory_frames": memory_frames}
        ours_s, found = seconds(lambda s=switches: ours(network, frames, masks, **s))
        assert found.keys() == expected.keys()
        same = np.mean([np.array_equal(found[k], expected[k]) for k in found])
        iou = np.mean([bits_iou(found[k], expected[k]) for k in found])
        peak = ""
        if kind in MEASURED_MEMORY:
            peak = f"; tracking takes {peak_mib(name, n_frames, n_objects, switches):.0f} MiB"
        ledger.append(
            "propagate",
            f"SAM2 {name}, {n_objects} objects, {n_frames} frames, input {network.image_size} px, {where}: {kind}",
            ours_s,
            "SAM2VideoPredictor",
            package_s,
            f"{same:.1%} of masks the same in every pixel, mean IoU {iou:.3f}; "
            f"{ours_s / n_objects / n_frames * 1e3:.1f} ms per object "
            f"and frame{peak}",
        )


def bits_iou(a: np.ndarray, b: np.ndarray) -> float:
    """IoU of two packed masks; 1 if both are empty."""
    either = int(np.bitwise_count(a | b).sum())
    return int(np.bitwise_count(a & b).sum()) / either if either else 1.0


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    case = sys.argv[1] if len(sys.argv) > 1 else "embedded"
    for count in [int(n) for n in sys.argv[2:]] or OBJECTS:
        for length in FRAMES:
            compare(case, count, length)
