"""What papers printed: their figures as data, and their tables in their own layout.

The files lie in ultrabench_eval/published.
"""

from __future__ import annotations

import csv
import inspect
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from ultrabench_eval.core.errors import UserError, did_you_mean, not_found
from ultrabench_eval.report.tables.table import NEEDS, Table, TableCell, best_two

FILES = Path(__file__).resolve().parents[2] / "published"


@dataclass(frozen=True)
class Paper:
    """A paper and how its names are ours."""

    name: str
    title: str
    scores_file: str
    scores_table: str
    sizes_file: str
    sizes_table: str
    models: Mapping[str, str]
    """Our name of a model: the paper's, in the order of its rows."""
    tasks: Mapping[str, str]
    """Our name of a task: the paper's, in the order of its columns."""
    ours: tuple[str, ...]
    """The models that the paper proposes, by our names."""


US_JEPA = Paper(
    name="us-jepa",
    title="US-JEPA, arXiv 2602.19322",
    scores_file="us_jepa_table2.csv",
    scores_table="Table 2",
    sizes_file="us_jepa_table4.csv",
    sizes_table="Table 4",
    models={
        "dinov3": "DINOv3",
        "ijepa": "I-JEPA",
        "ultrasam": "UltraSAM",
        "samus": "SAMUS",
        "echocare": "EchoCare",
        "usf-mae": "USF-MAE",
        "usfm": "USFM",
        "urfm": "URFM",
        "us-jepa": "US-JEPA",
        "usrc-jepa": "USrc-JEPA",
    },
    tasks={
        "aul": "AUL",
        "busbra": "BUSBRA",
        "butterfly": "BUTTERFLY",
        "fatty_liver": "FATTY LIV.",
        "gbcu": "GBCU",
        "mmotu": "MMOTU",
        "pocus": "POCUS",
        "tn5000": "TN5000",
    },
    ours=("us-jepa", "usrc-jepa"),
)
SOURCES = {source.name: source for source in (US_JEPA,)}
MASKS = "vjepa-localised"
"""The paper on masks, with a form of its own (`vjepa_localised`)."""
ALL = (*SOURCES, MASKS)


@dataclass(frozen=True)
class PublishedScore:
    """Macro F1 in percent, mean and sd over seeds, as printed (one decimal)."""

    model: str
    task: str
    macro_f1_mean: float
    macro_f1_sd: float
    seeds: int

    def text(self) -> str:
        """As printed."""
        return f"{self.macro_f1_mean:.1f} ± {self.macro_f1_sd:.1f}"


@dataclass(frozen=True)
class PublishedSizes:
    """A data set and how many images each split has."""

    task: str
    organ: str
    description: str
    classes: int
    total: int
    train: int
    val: int
    test: int

    @property
    def splits(self) -> tuple[int, int, int]:
        """Images of train, validation and test."""
        return self.train, self.val, self.test


@dataclass(frozen=True)
class Published:
    """All figures of a source."""

    source: Paper
    scores: Sequence[PublishedScore]
    sizes: Sequence[PublishedSizes]

    @cached_property
    def at(self) -> dict[tuple[str, str], PublishedScore]:
        """Scores by (model, task)."""
        return {(score.model, score.task): score for score in self.scores}

    @cached_property
    def sizes_of(self) -> dict[str, PublishedSizes]:
        """Sizes by task."""
        return {sizes.task: sizes for sizes in self.sizes}


def find(name: str) -> Paper:
    """A source by name.

    Raises:
        UserError: there is none of this name.
    """
    if name == MASKS:
        raise UserError(f"{name} is for --against alone; for this name {', '.join(SOURCES)}")
    if name not in SOURCES:
        raise UserError(
            f"there are no published figures '{name}'{did_you_mean(name, ALL)} there are "
            f"{', '.join(ALL)}"
        )
    return SOURCES[name]


def load(name: str = US_JEPA.name, folder: Path | None = None) -> Published:
    """The figures of a source.

    Args:
        name: one of `SOURCES`.
        folder: where its files are; None for those that came with the package.

    Raises:
        UserError: unknown name, or files that are missing or not as they should be.
    """
    source = find(name)
    folder = folder or FILES
    scores = read_rows(folder / source.scores_file, PublishedScore, ("model", "task"))
    for score in scores:
        if score.model not in source.models or score.task not in source.tasks:
            raise UserError(
                f"{folder / source.scores_file} has {score.model} on {score.task}, which is not "
                f"in {source.scores_table} of {source.title}; remove the row"
            )
    sizes = read_rows(folder / source.sizes_file, PublishedSizes, ("task",))
    return Published(source, scores, sizes)


T = TypeVar("T")


def read_rows(path: Path, kind: type[T], key: Sequence[str]) -> list[T]:
    """Rows of a CSV file as objects.

    Args:
        path: its columns are the fields of `kind`.
        kind: a dataclass of texts and numbers.
        key: fields that no two rows may share.

    Raises:
        UserError: the file is missing, or not as it should be.
    """
    adapter, columns = TypeAdapter(kind), inspect.get_annotations(kind)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise not_found("published figures", path, "install again") from error
    lines = csv.DictReader(io.StringIO(text))
    if lines.fieldnames != list(columns):
        raise UserError(f"{path} must have the columns {','.join(columns)}; correct its first line")
    rows: dict[tuple[object, ...], T] = {}
    for line in lines:
        try:
            row = adapter.validate_python(line)
        except ValidationError as error:
            where, what = error.errors()[0]["loc"][0], error.errors()[0]["msg"]
            raise UserError(
                f"{path} line {lines.line_num} is not valid ({where}: {what}); correct the line"
            ) from error
        at = tuple(getattr(row, name) for name in key)
        if at in rows:
            raise UserError(
                f"{path} line {lines.line_num} has {' on '.join(map(str, at))} twice; remove one"
            )
        rows[at] = row
    return list(rows.values())


# ---- in the paper's own layout ------------------------------------------------------------------


def scores_layout(published: Published) -> Table:
    """The paper's table of scores: models as rows, tasks as columns; a hole is empty."""
    source, at = published.source, published.at
    columns = [[at.get((model, task)) for model in source.models] for task in source.tasks]
    placed = zip(*map(_column, columns), strict=True)
    return Table(
        ["Model", *source.tasks.values()],
        [[printed, *row] for printed, row in zip(source.models.values(), placed, strict=True)],
        title=f"Published: {source.scores_table} of {source.title}",
        notes=[
            "Linear probe, macro F1 in percent, mean ± sd over five seeds, as printed. Bold: "
            "best of a column; underlined: second."
        ],
    )


def _column(scores: Sequence[PublishedScore | None]) -> list[TableCell]:
    """A column; the highest number and the second highest are marked, ties included."""
    marks = best_two([one.macro_f1_mean if one else None for one in scores])
    texts = [one.text() if one else "" for one in scores]
    return list(map(TableCell, texts, marks))


_SIZES_HEADER = ["Dataset", "Organ", "Task Description", "Classes", "Total", "Train", "Val", "Test"]


def sizes_layout(published: Published) -> Table:
    """The paper's table of split sizes, in the order of its rows."""
    source = published.source
    return Table(
        _SIZES_HEADER,
        [
            [
                source.tasks[s.task],
                s.organ,
                s.description,
                *map(str, (s.classes, s.total, *s.splits)),
            ]
            for s in published.sizes
        ],
        title=f"Published: {source.sizes_table} of {source.title}",
        notes=["Data sets: organ, task, classes, and images of each split, as printed."],
        right=range(3, len(_SIZES_HEADER)),
    )


def pages(published: Published) -> dict[str, bytes]:
    """Both tables as Markdown, LaTeX and CSV, by file name."""
    made = {}
    for name, layout in (
        ("published_scores", scores_layout(published)),
        ("published_sizes", sizes_layout(published)),
    ):
        parts = [f"## {layout.title}\n", *layout.notes, f"\n{layout.markdown()}"]
        made[f"{name}.md"] = "\n".join(parts).encode()
        labelled = replace(layout, label=name.replace("_", "-"))
        made[f"{name}.tex"] = f"{NEEDS}\n{labelled.latex()}".encode()
        made[f"{name}.csv"] = layout.csv().encode()
    return made
