"""The heads of tracking there are, one row each: what they learn from, and how they follow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from hvlabel.errors import ConfigError
from hvtrain.downstream.side_tracker import SideTracker
from hvtrain.downstream.track_file import FollowSettings
from hvtrain.downstream.tracker import CentreTracker, CropEncoder, Tracker
from hvtrain.heads.car import car_losses
from hvtrain.heads.center import centre_losses
from hvtrain.heads.xcorr import xcorr_losses

CENTER = "center"  # the head of files that name none


@dataclass(frozen=True)
class TrackHead:
    """A head of hvtrain.heads.table that takes crops.

    terms     : scalars that its losses give
    losses    : (what it says, boxes (B, 4)) -> scalars, among them `loss`
    negatives : whether it learns from pairs of two sequences: its losses are told which pairs are of one, (B,) bool
    follow    : published constants of its tracker; none: it has none
    """

    terms: tuple[str, ...]
    losses: Callable[..., dict[str, Tensor]]
    negatives: bool
    follow: FollowSettings | None


TRACK_HEADS = {
    CENTER: TrackHead(("loss", "score", "overlap", "corners"), centre_losses, negatives=False, follow=None),
    # constants: SiamBAN's
    "xcorr": TrackHead(
        ("loss", "score", "overlap"),
        xcorr_losses,
        negatives=True,
        follow=FollowSettings(penalty=0.14, window=0.45, rate=0.30),
    ),
    # SiamCAR's
    "car": TrackHead(
        ("loss", "score", "overlap", "centreness"),
        car_losses,
        negatives=False,
        follow=FollowSettings(penalty=0.04, window=0.44, rate=0.33),
    ),
}


FOLLOWING = tuple(name for name, row in TRACK_HEADS.items() if row.follow is not None)  # that have constants


def track_head(name: str) -> TrackHead:
    """The row of a name; ConfigError for a name that no row has."""
    if name not in TRACK_HEADS:
        raise ConfigError(f"head {name!r} of a tracking task is unknown; there are: {', '.join(TRACK_HEADS)}")
    return TRACK_HEADS[name]


def answer_of(head: nn.Module, template_maps: Sequence[Tensor], search_maps: Sequence[Tensor]) -> Any:
    """What a head says of search crops beside their templates; maps (B, D_i, h, w) of both."""
    template: Any = head.template(template_maps)  # type: ignore[operator]
    return head(template, search_maps)


def tracker_of(name: str, head: Any, encoder: CropEncoder, follow: FollowSettings | None) -> Tracker:
    """Follows by a finished head. follow: constants instead of the published ones."""
    constants = follow or track_head(name).follow
    if constants is None:
        return CentreTracker(head, encoder)
    return SideTracker(head, encoder, constants)
