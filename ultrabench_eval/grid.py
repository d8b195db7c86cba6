"""The conditions of a run: probes x protocols x (fractions of the training images, corruptions).

A task is measured with those of the probes and protocols that predict what it asks for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ultrabench_eval import corrupt, protocol
from ultrabench_eval import probes as probe_zoo
from ultrabench_eval.cells import Coordinates
from ultrabench_eval.core.errors import UserError, did_you_mean
from ultrabench_eval.protocol import Protocol
from ultrabench_eval.task_types.task_type import Predicts

if TYPE_CHECKING:
    from tasks.task import TaskCard


@dataclass(frozen=True)
class Grid:
    """What is measured of every model on every task.

    Args:
        probes: names of `probes.names()`; none: what is usual (`protocol.USUAL`).
        protocols: how they are trained; none: what is usual.
        fractions: percent of the training images, ascending.
        corruptions: of the test images, at every severity; their probes are trained on all
            training images, uncorrupted.
        controls: tasks of videos are also tested with the temporal controls (`corrupt.CONTROLS`).
    """

    probes: tuple[str, ...]
    protocols: tuple[Protocol, ...]
    fractions: tuple[int, ...]
    corruptions: tuple[str, ...]
    controls: bool = False

    @classmethod
    def parse(
        cls,
        probes: str | Sequence[str] | None,
        protocols: str | Path | Protocol | Sequence[str | Path | Protocol] | None,
        fractions: str | int | Sequence[str | int],
        corruptions: str | Sequence[str] | None,
        fewshot_validation: str | None = None,
    ) -> Grid:
        """The grid that was asked for, each part a list or a comma-separated string.

        Args:
            probes: see `Grid`.
            protocols: names, YAML files or objects.
            fractions: see `Grid`.
            corruptions: names or families; None for what is usual, which is none of images and the
                temporal controls of videos.
            fewshot_validation: "subset" cuts validation to the same part in all protocols, which
                are then called NAME_cut; None leaves what they say.

        Raises:
            UserError: unknown names, fractions out of range.
        """
        names, known = tuple(dict.fromkeys(_parts(probes or ()))), probe_zoo.names()
        for name in names:
            if name not in probe_zoo.registry:
                raise UserError(
                    f"there is no probe '{name}'{did_you_mean(name, known)} there are "
                    f"{', '.join(known)}"
                )
        if not names and probes is not None:
            raise UserError(f"no probe is asked for; there are {', '.join(known)}")
        loaded = [
            one if isinstance(one, Protocol) else protocol.load(one)
            for one in _parts(protocols or ())
        ]
        if fewshot_validation not in (None, "whole", "subset"):
            raise UserError(f"--fewshot-validation is whole or subset, not '{fewshot_validation}'")
        if not loaded and protocols is not None:
            raise UserError("no protocol is asked for; write --protocol paper")
        if fewshot_validation == "subset":
            loaded = loaded or [one for _, one in protocol.USUAL.values()]
            loaded = [
                replace(one, name=f"{one.name}_cut", fewshot_validation="subset") for one in loaded
            ]
        by_name = {one.name: one for one in loaded}
        if len(by_name) < len(dict.fromkeys(loaded)):
            raise UserError("two protocols have the same name; rename one")
        frozen = [name for name in names if probe_zoo.get(name).reads != "images"]
        if frozen and loaded and all(one.finetune for one in loaded):
            raise UserError(
                f"--probe {','.join(frozen)} is of frozen features and every --protocol "
                "fine-tunes; add a protocol such as paper, or leave --probe out"
            )
        percents = sorted({_percent(part) for part in _parts(fractions)})
        text = corruptions if isinstance(corruptions, str) else ",".join(corruptions or ())
        worse = tuple(corrupt.names(text))
        if worse or not percents:
            percents = sorted({*percents, 100})  # corrupted test sets belong to whole training
        return cls(
            names, tuple(by_name.values()), tuple(percents), worse, controls=corruptions is None
        )

    def ways(self, predicts: Predicts) -> list[tuple[Protocol, str]]:
        """Protocols and probes for tasks of a kind; none if those that are named are for others.

        A protocol that fine-tunes goes with the one probe of the kind that does, and no other.
        """
        probe, one = protocol.USUAL[predicts]
        named = [name for name in self.probes if probe_zoo.get(name).predicts == predicts]
        frozen = [name for name in named if probe_zoo.get(name).reads != "images"]
        loaded = [
            one for one in self.protocols if one.predicts == predicts and one.finetune is None
        ]
        loaded = loaded if self.protocols else [one]
        tuning = [one for one in self.protocols if one.finetune is not None]
        if not self.protocols and len(frozen) < len(named):
            tuning = [protocol.FINETUNE]
        return [
            *(
                (one, name)
                for one in loaded
                for name in (frozen if self.probes else [one.usual_probe or probe])
            ),
            *product(tuning, [protocol.FINE_TUNING[predicts]]),
        ]

    def lacks(self, predicts: Predicts) -> str:
        """Why `ways` are none, as a sentence ends; "" if there are some."""
        if self.ways(predicts):
            return ""
        probe, one = protocol.USUAL[predicts]
        option, add = "--protocol", one.name
        if self.probes and not any(probe_zoo.get(p).predicts == predicts for p in self.probes):
            option, add = "--probe", probe
        return f"{option} names none that predicts {predicts}; add {add}, or leave the option out"

    def refuses(self, card: TaskCard, predicts: Predicts) -> str:
        """Why a task cannot be measured under these conditions, as a sentence ends; "" if it can.

        Args:
            card: of the task.
            predicts: its kind, which there are `ways` for.
        """
        cine = card.samples == "clip"
        temporal = [name for name in self.corruptions if corrupt.find(name).temporal]
        if temporal and not cine:
            return (
                f"holds images, and the corruptions {', '.join(temporal)} are of videos; leave out "
                "one of the two"
            )
        if card.folds and min(self.fractions) < 100:
            return (
                f"is measured in {card.folds} folds, which are too small for a part of their "
                "training samples; ask for --fractions 100"
            )
        if cine and any(one.finetune for one, _ in self.ways(predicts)):
            return "holds videos, on which no network is fine-tuned; leave fine-tuning out"
        return ""

    def cells(
        self, model: str, task: str, predicts: Predicts, cines: bool = False
    ) -> Iterator[tuple[Protocol, Coordinates]]:
        """The cells of a model and a task, which is of a kind; clean ones first.

        Args:
            model: its name.
            task: the task's label.
            predicts: its kind.
            cines: whether its samples are videos.
        """
        for one, probe in self.ways(predicts):
            for fraction in self.fractions:
                yield one, Coordinates(model, task, one.id(probe), probe, fraction)
            for name, severity in self._worse(cines):
                yield one, Coordinates(model, task, one.id(probe), probe, 100, name, severity)

    def count(self, predicts: Predicts, cines: bool = False) -> int:
        """How many `cells` there are."""
        conditions = len(self.fractions) + len(self._worse(cines))
        return len(self.ways(predicts)) * conditions

    def _worse(self, cines: bool) -> list[tuple[str, int]]:
        """Corruptions at all of their severities."""
        controls = cines and self.controls and 100 in self.fractions
        names = (*(corrupt.CONTROLS if controls else ()), *self.corruptions)
        return [(name, severity) for name in names for severity in corrupt.find(name).severities]


def _parts(asked: object) -> list[Any]:
    if isinstance(asked, str):
        return [part.strip() for part in asked.split(",") if part.strip()]
    return list(asked) if isinstance(asked, Iterable) else [asked]


def _percent(part: object) -> int:
    try:
        percent = int(str(part).removesuffix("%"))
    except ValueError:
        percent = 0
    if not 1 <= percent <= 100:
        raise UserError(f"fraction '{part}' is not a whole number of percent from 1 to 100")
    return percent
