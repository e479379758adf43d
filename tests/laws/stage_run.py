"""A finished run of every stage on small images, and what a test asks of it."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import raw_files
import yaml
from small_scenes import NM, image
from verbs import hvlabel

from hvlabel.cache.index import read_index
from hvlabel.layout import STAGES, Layout, before

NAMES = ("s0", "s1", "s2")
SHARD = "d/0000"
BRANCHES = ("rgb", "sequence", "material", "regions", "prompts")
BAD = "s1"  # the image that fails
THING, OTHER_THING = [5, 5, 22, 20], [18, 24, 34, 36]  # boxes, x0 y0 x1 y1 in px


@dataclass(frozen=True)
class Case:
    """A stage as a job runs it.

    verb    : of hvlabel
    changed : settings, by group, with which every output is another one
    """

    verb: tuple[str, ...]
    changed: dict[str, dict]


CASES = {
    "cubes": Case(("convert",), {"cube": {"rgb": "triplet"}}),
    "rgb": Case(("segment", "rgb"), {"rgb": {"regions": {"sigma_px": 1.5}}}),
    "sequence": Case(("segment", "sequence"), {"sequence": {"max_frames": 3}}),
    "material": Case(("segment", "material"), {"material": {"n_components": 2}}),
    "regions": Case(("segment", "regions"), {"regions": {"max_masks": 3}}),
    "prompts": Case(("segment", "prompts"), {"prompts": {"n_composites": 1}}),
    "teacher": Case(("teacher",), {"teacher": {"tile_px": 32}}),
    "labels": Case(("fuse",), {"fusion": {"min_area_px": 60}}),
}


def write_raw_files(folder):
    """Three images, and a box on each."""
    for k, name in enumerate(NAMES):
        raw_files.npy(folder / "raw" / f"{name}.npy", image(k))
        write_box(folder, name, THING)


def write_box(folder, name, box_xyxy):
    """The one thing that is drawn on an image."""
    (folder / "boxes" / f"{name}.json").write_text(json.dumps({"boxes": [box_xyxy]}))


def configuration(folder, repository):
    """The tree: regions wherever they will do, a small untrained network where one is needed."""
    network = {"config": str(repository / "resources/models/sam2_nano.yaml"), "checkpoint": "random:1"}
    descriptor = {
        "container": "npy",
        "wavelengths_nm": NM,
        "prompts": "../boxes/{stem}.json",
    }
    return {
        "results": str(folder / "results"),
        # the marks lie beside the images' folder
        "datasets": {
            "d": {"root": str(folder / "raw"), "glob": "*.npy", "descriptor": descriptor, "allow_outside": True}
        },
        "rgb": {"backend": "regions"},
        "sequence": {"backend": "regions", "max_frames": 2},
        "material": {"backend": "regions"},
        "regions": {"backend": "regions"},
        "prompts": {"backend": "sam2", "sam2": network, "n_composites": 0},
        "teacher": {"backend": "sam2", "sam2": network},
        "fusion": {"branches": list(BRANCHES)},
    }


class Run:
    """A results folder and its configuration."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.layout = folder, Layout(folder / "results")

    def write_config(self, name: str, changes: dict[str, dict]) -> None:
        """A configuration file with some groups changed."""
        tree = yaml.safe_load((self.folder / "c.yaml").read_text())
        for group, values in changes.items():
            tree[group] = tree.get(group, {}) | values
        (self.folder / name).write_text(yaml.safe_dump(tree))

    def walk(self, stage: str, config: str = "c.yaml") -> tuple[int, ...]:
        """One job: how many images were made, kept, failed and left out."""
        where = ("--config", self.folder / config, "--results", self.layout.root)
        said = hvlabel(*CASES[stage].verb, "--shard", SHARD, *where)
        assert said.status == 0, said.err
        return tuple(map(int, re.findall(r"(\d+) (?:made|kept|failed|left out)", said.out)))

    def walk_all(self, config: str = "c.yaml") -> dict[str, tuple[int, ...]]:
        """All jobs in their order."""
        return {stage: self.walk(stage, config) for stage in STAGES}

    def index(self, stage: str):
        """Entries of a stage by image."""
        return read_index(self.layout.index(stage, "d", "0000")).images

    def digests(self, stage: str) -> dict[str, str]:
        """What the index calls each image's output."""
        return {name: entry.digest for name, entry in self.index(stage).items() if entry.status == "ok"}

    def output(self, stage: str, name: str) -> Path:
        """Where an image's output lies."""
        return self.layout.output(stage, "d", name)

    def files(self, stage: str, name: str) -> list[Path]:
        """Every file of an image's output; of labels also the picture beside it."""
        output = self.output(stage, name)
        if output.is_dir():
            return sorted(p for p in output.rglob("*") if p.is_file())
        return [output, output.with_suffix(".png")] if stage == "labels" else [output]

    def contents(self) -> dict[Path, tuple[bytes, int]]:
        """Bytes and time of every output of every stage."""
        paths = [p for stage in STAGES for name in NAMES for p in self.files(stage, name)]
        return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in paths}

    def problems(self) -> str:
        """What a thorough check of the results says."""
        return hvlabel("verify", "--deep", "--results", self.layout.root).out


def descendants(stage):
    """The stages that build on a stage, over others too."""
    later = {s for s in STAGES if stage in before(s, BRANCHES)}
    return later | {s for one in later for s in descendants(one)}
