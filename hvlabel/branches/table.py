"""The table of branches: a source of masks is one file in this folder and one row here.

A branch's file holds the class of its settings and a function `run`:

    run(cube, settings)                         -> MaskSet, best first; a cube in, no files
    run(cube, settings, model=MODEL)            where the row names a network; MODEL is None for a backend without one
    run(cube, settings, ..., prompts=PROMPTS)   where the row reads what people drew

Everything else reads this table: the groups of the configuration and their JSON schema, the verbs, the stages, the
paths of the results, the fusion's weights, report and summary. A branch's file is imported when somebody asks its row
for something, and not by this file: so the results' layout needs no network, and the branches may stand on the settings
that the configuration's tree puts together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from hvlabel.config import BranchSettings
    from hvlabel.masks import MaskSet


@dataclass(frozen=True)
class Row:
    """One branch.

    name          : of its group in the configuration, its stage, its folder of masks
    title         : what its masks are of
    module        : the branch's file
    settings_name : the class of its settings there
    network_at    : module:class of what loads its network; None: it has none
    core          : runs unless it is switched off; the others run where they help or are asked for
    reads_prompts : reads what people drew on an image
    """

    name: str
    title: str
    module: str
    settings_name: str
    network_at: str | None = None
    core: bool = False
    reads_prompts: bool = False

    @property
    def settings(self) -> type[BranchSettings]:
        """The class of its settings."""
        return getattr(import_module(self.module), self.settings_name)

    @property
    def run(self) -> Callable[..., MaskSet]:
        """From a cube to masks, as above."""
        return import_module(self.module).run

    @property
    def network(self) -> Callable[..., Any]:
        """What loads its network (branches/network.py); torch is imported with it, which takes seconds."""
        assert self.network_at is not None  # its settings name no network without
        return resolve_name(self.network_at)


NETWORK = "hvlabel.branches.network:BranchNetwork"

TABLE = (
    Row(
        "rgb",
        "masks on the RGB rendering",
        module="hvlabel.branches.rgb",
        settings_name="RgbSettings",
        network_at=NETWORK,
        core=True,
    ),
    Row(
        "sequence",
        "masks along the sequence of false-colour frames",
        module="hvlabel.branches.sequence",
        settings_name="SequenceSettings",
        network_at=NETWORK,
        core=True,
    ),
    Row(
        "material",
        "masks on the full spectrum",
        module="hvlabel.branches.material",
        settings_name="MaterialSettings",
        network_at=NETWORK,
        core=True,
    ),
    Row(
        "regions",
        "the best classical regions, as a voter beside networks",
        module="hvlabel.branches.voters",
        settings_name="RegionsSettings",
    ),
    Row(
        "prompts",
        "masks of what people drew",
        module="hvlabel.branches.prompts",
        settings_name="PromptsSettings",
        network_at=NETWORK,
        reads_prompts=True,
    ),
)

BRANCHES = tuple(row.name for row in TABLE)
CORE_BRANCHES = tuple(row.name for row in TABLE if row.core)
OPTIONAL_BRANCHES = tuple(row.name for row in TABLE if not row.core)

if TYPE_CHECKING:
    BranchName: TypeAlias = str
else:
    BranchName = Literal[BRANCHES]  # what a setting or an argument may say


def row_of(name: str) -> Row:
    """The row of a branch."""
    return next(row for row in TABLE if row.name == name)
