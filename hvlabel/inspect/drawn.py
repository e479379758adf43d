"""Large pictures of an image: its masks in one colour each across all panels, and one mask with its spectrum."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from hvlabel.inspect.origins import Origins
from hvlabel.inspect.picture import colour_of
from hvlabel.inspect.spectra import MaskSpectrum
from hvlabel.masks import Mask, MaskSet, areas, decode, interior_point

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANEL_INCHES, TITLE_INCHES, DPI = 5.0, 0.4, 110
COLUMNS = 3
LEGEND_ROWS, LEGEND_INCHES = 40, 2.4  # lines in a column of the legend, and its width
FILL = 0.45
GREY = np.array([150.0, 150.0, 150.0])  # of a mask that stands for none of the label
REASON_COLOURS = {"copy": 0, "nested": 1, "poor": 2, "small": 3, "covered": 4}

ColourOf = Callable[[int], np.ndarray]  # of a mask's number: (3,) float RGB up to 255


def masks_picture(title: str, rgb: np.ndarray, origins: Origins, top: int, branch: str | None = None) -> bytes:
    """PNG of the image, its label and the masks of each branch: the best `top` of each, a colour per mask of the label.

    rgb    : (H, W, 3) uint8
    branch : this one alone, each mask in its own colour
    """
    # of all branches, the label decides the colours; alone, a branch has its own numbers
    if branch is None:
        listed = origins.label
        panels = [(f"label: {len(listed)} masks", _filled(rgb, listed, top, colour_of))]
        for name, masks in origins.branches.items():
            filled = _filled(rgb, masks, top, _as_in_label(origins, name))
            panels.append((f"{name}: {len(masks)} masks", filled))
    else:
        listed = origins.branches[branch]
        panels = [(f"{branch}: {len(listed)} masks", _filled(rgb, listed, top, colour_of))]
    figure = _panels([(title, rgb), *panels])
    _numbers(figure, 1, listed, top)
    entries = [(colour_of(k), legend_line(k, mask)) for k, mask in enumerate(listed.masks[:top])]
    _legend(figure, entries)
    return _png(figure)


def suppressed_picture(title: str, rgb: np.ndarray, origins: Origins, top: int) -> bytes:
    """PNG of what is not in the label: of each branch, the best `top` of its lost masks, a colour per reason."""
    panels = []
    for name, masks in origins.branches.items():
        lost = [k for k in range(len(masks)) if (name, k) in origins.lost]
        shown = lost[:top]
        chosen_masks = tuple(masks.masks[k] for k in shown)
        chosen = MaskSet(masks.height_px, masks.width_px, chosen_masks)
        colours = [reason_colour(origins.lost[name, k].reason) for k in shown]
        title_of_branch = f"{name}: {len(lost)} of its masks are not in the label"
        filled = _filled(rgb, chosen, top, colours.__getitem__)
        panels.append((title_of_branch, filled))
    figure = _panels([(title, rgb), *panels])
    entries = [(reason_colour(reason), reason) for reason in REASON_COLOURS]
    _legend(figure, entries)
    return _png(figure)


def mask_picture(
    title: str, rgb: np.ndarray, mask: Mask, spectrum: MaskSpectrum, unit: str, facts: Sequence[str]
) -> bytes:
    """PNG of one mask: its outline on the image, its spectrum with that of the ring around it, and facts as text."""
    figure = _panels([(title, _outlined(rgb, mask))], extra_panels=1)
    axes = figure.axes[-1]
    nm = spectrum.wavelengths_nm
    for name, of, colour in (("mask", spectrum.inside, "C3"), ("ring around it", spectrum.ring, "C0")):
        if of.n_px:
            axes.plot(nm, of.mean, color=colour, label=f"{name}, {of.n_px} px")
            low = of.mean - of.deviation
            high = of.mean + of.deviation
            axes.fill_between(nm, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.set_xlabel("wavelength, nm")
    axes.set_ylabel(unit)
    axes.set_title("mean +- deviation over pixels", fontsize=9)
    axes.legend(fontsize=8)
    figure.supxlabel("\n".join(facts), x=0.01, ha="left", fontsize=7, family="monospace")
    return _png(figure)


def legend_line(number: int, mask: Mask) -> str:
    """A mask in one line: number, what is expected of it, and who found it."""
    quality = mask.extra.get("quality")
    value = f"score {mask.score:.2f}" if quality is None else f"quality {quality:.2f}"
    by = "+".join(mask.votes) or mask.branch  # only masks of a label have votes
    return f"{number}: {value}, {by}"


def reason_colour(reason: str) -> np.ndarray:
    """(3,) float RGB of a reason; grey where none is recorded."""
    return colour_of(REASON_COLOURS[reason]) if reason in REASON_COLOURS else GREY


def _as_in_label(origins: Origins, branch: str) -> ColourOf:
    """A branch's mask in the colour of the label's mask that stands for it."""

    def colour(k: int) -> np.ndarray:
        position = origins.shown_as((branch, k))
        return GREY if position is None else colour_of(position)

    return colour


def _filled(rgb: np.ndarray, masks: MaskSet, top: int, colour: ColourOf) -> np.ndarray:
    """(H, W, 3) uint8 picture with the best masks on it, large ones below small ones."""
    rles = masks.rles[:top]
    # else a mask of the whole image would hide all others
    largest_first = np.argsort(-areas(rles), kind="stable").tolist()
    canvas = rgb.astype(np.float32)
    inside = [decode(rle) for rle in rles]
    for k in largest_first:
        canvas[inside[k]] = (1 - FILL) * canvas[inside[k]] + FILL * colour(k)
    picture = np.ascontiguousarray(canvas.astype(np.uint8))
    for k in largest_first:
        _draw_outline(picture, inside[k], colour(k))
    return picture


def _outlined(rgb: np.ndarray, mask: Mask) -> np.ndarray:
    picture = np.ascontiguousarray(rgb.copy())
    _draw_outline(picture, decode(mask.rle), colour_of(0))
    return picture


def _draw_outline(picture: np.ndarray, inside: np.ndarray, colour: np.ndarray) -> None:
    contours, _ = cv2.findContours(inside.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, colour.tolist(), 1)


def _panels(panels: Sequence[tuple[str, np.ndarray]], extra_panels: int = 0) -> Figure:
    """A figure with a picture per panel, COLUMNS beside each other, and empty axes behind them."""
    from matplotlib.figure import Figure  # takes a second, which only pictures wait for

    n = len(panels) + extra_panels
    columns = min(n, COLUMNS)
    rows = -(-n // columns)
    height, width = panels[0][1].shape[:2]
    in_proportion = PANEL_INCHES * height / width
    inches_high = min(10.0, max(2.0, in_proportion)) + TITLE_INCHES
    size = (PANEL_INCHES * columns, inches_high * rows)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    for k in range(n):
        axes = figure.add_subplot(rows, columns, k + 1)
        axes.tick_params(labelsize=7)  # px of the image, as `hvlabel why` asks for them
        if k < len(panels):
            title, picture = panels[k]
            axes.imshow(picture, interpolation="nearest")
            axes.set_title(title, fontsize=9)
    return figure


def _numbers(figure: Figure, panel: int, masks: MaskSet, top: int) -> None:
    """The number of every mask at its deepest pixel."""
    for k, rle in enumerate(masks.rles[:top]):
        x, y = interior_point(decode(rle))
        style: Mapping[str, Any] = {"fontsize": 6, "color": "white", "ha": "center", "va": "center"}
        box = {"facecolor": "black", "alpha": 0.5, "pad": 0.8, "linewidth": 0}
        figure.axes[panel].text(x, y, str(k), bbox=box, **style)


def _legend(figure: Figure, lines: Sequence[tuple[np.ndarray, str]]) -> None:
    """A patch of colour and a text per line, right of the panels."""
    from matplotlib.patches import Patch

    if not lines:
        return
    # one line per mask: more columns rather than a longer figure
    patches = [Patch(color=tuple(colour / 255), label=text) for colour, text in lines]
    columns = -(-len(lines) // LEGEND_ROWS)
    figure.set_figwidth(figure.get_figwidth() + LEGEND_INCHES * columns)
    figure.legend(handles=patches, loc="outside right upper", ncols=columns, fontsize=7, frameon=False)


def _png(figure: Figure) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})  # equal pictures, equal bytes
    return content.getvalue()
