"""Settings of the stages from raw file to label."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from hvlabel.config.stage import HyperFreeModel, Sam2Model, SamModel, StageSettings, Weights
from hvlabel.errors import WeightsError
from hvlabel.settings import Settings

# the three mask sources of the method, and those that join them where they help or are asked for
BRANCHES = ("rgb", "sequence", "material")
OPTIONAL_BRANCHES = ("regions", "prompts")

Branch = Literal["rgb", "sequence", "material", "regions", "prompts"]


class CubeSettings(StageSettings):
    """Raw file to Zarr cube with an RGB rendering."""

    version: ClassVar[int] = 2

    rgb: Literal["auto", "companion", "cie", "triplet"] = Field(
        "auto",
        description="source of the rendering; auto: companion, else CIE if the visible range is covered, else three bands",
    )
    rgb_nm: tuple[float, float, float] = Field(
        (640.0, 550.0, 460.0), description="triplet: wanted red, green, blue, nm"
    )
    band_tol_nm: float = Field(
        60.0, gt=0, description="triplet: farthest band that may stand for a wanted wavelength, nm"
    )
    stretch_percentiles: tuple[float, float] = Field((1.0, 99.0), description="values mapped to black and white")
    memory_mib: int = Field(
        1024, ge=512, description="most memory that one conversion may take, MiB, whatever the size of the cube"
    )

    def relevant(self) -> dict[str, Any]:
        """Everything but the memory limit."""
        return self.model_dump(mode="json", exclude={"memory_mib"})

    @model_validator(mode="after")
    def _stretch_is_a_range(self) -> Self:
        low, high = self.stretch_percentiles
        if not 0 <= low < high <= 100:
            raise ValueError(f"stretch_percentiles must be two rising numbers in 0..100, not {low:g}, {high:g}")
        return self


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
    half_precision: bool = Field(True, description="fast: bfloat16 where the device computes in it natively")
    points_per_side: int = Field(32, ge=1, description="grid side; points_per_side squared prompts per crop")
    points_per_batch: int = Field(64, ge=1, description="prompts decoded at once; memory only, results do not change")
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

    skip_after: int = Field(
        0,
        ge=0,
        description="fast: a grid point inside this many confident masks whose colours it has is not asked; 0: all are asked",
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


class BranchSettings(StageSettings):
    """What the settings of all branches share.

    used_by : backend -> the settings that its masks depend on
    """

    used_by: ClassVar[dict[str, frozenset[str]]]

    backend: str
    fallback: str | None = Field(
        None, description="why backend auto became regions; written by the program, leave it out"
    )
    regions: RegionSettings = RegionSettings()
    sam: SamModel = Field(SamModel(), description="the network of backend sam")
    generator: GeneratorSettings = Field(
        GeneratorSettings(),
        description="points to masks; with backend sam (and auto), what is left out is "
        + ", ".join(f"{name} {value:g}" for name, value in SAM_GENERATOR.items()),
    )

    @model_validator(mode="before")
    @classmethod
    def _generator_of_sam(cls, tree: Any) -> Any:
        if not isinstance(tree, dict):
            return tree
        backend, given = tree.get("backend", "auto"), tree.get("generator", {})
        if backend in ("auto", "sam") and isinstance(given, dict):
            return {**tree, "generator": {**SAM_GENERATOR, **given}}
        return tree

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
        """The network of the chosen backend, or None for regions. Backend auto has to be resolved before."""
        return None if self.backend in ("auto", "regions") else getattr(self, self.backend)

    def relevant(self) -> dict[str, Any]:
        """Only the chosen backend's settings; of backend auto those of what it comes to."""
        if self.backend == "auto":
            return self.resolved().relevant()
        used = set(self.used_by[self.backend]) | {"backend"}
        chosen = self.model_dump(mode="json", include=used, exclude=self._no_result())
        return chosen if self.backend == "regions" else {**chosen, "network_masks": NETWORK_MASKS_VERSION}

    def _no_result(self) -> dict[str, Any]:
        """What cannot change a result: batch sizes, where a checkpoint lies (its hash is in the key by itself), another mode's
        switches, and switches that are off which older masks did not know."""
        exact = self.generator.mode == "exact"
        generator = {"points_per_batch"}
        if exact:
            generator.add("half_precision")
        if exact or not self.generator.skip_after:
            generator.add("skip_after")
        return {
            "generator": generator,
            "memory_frames": exact,  # false: it stays in
            **{name: {"checkpoint", "sha256"} for name in ("sam", "sam2", "hyperfree")},
        }

    @model_validator(mode="after")
    def _has_model(self) -> Self:
        if self.backend in ("sam2", "hyperfree") and getattr(self, self.backend) is None:
            raise ValueError(f"backend {self.backend} needs the group {self.backend} with a checkpoint")
        return self


class RgbSettings(BranchSettings):
    """Masks on the RGB rendering."""

    version: ClassVar[int] = 2
    used_by: ClassVar = {
        "regions": frozenset({"regions"}),
        "sam": frozenset({"sam", "generator"}),
        "sam2": frozenset({"sam2", "generator"}),
    }

    backend: Literal["auto", "sam", "sam2", "regions"] = Field(
        "auto", description="auto: sam where its weights are at hand, else regions, which needs none"
    )
    sam2: Sam2Model | None = Field(None, description="required by backend sam2")


class SequenceSettings(BranchSettings):
    """Masks along the sequence of false-colour frames, bands (k, k+S, k+2S) with S = floor(C/3)."""

    version: ClassVar[int] = 2
    used_by: ClassVar = {
        "regions": frozenset({"regions", "max_frames", "link_iou", "nms_iou", "max_masks"}),
        "sam": frozenset(
            {
                "sam",
                "generator",
                "max_frames",
                "key_frames",
                "carry",
                "new_object_iou",
                "link_iou",
                "nms_iou",
                "max_masks",
            }
        ),
        "sam2": frozenset(
            {
                "sam2",
                "generator",
                "max_frames",
                "key_frames",
                "memory_frames",
                "max_objects",
                "new_object_iou",
                "nms_iou",
                "max_masks",
            }
        ),
    }

    backend: Literal["auto", "sam", "sam2", "regions"] = Field(
        "auto", description="auto: sam where its weights are at hand, else regions, which needs none"
    )
    sam2: Sam2Model | None = Field(None, description="required by backend sam2")
    max_frames: int = Field(8, ge=1, description="frames used, evenly spread over the S possible ones")
    key_frames: int = Field(
        3,
        ge=1,
        description="frames in which new objects are started; sam2: evenly spread, sam: those that differ most, no others are used",
    )
    carry: bool = Field(True, description="sam: objects of earlier frames are carried on by one prompt each")
    objects_per_batch: int = Field(16, ge=1, description="sam2: objects carried at once; memory only")
    memory_frames: int = Field(
        0,
        ge=0,
        description="sam2, generator.mode fast: frames just passed that a track remembers beside the one it started on; "
        "exact: as many as the network's config says",
    )
    max_objects: int = Field(64, ge=1, description="sam2: tracks started per key frame at most, best score first")
    new_object_iou: float = Field(
        0.5,
        ge=0,
        le=1,
        description="sam, sam2: a key frame's mask starts a track unless a track covers it at this mask IoU",
    )
    link_iou: float = Field(
        0.5, gt=0, le=1, description="regions, sam: a mask of another frame at or above this mask IoU supports a mask"
    )
    nms_iou: float = Field(0.8, gt=0, le=1, description="(object, frame) masks above this mask IoU are one")
    max_masks: int = Field(300, ge=1, description="best masks kept per image")


class MaterialSettings(BranchSettings):
    """Masks on the full spectrum."""

    version: ClassVar[int] = 2
    used_by: ClassVar = {
        "regions": frozenset({"n_components", "regions"}),
        "sam": frozenset({"sam", "generator", "n_composites", "link_iou", "nms_iou", "max_masks"}),
        "hyperfree": frozenset({"hyperfree", "generator"}),
    }

    backend: Literal["auto", "sam", "hyperfree", "regions"] = Field(
        "auto", description="auto: sam where its weights are at hand, else regions, which needs none"
    )
    n_components: int = Field(
        6, ge=1, le=32, description="regions: whitened spectral components that carry the segmentation"
    )
    n_composites: int = Field(
        2,
        ge=1,
        le=8,
        description="sam: false-colour pictures of three whitened spectral components each, strongest first",
    )
    link_iou: float = Field(
        0.5, gt=0, le=1, description="sam: a mask of another composite at or above this mask IoU supports a mask"
    )
    nms_iou: float = Field(0.8, gt=0, le=1, description="sam: masks of the composites above this mask IoU are one")
    max_masks: int = Field(300, ge=1, description="sam: best masks kept per image")
    hyperfree: HyperFreeModel | None = Field(None, description="required by backend hyperfree")
    generator: GeneratorSettings = GeneratorSettings(pred_iou_thresh=0.6, stability_score_thresh=0.6)

    @model_validator(mode="after")
    def _no_refinement(self) -> Self:
        if self.generator.use_m2m:
            raise ValueError("generator.use_m2m refines with SAM2's decoder; leave it false for material")
        return self


class RegionsSettings(StageSettings):
    """The best classical regions as a further voter beside networks, which take objects for their parts now and then."""

    version: ClassVar[int] = 1

    backend: Literal["auto", "regions", "off"] = Field(
        "auto", description="auto: on where another branch runs on sam; off: no such branch"
    )
    n_components: int = Field(
        6, ge=1, le=32, description="whitened spectral components that carry the segmentation, as in material"
    )
    regions: RegionSettings = RegionSettings()
    min_persistence: float = Field(
        0.6, ge=0, le=1, description="regions whose mean IoU with the other scales is lower are left out"
    )
    max_masks: int = Field(40, ge=1, description="best regions kept per image")
    max_border_share: float = Field(
        0.02, ge=0, le=1, description="regions that take more of the image's border are background"
    )
    trust: float = Field(
        0.5, gt=0, le=1, description="factor on their scores: between a network's mask and a region, the mask wins"
    )

    def resolved(self) -> Self:
        """The settings of a branch that runs."""
        return self.model_copy(update={"backend": "regions"})


class PromptsSettings(BranchSettings):
    """Masks of the boxes and points that people drew, from files beside the images."""

    version: ClassVar[int] = 1
    used_by: ClassVar = {
        "sam": frozenset({"sam", "generator", "n_composites"}),
        "sam2": frozenset({"sam2", "generator", "n_composites"}),
    }

    backend: Literal["auto", "sam", "sam2", "off"] = Field(
        "auto", description="auto: sam; the branch runs where a data set has a rule `prompts`; off: it does not"
    )
    sam2: Sam2Model | None = Field(None, description="required by backend sam2")
    n_composites: int = Field(
        2,
        ge=0,
        le=8,
        description="false-colour pictures of three whitened spectral components each on which a prompt is decoded beside "
        "the RGB picture; of each prompt's masks the one that the network is surest of stays",
    )

    def resolved(self) -> Self:
        """The settings of a branch that runs: nothing else can decode what people drew, so there is no way round SAM."""
        return self.model_copy(update={"backend": "sam"}) if self.backend == "auto" else self


class BranchWeights(Settings):
    """How much each branch's scores count, relative to each other."""

    rgb: float = Field(1.0, ge=0, le=1, description="factor on scores of rgb masks")
    sequence: float = Field(1.0, ge=0, le=1, description="factor on scores of sequence masks")
    material: float = Field(1.0, ge=0, le=1, description="factor on scores of material masks")
    regions: float = Field(1.0, ge=0, le=1, description="factor on scores of regions masks")
    prompts: float = Field(1.0, ge=0, le=1, description="factor on scores of prompts masks")


class FusionSettings(StageSettings):
    """Masks of all branches to one label by mask-IoU NMS."""

    version: ClassVar[int] = 3

    iou_threshold: float = Field(
        0.8, gt=0, le=1, description="a mask above this mask IoU with a better one is suppressed"
    )
    branches: tuple[Branch, ...] | None = Field(
        None,
        min_length=1,
        description="which branches run and take part; none: rgb, sequence, material, and regions and prompts where they are on",
    )
    min_area_px: int = Field(20, ge=1, description="smaller masks are dropped before fusion, px")
    weights: BranchWeights = Field(BranchWeights(), description="factors on each branch's scores before they compete")
    ranking: Literal["auto", "quality", "votes", "agreement"] = Field(
        "auto",
        description="what masks compete and are ranked by: the IoU with an object that a predictor expects of them; votes on top "
        "of their own scores; or how well all branches agree on them. auto: quality, or, where no cube is at hand, agreement "
        "if a network made masks, else votes",
    )
    min_quality: float = Field(
        0.2, ge=0, le=1, description="ranking by quality: masks of which less is expected are left out"
    )
    coverage: float | None = Field(
        None,
        gt=0,
        le=1,
        description="ranking by quality: keep the best masks until they cover this share of what all of them cover; none: all",
    )
    vote_bonus: float = Field(
        0.2, ge=0, le=1, description="added per further branch that found a mask, before the final ranking"
    )

    def ranked_for(self, *, learned: bool, with_cube: bool) -> Self:
        """The settings with ranking auto decided. learned: whether a network made any of the masks; with_cube: whether their cube
        can be looked at."""
        if self.ranking != "auto":
            return self
        without_cube = "agreement" if learned else "votes"
        return self.model_copy(update={"ranking": "quality" if with_cube else without_cube})

    def relevant(self) -> dict[str, Any]:
        """Everything but the branches: the masks that were fused are in a label's key themselves."""
        chosen = self.model_dump(mode="json", exclude={"branches"})
        if self.ranking == "auto":  # then the masks decide, which are in the key
            del chosen["ranking"]
        if self.ranking in ("votes", "agreement"):  # which know no quality
            del chosen["min_quality"], chosen["coverage"]
        for name in OPTIONAL_BRANCHES:
            if chosen["weights"][name] == 1.0:  # labels made before there were such branches keep their key
                del chosen["weights"][name]
        return chosen

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if self.branches is not None and len(set(self.branches)) != len(self.branches):
            raise ValueError(f"branches names one twice: {', '.join(self.branches)}")
        return self
