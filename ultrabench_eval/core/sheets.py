"""Sheets: pictures in rows and columns, with names, captions and borders of masks.

H, W are a picture's height and width in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ultrabench_eval.core import drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FONT = 6.5  # points
_WIDEST = 7.0  # inches: both columns of a paper
_CELL = 1.65  # inches: width of a picture, at most
_NARROWEST = 1.3  # inches: what a caption needs
_HIGHEST = 8.5  # inches: of all rows
_LEFT, _GAP, _LINE = 0.28, 0.06, 0.125  # inches: row names, space between pictures, a line of text
_FLAT, _TALL = 0.5, 1.1  # height of a cell over its width: as its pictures, within these
_FINEST = 400  # pixels along a mask that its border follows; more would only make files large


class Tile(NamedTuple):
    """A picture of a sheet."""

    pixels: np.ndarray
    """uint8 [H, W] or [H, W, 3]."""
    caption: str = ""
    """A line below it."""
    outlines: Sequence[tuple[np.ndarray, str]] = ()
    """Masks, bool [H, W], and the colours of their borders."""


class SheetRow(NamedTuple):
    """A row of a sheet."""

    name: str
    """Written upwards beside it."""
    tiles: Sequence[Tile]


def sheet(
    title: Sequence[str],
    rows: Sequence[SheetRow],
    headers: Sequence[str] = (),
    legend: Sequence[tuple[str, str]] = (),
) -> Figure:
    """Pictures in rows, each as large as its cell allows and none out of shape.

    Args:
        title: lines, cut to the sheet's width.
        rows: from top to bottom.
        headers: above the columns.
        legend: colours and what they mean, below.
    """
    columns = max(len(row.tiles) for row in rows)
    cell, heights = _cells(rows, min(_CELL, (_WIDEST - _LEFT - _GAP) / columns - _GAP))
    content = _LEFT + columns * (cell + _GAP) + _GAP
    width = max(content, _WIDEST / 2)
    start = _LEFT + (width - content) / 2
    title = drawing.wrapped("\n".join(title), width - 2 * _GAP, FONT + 1)
    top = _LINE * (1.25 * len(title) + (1 if headers else 0) + 0.5)
    bottom = _LINE * (1.6 if legend else 0.3)
    height = top + sum(heights) + len(rows) * (_LINE + _GAP) + bottom
    figure = drawing.new(width, height, constrained=False)

    def write(x: float, y: float, text: str, **how: Any) -> None:
        """Text at inches from the top left corner."""
        style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": FONT, **how}
        figure.text(x / width, 1 - y / height, drawing.plain(text), **style)

    for number, line in enumerate(title):
        write(width / 2, _LINE * (1.25 * number + 0.9), line, fontsize=FONT + 1)
    middles = [start + column * (cell + _GAP) + cell / 2 for column in range(columns)]
    for x, header in zip(middles, headers, strict=False):
        write(x, top - 0.6 * _LINE, header)
    y = top
    for row, tall in zip(rows, heights, strict=True):
        name = _shortened(row.name, tall + _LINE, FONT)
        write(start - _LEFT / 2, y + tall / 2, name, rotation=90)
        for x, tile in zip(middles, row.tiles, strict=False):
            fit = min(cell / tile.pixels.shape[1], tall / tile.pixels.shape[0])
            shown = tile.pixels.shape[1] * fit, tile.pixels.shape[0] * fit
            left, low = x - shown[0] / 2, y + (tall + shown[1]) / 2
            box = (left / width, 1 - low / height, shown[0] / width, shown[1] / height)
            ax = figure.add_axes(box)
            _picture(ax, tile.pixels)
            for mask, colour in tile.outlines:
                _outline(ax, mask, colour)
            caption = _shortened(tile.caption, cell + _GAP, FONT - 1)
            write(x, y + tall + 0.55 * _LINE, caption, fontsize=FONT - 1)
        y += tall + _LINE + _GAP
    if legend:
        _legend(figure, legend)
    return figure


def _legend(figure: Figure, legend: Sequence[tuple[str, str]]) -> None:
    from matplotlib.patches import Patch

    figure.legend(
        [Patch(color=colour) for colour, _ in legend],
        [drawing.plain(words) for _, words in legend],
        loc="lower center",
        ncols=len(legend),
        fontsize=FONT,
        frameon=False,
        borderaxespad=0.1,
        handlelength=1.0,
        handleheight=0.8,
        columnspacing=1.4,
    )


def _cells(rows: Sequence[SheetRow], widest: float) -> tuple[float, list[float]]:
    """Width of all cells and height of each row's, in inches, so that a sheet fits on a page."""
    heights = []
    for row in rows:
        tallest = max(tile.pixels.shape[0] / tile.pixels.shape[1] for tile in row.tiles)
        heights.append(widest * min(max(tallest, _FLAT), _TALL))
    scale = min(1.0, (_HIGHEST - len(rows) * (_LINE + _GAP)) / sum(heights))
    heights = [scale * height for height in heights]
    needed = max(
        min(widest, height * tile.pixels.shape[1] / tile.pixels.shape[0])
        for row, height in zip(rows, heights, strict=True)
        for tile in row.tiles
    )
    return max(needed, min(widest, _NARROWEST)), heights


def _shortened(text: str, width: float, font: float) -> str:
    """Text that fits into `width` inches, without its middle if it must be."""
    room = max(drawing.letters(width, font), 3)
    if len(text) <= room:
        return text
    return f"{text[: (room - 1) // 2]}…{text[len(text) - room // 2 :]}"


def _picture(ax: Axes, image: np.ndarray) -> None:
    """Show an image, uint8 [H, W] or [H, W, 3], without axes; it fills the place of `ax`."""
    grey: dict[str, Any] = {"cmap": "gray", "vmin": 0, "vmax": 255} if image.ndim == 2 else {}
    ax.imshow(image, aspect="auto", **grey)
    ax.set_axis_off()


def _outline(ax: Axes, mask: np.ndarray, colour: str, width: float = 0.9) -> None:
    """Draw the border of a mask, bool [H, W], over its picture.

    Where the image ends inside the mask, the border runs along the image's.
    """
    if not mask.any():
        return
    height, columns = mask.shape
    step = max(1, max(mask.shape) // _FINEST)
    framed = np.pad(mask[::step, ::step].astype(np.float32), 1)
    y, x = (step * (np.arange(size) - 1) for size in framed.shape)
    ax.contour(x, y, framed, levels=[0.5], colors=[colour], linewidths=[width])
    ax.set_xlim(-0.5, columns - 0.5)
    ax.set_ylim(height - 0.5, -0.5)
