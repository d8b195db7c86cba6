"""Panels, colours and legends of figures; `core.drawing` makes the files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ultrabench_eval.core import drawing
from ultrabench_eval.report.look import look
from ultrabench_eval.report.results.entries import Labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 7.0  # inches: both columns of a paper
COLUMNS = 4  # panels per row
PAGE = 6  # rows of panels that a page takes
LINE = 0.125  # inches: height of a line of the title
# Okabe & Ito's colours, which colour-blind readers can tell apart; without yellow, too faint here.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
MARKERS = "osD^vP*X"
GREY = "#888888"


def panels(rows: int, columns: int) -> tuple[Figure, list[list[Axes]]]:
    """A figure of small panels with room for a title, and its axes by row and column."""
    width = look().width or min(WIDTH, max(3.4, 1.9 * columns + 0.4))
    height = look().panel if rows <= 4 else 0.8 * look().panel
    figure = drawing.new(width, height * rows + 0.5)
    axes = [list(row) for row in figure.subplots(rows, columns, squeeze=False)]
    for ax in (one for row in axes for one in row):
        ax.tick_params(labelsize=look().font - 1, length=2, pad=1.5)
        ax.xaxis.labelpad = 1
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(axis="y", linewidth=0.4, color="#dddddd")
        ax.set_axisbelow(True)
    return figure, axes


def styles(models: Iterable[str], labels: Labels) -> dict[str, dict[str, Any]]:
    """Line of each model: a colour and a marker of its own; controls grey and dashed."""
    encoders = [model for model in models if model not in labels.controls]
    controls = [model for model in models if model in labels.controls]
    found: dict[str, dict[str, Any]] = {}
    for place, model in enumerate([*encoders, *controls]):
        control = model in labels.controls
        rank = place - len(encoders) if control else place
        found[model] = {
            "color": GREY if control else COLOURS[rank % len(COLOURS)],
            "linestyle": "--" if control else "-",
            # Seven colours and eight markers: no two of 56 models look alike.
            "marker": MARKERS[rank % len(MARKERS)],
            "markersize": 3,
            "linewidth": 0.9 if control else 1.2,
            "label": drawing.plain(labels.model(model)),
            "zorder": 2 if control else 3,
        }
    return found


def marked(title: str, synthetic: bool) -> str:
    """The title of a figure, which says of simulated images that they are."""
    return f"SYNTHETIC: {title}" if synthetic else title


def finish(
    figure: Figure, axes: Sequence[Axes], title: str, columns: int, *, synthetic: bool, note: str
) -> None:
    """Title, note and one legend for all panels, below them; the figure grows by what they need."""
    width, height = figure.get_size_inches()
    lines = drawing.wrapped(f"{marked(title, synthetic)}\n{note}", width, look().font + 0.5)
    figure.suptitle(drawing.plain("\n".join(lines)), fontsize=look().font + 0.5)
    known: dict[str, Any] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            known.setdefault(str(label), handle)
    per_line = _per_line(known, columns, width)
    figure.set_figheight(
        height
        + LINE * max(len(lines) - 2, 0)  # `panels` left room for two
        + 0.16 * -(-len(known) // per_line)
    )
    figure.legend(
        list(known.values()),
        list(known),
        loc="outside lower center",
        ncols=per_line,
        fontsize=look().font - 0.5,
        frameon=False,
    )


def _per_line(names: Iterable[str], columns: int, width: float) -> int:
    """Names in a line of the legend, of a figure `width` inches wide."""
    lengths = [len(name) for name in names]
    if not lengths:
        return 1
    fitting = int(width / (0.55 + 0.05 * max(lengths)))  # inches: the line's sample, a letter
    return max(1, min(4 if columns >= 3 else 2, len(lengths), fitting))


def files(figure: Figure, name: str) -> dict[str, bytes]:
    """The figure as figures/<name>.svg, .png and .pdf: file name to content."""
    return drawing.files(figure, f"figures/{name}")
