"""Settings of the fusion: masks of all branches to one label.

They name the branches, so they stand above the branches' table.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import Field, create_model, model_validator

from hvlabel.branches.table import CORE_BRANCHES, OPTIONAL_BRANCHES, TABLE, BranchName, Row
from hvlabel.config.marks import NO_RESULT, LeftOutAt, ReadWhen
from hvlabel.config.networks import MODELS
from hvlabel.config.stage import StageSettings
from hvlabel.settings import Settings


def _weight_of(row: Row) -> tuple[Any, Any]:
    """Type and field of a branch's weight; labels from before there was an optional branch keep their key."""
    kind = float if row.core else Annotated[float, LeftOutAt(1.0)]
    return kind, Field(1.0, ge=0, le=1, description=f"factor on scores of {row.name} masks")


if TYPE_CHECKING:
    BranchWeights: TypeAlias = Settings
else:
    BranchWeights = create_model(
        "BranchWeights",
        __base__=Settings,
        __doc__="How much each branch's scores count, relative to each other.",
        __module__=__name__,
        **{row.name: _weight_of(row) for row in TABLE},
    )

_BY_DEFAULT = f"{', '.join(CORE_BRANCHES)}, and {' and '.join(OPTIONAL_BRANCHES)} where they are on"

QUALITY_PREDICTOR = MODELS / "quality.json"
BY_QUALITY = ReadWhen("ranking", ("auto", "quality"))


class FusionSettings(StageSettings):
    """Masks of all branches to one label by mask-IoU NMS."""

    version: ClassVar[int] = 5

    iou_threshold: float = Field(
        0.8, gt=0, le=1, description="a mask above this mask IoU with a better one is suppressed"
    )
    # the masks that were fused are in a label's key themselves
    branches: Annotated[tuple[BranchName, ...] | None, NO_RESULT] = Field(
        None, min_length=1, description=f"which branches run and take part; none: {_BY_DEFAULT}"
    )
    min_area_px: int = Field(20, ge=1, description="smaller masks are dropped before fusion, px")
    weights: BranchWeights = Field(BranchWeights(), description="factors on each branch's scores before they compete")
    # where it is auto, the masks decide, which are in the key
    ranking: Annotated[Literal["auto", "quality", "votes", "agreement"], LeftOutAt("auto")] = Field(
        "auto",
        description="what masks compete and are ranked by: the IoU with an object that a predictor expects of them; "
        "votes on top of their own scores; or how well all branches agree on them. auto: quality, or, where no cube is "
        "at hand, agreement if a network made masks, else votes",
    )
    min_quality: Annotated[float, BY_QUALITY] = Field(
        0.2, ge=0, le=1, description="ranking by quality: masks of which less is expected are left out"
    )
    nested_iou: Annotated[float, BY_QUALITY] = Field(
        1.0,
        gt=0,
        le=1,
        description="ranking by quality: a mask that lies in a clearly better one, or around it, is suppressed above "
        "this mask IoU already; 1: it never is; .6: a fifth fewer masks, nearly all second tries at one object",
    )
    coverage: Annotated[float | None, BY_QUALITY] = Field(
        None,
        gt=0,
        le=1,
        description="ranking by quality: keep the best masks until they cover this share of what all of them cover; "
        "none: all",
    )
    vote_bonus: float = Field(
        0.2, ge=0, le=1, description="added per further branch that found a mask, before the final ranking"
    )

    def files(self) -> list[Path]:
        """What a label is made from besides masks and cube: the quality predictor, where it may be read."""
        return [QUALITY_PREDICTOR] if self.ranking in BY_QUALITY.values else []

    def ranked_for(self, *, learned: bool, with_cube: bool) -> Self:
        """The settings with ranking auto decided.

        learned   : whether a network made any of the masks
        with_cube : whether their cube can be looked at
        """
        if self.ranking != "auto":
            return self
        without_cube = "agreement" if learned else "votes"
        return self.model_copy(update={"ranking": "quality" if with_cube else without_cube})

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if self.branches is not None and len(set(self.branches)) != len(self.branches):
            raise ValueError(f"branches names one twice: {', '.join(self.branches)}")
        return self
