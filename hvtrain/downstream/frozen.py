"""A backbone that nothing moves: all its bands, no gradient, no statistics that follow the data."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from hvlabel.config.downstream import FIRST_WEIGHTS, SAM, backbone_name, is_sam, sam_model
from hvlabel.errors import TrainingError, WeightsError
from hvlabel.models.decoder import PromptedNetwork
from hvtrain.backbones.contract import Backbone
from hvtrain.backbones.picture import sam_picture
from hvtrain.backbones.whole_image import maps_of_images
from hvtrain.data.feature_maps import FeatureMaps
from hvtrain.data.inputs import finite
from hvtrain.engine.run_folder import RunFiles
from hvtrain.student import load_exported, rebuilt


@dataclass(frozen=True)
class Frozen:
    """A frozen backbone.

    network : in evaluation mode, without gradients
    sha256  : over names, types, shapes and bytes of its weights: a head belongs to them, in whatever file they lie
    name    : for tables
    source  : as load_frozen takes it, from whatever working directory
    """

    network: Backbone
    sha256: str
    name: str
    source: str

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.network.parameters()).device

    @torch.no_grad()
    def maps(self, values: np.ndarray, wavelengths_nm: Sequence[float], gsd_m: float = 1.0) -> FeatureMaps:
        """Maps (1, D, h, w) float32 of a whole image, the one that prompts are decoded on last; padding is cut off.

        Their strides_px are in px of the image, whose longest side is resized to the network's input.

        values         : (C, H, W) float32 physical values
        wavelengths_nm : (C,) band centres
        gsd_m          : m per px of the image
        BandError where no feature can be made from these bands.
        """
        self.network.require_bands(wavelengths_nm)
        # copied where it is mirrored: torch has no negative strides
        in_rows = np.ascontiguousarray(values)
        image = torch.from_numpy(in_rows).float()[None]  # (1, C, H, W)
        on_device = finite(image).to(self.device)
        whole = maps_of_images(self.network, on_device, list(wavelengths_nm), gsd_m)
        on_cpu = tuple(of_scale.float().cpu() for of_scale in whole.maps)
        return FeatureMaps(on_cpu, whole.strides_px)

    @property
    def has_neck(self) -> bool:
        """Whether the last map is made for the prompt decoder; the others are the taps."""
        return isinstance(self.network, PromptedNetwork)

    def require_unchanged(self) -> None:
        """TrainingError if a weight is no longer what it was when the backbone was loaded."""
        now = weights_sha256(self.network)
        if now != self.sha256:
            raise TrainingError(
                f"backbone {self.name}: its weights changed during the training of a head ({self.sha256[:12]} became "
                f"{now[:12]}); nothing was kept, please report this"
            )


def load_frozen(source: str, seed: int = 0) -> Frozen:
    """The backbone of a run's folder or of a file (student.safetensors, an import, a published HyperFree file).

    source : a path; after `untrained:`, the network of its sizes with first weights drawn from the seed; `sam` or
             `sam:CHECKPOINT`, which see pictures
    WeightsError for what is none of these.
    """
    if is_sam(source):
        model = sam_model(source)
        network: Backbone = sam_picture(model).requires_grad_(False)
        path = model.path()
        absolute = source if model.is_fetched or path is None else f"{SAM}:{path.resolve()}"
        return Frozen(network, weights_sha256(network), backbone_name(source), absolute)
    path = _file(Path(source.removeprefix(FIRST_WEIGHTS)).expanduser())
    is_untrained = source.startswith(FIRST_WEIGHTS)
    network = load_exported(path)
    if is_untrained:
        # in a fork: the draws of whoever calls stay as they are
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = rebuilt(network.name, network.sizes()).eval()
    network.requires_grad_(False)
    prefix = FIRST_WEIGHTS if is_untrained else ""
    absolute = f"{prefix}{path.resolve()}"
    return Frozen(network, weights_sha256(network), backbone_name(source), absolute)


def _file(path: Path) -> Path:
    """The weights of a run's folder, or the file itself; WeightsError where neither is there."""
    if path.is_dir():
        weights = RunFiles(path).weights
        if not weights.is_file():
            raise WeightsError(f"{path}: no {weights.name} in it; is the run finished? `hvtrain fit` finishes it")
        return weights
    if not path.is_file():
        raise WeightsError(f"{path}: no such backbone; give the folder of a finished run or a .safetensors file")
    return path


def weights_sha256(network: nn.Module) -> str:
    """sha256 (hex) over the names, types, shapes and bytes of a network's state dict, in the order of the names."""
    digest = hashlib.sha256()
    # by name: modules may be registered in another order one day, their weights stay what they are
    for name, tensor in sorted(network.state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        shape = tuple(values.shape)
        # each ends with a byte that none of them holds: no two lists of tensors read alike
        header = f"{name}\0{values.dtype}\0{shape}\0"
        digest.update(header.encode())
        # flat: a tensor without dimensions cannot be viewed as bytes
        content = values.flatten().view(torch.uint8)
        digest.update(content.numpy().tobytes())
    return digest.hexdigest()
