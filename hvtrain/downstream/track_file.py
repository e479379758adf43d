"""What a task file of kind `tracking` says."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from hvlabel.descriptors import Descriptor
from hvlabel.settings import Settings
from hvtrain.downstream.contract import Part, TaskSettings

NEGATIVE = 0.2  # as SiamBAN


class TrackCameraSettings(Settings):
    """One camera's sequences. A sequence is a folder with frames and groundtruth_rect.txt, a box x y w h per frame."""

    descriptor: str | Descriptor | None = Field(
        None, description="how raw frames are read (a name, a path, or itself); none: frames are cubes (.zarr)"
    )
    folder: str | None = Field(
        None, description="name of a folder that all its sequences lie below; none: every sequence is its"
    )
    frames: str = Field("*.png", description="which files of a sequence are frames, in the order of their names")


class PairSettings(Settings):
    """Which pairs of template and search crop training draws."""

    apart: int = Field(200, ge=0, description="largest distance of the two frames")
    shift: float = Field(
        3.0, ge=0, le=20, description="of the search crop: uniform, whole range, in roots of the box's area"
    )
    scale: float = Field(0.25, ge=0, le=1, description="of its side: standard deviation of the logarithm")
    flip: float = Field(0.5, ge=0, le=1, description="share of pairs mirrored along x")
    band_gain_sd: float = Field(0.05, ge=0, le=1, description="of a factor on each band, the same for both")
    gain: float = Field(0.2, ge=0, lt=1, description="of a common factor on the search crop: uniform in 1 +- this")
    negative: float = Field(
        NEGATIVE,
        ge=0,
        lt=1,
        exclude_if=lambda share: share == NEGATIVE,  # runs from before it was there keep their identity
        description="share of pairs whose template is of another sequence: nothing is there to be followed; xcorr only",
    )


class FollowSettings(Settings):
    """How the heads xcorr and car choose among the boxes of a search crop, and how fast the box changes its size."""

    penalty: float = Field(ge=0, le=100, description="of a change of size or shape, in an exponent; 0: none")
    window: float = Field(ge=0, le=1, description="share of a Hann window in the score, beside that of the head")
    rate: float = Field(gt=0, le=1, description="share of the new width and height that is taken over at a sure score")


class TrackSettings(TaskSettings):
    """Tracking of one object, whose box in the first frame is given."""

    kind: Literal["tracking"]
    cameras: dict[str, TrackCameraSettings] = Field(min_length=1, description="by name")
    parts: dict[Literal["train", "test"], str] | None = Field(
        None, description="name of the folder that the sequences of a part lie below; none: by shares"
    )
    shares: dict[Part, float] = Field(
        {"train": 0.6, "val": 0.1, "test": 0.3}, description="without parts: shares of the sequences"
    )
    holdout_share: float = Field(0.1, ge=0, lt=1, description="with parts: of the training sequences, for validation")
    split_seed: int = Field(0, ge=0, description="of the draw")
    factor: float = Field(4.0, gt=1, le=32, description="side of a crop in roots of the box's area")
    width: int = Field(64, ge=8, description="channels of the head")
    pairs: PairSettings = PairSettings()
    follow: FollowSettings | None = Field(
        None,
        exclude_if=lambda given: given is None,  # as pairs.negative
        description="of the heads xcorr and car; none: the published constants of the head",
    )
    pysot_compat: bool = Field(
        False,
        description="count as the published evaluation: the given first frame too, and frames without a true box never "
        "as a success; none of either counts otherwise",
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        total = sum(self.shares.values())
        if abs(total - 1) > 1e-6 or min(self.shares.values()) < 0:
            raise ValueError(f"shares must be at least 0 and add up to 1, not {total:g}")
        if len(self.cameras) > 1 and any(camera.folder is None for camera in self.cameras.values()):
            raise ValueError("several cameras: each needs the folder that tells its sequences apart")
        if self.parts is not None and self.parts.keys() != {"train", "test"}:
            raise ValueError("parts needs both train and test")
        if self.width % 8:
            raise ValueError(f"width {self.width} is no multiple of 8")
        return self
