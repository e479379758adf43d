"""Plans of scenes to what the distilled network takes, a batch at a time, on the network's device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hvlabel.demo.light import PSF_SIGMA_PX, READ_NOISE, SHOT_NOISE
from hvlabel.models.sam.conditioning import conditioned, present
from hvtrain.recipes.material_plans import MAX_SURFACES, Plan

PSF_REACH_PX = 3
COLOURS = 3
SPREAD = 4.0  # standard deviations of a colour from black to white
LEAST_SPREAD = 1e-6


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
        surface = F.interpolate(surface[:, None].float(), (input_px, input_px))[:, 0]
    place = torch.arange(input_px, device=signal.device)
    height, width = plan["hw"][:, :1, None], plan["hw"][:, 1:, None]
    valid = (place[:, None] < height) & (place < width)  # (B, P, P)
    spectra, light = conditioned(signal * valid[:, None], valid)
    return Rendered(spectra, light, valid, plan["centres_nm"], _unpacked(plan["masks"]), surface.long())


@torch.no_grad()
def flat_picture(scene: Rendered) -> Tensor:
    """(B, 3, P, P) in [0, 1]: the spectra of a scene as colours, one for each surface; what the teacher is shown.

    Blue, green and red are the means of the lower, middle and upper third of the bands. Without noise, grain and
    shadows the teacher sees in it what the student has to find.
    """
    pixels = _thirds(scene.spectra) @ scene.spectra.flatten(2)  # (B, 3, P*P)
    inside = scene.valid.flatten(1).to(pixels.dtype)
    which = scene.surface.flatten(1)
    of_colour = which[:, None].expand(-1, COLOURS, -1)
    n_images = len(which)
    sums = pixels.new_zeros(n_images, COLOURS, MAX_SURFACES).scatter_add_(2, of_colour, pixels)
    count = pixels.new_zeros(n_images, MAX_SURFACES).scatter_add_(1, which, inside)
    flat = (sums / count.clamp(min=1)[:, None]).gather(2, of_colour)
    variance = (flat.square() * inside[:, None]).sum(dim=2) / inside.sum(dim=1, keepdim=True)
    deviation = variance.sqrt().clamp(min=LEAST_SPREAD)[..., None]
    picture = (0.5 + flat / (SPREAD * deviation)).clamp(0, 1)
    return (picture * inside[:, None]).unflatten(2, scene.valid.shape[1:])


def _exposed(plan: Plan, generator: torch.Generator) -> Tensor:
    """(B, G, S, S) what the camera records; groups that are not there stay zero."""
    surface = plan["surface"].long()
    n_groups, side = plan["table"].shape[2], surface.shape[1]
    which = surface.flatten(1)[..., None].expand(-1, -1, n_groups)
    clean = plan["table"].gather(1, which).mT.unflatten(2, (side, side))
    blurred = _blurred(clean * plan["brightness"].float()[:, None])
    sigma = READ_NOISE + SHOT_NOISE * blurred.clamp(min=0).sqrt()
    # a group's noise is that of a band, averaged
    factor = plan["n_bands"].clamp(min=1).rsqrt() * plan["noise"][:, None]
    noise = torch.randn(blurred.shape, device=blurred.device, generator=generator)
    there = (plan["n_bands"] > 0)[:, :, None, None]
    return (blurred + sigma * factor[:, :, None, None] * noise).clamp(min=0) * there


def _blurred(image: Tensor) -> Tensor:
    """(B, C, H, W) through the camera's point spread."""
    offset_px = torch.arange(-PSF_REACH_PX, PSF_REACH_PX + 1, device=image.device, dtype=image.dtype)
    kernel = torch.exp(-0.5 * (offset_px / PSF_SIGMA_PX) ** 2)
    kernel = kernel / kernel.sum()
    planes = F.pad(image.flatten(0, 1)[:, None], (PSF_REACH_PX,) * 4, mode="reflect")
    across = F.conv2d(planes, kernel.view(1, 1, 1, -1))
    return F.conv2d(across, kernel.view(1, 1, -1, 1)).view_as(image)


def _unpacked(bits: Tensor) -> Tensor:
    """(..., W) bool of (..., W / 8) uint8, the highest bit first."""
    value = 2 ** torch.arange(7, -1, -1, device=bits.device, dtype=torch.uint8)
    return (bits[..., None] & value).ne(0).flatten(-2)


def _thirds(spectra: Tensor) -> Tensor:
    """(B, 3, G) weights that give the means of the upper, middle and lower third of an image's bands."""
    n_bands = present(spectra).sum(dim=1).clamp(min=COLOURS)[:, None]
    band = torch.arange(spectra.shape[1], device=spectra.device)
    third = (COLOURS * band).div(n_bands, rounding_mode="floor")  # (B, G); beyond the last for bands that are not there
    member = torch.stack([third == k for k in (2, 1, 0)], dim=1).to(spectra.dtype)
    return member / member.sum(dim=2, keepdim=True).clamp(min=1)
