"""Material groups as a picture: their spectra, and some images with each mask in the colour of its group."""

from __future__ import annotations

import io

import numpy as np

from hvlabel.cache.publish import publish_bytes
from hvlabel.cube import open_cube
from hvlabel.inspect.materials import UNKNOWN, Materials
from hvlabel.inspect.picture import colour_of
from hvlabel.layout import Layout
from hvlabel.masks import areas, decode, read_masks

SHOWN_IMAGES = 3
FILL = 0.6
GREY = np.array([150.0, 150.0, 150.0])


def write_material_picture(layout: Layout, materials: Materials) -> None:
    """Publish the picture beside the groups."""
    from matplotlib.figure import Figure  # takes a second, which only pictures wait for

    shown = list(materials.groups)[:SHOWN_IMAGES]
    n_panels = 1 + len(shown)  # the spectra come first
    figure = Figure(figsize=(5.0 * n_panels, 4.2), dpi=100, layout="constrained")
    axes = figure.add_subplot(1, n_panels, 1)
    for k, spectrum in enumerate(materials.spectra):
        n_masks = sum(list(groups).count(k) for groups in materials.groups.values())
        style = "-o" if len(spectrum) == 1 else "-"  # a line of one point is invisible
        colour = tuple(colour_of(k) / 255)  # matplotlib's are in [0, 1]
        axes.plot(materials.wavelengths_nm, spectrum, style, color=colour, label=f"{k}: {n_masks} masks")
    axes.set_xlabel("wavelength, nm")
    axes.set_title(f"{materials.dataset}: mean spectra of the groups", fontsize=9)
    axes.legend(fontsize=7)
    for place, image in enumerate(shown, start=2):
        axes = figure.add_subplot(1, n_panels, place)
        axes.imshow(_painted(layout, materials, image), interpolation="nearest")
        axes.set_title(image, fontsize=9)
        axes.set_axis_off()
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})  # equal pictures, equal bytes
    path = layout.material_groups(materials.dataset).with_suffix(".png")
    publish_bytes(path, content.getvalue())


def _painted(layout: Layout, materials: Materials, image: str) -> np.ndarray:
    """(H, W, 3) uint8 picture with every mask in the colour of its group, large ones below small ones."""
    cube = open_cube(layout.cube(materials.dataset, image))
    canvas = cube.rgb.astype(np.float32)
    masks = read_masks(layout.label(materials.dataset, image))
    largest_first = np.argsort(-areas(masks.rles), kind="stable").tolist()
    for k in largest_first:
        group = materials.groups[image][k]
        colour = GREY if group == UNKNOWN else colour_of(group)
        inside = decode(masks.rles[k])
        canvas[inside] = (1 - FILL) * canvas[inside] + FILL * colour
    return canvas.astype(np.uint8)
