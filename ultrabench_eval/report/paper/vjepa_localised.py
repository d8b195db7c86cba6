"""against.md, .csv and .tex for `--against vjepa-localised`: the table of arXiv 2507.18424 (V-JEPA
with 3D localisation, on CAMUS), and ours in the same form.

Nothing is compared. The paper's split is not stated and its Jaccard cannot be of the masks that its
Dice is of, so that a difference from ours would say nothing; what is wrong is computed here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd

import tasks as task_zoo
from ultrabench_eval.cells import Cell, Cells
from ultrabench_eval.metrics import of_sums
from ultrabench_eval.report.paper.published import FILES, MASKS, read_rows
from ultrabench_eval.report.results.entries import (
    Entry,
    Labels,
    bullets,
    cells_of,
    is_clean,
    synthetic_words,
)
from ultrabench_eval.report.tables.frame import csv_of
from ultrabench_eval.report.tables.table import NEEDS, Table
from ultrabench_eval.task_types.segmentation import Segmentation

NAME = MASKS
TITLE = "Table 2 of Ellis et al., arXiv 2507.18424"
FILE = FILES / "vjepa_localised_table2.csv"
DATASET = "camus"
PROTOCOL = "camus_vjepa"
METRICS: Mapping[str, str] = {
    "dice": "Dice",
    "jaccard": "Jaccard",
    "precision": "precision",
    "recall": "recall",
}
"""Columns of both tables: the paper's name of a metric and the printed one."""
_OURS = {**dict(zip(METRICS, METRICS, strict=True)), "jaccard": "iou"}
METHODS = {
    "supervised-vitl": "supervised ViT-L",
    "videomae": "VideoMAE",
    "v-jepa": "V-JEPA",
    "v-jepa+ll": "V-JEPA + localisation",
    "v-jepa-12b": "V-JEPA, 12 blocks frozen",
    "v-jepa-12b+ll": "V-JEPA, 12 blocks frozen + localisation",
    "v-jepa-16b": "V-JEPA, 16 blocks frozen",
    "v-jepa-16b+ll": "V-JEPA, 16 blocks frozen + localisation",
}
"""The rows of the paper: the name in the file and the printed one."""


@dataclass(frozen=True)
class PublishedMasks:
    """A row as printed: means and standard deviations over test videos, 0 to 1."""

    method: str
    train_percent: int
    dice: float
    dice_sd: float
    jaccard: float
    jaccard_sd: float
    precision: float
    precision_sd: float
    recall: float
    recall_sd: float


@dataclass(frozen=True)
class MeasuredMasks:
    """A result of a run in the same form: over test patients, 0 to 1."""

    cell: Cell
    patients: int
    means: Mapping[str, float]
    """By the names of `METRICS`."""
    sds: Mapping[str, float]


@dataclass(frozen=True)
class BothTables:
    """Both tables."""

    published: Sequence[PublishedMasks]
    ours: Sequence[MeasuredMasks]
    labels: Labels
    left_out: int
    """Results for masks of this data set by other protocols."""


def beside(cells: Cells, entries: Sequence[Entry]) -> BothTables:
    """Set a results folder beside the paper's table.

    Taken are results on CAMUS by protocol camus-vjepa, of uncorrupted test images.

    Args:
        cells: the folder, for statistics of each image.
        entries: all that is in it.

    Raises:
        UserError: a result, or the file of published figures, is damaged.
    """
    every = [
        cell
        for cell in cells_of(entries)
        if cell.type == Segmentation.name
        and is_clean(cell)
        and task_zoo.home(task_zoo.split_name(cell.coordinates.task)[0]) == DATASET
    ]
    taken = [one for one in every if one.coordinates.protocol.startswith(f"{PROTOCOL}-")]
    taken.sort(
        key=lambda one: (one.coordinates.task, one.coordinates.model, -one.coordinates.fraction)
    )
    return BothTables(
        published=read_rows(FILE, PublishedMasks, ("method", "train_percent")),
        ours=[_measured(cells, one) for one in taken],
        labels=Labels.of(entries),
        left_out=len(every) - len(taken),
    )


def _measured(cells: Cells, cell: Cell) -> MeasuredMasks:
    """Means over seeds of each patient's images, then mean and standard deviation over patients."""
    test = cells.test_set(str(cell.identity["task"]))
    kind = Segmentation()
    sums = kind.statistics(kind.answers(cells.predictions(cell)), test)
    clusters = kind.clusters(test)
    of_patients = sums.by_cluster(clusters)
    found = {
        name: of_sums(metric)(of_patients).mean(1)
        for name, mine in _OURS.items()
        for metric in kind.of_sums
        if metric.name == mine
    }
    return MeasuredMasks(
        cell,
        clusters.count,
        {name: float(np.nanmean(values)) for name, values in found.items()},
        {name: float(np.nanstd(values, ddof=1)) for name, values in found.items()},
    )


# ---- what is wrong with the published ones ------------------------------------------------------


def defects(rows: Sequence[PublishedMasks]) -> list[str]:
    """Why the published figures cannot be taken as they are, in sentences."""
    gaps = [row.jaccard - row.dice / (2 - row.dice) for row in rows]
    odd = [row for row in rows if row.jaccard_sd > 0.5]
    return [
        f"Dice and Jaccard cannot be of the same masks: of one mask with Dice D the Jaccard is "
        f"D / (2 - D), and all {len(rows)} printed ones are {min(gaps):.3f} to {max(gaps):.3f} "
        "higher. A mean over unequal masks and structures raises it by about 0.01 only.",
        *(
            f"{METHODS[row.method]} at {row.train_percent} %: Jaccard {row.jaccard:.3f} ± "
            f"{row.jaccard_sd:.3f} is as printed; no such spread is possible between 0 and 1 with "
            "that mean, so it is a misprint."
            for row in odd
        ),
        "No split is stated, nor how 10, 20 and 50 % were drawn, nor what was resampled for the "
        "p-values; each network was trained once.",
    ]


# ---- as files -----------------------------------------------------------------------------------


def pages(side: BothTables) -> dict[str, bytes]:
    """against.md, against.csv and against.tex, by file name."""
    return {
        "against.md": markdown(side).encode(),
        "against.csv": csv(side).encode(),
        "against.tex": latex(side).encode(),
    }


def summary(side: BothTables) -> str:
    """What stands there, in a sentence."""
    what = {0: "no result", 1: "1 result"}.get(len(side.ours), f"{len(side.ours)} results")
    more = ""
    if not side.ours:
        more = (
            f": none is on CAMUS by protocol camus-vjepa; `ubench run --task {DATASET} "
            "--protocol camus-vjepa` makes some"
        )
    return f"{TITLE} with its defects, and {what} of this run in the same form{more}."


def _published(side: BothTables) -> Table:
    return Table(
        ["method", "training videos, %", *METRICS.values()],
        [
            [METHODS[row.method], str(row.train_percent), *(_as_printed(row, m) for m in METRICS)]
            for row in side.published
        ],
        rules=[n for n in range(len(side.published)) if n % 4 == 0],
        right=range(1, 6),
    )


def _as_printed(row: PublishedMasks, metric: str) -> str:
    return f"{getattr(row, metric):.3f} ± {getattr(row, f'{metric}_sd'):.3f}"


def _ours(side: BothTables) -> Table:
    rows = []
    for one in side.ours:
        at = one.cell.coordinates
        scores = (f"{one.means[m]:.3f} ± {one.sds[m]:.3f}" for m in METRICS)
        seeds = len(one.cell.scores[one.cell.main])
        rows.append(
            [
                *(side.labels.model(at.model), side.labels.task(at.task), str(at.fraction)),
                *(*scores, str(one.patients), str(seeds)),
            ]
        )
    header = ["model", "task", "training patients, %", *METRICS.values(), "test patients", "seeds"]
    return Table(header, rows, right=range(2, len(header)))


def markdown(side: BothTables) -> str:
    """against.md."""
    parts = [
        f"# Ours in the form of {TITLE}\n",
        *synthetic_words(any(one.cell.synthetic for one in side.ours)),
        "Nothing here is compared: data, split and what is averaged are not the same.\n",
        "## Published: CAMUS, mean ± sd over test videos\n",
        _published(side).markdown(),
        bullets(defects(side.published)),
        "## Ours: protocol camus-vjepa, mean ± sd over test patients\n",
        _ours(side).markdown() if side.ours else summary(side) + "\n",
        bullets(_how_to_read(side)),
    ]
    return "\n".join(parts)


def _how_to_read(side: BothTables) -> list[str]:
    sentences = [
        "Of each patient the images and the seeds are averaged, over structures too (left "
        "ventricle, myocardium, left atrium); Dice and Jaccard are of the same masks.",
        "The paper shows its encoder whole videos. The task card says what is shown here: "
        "`camus` holds single frames, which a model for videos sees again and again.",
        "Intervals and paired tests are in leaderboard.md and statistics.md.",
    ]
    if side.left_out:
        sentences.append(f"Left out: results on CAMUS by other protocols ({side.left_out}).")
    return sentences


def latex(side: BothTables) -> str:
    """against.tex: both tables."""
    published = replace(
        _published(side),
        label="against-published",
        notes=[
            f"Published: {TITLE}, CAMUS, mean ± sd over test videos. " + defects(side.published)[0]
        ],
    )
    ours = replace(
        _ours(side),
        label="against-ours",
        notes=[
            "Ours in the same form: protocol camus-vjepa, mean ± sd over test patients; not "
            "comparable with the published."
            + (" SYNTHETIC images." if any(one.cell.synthetic for one in side.ours) else "")
        ],
    )
    return "\n".join([NEEDS, published.latex(), *([ours.latex()] if side.ours else [])])


def csv(side: BothTables) -> str:
    """against.csv, long form; 0 to 1."""
    rows: list[dict[str, object]] = [
        {"source": "published", "model": row.method, "task": DATASET, **asdict(row)}
        for row in side.published
    ]
    for one in side.ours:
        at = one.cell.coordinates
        rows.append(
            {"source": "ours", "model": at.model, "task": at.task, "train_percent": at.fraction}
            | {**one.means, **{f"{m}_sd": one.sds[m] for m in METRICS}}
            | {"n_patients": one.patients, "n_seeds": len(one.cell.scores[one.cell.main])}
            | {"synthetic": one.cell.synthetic}
        )
    columns = ["source", "model", "task", "train_percent"]
    columns += [name for m in METRICS for name in (m, f"{m}_sd")]
    frame = pd.DataFrame(rows, columns=[*columns, "n_patients", "n_seeds", "synthetic"])
    frame = frame.astype(dict.fromkeys(("n_patients", "n_seeds"), "Int64"))
    return csv_of(frame)
