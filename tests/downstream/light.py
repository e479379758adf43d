"""A backbone of a few lines, so that tests of tasks take seconds: patches of narrow bins of the spectrum, mixed at random."""

import torch
from torch import nn

from hvlabel.errors import BandError
from hvtrain.backbones.contract import Backbone
from hvtrain.backbones.table import Row
from hvtrain.backbones.weights import export
from hvtrain.data.feature_maps import FeatureMaps

FIRST_NM, STEP_NM, N_BINS = 390, 20, 32


class Bins(Backbone):
    name = "bins"
    input_range = "unit_max"

    def __init__(self, side_px, width):
        super().__init__()
        self.side_px, self.stride_px, self.dim = side_px, 4, width
        self.layers = nn.Sequential(nn.Conv2d(N_BINS, width, 4, stride=4), nn.GELU())

    def encode(self, cube, wavelengths_nm, gsd_m, *, rng=None):
        bins = torch.zeros(len(cube), N_BINS, *cube.shape[2:])
        for k, nm in enumerate(wavelengths_nm):
            at = int((nm - FIRST_NM) // STEP_NM)
            if 0 <= at < N_BINS:
                bins[:, at] += cube[:, k]
        return FeatureMaps.of([self.layers(bins)], cube.shape[-1])

    def require_bands(self, wavelengths_nm):
        if not any(FIRST_NM <= nm < FIRST_NM + STEP_NM * N_BINS for nm in wavelengths_nm):
            raise BandError("no band lies in 390-1030 nm")

    def sizes(self):
        return {"side_px": self.side_px, "width": self.dim}


ROW = Row(
    build=lambda settings: Bins(settings.crop_px, 32),
    rebuild=lambda sizes: Bins(**sizes),
    require_bands=lambda bands: None,
)


def write_backbone(path, side_px=64, width=32):
    """A file of one with random weights, without a prompt decoder."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Bins(side_px, width)
    export(network.state_dict(), path, network.sizes(), network.name)
    return path
