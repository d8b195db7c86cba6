"""Which cells are comparable with published numbers, and in a sentence why others are not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import tasks as task_zoo
from tasks.task import SPLITS
from ultrabench_eval.cells import Cell, Failure
from ultrabench_eval.core.grouping import by_key
from ultrabench_eval.report.paper.published import Published
from ultrabench_eval.report.results.entries import Entry, applicable, is_main, models_of, tasks_of

PROBE = "linear"
PROTOCOL = "paper-071a60c7"  # `PAPER.id(PROBE)`, for which the probe and torch would be loaded

NOT_RUN = "not in this run"
# Short reasons, as shown in place of a number, and the sentences behind them.
SENTENCES = {
    "another probe": "the published numbers are of the linear probe",
    "another protocol": f"the published numbers are of the paper's protocol ({PROTOCOL})",
    "not published": "the paper has no such task",
    "other splits": "the published numbers are of the published splits",
    "error": "it could not be measured (leaderboard.md says why)",
    "SYNTHETIC": "images that are simulated say nothing about real ultrasound",
    "random weights": "the published numbers are of pretrained weights",
    "another condition": "the published table has all training images and no corruption",
}


def printed_model(model: str, published: Published) -> str | None:
    """The published model that one of ours is, whatever its pooling; None if it is none."""
    name = model.partition("/")[0]  # "usfm/cls" is usfm; the paper does not state its poolings
    return name if name in published.source.models else None


def why_not(entry: Entry, published: Published) -> str:
    """A short reason why an entry is not comparable with published numbers; "" if it is.

    Fraction and corruption are not looked at.
    """
    at = entry.coordinates
    task, how = task_zoo.split_name(at.task)
    random = isinstance(entry, Cell) and entry.random_weights
    first, *_ = applicable(
        (at.probe != PROBE, "another probe"),
        (at.protocol != PROTOCOL, "another protocol"),
        (task not in published.source.tasks, "not published"),
        (how is not None, "other splits"),
        (entry.synthetic, "SYNTHETIC"),
        (isinstance(entry, Failure), "error"),
        (random and printed_model(at.model, published), "random weights"),
        (True, ""),
    )
    return first


def other_images(entry: Entry, published: Published) -> tuple[str, str] | None:
    """Numbers of images of ours and the paper's, as "80 / 10 / 10" for train, validation and test;
    None where they are the same, or not known."""
    sizes = published.sizes_of.get(entry.coordinates.task)
    if sizes is None or not isinstance(entry, Cell):
        return None
    mine = tuple(entry.images[split] for split in SPLITS)
    ours, theirs = (" / ".join(map(str, counts)) for counts in (mine, sizes.splits))
    return None if mine == sizes.splits else (ours, theirs)


def closest(reason: str, other: str | None) -> str:
    """Of two reasons at one place the one that came closer to a comparison."""
    order = list(SENTENCES)
    return max(reason, other or reason, key=order.index)


def left_out(entries: Iterable[Entry], published: Published, *, main: bool) -> list[str]:
    """Sentences on what was measured and is not compared.

    Args:
        entries: of a results folder.
        published: what it is compared with.
        main: whether only the main condition is compared.
    """
    other = "another condition" if main else ""
    groups = by_key(
        (why_not(entry, published) or ("" if is_main(entry) else other), entry) for entry in entries
    )
    return [
        f"{reason}: {_members(groups[reason])}, left out: {sentence}"
        for reason, sentence in SENTENCES.items()
        if reason in groups
    ]


def _members(some: Sequence[Entry]) -> str:
    """How many, of which models on which tasks."""
    count = f"{len(some)} cell{'s' if len(some) > 1 else ''}"
    return f"{count} ({', '.join(models_of(some))} on {', '.join(tasks_of(some))})"
