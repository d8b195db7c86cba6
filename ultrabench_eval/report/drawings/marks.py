"""Published scores as marks in figures of ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ultrabench_eval.report.paper.published import Published, PublishedScore
from ultrabench_eval.report.results.comparable import (
    PROBE,
    PROTOCOL,
    other_images,
    printed_model,
    why_not,
)
from ultrabench_eval.report.results.entries import Entry, Probing, is_main


@dataclass(frozen=True)
class Marks:
    """Published scores, all of one condition: all training images, test images as they are."""

    published: Published
    at: Mapping[tuple[str, str], PublishedScore]
    """By (model, task) of the run."""
    others: Mapping[str, Sequence[PublishedScore]]
    """Of each task of the run those of models that it has not."""
    other_images: frozenset[str]
    """Tasks of the run whose splits are not as large as the published ones."""

    @property
    def probing(self) -> Probing:
        """The probe and protocol that they may be compared with."""
        return Probing(PROBE, PROTOCOL)

    @property
    def words(self) -> tuple[str, str]:
        """What the two kinds of marks are, for a legend."""
        table = self.published.source.scores_table
        return f"hollow: published ({table}), ± sd", "published, models not in this run"

    def note(self, tasks: Iterable[str]) -> str:
        """More lines of a figure's note, each with a line break before it."""
        source = self.published.source
        text = (
            f"\npublished, not measured here: {source.scores_table} of {source.title}, "
            "all training images, clean"
        )
        return text + (
            "\n*: not as many images as published" if self.other_images & {*tasks} else ""
        )


def marks(entries: Sequence[Entry], published: Published) -> Marks | None:
    """The published scores that have a place in a run's figures; None if there are none.

    Tasks that are simulated or split otherwise get none, nor do models with random weights.
    """
    at: dict[tuple[str, str], PublishedScore] = {}
    own: dict[str, set[str]] = {}  # of each task the published models that the run has
    others_of = set()
    for entry in entries:
        reason = why_not(entry, published)
        if not is_main(entry) or reason not in ("", "error", "random weights"):
            continue
        model, task = entry.coordinates.model, entry.coordinates.task
        own.setdefault(task, set())
        printed = printed_model(model, published)
        if printed and reason != "random weights" and (score := published.at.get((printed, task))):
            at[model, task] = score
            own[task].add(printed)
        others_of |= {task} if other_images(entry, published) else set()
    others = {
        task: [
            score for score in published.scores if score.task == task and score.model not in known
        ]
        for task, known in own.items()
    }
    if not at and not any(others.values()):
        return None
    return Marks(published, at, others, frozenset(others_of))
