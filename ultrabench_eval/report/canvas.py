"""Panels, colours and files of figures: equal input gives equal bytes.

Matplotlib is imported when a figure is made, and only its objects are used (no pyplot), so that
nothing stays behind in the process.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ultrabench_eval.report.entries import Labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 7.0  # inches: both columns of a paper
PANEL = 1.75  # inches: height of a panel
COLUMNS = 4  # panels a row
FONT = 7.0  # points
# Okabe & Ito's colours, which colour-blind readers can tell apart; without yellow, too faint here.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = "osD^vP*X"
GREY = "#888888"


def new(width: float, height: float) -> Figure:
    """An empty figure, inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def panels(rows: int, columns: int, legend_lines: int) -> tuple[Figure, list[list[Axes]]]:
    """A figure of small panels with room for title and legend, and its axes by row and column."""
    width = min(WIDTH, max(3.4, 1.9 * columns + 0.4))
    height = PANEL if rows <= 4 else 0.8 * PANEL
    figure = new(width, height * rows + 0.5 + 0.16 * legend_lines)
    axes = [list(row) for row in figure.subplots(rows, columns, squeeze=False)]
    for ax in (one for row in axes for one in row):
        ax.tick_params(labelsize=FONT - 1, length=2)
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(axis="y", linewidth=0.4, color="#dddddd")
        ax.set_axisbelow(True)
    return figure, axes


def plain(text: str) -> str:
    """Text that is not taken for mathematics."""
    return text.replace("$", r"\$")


def styles(models: Iterable[str], labels: Labels) -> dict[str, dict[str, Any]]:
    """Line of each model: a colour and a marker of its own; floors grey and dashed."""
    encoders = [model for model in models if model not in labels.floors]
    floors = [model for model in models if model in labels.floors]
    found: dict[str, dict[str, Any]] = {}
    for place, model in enumerate([*encoders, *floors]):
        floor = model in labels.floors
        rank = place - len(encoders) if floor else place
        found[model] = {
            "color": GREY if floor else COLOURS[rank % len(COLOURS)],
            "linestyle": "--" if floor else "-",
            # Seven colours and eight markers: no two of 56 models look alike.
            "marker": MARKERS[rank % len(MARKERS)],
            "markersize": 3,
            "linewidth": 0.9 if floor else 1.2,
            "label": plain(labels.model(model)),
            "zorder": 2 if floor else 3,
        }
    return found


def legend_lines(models: Sequence[str], columns: int) -> int:
    """Lines of the legend below `columns` columns of panels."""
    return -(-len(models) // _per_line(columns))


def finish(
    figure: Figure, axes: Sequence[Axes], title: str, columns: int, *, synthetic: bool, note: str
) -> None:
    """Title, note and one legend for all panels, below them."""
    marked = f"SYNTHETIC: {title}" if synthetic else title
    figure.suptitle(f"{plain(marked)}\n{plain(note)}", fontsize=FONT + 0.5)
    known: dict[str, Any] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            known.setdefault(str(label), handle)
    figure.legend(
        list(known.values()),
        list(known),
        loc="outside lower center",
        ncols=min(len(known), _per_line(columns)) or 1,
        fontsize=FONT - 0.5,
        frameon=False,
    )


def _per_line(columns: int) -> int:
    return 4 if columns >= 3 else 2


def files(figure: Figure, name: str) -> dict[str, bytes]:
    """The figure as figures/<name>.svg and .png, without dates."""
    import matplotlib

    found = {}
    with matplotlib.rc_context({"svg.hashsalt": "ultrabench_eval"}):  # ids by content, not chance
        for suffix, options in (
            ("svg", {"metadata": {"Date": None}}),
            ("png", {"metadata": {"Software": None}, "dpi": 200}),
        ):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=suffix, **options)
            figure.set_layout_engine("none")  # laid out once; that takes as long as drawing
            found[f"figures/{name}.{suffix}"] = buffer.getvalue()
    return found
