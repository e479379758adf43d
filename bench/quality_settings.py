"""The quality predictor on scenes that the generator draws by other rules than those it was trained on.

python bench/quality_settings.py [--scenes 4] [--camera vnir61] [--only NAME ...]

A rule at a time is changed: noise, blur, number and size of objects, parts, objects that only the spectrum shows, size
of the image. Masks are those of the default branches; the camera is one that the predictor has never seen. Rows of a
table; quality beside agreement, which learns nothing.
"""

import argparse
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import quality
import sam_scenes

from hvlabel.config.fusion import FusionSettings
from hvlabel.config.tree import load_config
from hvlabel.demo import canvas, light, scenes
from hvlabel.quality import load_predictor
from hvlabel.stages.segment import BranchRunner
from hvtrain.recipes import quality_examples

SIDE_PX = 256
DEFAULTS = Path(__file__).resolve().parent.parent / "config" / "config.yaml"


@dataclass(frozen=True)
class Rules:
    """Constants of the generator that are changed, and the side of the images."""

    changed: dict[tuple[ModuleType, str], object] = field(default_factory=dict)
    side_px: int = SIDE_PX


RULES = {
    "as in training": Rules(),
    "noise x 4": Rules({(light, "READ_NOISE"): 0.012, (light, "SHOT_NOISE"): 0.032}),
    "blur of 1.8 px": Rules({(light, "PSF_SIGMA_PX"): 1.8}),
    "many small objects": Rules({(canvas, "N_OBJECTS"): (24, 30), (canvas, "RADIUS"): (0.03, 0.06)}),
    "few large objects": Rules({(canvas, "N_OBJECTS"): (3, 4), (canvas, "RADIUS"): (0.18, 0.28)}),
    "all with parts": Rules({(canvas, "PART_SHARE"): 1.0}),
    "none spectral-only": Rules({(scenes, "N_SPECTRAL_ONLY"): 0}),
    "eight spectral-only": Rules({(scenes, "N_SPECTRAL_ONLY"): 8}),
    "128 px": Rules(side_px=128),
    "384 px": Rules(side_px=384),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=4)
    parser.add_argument("--camera", default="vnir61")
    parser.add_argument("--only", nargs="+", default=list(RULES))
    given = parser.parse_args()
    predictor = load_predictor()
    config = load_config(DEFAULTS).resolved()
    branches = config.on(config.fusion.branches or ())
    runners = [BranchRunner(name, settings, config.run) for name, settings in branches.items()]
    lines = []
    for name in given.only:
        judged = scenes_by(RULES[name], runners, given.camera, given.scenes)
        for ranking in ("agreement", "quality"):
            settings = FusionSettings(ranking=ranking)
            lines.append(quality.row(f"{name}: {ranking}", judged, settings, predictor))
    quality.show(lines)


def scenes_by(rules: Rules, runners: list[BranchRunner], camera: str, n_scenes: int) -> list[quality.Scene]:
    """Scenes drawn by some rules, with the masks of the branches."""
    with ExitStack() as stack:
        for (module, constant), value in rules.changed.items():
            stack.enter_context(patch.object(module, constant, value))
        drawn = sam_scenes.scenes_of(camera, n_scenes, rules.side_px)
    judged = []
    for cube, truth in drawn:
        pool = [mask for runner in runners for mask in runner.masks(cube).masks]
        judged.append(quality.Scene(camera, quality_examples.Picture.of(cube, pool, truth)))
    return judged


if __name__ == "__main__":
    main()
