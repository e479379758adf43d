"""A SAM2 network from its config and checkpoint. The only file that imports the package sam2."""

from __future__ import annotations

from pathlib import Path

import sam2
import torch
from sam2.modeling.backbones.hieradet import Hiera
from sam2.modeling.backbones.image_encoder import FpnNeck, ImageEncoder
from sam2.modeling.memory_attention import MemoryAttention, MemoryAttentionLayer
from sam2.modeling.memory_encoder import CXBlock, Fuser, MaskDownSampler, MemoryEncoder
from sam2.modeling.position_encoding import PositionEmbeddingSine
from sam2.modeling.sam.transformer import RoPEAttention
from sam2.modeling.sam2_base import SAM2Base

from hvlabel.config import Sam2Model
from hvlabel.errors import WeightsError
from hvlabel.models.sam2.config_file import build, read_network
from hvlabel.models.weights import read_state_dict

PACKAGE = Path(sam2.__path__[0])
# all that published configs are built of; a config may name nothing else, so that none can call a function
MODULES = (
    CXBlock,
    FpnNeck,
    Fuser,
    Hiera,
    ImageEncoder,
    MaskDownSampler,
    MemoryAttention,
    MemoryAttentionLayer,
    MemoryEncoder,
    PositionEmbeddingSine,
    RoPEAttention,
    SAM2Base,
)
CLASSES = {f"{module.__module__}.{module.__qualname__}": module for module in MODULES}
# What the package's own builders set at inference: a single unstable mask falls back to the best of three,
# and masks given as prompts enter the memory binarised.
INFERENCE_SETTINGS = {
    "sam_mask_decoder_extra_args.dynamic_multimask_via_stability": True,
    "sam_mask_decoder_extra_args.dynamic_multimask_stability_delta": 0.05,
    "sam_mask_decoder_extra_args.dynamic_multimask_stability_thresh": 0.98,
    "binarize_mask_from_pts_for_mem_enc": True,
}


def load_sam2(model: Sam2Model, device: torch.device) -> SAM2Base:
    """The network of a config and a checkpoint, in evaluation mode; WeightsError if they do not fit each other."""
    name = model.architecture()
    config = _config_path(name)
    path = model.path()
    network = _untrained(config, model.seed or 0)
    if path is not None:
        try:
            network.load_state_dict(read_state_dict(path))
        except RuntimeError as error:
            raise WeightsError(
                f"{path}: does not fit {name} ({_gist(error, 160)}); choose the config of this checkpoint"
            ) from error
    return network.to(device).eval()


def _untrained(path: Path, seed: int) -> SAM2Base:
    """The network of a config file with the first weights of a seed; PyTorch's own generator stays as it was."""
    tree = read_network(path, CLASSES, INFERENCE_SETTINGS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            network = build(tree, CLASSES)
        except Exception as error:  # the package's classes check nothing; whatever they raise means a wrong config
            raise WeightsError(
                f"{path}: no SAM2 can be built from it ({_gist(error, 160)}); mend the config"
            ) from error
    if not isinstance(network, SAM2Base):
        raise WeightsError(f"{path}: model is a {type(network).__name__}, expected a SAM2Base; mend the config")
    return network


def _config_path(name: str) -> Path:
    """The config file of this path, or of this name inside the package."""
    candidates = (Path(name), PACKAGE / name)  # one's own first
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        published = sorted((PACKAGE / "configs").glob("sam2*/sam2*hiera*.yaml"))
        known = ", ".join(str(p.relative_to(PACKAGE)) for p in published)
        raise WeightsError(f"no SAM2 config {name!r}; give the path of a YAML file or one of: {known}")
    return path


def _gist(error: Exception, length: int) -> str:
    """What an error says, on one line."""
    return " ".join(str(error).split())[:length]
