"""Draw leaderboard.svg, the picture of the front page, from the numbers in results/real.

python docs/pictures/leaderboard.py [OUT.svg]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from ultrabench_eval.core import drawing
from ultrabench_eval.report.drawings import canvas
from ultrabench_eval.report.look import look
from ultrabench_eval.report.results.entries import CONTROLS, Labels
from ultrabench_eval.stats import paired

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / "results" / "real"
PROBE, PROTOCOL = "linear", "paper-071a60c7"
TASKS = {"aul": "liver", "busbra": "breast", "mmotu": "ovary", "pocus": "lung"}
RANDOM = frozenset({"random-vit-tiny"})
TITLE = (
    "Macro F1 in percent on real images: linear probe by the paper's protocol\n"
    "bars: 95 % over test patients and seeds; models that share a letter do not differ (5 %)"
)


def main(out: Path) -> None:
    """Write the picture."""
    labels = Labels(RANDOM, frozenset(CONTROLS["classes"].split(",")), frozenset())
    scores = _scores()
    order = _order(scores, labels)
    styles = canvas.styles(order, labels)
    figure, (axes,) = canvas.panels(1, len(TASKS))
    for ax, (task, organ) in zip(axes, TASKS.items(), strict=True):
        letters = _letters(task, order, scores)
        for place, model in enumerate(order):
            one, style = scores.loc[model, task], styles[model]
            line = {"color": style["color"], "zorder": style["zorder"]}
            ax.plot((one.low, one.high), (place, place), linewidth=1.4, **line)
            ax.plot(one["mean"], place, style["marker"], markersize=4, **line)
            text = f"{one['mean']:.1f} {letters[place]}".rstrip()
            ax.text(1.02, place, text, transform=ax.get_yaxis_transform(), va="center", fontsize=6)
        ax.set_title(f"{task} ({organ}, n = {one.n_test:.0f})", fontsize=look().font)
        ax.set_xlim(0, 100)
        ax.set_ylim(len(order) - 0.5, -0.5)
        names = [drawing.plain(labels.model(model)) for model in order]
        ax.set_yticks(range(len(order)), names if ax is axes[0] else [])
        ax.grid(axis="x", linewidth=0.4, color="#dddddd")
    figure.set_size_inches(7.4, 2.2)
    figure.suptitle(TITLE, fontsize=look().font + 0.5)
    out.write_bytes(drawing.files(figure, "leaderboard")["leaderboard.svg"])


def _scores() -> pd.DataFrame:
    """Rows of the main condition by model and task."""
    table = pd.read_csv(RESULTS / "macro_f1.csv")
    main = (table.probe == PROBE) & (table.protocol == PROTOCOL) & (table.fraction == 100)
    return table[main & (table.corruption == "none")].set_index(["model", "task"])


def _order(scores: pd.DataFrame, labels: Labels) -> list[str]:
    """Models from best to worst mean, controls last."""
    means = scores["mean"].groupby("model").mean().sort_values(ascending=False)
    return sorted(means.index, key=lambda model: model in labels.controls)


def _letters(task: str, order: list[str], scores: pd.DataFrame) -> tuple[str, ...]:
    """Letters of the models on a task, from the tests in pairs.csv."""
    pairs = pd.read_csv(RESULTS / "pairs.csv")
    ours = (pairs.probe == PROBE) & (pairs.protocol == PROTOCOL) & (pairs.task == task)
    if not ours.any():  # a test set that cannot rank models
        return ("",) * len(order)
    apart = np.zeros((len(order), len(order)), bool)
    for pair in pairs[ours & pairs.told_apart].itertuples():
        a, b = order.index(str(pair.model_a)), order.index(str(pair.model_b))
        apart[a, b] = apart[b, a] = True
    values = np.array([scores.loc[model, task]["mean"] for model in order])
    return paired.letters(apart, np.argsort(-values, kind="stable"))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "leaderboard.svg")
