"""Maps of a frozen backbone on disk: encoded once per image and flip, whatever heads are trained on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import google_crc32c
import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from hvlabel.cache.key import cache_key
from hvlabel.cache.publish import publish_bytes
from hvlabel.config import StageSettings
from hvtrain.data.feature_maps import FeatureMaps
from hvtrain.downstream.dense_inputs import INPUTS, PIXELS, network_values
from hvtrain.downstream.frozen import Frozen
from hvtrain.downstream.images import TaskImage
from hvtrain.downstream.shown_maps import shown_maps

FACTS = "features"  # key in the metadata


class FeatureSettings(StageSettings):
    """What maps depend on, beside cube and weights."""

    version: ClassVar[int] = 1

    shown: str  # what of the cube the backbone is shown
    every_px: int
    gsd_m: float
    flipped: bool


class FeatureCache:
    """Maps of images by one backbone, in one folder.

    n_encoded : images that the backbone has looked at for it; the rest came from the disk
    """

    def __init__(self, backbone: Frozen, folder: Path, input_name: str) -> None:
        self._backbone, self._folder = backbone, folder
        self._shown = INPUTS[input_name].shown
        self.n_encoded = 0

    def maps(self, image: TaskImage, *, flipped: bool) -> FeatureMaps:
        """Maps (1, D, h, w) float16 of an image, or of its mirror image along x."""
        settings = FeatureSettings(
            shown=self._shown, every_px=image.settings.every_px, gsd_m=image.settings.gsd_m, flipped=flipped
        )
        key = cache_key("features", [image.identity], settings.canonical(), self._backbone.sha256)
        if flipped and self._shown == PIXELS:  # a spectrum has no sides: what is kept once is mirrored
            plain = self.maps(image, flipped=False)
            mirrored = tuple(of_scale.flip(-1) for of_scale in plain)
            return FeatureMaps(mirrored, plain.strides_px)
        suffix = ".flipped" if flipped else ""
        path = self._folder / f"{image.name}.{self._shown}{suffix}.safetensors"
        kept = _read(path, key)
        if kept is not None:
            return kept
        values, wavelengths_nm = network_values(image.cube, self._shown, image.settings.every_px)
        # the image is mirrored, not its maps: position codes are not symmetric
        if flipped:
            values = values[:, :, ::-1]
        gsd_m = image.settings.gsd_m * image.settings.every_px  # of what is shown: thinned pixels lie farther apart
        maps = shown_maps(self._backbone, self._shown, values, wavelengths_nm, gsd_m)
        self.n_encoded += 1
        # half precision: what later heads read is what the first one was trained on
        in_half = tuple(of_scale.half() for of_scale in maps)
        halved = FeatureMaps(in_half, maps.strides_px)
        _write(path, key, halved)
        return halved


def _write(path: Path, key: str, maps: FeatureMaps) -> None:
    """Publish maps with their key and a checksum."""
    state = {f"map{k}": of_scale.contiguous() for k, of_scale in enumerate(maps)}
    checksum = _checksum(maps.maps)
    facts = {"key": key, "strides_px": maps.strides_px, "crc32c": checksum}
    content = safetensors.torch.save(state, metadata={FACTS: json.dumps(facts)})
    publish_bytes(path, content)


def _read(path: Path, key: str) -> FeatureMaps | None:
    """Maps of this key; None where there are none, or the file is damaged or of another key."""
    if not path.is_file():
        return None
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            facts = json.loads(file.metadata()[FACTS])
            n_maps = len(facts["strides_px"])
            maps = tuple(file.get_tensor(f"map{k}") for k in range(n_maps))
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError):
        return None  # as if it were not there: it is made again
    # of another image, backbone or setting, or with a bit that the disk has lost
    if facts["key"] != key or facts["crc32c"] != _checksum(maps):
        return None
    return FeatureMaps(maps, tuple(facts["strides_px"]))


def _checksum(maps: tuple[Tensor, ...]) -> int:
    """CRC32C over the bytes of all maps."""
    checksum = 0
    for of_scale in maps:
        values = of_scale.contiguous().view(torch.uint8).numpy()
        content = np.ascontiguousarray(values).tobytes()
        checksum = google_crc32c.extend(checksum, content)
    return checksum
