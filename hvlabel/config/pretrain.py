"""Settings of pre-training."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from hvlabel.config.backbones import HyperSigmaSettings, HyperSlSettings, SpecAwareSettings
from hvlabel.config.marks import NO_RESULT, LeftOutAt, ReadWhen
from hvlabel.config.stage import StageSettings
from hvlabel.settings import Settings

MASKED_OBJECTIVES = ("spatial_mae", "spectral_mae", "hyper_mae")
OBJECTIVES = ("masks", "distil", *MASKED_OBJECTIVES)


class StudentSettings(Settings):
    """The network that is trained."""

    # runs of the time when there was one backbone keep their keys
    backbone: Annotated[str, LeftOutAt("hyperfree")] = Field(
        "hyperfree", description="its kind, one of those that hvtrain has"
    )
    size: Literal["small", "b", "l", "h"] = Field(
        "b", description="small has 5 M parameters or fewer; b, l, h are the published sizes"
    )
    crop_px: int = Field(
        224,
        ge=64,
        description="side of the input and of the crops, px; a multiple of the patch (HyperFree: 16, small: 8)",
    )
    merging: bool = Field(
        False, description="HyperFree only: halve the token grid inside the network, as the published examples do"
    )
    checkpoint: Annotated[str | None, NO_RESULT] = Field(
        None,
        description="HyperFree or HyperVision state dict, a run's exported weights, or what `hvtrain import` wrote, to "
        "start from; none: from scratch",
    )
    gsd_m: float = Field(1.0, gt=0, description="ground sampling distance of the raw images, m per pixel")
    specaware: Annotated[SpecAwareSettings, ReadWhen("backbone", ("specaware",))] = SpecAwareSettings()
    hypersigma: Annotated[HyperSigmaSettings, ReadWhen("backbone", ("hypersigma",))] = HyperSigmaSettings()
    hypersl: Annotated[HyperSlSettings, ReadWhen("backbone", ("hypersl",))] = HyperSlSettings()

    @model_validator(mode="after")
    def _size_is_published(self) -> Self:
        if self.backbone == "specaware" and self.size == "h":
            raise ValueError("specaware has no size h; choose small, b or l, and set width, depth and heads apart")
        if self.merging and self.backbone != "hyperfree":
            raise ValueError(f"merging is of hyperfree alone; leave it out for {self.backbone}")
        return self

    @model_validator(mode="after")
    def _grid(self) -> Self:
        cell_px = self.patch_px * (2 if self.merging else 1)
        if self.crop_px % cell_px:
            raise ValueError(f"crop_px {self.crop_px} is no multiple of {cell_px}")
        return self

    @property
    def patch_px(self) -> int:
        """Side of a token, px."""
        if self.backbone == "specaware":
            return self.specaware.patch_px
        if self.backbone == "hypersigma":
            return self.hypersigma.patch_px
        if self.backbone == "hypersl":
            return self.hypersl.stride_px
        return 8 if self.size == "small" else 16


class DataSettings(Settings):
    """What a training sample is made of."""

    masks_per_image: int = Field(8, ge=1, description="masks asked for in a crop")
    best_masks: int = Field(128, ge=1, description="of an image, only this many best masks are ever asked for")
    # runs from before masks could be drawn or weighed by it keep their keys
    draw_temperature: Annotated[float | None, LeftOutAt(None)] = Field(
        None,
        gt=0,
        description="masks are asked for with chances that rise as quality ** (1 / temperature): the smaller, the more "
        "often the best; none: all of best_masks alike",
    )
    max_area_share: float = Field(0.8, gt=0, le=1, description="masks that fill more of the crop are no objects")
    camera_temperature: float = Field(
        2.0, ge=1, description="1: cameras as often as they have images; larger: more evenly"
    )
    holdout_share: float = Field(
        0.1, ge=0, lt=1, description="share of each camera's images kept for evaluation, at least one of three or more"
    )
    unseen: list[str] = Field([], description="data sets kept out of training altogether, for evaluation")
    flip: bool = Field(True, description="mirror crops at random, both ways")
    scale: tuple[float, float] = Field((1.0, 1.0), description="crops cover crop_px times a factor from this range")
    band_dropout: float = Field(0.0, ge=0, lt=1, description="largest share of bands left out of a batch")
    spectral_jitter: float = Field(
        0.0, ge=0, lt=1, description="smooth random gain over the spectrum, standard deviation"
    )

    @model_validator(mode="after")
    def _scale_is_a_range(self) -> Self:
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale must be two rising positive numbers, not {self.scale[0]:g}, {self.scale[1]:g}")
        return self


class PromptSettings(Settings):
    """How masks are asked for."""

    box_share: float = Field(0.3, ge=0, le=1, description="share of steps that start with boxes instead of points")
    box_jitter: float = Field(0.1, ge=0, le=0.5, description="standard deviation of box corners, share of its sides")
    corrections: int = Field(1, ge=0, description="further rounds, each with a point where the mask was wrong")


class LossSettings(Settings):
    """Weights of the objective: segmentation + distill * distillation + dense * pixel embedding."""

    focal: float = Field(20.0, ge=0, description="weight of the focal loss, as in SAM")
    dice: float = Field(1.0, ge=0, description="weight of the dice loss, as in SAM")
    iou: float = Field(1.0, ge=0, description="weight of the squared error of the predicted IoU, as in SAM")
    by_quality: Annotated[bool, LeftOutAt(False)] = Field(
        False, description="each mask's losses count as much as the label expects of it, its quality in [0, 1]"
    )
    distill: float = Field(1.0, ge=0, description="weight of the distillation; without effect for teacher backend none")
    student_temperature: float = Field(0.1, gt=0, description="tau_s of the distillation")
    teacher_temperature: float = Field(0.07, gt=0, description="tau_t of the distillation")
    centre: Literal["running", "dataset"] = Field("dataset", description="which mean of teacher tokens is subtracted")
    balanced: float = Field(
        0.0,
        ge=0,
        description="weight of a cross-entropy that counts object and background alike; keeps small masks from "
        "vanishing",
    )
    edge: float = Field(
        0.0,
        ge=0,
        description="weight of a cross-entropy over the cells along the outline; sharpens masks that have been found",
    )
    dense: float = Field(
        0.0,
        ge=0,
        description="weight of a throw-away head: pixel embeddings alike inside a mask, which teach the backbone at "
        "once",
    )
    shortcut: float = Field(
        0.0,
        ge=0,
        description="weight of a throw-away head that makes the mask from the feature under the click and teaches the "
        "decoder's tokens to",
    )


class MaskedSettings(Settings):
    """Masked autoencoding: a part of the input is removed, and a throw-away decoder says what was there."""

    mask_ratio: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="share of tokens (HyperSL: bands) removed; none: what the backbone was published with",
    )
    weight: float = Field(1.0, ge=0, description="weight of its loss, beside those of masks and distillation")
    norm_pix: bool = Field(
        False,
        description="compare with tokens whose own mean and variance are taken out; HyperSL's loss has no such form",
    )
    spectra: int = Field(256, ge=1, description="HyperSL: spectra drawn from each crop")


class OptimiserSettings(Settings):
    """AdamW with warm-up and cosine decay."""

    steps: int = Field(100_000, ge=1, description="optimiser steps of the whole run")
    batch_images: int = Field(16, ge=1, description="images per step, over all GPUs and accumulated batches")
    accumulate: int = Field(1, ge=1, description="batches per step, for less memory")
    lr: float = Field(2e-4, gt=0, description="peak learning rate")
    decoder_lr: float = Field(1.0, gt=0, description="factor on it for prompt encoder and the decoder's transformer")
    lr_fan_in: int | None = Field(
        None, ge=1, description="matrices with more inputs than this learn more slowly in proportion; none: all alike"
    )
    warmup_steps: int = Field(1000, ge=0, description="steps of linear rise")
    weight_decay: float = Field(0.05, ge=0, description="on matrices; none on biases and norms")
    clip_norm: float = Field(1.0, gt=0, description="largest norm of the gradient")
    ema: float = Field(0.999, ge=0, lt=1, description="decay of the averaged weights, which are what a run hands on")

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.batch_images % self.accumulate:
            raise ValueError(f"batch_images {self.batch_images} is no multiple of accumulate {self.accumulate}")
        return self


class EvaluationSettings(Settings):
    """What the finished backbone is asked."""

    clicks: tuple[int, ...] = Field((1, 3, 5), min_length=1, description="clicks after which the mask is scored")
    max_images: int = Field(32, ge=1, description="held-out images per camera")
    max_masks: int = Field(16, ge=1, description="masks asked for per image")
    probe_images: int = Field(24, ge=1, description="images per camera that a linear probe is fitted on")

    @model_validator(mode="after")
    def _clicks_rise(self) -> Self:
        if self.clicks[0] < 1 or sorted(set(self.clicks)) != list(self.clicks):
            raise ValueError(f"clicks must be rising numbers from 1 on, not {self.clicks}")
        return self


class HardwareSettings(Settings):
    """How a run is computed; of all this only the precision is part of its identity."""

    devices: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto", description="processes per node, one GPU each (or CPU processes); auto: one"
    )
    nodes: int = Field(1, ge=1, description="nodes; under SLURM and torchrun they are found by the environment")
    accelerator: Literal["auto", "cpu", "cuda"] = Field("auto", description="what computes")
    precision: Literal["32-true", "bf16-mixed"] = Field("32-true", description="bf16-mixed on GPUs that have it")
    checkpoint_blocks: bool = Field(
        False, description="recompute blocks in the backward pass: less memory, a third slower"
    )
    compile: bool = Field(False, description="torch.compile of the transformer blocks")
    workers: int = Field(2, ge=0, description="processes that load data; 0: the training process itself")
    prefetch: int = Field(
        4, ge=1, description="batches that each of them prepares ahead, fewer where they would fill shared memory"
    )
    threads: int = Field(2, ge=1, description="CPU threads of the training process")
    log_every: int = Field(20, ge=1, description="steps per row of metrics.csv")
    checkpoint_every: int = Field(500, ge=1, description="steps between checkpoints")
    picture_every: int = Field(1000, ge=1, description="steps between pictures of predictions")

    def processes(self) -> int:
        """Training processes on a node."""
        return 1 if self.devices == "auto" else self.devices

    def gpus(self) -> int:
        """GPUs of a node that a run asks its scheduler for."""
        return 0 if self.accelerator == "cpu" else self.processes()


class PretrainSettings(StageSettings):
    """One pre-training run."""

    version: ClassVar[int] = 2

    run: Annotated[str, NO_RESULT] = Field(
        "default", pattern=r"^[A-Za-z0-9_-]+$", description="name of the run, a folder in results/pretrain"
    )
    seed: int = Field(0, ge=0, description="seed of weights, crops, masks and prompts")
    student: StudentSettings = StudentSettings()
    data: DataSettings = DataSettings()
    objective: Annotated[str, LeftOutAt("masks+distil")] = Field(
        "masks+distil",
        description="what the backbone learns from, joined by +: masks (prompts for the labels' masks), distil (the "
        "teacher's tokens, where there is a teacher), spatial_mae (hypersigma), spectral_mae (hypersl, or hypersigma "
        "with its spectral transformer), hyper_mae (specaware)",
    )
    prompts: PromptSettings = PromptSettings()
    loss: LossSettings = LossSettings()
    masked: Annotated[MaskedSettings, LeftOutAt(MaskedSettings())] = MaskedSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
    evaluation: Annotated[EvaluationSettings, NO_RESULT] = EvaluationSettings()
    hardware: Annotated[HardwareSettings, NO_RESULT] = HardwareSettings()

    @model_validator(mode="after")
    def _objective_is_known(self) -> Self:
        parts = self.objectives
        unknown = [part for part in parts if part not in OBJECTIVES]
        if unknown or len(set(parts)) < len(parts):
            wrong = f"knows no {unknown[0]!r}" if unknown else "names one twice"
            raise ValueError(f"objective {self.objective!r} {wrong}; join some of {', '.join(OBJECTIVES)} by +")
        return self

    @property
    def objectives(self) -> tuple[str, ...]:
        """What is joined in `objective`."""
        return tuple(part.strip() for part in self.objective.split("+"))

    def follows(self, teacher: str) -> bool:
        """Whether a teacher of this backend is learnt from."""
        return teacher != "none" and self.loss.distill > 0 and "distil" in self.objectives

    def relevant(self) -> dict[str, Any]:
        """Everything that can change the weights; of the hardware that is the precision."""
        return {**super().relevant(), "precision": self.hardware.precision}
