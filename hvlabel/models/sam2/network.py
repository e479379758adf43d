"""A SAM2 network from its config and checkpoint. The only file that imports the package sam2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sam2
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from sam2.modeling.sam2_base import SAM2Base
from yaml import YAMLError

from hvlabel.config import Sam2Model
from hvlabel.errors import WeightsError
from hvlabel.models.weights import read_state_dict

PACKAGE = Path(sam2.__path__[0])
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
    config = _read_config(name)
    path = model.path()
    network = _untrained(name, config, model.seed or 0)
    if path is not None:
        try:
            network.load_state_dict(read_state_dict(path))
        except RuntimeError as error:
            raise WeightsError(
                f"{path}: does not fit {name} ({_gist(error, 160)}); choose the config of this checkpoint"
            ) from error
    return network.to(device).eval()


def _untrained(name: str, config: Any, seed: int) -> SAM2Base:
    """The network of a config with the first weights of a seed; PyTorch's own generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return instantiate(config, _recursive_=True)
        except Exception as error:  # hydra raises what the named classes raise; each means a wrong config
            raise WeightsError(
                f"{name}: no SAM2 can be built from it ({_gist(error, 160)}); mend the config"
            ) from error


def _read_config(name: str) -> Any:
    """The key `model` of a config, by its path or its name inside the package, with INFERENCE_SETTINGS."""
    path = next((p for p in (Path(name), PACKAGE / name) if p.is_file()), None)
    if path is None:
        published = sorted((PACKAGE / "configs").glob("sam2*/sam2*hiera*.yaml"))
        known = ", ".join(str(p.relative_to(PACKAGE)) for p in published)
        raise WeightsError(f"no SAM2 config {name!r}; give the path of a YAML file or one of: {known}")
    try:
        config = OmegaConf.load(path)
    except (OSError, YAMLError) as error:
        raise WeightsError(f"{path}: not a readable SAM2 config ({_gist(error, 100)}); mend the file") from error
    if "model" not in config:
        raise WeightsError(f"{path}: no top-level key `model`; expected a SAM2 model config")
    for key, value in INFERENCE_SETTINGS.items():
        OmegaConf.update(config.model, key, value, force_add=True)
    OmegaConf.resolve(config)  # interpolations name keys of the whole file, of which only `model` is kept
    return config.model


def _gist(error: Exception, length: int) -> str:
    """What an error says, on one line."""
    return " ".join(str(error).split())[:length]
