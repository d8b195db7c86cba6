"""Cells as a run leaves them, with scores of one's choice."""

from __future__ import annotations

from ultrabench_eval import metrics
from ultrabench_eval.cells import Cell, Coordinates, Failure, identity


def made_of(model: str, task: str, seeds: int) -> dict[str, str | int]:
    return identity(
        model=model,
        task=task,
        protocol="p",
        dtype="float32",
        seeds=seeds,
        fewshot=0,
        corruption="none",
        masks="none",
    )


def cell(model: str, task: str, *scores: float, **changes: object) -> Cell:
    values = list(scores)
    made = Cell(
        coordinates=Coordinates(model, task, "paper-1"),
        identity=made_of("m" + model, "t" + task, len(values)),
        scores=dict.fromkeys(metrics.UNITS, values),
        intervals=dict.fromkeys(metrics.FROM_COUNTS, (0.1, 0.9)),
        images={"train": 8, "validation": 2, "test": 4},
        classes=["no", "yes"],
        heads=[],
        sweep=[],
        warnings=[],
        synthetic=False,
        random_weights=False,
        model={"title": model, "pooling": "mean", "input_size": 8, "dim": 3, "parameters": 12345},
        task={"title": task, "groups": "none"},
        notes=[],
        protocol={"probe": "linear"},
        features_made_by=[],
        versions={},
        seconds={},
        predictions="",
    )
    return made.model_copy(update=changes)


def failure(model: str, task: str, reason: str = "image x.png\nis broken | sadly") -> Failure:
    return Failure(coordinates=Coordinates(model, task, "paper-1"), reason=reason)
