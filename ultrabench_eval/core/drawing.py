"""Figures as SVG, PNG and PDF files: equal input gives equal bytes.

Matplotlib is imported when a figure is made, and only its objects are used (no pyplot), so that
nothing stays behind in the process.
"""

from __future__ import annotations

import io
import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = ("svg", "png", "pdf")
# Neither the day nor chance: no dates, and ids of SVG elements by content.
_WITHOUT_DATE: dict[str, dict[str, Any]] = {
    "svg": {"Date": None},
    "png": {"Software": None},
    "pdf": {"CreationDate": None},
}
DPI = 200
_LETTER = 0.56  # mean width of a letter over the size of its font; a little too much


def new(width: float, height: float, *, constrained: bool = True) -> Figure:
    """An empty figure.

    Args:
        width, height: in inches.
        constrained: matplotlib arranges the axes; else they stay where they are put.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained" if constrained else None)
    FigureCanvasAgg(figure)
    return figure


def files(figure: Figure, stem: str, dpi: int = DPI) -> dict[str, bytes]:
    """The figure as `stem`.svg, .png and .pdf: file name to content.

    Args:
        figure: finished; it is laid out now and not to be changed after.
        stem: name without suffix.
        dpi: of the PNG, and of images in all three.
    """
    import matplotlib

    found = {}
    # Type 42: letters stay letters in a PDF, for search and for publishers that refuse type 3.
    with matplotlib.rc_context({"svg.hashsalt": "ultrabench_eval", "pdf.fonttype": 42}):
        for suffix in SUFFIXES:
            buffer = io.BytesIO()
            figure.savefig(buffer, format=suffix, dpi=dpi, metadata=_WITHOUT_DATE[suffix])
            figure.set_layout_engine("none")  # laid out once; that takes as long as drawing
            found[f"{stem}.{suffix}"] = buffer.getvalue()
    return found


def plain(text: str) -> str:
    """Text that is not taken for mathematics."""
    return text.replace("$", r"\$")


def letters(width: float, font: float) -> int:
    """How many letters of so many points fit into a width in inches, about."""
    return int(width * 72 / (font * _LETTER))


def wrapped(text: str, width: float, font: float) -> list[str]:
    """Text in lines of at most a width in inches; its own line breaks are kept."""
    return [
        part
        for line in text.split("\n")
        for part in textwrap.wrap(line, letters(width, font)) or [""]
    ]
