"""Plans of scenes to what the distilled network takes, a batch at a time, on the network's device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hvlabel.demo.light import PSF_SIGMA_PX, READ_NOISE, SHOT_NOISE
from hvlabel.models.sam.conditioning import conditioned, present
from hvtrain.recipes.material_plans import MAX_SURFACES, Plan

PSF_REACH_PX = 3  # where the kernel is cut off
COLOURS = 3
SPREAD = 4.0  # standard deviations of a colour from black to white
LEAST_SPREAD = 1e-6  # of an image of one surface


@dataclass(frozen=True)
class Rendered:
    """What the encoder takes, and the truth.

    spectra, light, valid, centres_nm : as SpectralEncoder takes them
    masks   : (B, MAX_OBJECTS, P, P) bool
    surface : (B, P, P) int64
    """

    spectra: Tensor
    light: Tensor
    valid: Tensor
    centres_nm: Tensor
    masks: Tensor
    surface: Tensor


@torch.no_grad()
def render(plan: Plan, input_px: int, generator: torch.Generator) -> Rendered:
    """The images of a plan: blurred and noisy as make_scene's, resized and conditioned.

    generator : noise is drawn from it; on the plan's device
    """
    signal = _exposed(plan, generator)
    surface = plan["surface"]
    if signal.shape[-1] != input_px:
        signal = F.interpolate(signal, (input_px, input_px), mode="bilinear", antialias=True)
        numbers = surface[:, None].float()
        surface = F.interpolate(numbers, (input_px, input_px))[:, 0]  # nearest: numbers have no mean
    place = torch.arange(input_px, device=signal.device)
    height = plan["hw"][:, :1, None]  # (B, 1, 1)
    width = plan["hw"][:, 1:, None]
    valid = (place[:, None] < height) & (place < width)  # (B, P, P)
    spectra, light = conditioned(signal * valid[:, None], valid)
    masks = _unpacked(plan["masks"])
    return Rendered(spectra, light, valid, plan["centres_nm"], masks, surface.long())


@torch.no_grad()
def flat_picture(scene: Rendered) -> Tensor:
    """(B, 3, P, P) in [0, 1]: the spectra of a scene as colours, one for each surface; what the teacher is shown.

    Blue, green and red are the means of the lower, middle and upper third of the bands. Without noise, grain and
    shadows the teacher sees in it what the student has to find.
    """
    pixels = _thirds(scene.spectra) @ scene.spectra.flatten(2)  # (B, 3, P*P)
    inside = scene.valid.flatten(1).to(pixels.dtype)  # (B, P*P)
    surface = scene.surface.flatten(1)
    of_colour = surface[:, None].expand(-1, COLOURS, -1)  # (B, 3, P*P)
    n_images = len(surface)
    # pixels beyond the image are 0: they add nothing to a sum
    sums = pixels.new_zeros(n_images, COLOURS, MAX_SURFACES).scatter_add_(2, of_colour, pixels)
    count = pixels.new_zeros(n_images, MAX_SURFACES).scatter_add_(1, surface, inside)
    means = sums / count.clamp(min=1)[:, None]  # (B, 3, surfaces)
    flat = means.gather(2, of_colour)
    squares = (flat.square() * inside[:, None]).sum(dim=2)  # (B, 3)
    variance = squares / inside.sum(dim=1, keepdim=True)  # conditioned spectra have mean 0
    deviation = variance.sqrt().clamp(min=LEAST_SPREAD)[..., None]  # (B, 3, 1)
    picture = (0.5 + flat / (SPREAD * deviation)).clamp(0, 1)
    in_image = picture * inside[:, None]
    return in_image.unflatten(2, scene.valid.shape[1:])


def _exposed(plan: Plan, generator: torch.Generator) -> Tensor:
    """(B, G, S, S) what the camera records; groups that are not there stay zero."""
    surface = plan["surface"].long()
    side = surface.shape[1]
    table = plan["table"]  # (B, surfaces, G)
    of_pixel = surface.flatten(1)[..., None]  # (B, S*S, 1)
    row_of_table = of_pixel.expand(-1, -1, table.shape[2])
    signal = table.gather(1, row_of_table)  # (B, S*S, G)
    clean = signal.mT.unflatten(2, (side, side))  # (B, G, S, S)
    lit = clean * plan["brightness"].float()[:, None]
    blurred = _blurred(lit)
    sigma = READ_NOISE + SHOT_NOISE * blurred.clamp(min=0).sqrt()  # of one band
    # a group's noise is that of a band, averaged
    of_mean = plan["n_bands"].clamp(min=1).rsqrt()
    factor = of_mean * plan["noise"][:, None]  # (B, G)
    noise = torch.randn(blurred.shape, device=blurred.device, generator=generator)
    noisy = blurred + sigma * factor[:, :, None, None] * noise
    is_there = plan["n_bands"] > 0  # (B, G)
    return noisy.clamp(min=0) * is_there[:, :, None, None]


def _blurred(image: Tensor) -> Tensor:
    """(B, C, H, W) through the camera's point spread."""
    offset_px = torch.arange(-PSF_REACH_PX, PSF_REACH_PX + 1, device=image.device, dtype=image.dtype)
    kernel = torch.exp(-0.5 * (offset_px / PSF_SIGMA_PX) ** 2)
    kernel = kernel / kernel.sum()
    planes = image.flatten(0, 1)[:, None]  # (B*C, 1, H, W)
    padded = F.pad(planes, (PSF_REACH_PX,) * 4, mode="reflect")
    # a Gaussian is separable: a row of weights, then a column
    row, column = kernel.view(1, 1, 1, -1), kernel.view(1, 1, -1, 1)
    across = F.conv2d(padded, row)
    blurred = F.conv2d(across, column)
    return blurred.view_as(image)


def _unpacked(bits: Tensor) -> Tensor:
    """(..., W) bool of (..., W / 8) uint8, the highest bit first."""
    value = 2 ** torch.arange(7, -1, -1, device=bits.device, dtype=torch.uint8)  # of each bit
    is_set = (bits[..., None] & value).ne(0)  # (..., W / 8, 8)
    return is_set.flatten(-2)


def _thirds(spectra: Tensor) -> Tensor:
    """(B, 3, G) weights that give the means of the upper, middle and lower third of an image's bands."""
    n_present = present(spectra).sum(dim=1)
    n_bands = n_present.clamp(min=COLOURS)[:, None]  # (B, 1)
    band = torch.arange(spectra.shape[1], device=spectra.device)
    third = (COLOURS * band).div(n_bands, rounding_mode="floor")  # (B, G); beyond the last for bands that are not there
    is_member = torch.stack([third == k for k in (2, 1, 0)], dim=1)  # (B, 3, G), red first
    member = is_member.to(spectra.dtype)
    n_members = member.sum(dim=2, keepdim=True).clamp(min=1)
    return member / n_members
