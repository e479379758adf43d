"""The memory of the embedded SAM2 on false-colour frames of generated scenes it was never trained on.

python bench/embedded_memory.py [--scenes 20] [--checkpoint embedded] [--cameras vis31 vnir128 vnir61]

Every object's true mask is given on the first of nine frames and carried to the others: mean IoU with the truth, an
object said to
be absent counting 0. Beside it the same network whose memory says nothing of the object (memory features and pointers
set to
zero), bfloat16 against float32, and tracks that remember their first frame alone. On all frames the objects stand
still; what
changes is which of them can be seen.
"""

import argparse
import time

import ledger
import numpy as np
import torch
from embedded import SIDE_PX, iou_of

from hvlabel.config import Sam2Model
from hvlabel.cube.bands import false_colour_frames
from hvlabel.cube.render import false_colour
from hvlabel.demo.cameras import CAMERAS
from hvlabel.demo.scenes import make_scene
from hvlabel.models.device import choose_device
from hvlabel.models.sam2 import Sam2Predictor, load_sam2

N_FRAMES = 9


def forgetful(model: Sam2Model, device: torch.device) -> Sam2Predictor:
    """The network with nothing in its memory but the codes of place and time."""
    network = load_sam2(model, device)
    with torch.no_grad():
        for parameter in (*network.memory_encoder.out_proj.parameters(), *network.obj_ptr_proj.parameters()):
            parameter.zero_()
    return Sam2Predictor(network)


def carried(model: Sam2Predictor, images: list[np.ndarray], masks: torch.Tensor) -> tuple[np.ndarray, float]:
    """(T, N) IoU with the truth on every frame, and the seconds of the propagation."""
    embeddings = [model.embed(image) for image in images]
    iou = np.zeros((len(images), len(masks)))
    start = time.perf_counter()
    for frame, objects, logits, present in model.track(embeddings, 0, masks):
        iou[frame, objects] = (iou_of(logits > 0, masks[objects]) * present.cpu()).numpy()
    return iou, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=20, help="per camera")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--checkpoint", default="embedded")
    parser.add_argument("--config")
    parser.add_argument("--cameras", nargs="+", choices=CAMERAS, default=["vis31", "vnir128", "vnir61"])
    a = parser.parse_args()
    device = choose_device("auto")
    weights = Sam2Model(config=a.config, checkpoint=a.checkpoint)
    network = load_sam2(weights, device)
    models = {
        "float32": Sam2Predictor(network),
        "bfloat16": Sam2Predictor(network, half=True),
        "first frame alone": Sam2Predictor(network, half=True, memory_frames=0),
        "without memory": forgetful(weights, device),
    }
    for name in a.cameras:
        camera = CAMERAS[name]
        frames = false_colour_frames(camera.centres_nm, N_FRAMES)
        found: dict[str, list[np.ndarray]] = {kind: [] for kind in models}
        seconds = dict.fromkeys(models, 0.0)
        hidden: list[np.ndarray] = []
        for seed in range(a.first_seed, a.first_seed + a.scenes):
            scene = make_scene(camera, SIDE_PX, seed)
            masks = torch.from_numpy(np.stack([i.mask for i in scene.instances]))
            hidden.append(np.array([i.spectral_only for i in scene.instances]))
            images = [false_colour(scene.signal[list(frame.bands)]) for frame in frames]
            for kind, model in models.items():
                iou, took = carried(model, images, masks)
                found[kind].append(iou)
                seconds[kind] += took
        spectral_only = np.concatenate(hidden)
        told = []
        for kind, ious in found.items():
            iou = np.concatenate(ious, axis=1)
            told.append(f"{kind}: frame 1 {iou[1].mean():.3f}, frame {len(frames) - 1} {iou[-1].mean():.3f}")
            told.append(f"spectral-only {iou[1, spectral_only].mean():.3f}, {iou[-1, spectral_only].mean():.3f}")
        ledger.append(
            "embedded_memory",
            f"SAM2 {a.checkpoint}, {a.scenes} scenes of {name} from seed {a.first_seed}, {len(frames)} frames",
            seconds["bfloat16"] / a.scenes,
            "float32",
            seconds["float32"] / a.scenes,
            "; ".join(told),
        )


if __name__ == "__main__":
    main()
