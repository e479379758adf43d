"""Settings of a run: how it is cut into jobs."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hvlabel.settings import Settings


class WarnBelow(Settings):
    """What a label is worth a warning below; 0: never."""

    masks: int = Field(1, ge=0, description="masks of an image")
    coverage: float = Field(0.02, ge=0, le=1, description="share of its pixels that lie in a mask")
    quality: float = Field(0.3, ge=0, le=1, description="mean IoU with an object that is expected of its masks")
    agreement: float = Field(0.0, ge=0, le=1, description="mean share of the branches that made a mask")


class RunSettings(Settings):
    """How a run is cut into jobs; nothing here changes a result."""

    shard_size: int = Field(64, ge=1, description="images per job")
    max_failed_share: float = Field(
        0.1,
        ge=0,
        le=1,
        description="share of failed images above which a run ends with an error, after all others are done",
    )
    retry: Literal["machine", "failed"] = Field(
        "machine",
        description="failures that the next run tries again: those of the machine (a full disk, memory, a share that "
        "was away), or all, also those of images that have not changed",
    )
    warn_below: WarnBelow = WarnBelow()
    threads: int = Field(1, ge=1, description="threads per job")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where learned models run; auto: a GPU when there is one"
    )
    gpu_request: Literal["gpus", "gres"] = Field(
        "gpus", description="how jobs ask SLURM for GPUs: by --gpus, or by --gres where the cluster takes only that"
    )
