"""Where everything lies below the results folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hvlabel.branches.table import BRANCHES, CORE_BRANCHES

STAGES = ("cubes", *BRANCHES, "teacher", "labels")
MAX_NAME_BYTES = 255  # of a file's name, on all usual disks
ZARR_STAGES = ("cubes", "teacher")  # their outputs are Zarr groups; all others write mask files


def before(stage: str, branches: Sequence[str] = CORE_BRANCHES) -> tuple[str, ...]:
    """The stages that a stage builds on. branches: those that labels are fused from."""
    if stage == "labels":
        return tuple(branches)
    return () if stage == "cubes" else ("cubes",)


@dataclass(frozen=True, init=False)
class Layout:
    """Paths of one results folder."""

    root: Path

    def __init__(self, root: Path | str) -> None:
        object.__setattr__(self, "root", Path(root))  # the dataclass is frozen

    @property
    def manifest(self) -> Path:
        """Table of all images."""
        return self.root / "manifest.tsv"

    @property
    def datacard(self) -> Path:
        """What of every data set is on this disk; the table also as .tsv beside it."""
        return self.root / "datacard.md"

    # ------------------------------------------------------------------------------------------ outputs of stages

    def cube(self, dataset: str, image_id: str) -> Path:
        """Zarr group of an image."""
        return self.root / "cubes" / dataset / f"{image_id}.zarr"

    def masks(self, branch: str, dataset: str, image_id: str) -> Path:
        """Mask file of a branch."""
        return self.root / "masks" / branch / dataset / f"{image_id}.json"

    @property
    def labels(self) -> Path:
        """Folder of all fused labels: what is handed on."""
        return self.root / "labels"

    def label(self, dataset: str, image_id: str) -> Path:
        """Fused label; a picture of the image lies beside it as .png."""
        return self.labels / dataset / f"{image_id}.json"

    def teacher(self, dataset: str, image_id: str) -> Path:
        """Zarr group with the teacher's features of an image."""
        return self.root / "teacher" / dataset / f"{image_id}.zarr"

    def output(self, stage: str, dataset: str, image_id: str) -> Path:
        """What a stage makes of an image."""
        if stage == "cubes":
            return self.cube(dataset, image_id)
        if stage == "teacher":
            return self.teacher(dataset, image_id)
        if stage == "labels":
            return self.label(dataset, image_id)
        return self.masks(stage, dataset, image_id)

    @property
    def aside(self) -> Path:
        """Mask files that were edited and not accepted, under their path in the results: new ones took their place."""
        return self.root / "aside"

    # ------------------------------------------------------------------------------------------ what a run is about

    def index(self, stage: str, dataset: str, shard: str) -> Path:
        """Index of a stage's shard: the only file that the workflow knows."""
        return self.root / "index" / stage / dataset / f"{shard}.json"

    @property
    def problems(self) -> Path:
        """One sentence per line: data sets of the last scan without images."""
        return self.root / "index" / "problems.txt"

    @property
    def checked(self) -> Path:
        """Written when a run has ended well: not too many images failed."""
        return self.root / "index" / "checked"

    @property
    def at_work(self) -> Path:
        """Says which run is at work on this folder; empty when none is."""
        return self.root / "locks" / "run.json"

    def lock(self, stage: str, dataset: str, shard: str) -> Path:
        """Held by the one process that works on a shard."""
        return self.root / "locks" / f"{stage}.{dataset}.{shard}.lock"

    def log(self, *job: str) -> Path:
        """What a job says. job: its name, or stage, data set and shard."""
        return self.root.joinpath("logs", *job[:-1], f"{job[-1]}.log")

    # ------------------------------------------------------------------------------------------ demo scenes

    def demo(self, dataset: str) -> Path:
        """Raw files (`raw`) and ground truth (`truth`) of a demo data set."""
        return self.root / "demo" / dataset

    def scenes_index(self, dataset: str) -> Path:
        """Written when all scenes of a demo data set are there."""
        return self.root / "index" / "scenes" / f"{dataset}.json"

    def demo_truth(self, dataset: str, image_id: str) -> Path:
        """Ground truth of a demo image."""
        return self.demo(dataset) / "truth" / f"{image_id}.json"

    def own_truth(self, dataset: str, image_id: str) -> Path:
        """Ground truth that somebody imported."""
        return self.root / "truth" / dataset / f"{image_id}.json"

    def truth(self, dataset: str, image_id: str) -> Path:
        """The ground truth that counts: an imported one, else the demo's, whether or not that exists."""
        own = self.own_truth(dataset, image_id)
        return own if own.exists() else self.demo_truth(dataset, image_id)

    def materials(self, dataset: str, image_id: str) -> Path:
        """Material class of every pixel of a demo image, PNG; 255: of no class."""
        return self.demo_truth(dataset, image_id).with_suffix(".png")

    def drawn(self, dataset: str, stem: str) -> Path:
        """Marks that were imported for the branch `prompts`. stem: of the raw file, as rules name it."""
        return self.root / "prompts" / dataset / f"{stem}.json"

    # ------------------------------------------------------------------------------------------ for people, training

    @property
    def report(self) -> Path:
        """The page to look at."""
        return self.root / "report" / "index.html"

    @property
    def overview(self) -> Path:
        """The same in one file that needs no other, with a few pictures: for `snakemake --report`."""
        return self.report.with_name("overview.html")

    @property
    def pictures(self) -> Path:
        """Folder of the page's pictures."""
        return self.report.parent / "pictures"

    def thumbnail(self, dataset: str, image_id: str) -> Path:
        """Small picture of a label."""
        return self.pictures / f"{dataset}__{image_id}.jpg"

    @property
    def pages(self) -> Path:
        """Folder of the pages of images."""
        return self.report.parent / "pages"

    def page(self, dataset: str, image_id: str) -> Path:
        """Page of one image."""
        return self.pages / dataset / f"{image_id}.html"

    @property
    def evaluation(self) -> Path:
        """Scores against ground truth."""
        return self.root / "evaluation.tsv"

    @property
    def calibration(self) -> Path:
        """What scores promise, and the IoU with an object that they hold."""
        return self.root / "calibration.tsv"

    @property
    def quality(self) -> Path:
        """Every label in numbers, worst first; the same table also as .parquet beside it."""
        return self.root / "quality.tsv"

    def material_groups(self, dataset: str) -> Path:
        """Material of every label mask of a data set; mean spectra as .tsv and a picture as .png beside it."""
        return self.root / "materials" / f"{dataset}.json"

    def pretrain(self, run: str) -> Path:
        """Folder of a pre-training run."""
        return self.root / "pretrain" / run

    @property
    def downstream(self) -> Path:
        """Everything that downstream tasks make."""
        return self.root / "downstream"
