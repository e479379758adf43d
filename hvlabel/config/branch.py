"""What the settings of branches share; a branch's own settings stand in its file in hvlabel/branches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from hvlabel.config.marks import NO_RESULT, LeftOutAt, ReadWhen, read_by
from hvlabel.config.networks import SamModel, Weights
from hvlabel.config.stage import StageSettings
from hvlabel.errors import WeightsError
from hvlabel.settings import Settings

Branch: TypeAlias = str  # name of a row of hvlabel/branches/table.py

WITHOUT_NETWORK = ("regions", "drawn")  # backends of branches that may run a network

FAST = ReadWhen("mode", ("fast",))
IN_FAST_MODE = ReadWhen("generator.mode", ("fast",))


class RegionSettings(Settings):
    """Weight-free masks: felzenszwalb graph regions at several scales; what persists over scales scores higher."""

    scales: tuple[float, ...] = Field(
        (20, 50, 120, 300, 700), min_length=1, description="felzenszwalb scale; larger: larger regions"
    )
    sigma_px: float = Field(0.4, ge=0, description="Gaussian smoothing before segmentation, px")
    min_area_share: float = Field(
        0.0005, ge=0, lt=1, description="smallest region, share of the image (never below 8 px)"
    )
    half_score_share: float = Field(
        0.002,
        ge=0,
        lt=1,
        description="share of the image at which smallness halves a region's score: specks of noise persist too",
    )
    max_area_share: float = Field(0.6, gt=0, le=1, description="regions above this share of the image are background")
    nms_iou: float = Field(0.8, gt=0, le=1, description="regions of different scales above this mask IoU are one")
    max_masks: int = Field(300, ge=1, description="best masks kept per image")


class GeneratorSettings(Settings):
    """Points on a grid to masks; names and defaults of SAM2AutomaticMaskGenerator."""

    mode: Literal["fast", "exact"] = Field(
        "fast", description="exact: the published list of masks; fast: nearly the same"
    )
    half_precision: Annotated[bool, FAST] = Field(
        True, description="fast: bfloat16 where the device computes in it natively"
    )
    points_per_side: int = Field(32, ge=1, description="grid side; points_per_side squared prompts per crop")
    points_per_batch: Annotated[int, NO_RESULT] = Field(
        64, ge=1, description="prompts decoded at once; memory only, results do not change"
    )
    pred_iou_thresh: float = Field(0.8, description="keep masks whose predicted IoU is above; 0 or less: no filter")
    stability_score_thresh: float = Field(0.95, description="keep masks at least this stable; 0 or less: no filter")
    stability_score_offset: float = Field(1.0, ge=0, description="logit shift of the stability test")
    mask_threshold: float = Field(0.0, description="logit above which a pixel is foreground")
    box_nms_thresh: float = Field(
        0.7, ge=0, le=1, description="box IoU above which the lower-scored mask of a crop goes"
    )
    crop_n_layers: int = Field(0, ge=0, le=4, description="extra layers of crops, 4**layer crops each")
    crop_nms_thresh: float = Field(
        0.7, ge=0, le=1, description="box IoU between crops above which the larger crop's mask goes"
    )
    crop_overlap_ratio: float = Field(
        512 / 1500, ge=0, lt=1, description="overlap of neighbouring crops, share of the short side"
    )
    crop_n_points_downscale_factor: int = Field(1, ge=1, description="grid side shrinks by this factor per crop layer")
    min_mask_region_area: int = Field(0, ge=0, description="remove islands and fill holes below this area, px")
    use_m2m: bool = Field(False, description="SAM2: refine each mask once with itself as mask prompt")
    multimask_output: bool = Field(True, description="three masks per point instead of one")

    skip_after: Annotated[int, FAST, LeftOutAt(0)] = Field(
        0,
        ge=0,
        description="fast: a grid point inside this many confident masks whose colours it has is not asked; "
        "0: all are asked",
    )

    @property
    def wants_half(self) -> bool:
        """Whether the network may compute in bfloat16."""
        return self.mode == "fast" and self.half_precision


# bumped by hand when masks of networks change for equal settings; a stage's version would remake those of regions too
NETWORK_MASKS_VERSION = 2

# What suits SAM: it is sure of what it finds, so fewer points and lower thresholds than the published ones do.
SAM_GENERATOR: dict[str, Any] = {
    "points_per_side": 16,
    "pred_iou_thresh": 0.7,
    "stability_score_thresh": 0.88,
    "skip_after": 8,
}
# Lower than what suits SAM on pictures: the distilled encoder was taught what an object is, so what it is less sure
# of is
# often one too. Chosen on six scenes each of vis31 and vnir128, seeds 600 to 605.
DISTILLED_GENERATOR: dict[str, Any] = {**SAM_GENERATOR, "pred_iou_thresh": 0.6, "stability_score_thresh": 0.8}
_SAM_DEFAULTS = ", ".join(f"{name} {value:g}" for name, value in SAM_GENERATOR.items())

NetworkGenerator = Annotated[GeneratorSettings, read_by("sam", "sam2", "hyperfree", "distilled")]


@dataclass(frozen=True)
class Surroundings:
    """What decides whether a branch whose backend is auto takes part.

    beside_sam  : a core branch runs on backend sam
    has_prompts : a data set has files with what people drew
    """

    beside_sam: bool
    has_prompts: bool


@dataclass(frozen=True)
class Tracking:
    """What a network with a memory is told.

    objects       : carried at once; memory only
    memory_frames : frames just passed that a track remembers; None: as the network's config says
    """

    objects: int = 1
    memory_frames: int | None = None


class BranchSettings(StageSettings):
    """What every branch's settings have."""

    backend: str

    def takes_part(self, around: Surroundings) -> bool:
        """Whether the branch runs where nobody named the branches that do."""
        return self.backend != "off"

    def resolved(self) -> Self:
        """The settings of a branch that runs, with backend auto decided by what is at hand now."""
        return self

    def network(self) -> Weights | None:
        """The network of the chosen backend, or None. Backend auto has to be resolved before."""
        return None

    def takes_masks(self) -> bool:
        """Whether it takes the masks that people drew as they are, not boxes and points."""
        return False

    def why_no_network(self) -> str | None:
        """Why backend auto came to one without a network; None: it did not."""
        return None


class NetworkBranchSettings(BranchSettings):
    """What the settings of branches that may run a network have."""

    fallback: Annotated[str | None, NO_RESULT] = Field(
        None, description="why backend auto became regions; written by the program, leave it out"
    )
    regions: Annotated[RegionSettings, read_by("regions")] = RegionSettings()
    sam: Annotated[SamModel, read_by("sam")] = Field(SamModel(), description="the network of backend sam")
    generator: NetworkGenerator = Field(
        GeneratorSettings(),
        description=f"points to masks; with backend sam (and auto), what is left out is {_SAM_DEFAULTS}",
    )

    @model_validator(mode="before")
    @classmethod
    def _generator_of_backend(cls, tree: Any) -> Any:
        if not isinstance(tree, dict):
            return tree
        backend = tree.get("backend", "auto")
        given = tree.get("generator", {})
        defaults = {"auto": SAM_GENERATOR, "sam": SAM_GENERATOR, "distilled": DISTILLED_GENERATOR}.get(backend)
        if defaults is None or not isinstance(given, dict):
            return tree
        return {**tree, "generator": {**defaults, **given}}

    def resolved(self) -> Self:
        """The settings with backend auto decided: sam where its weights are at hand, else regions, and why."""
        if self.backend != "auto":
            return self
        try:
            self.sam.path()
        except WeightsError as error:
            return self.model_copy(update={"backend": "regions", "fallback": str(error)})
        return self.model_copy(update={"backend": "sam"})

    def network(self) -> Weights | None:
        """The network of the chosen backend, or None where it needs none. Backend auto has to be resolved before."""
        return None if self.backend in ("auto", *WITHOUT_NETWORK) else getattr(self, self.backend)

    def why_no_network(self) -> str | None:
        """Why backend auto became regions."""
        return self.fallback

    def tracking(self) -> Tracking:
        """What a network with a memory is told."""
        return Tracking()

    def relevant(self) -> dict[str, Any]:
        """What the chosen backend reads; of backend auto what that reads which it comes to."""
        if self.backend == "auto":
            return self.resolved().relevant()
        chosen = super().relevant()
        if self.backend in WITHOUT_NETWORK:
            return chosen
        return {**chosen, "network_masks": NETWORK_MASKS_VERSION}

    @model_validator(mode="after")
    def _has_model(self) -> Self:
        if self.backend in ("sam2", "hyperfree") and getattr(self, self.backend) is None:
            raise ValueError(f"backend {self.backend} needs the group {self.backend} with a checkpoint")
        return self
