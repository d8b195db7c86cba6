"""What all pages share: which cells belong together, and how names and numbers are written."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

import tasks as task_zoo
from tasks.task import DOWNSCALED
from ultrabench_eval import protocol, task_types
from ultrabench_eval.cells import CLASSES, IMPORTED, Cell, Coordinates, Failure
from ultrabench_eval.core.grouping import by_key
from ultrabench_eval.metrics import Metric
from ultrabench_eval.report.look import look
from ultrabench_eval.report.tables.table import plain

Entry = Cell | Failure
HOLE, ABSENT = "error", "no data"
SYNTHETIC = "ok (synthetic)"
NOT_VERIFIED = "not verified"
ROWS_NOT_VERIFIED = "rows not verified"
"""Of an imported entry: nobody knows that its rows are those of their images."""
CONTROLS = {
    "classes": "random-vit-tiny,pixels,image-stats,fan-mask,border",
    "masks": "random-vit-tiny,mean-mask,pixel-grid,position-pixels,fan-mask",
    "numbers": "constant,image-stats,pixels,random-vit-tiny",
}
"""The models that show how far one gets without having learned anything about ultrasound, by what
is predicted."""


MOTION = "frame-differences"
"""The one for videos."""

_USUAL = frozenset(probe for probe, _ in protocol.USUAL.values())
_IN = " in "  # between a kind of task and its unit


def is_fine_tuning(probe: str) -> bool:
    """Whether a probe trains the network as well: finetune, finetune_masks ..."""
    return probe.partition("_")[0] == "finetune"


@dataclass(frozen=True)
class Probing:
    """A probe, a protocol and a kind of task: numbers of different ones are never ranked together,
    nor is a mean taken over them."""

    probe: str
    protocol: str
    type: str = CLASSES
    """What kind of task; of numbers with their unit, which no mean is taken over either; of a task
    that is made of others (`tasks.derived`) with its name, so that it is in no mean over tasks."""

    def __lt__(self, other: Probing) -> bool:
        """The usual probe comes first on every page."""
        return self._place < other._place

    @property
    def _place(self) -> tuple[bool, str, bool, str, str]:
        return (
            *(self.type != CLASSES, self.type),
            *(self.probe not in _USUAL, self.probe, self.protocol),
        )

    @property
    def fine_tuned(self) -> bool:
        """Whether the networks were trained as well."""
        return is_fine_tuning(self.probe)

    @property
    def derived(self) -> bool:
        """Whether it is of one task that is made of others, which counts in nothing over tasks."""
        return task_zoo.is_derived(self.type.partition(_IN)[2])

    def __str__(self) -> str:
        if self.probe == IMPORTED:
            return f"{self.of_probe}: no probe was trained here"
        return f"{self.of_probe}, protocol {self.protocol}"

    @property
    def of_probe(self) -> str:
        """Kind of task and probe in words."""
        kind = "" if self.type == CLASSES else f"{tasks_of_kind(self.type)}, "
        return (
            f"{kind}imported predictions" if self.probe == IMPORTED else f"{kind}{self.probe} probe"
        )

    @property
    def adverb(self) -> str:
        """Before the name of a task: "with the linear probe, protocol paper-1"."""
        if self.probe == IMPORTED:
            return "by imported predictions"
        return f"with the {self.probe} probe, protocol {self.protocol}"

    @property
    def controls(self) -> str:
        """The `CONTROLS` for this kind of task."""
        return CONTROLS[task_types.predicts(self.type.partition(_IN)[0])]

    @property
    def words(self) -> str:
        """Without the digest of the protocol's settings."""
        return str(Probing(self.probe, self.protocol.rsplit("-", 1)[0], self.type))

    @property
    def in_files(self) -> str:
        """Of the names of files."""
        kind = "" if self.type == CLASSES else f"{self.type}-"
        name = f"{kind}{self.probe}-{self.protocol}".replace(" ", "-").replace("%", "percent")
        return re.sub(r"[^\w.]+", "-", name)

    @classmethod
    def of(cls, entry: Entry) -> Probing:
        """That of an entry."""
        at = entry.coordinates
        apart = at.task if task_zoo.is_derived(at.task) else _unit(entry)
        return cls(at.probe, at.protocol, f"{entry.type}{_IN}{apart}" if apart else entry.type)


def tasks_of_kind(kind: str) -> str:
    """A `Probing.type` in words: "regression tasks in mm", "classification of busbra:busi"."""
    name, _, unit = kind.partition(_IN)
    if task_zoo.is_derived(unit):
        return f"{name} of {unit}"
    return f"{name} tasks{unit and _IN + unit}"


def _unit(entry: Entry) -> str:
    """Of a target that is a number; "" of others, or where it is not known."""
    if isinstance(entry, Cell):
        return entry.task.get("unit", "")
    base = task_zoo.split_name(entry.coordinates.task)[0]
    return task_zoo.card(base).unit if base in task_zoo.registry else ""


def number_in(cell: Cell) -> str:
    """What the target of a task without classes is: "number in mm"."""
    return " in ".join(filter(None, ("number", _unit(cell))))


def by_probing(entries: Iterable[Entry]) -> dict[Probing, list[Entry]]:
    """Entries by probe and protocol, in their order."""
    return dict(sorted(by_key((Probing.of(entry), entry) for entry in entries).items()))


def main_metric(entries: Iterable[Entry]) -> Metric:
    """What tables of entries of one kind show."""
    every = list(entries)
    if cells := cells_of(every):
        return cells[0].main_metric
    kinds = [entry.type for entry in every if entry.type in task_types.registry]
    return task_types.get(min(kinds)).main if kinds else Metric("score", "score")


def is_clean(entry: Entry) -> bool:
    """Whether its test images are as they were released."""
    return entry.coordinates.corruption == "none"


def is_main(entry: Entry) -> bool:
    """All training images, no corruption: the condition of the leaderboard."""
    return is_clean(entry) and entry.coordinates.fraction == 100


def cells_of(entries: Iterable[Entry]) -> list[Cell]:
    """Those that were measured."""
    return [entry for entry in entries if isinstance(entry, Cell)]


def main_cells(entries: Iterable[Entry]) -> list[Cell]:
    """Those that were measured in the main condition."""
    return [cell for cell in cells_of(entries) if is_main(cell)]


def is_doubted(entry: Entry | None) -> bool:
    """Whether its number is not verified (see `Cell.doubt`)."""
    return isinstance(entry, Cell) and bool(entry.doubt)


def is_unsure(entry: Entry | None) -> bool:
    """Whether it was imported, and nothing shows that its rows are those of their images."""
    return isinstance(entry, Cell) and entry.model.get("rows") == ROWS_NOT_VERIFIED


def seen(entry: Entry) -> str:
    """Whether the model was trained on images of the task, as its authors or `--seen` state:
    "yes", "no" or "not known". Nobody was trained on what is simulated here under a task's name,
    but who says so."""
    if not isinstance(entry, Cell):
        return "not known"
    if entry.model.get("seen_images"):
        return "yes"
    if entry.synthetic or entry.random_weights:
        return "no"
    tasks = [task_zoo.split_name(part)[0] for part in task_zoo.parts(entry.coordinates.task)]
    saw = {name.strip() for name in str(entry.model.get("saw") or "not known").split(",")}
    if {*tasks, *map(task_zoo.home, tasks)} & saw:
        return "yes"
    if "seen_images" in entry.model:
        return "no"
    return "not known" if "not known" in saw else "no"


def seen_told(entry: Entry) -> str:
    """The same, with the number of test images where `--seen` told it."""
    if isinstance(entry, Cell) and (count := entry.model.get("seen_images")) is not None:
        return f"{seen(entry)} ({count} of {entry.model.get('seen_of')} test images)"
    return seen(entry)


def is_downscaled(entry: Entry) -> bool:
    """Whether its images are smaller than those of the release."""
    return isinstance(entry, Cell) and any(note.startswith(DOWNSCALED) for note in entry.notes)


def at_place(entries: Iterable[Entry]) -> dict[tuple[str, str], Entry]:
    """Entries of one condition by (model, task)."""
    return {(e.coordinates.model, e.coordinates.task): e for e in entries}


# ---- names --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Labels:
    """How models and tasks are called on a page, so that nothing goes unmarked.

    Args:
        random: models with random weights.
        controls: models that cannot know anything: trivial methods and random weights.
        synthetic: tasks of simulated images.
        unsure: imported entries whose rows are not verified.
    """

    random: frozenset[str]
    controls: frozenset[str]
    synthetic: frozenset[str]
    unsure: frozenset[str] = frozenset()

    @classmethod
    def of(cls, entries: Sequence[Entry]) -> Labels:
        """Those of a results folder."""
        cells = cells_of(entries)
        random = {c.coordinates.model for c in cells if c.random_weights}
        controls = {c.coordinates.model for c in cells if c.model.get("status") == "control"}
        synthetic = {e.coordinates.task for e in entries if e.synthetic}
        unsure = {c.coordinates.model for c in cells if is_unsure(c)}
        return cls(*map(frozenset, (random, random | controls, synthetic, unsure)))

    def model(self, name: str) -> str:
        """With its marks."""
        random = " [random weights]" if name in self.random else ""
        random += f" [{ROWS_NOT_VERIFIED}]" if name in self.unsure else ""
        return printed(name) + random + (" (control)" if name in self.controls else "")

    def task(self, name: str) -> str:
        """With its mark."""
        return printed(name) + (" (SYNTHETIC)" if name in self.synthetic else "")


def printed(name: str) -> str:
    """The name in print of a model or task; a model's pooling follows it."""
    names = look().names
    base, _, pooling = name.rpartition("/")
    if name not in names and base in names:
        return f"{names[base]}/{pooling}"
    return names.get(name, name)


def tasks_of(entries: Iterable[Entry]) -> list[str]:
    """Tasks in the paper's order, others after them by name."""
    return sorted({e.coordinates.task for e in entries}, key=task_order)


def models_of(entries: Iterable[Entry]) -> list[str]:
    """Models by name."""
    return sorted({e.coordinates.model for e in entries})


def task_order(task: str) -> tuple[int, str]:
    """Sorts tasks."""
    known = task_zoo.BUILT_IN
    return (known.index(task) if task in known else len(known), task)


def condition(at: Coordinates) -> str:
    """A cell's condition in words."""
    text = str(Probing(at.probe, at.protocol))
    if at.fraction != 100:
        text += f", {at.fraction} % of the training images"
    if at.corruption != "none":
        text += f", {at.corruption} severity {at.severity}"
    return text


# ---- numbers ------------------------------------------------------------------------------------


def mean_sd(values: Sequence[float | None]) -> tuple[float, float]:
    """Mean and sample deviation; NaN if any value is undefined, or for the sd of one value."""
    array = np.array([np.nan if v is None else v for v in values])
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else float("nan")


def main_score(entry: Entry | None) -> tuple[float, float]:
    """Mean and sd of the main metric as tables show it (in percent, say); NaN for a hole."""
    if not isinstance(entry, Cell):
        return float("nan"), float("nan")
    mean, sd = mean_sd(entry.scores[entry.main])
    scale = entry.main_metric.scale
    return scale * mean, scale * sd


def main_interval(entry: Entry | None) -> tuple[float, float]:
    """95 % interval of the main metric as tables show it; NaN for a hole."""
    if not isinstance(entry, Cell) or entry.main not in entry.intervals:
        return float("nan"), float("nan")
    low, high = entry.intervals[entry.main]
    scale = entry.main_metric.scale
    return scale * low, scale * high


def score_text(entry: Entry | None) -> str:
    """The main metric as "mean ± sd", with a mark if it is not verified; "error" for a failure,
    "no data" where all tasks were asked for, nothing for what was not run."""
    if isinstance(entry, Failure):
        return ABSENT if entry.absent else HOLE
    mean, sd = main_score(entry)
    places = entry.main_metric.places if entry else 1
    text = plus_minus(mean, sd, places)
    return f"{text} [{NOT_VERIFIED}]" if is_doubted(entry) else text


def status(entry: Entry) -> str:
    """For a CSV file: "ok", `SYNTHETIC`, either with `NOT_VERIFIED` or `ROWS_NOT_VERIFIED` behind
    it, or "error: " or "no data: " and the reason on one line."""
    if isinstance(entry, Failure):
        return f"{score_text(entry)}: {entry.reason}".replace("\n", " ")
    text = SYNTHETIC if entry.synthetic else "ok"
    text += f" ({ROWS_NOT_VERIFIED})" if is_unsure(entry) else ""
    return f"{text} ({NOT_VERIFIED})" if is_doubted(entry) else text


def number(value: float, places: int = 1) -> str:
    """With so many decimals; nothing for NaN."""
    return "" if np.isnan(value) else f"{value:.{places}f}"


def plus_minus(mean: float, sd: float, places: int = 1) -> str:
    """A mean and its deviation; the mean alone where that is NaN."""
    return number(mean, places) + ("" if np.isnan(sd) else f" ± {sd:.{places}f}")


def capitalised(text: str) -> str:
    """With a capital first letter; the others stay."""
    return text[:1].upper() + text[1:]


def between(value: float, low: float, high: float, places: int = 1) -> str:
    """A value and its interval; nothing for NaN."""
    if np.isnan(value):
        return ""
    return f"{value:.{places}f} ({low:.{places}f} to {high:.{places}f})"


def probability(p: float) -> str:
    """A p-value; small ones as a bound."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


# ---- Markdown -----------------------------------------------------------------------------------


def bullets(sentences: Iterable[str]) -> str:
    """A list of plain sentences."""
    return "\n".join(f"- {plain(sentence)}" for sentence in sentences) + "\n"


def applicable(*told: tuple[object, str]) -> list[str]:
    """The sentences whose condition, which stands before each, holds."""
    return [sentence for applies, sentence in told if applies]


def listed(title: str, sentences: Collection[str]) -> list[str]:
    """A section of plain sentences; nothing without any."""
    return [f"## {title}\n", bullets(sentences)] if sentences else []


SYNTHETIC_WORDS = "{} are simulated images. Their numbers say nothing about real ultrasound."


def synthetic_words(some: object, what: str = "columns marked so", then: str = "") -> list[str]:
    """The warning above a page; nothing where no image is simulated.

    Args:
        some: whether any is.
        what: is of such images.
        then: a line below it.
    """
    return [f"**SYNTHETIC: {SYNTHETIC_WORDS.format(what)}**\n{then}"] if some else []
