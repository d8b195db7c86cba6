"""Cells as a run leaves them, with scores or predictions of one's choice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ultrabench_eval import sealed, task_types
from ultrabench_eval.cells import Cell, Cells, Coordinates, Failure, identity
from ultrabench_eval.core import files, hashing
from ultrabench_eval.report.tables.table import Table, TableCell
from ultrabench_eval.task_types import classification, segmentation
from ultrabench_eval.test_set import TestSet


def made_of(model: str, task: str, seeds: int) -> dict[str, str | int]:
    return identity(
        at=Coordinates(model, task, "paper-1"),
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
        scores=dict.fromkeys((metric.name for metric in classification.METRICS), values),
        intervals={m.name: (0.1, 0.9) for m in classification.METRICS if m.of},
        images={"train": 8, "validation": 2, "test": 4},
        classes=["no", "yes"],
        heads=[{"seed": n, "validation_loss": 1 - x} for n, x in enumerate(values)],
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


def control(model: str, task: str, *scores: float) -> Cell:
    one = cell(model, task, *scores)
    return one.model_copy(update={"model": {**one.model, "status": "control"}})


def failure(model: str, task: str, reason: str = "image x.png\nis broken | sadly") -> Failure:
    return Failure(coordinates=Coordinates(model, task, "paper-1"), reason=reason)


# ---- with predictions ---------------------------------------------------------------------------


def put_test(
    cells: Cells, task: str, labels: np.ndarray, groups: Sequence[str] | None = None
) -> None:
    """The test images of the task fingerprint that `cell` gives to a task."""
    stored = {
        "fingerprint": f"t{task}",
        "task": task,
        "classes": [str(code) for code in range(int(labels.max()) + 1)],
        "synthetic": False,
        "names": [f"{row}.png" for row in range(len(labels))],
        "labels": labels.tolist(),
        "groups": None if groups is None else list(groups),
    }
    path = cells.out / "tasks" / f"t{task}.json"
    files.write_bytes(path, hashing.canonical_json(hashing.seal(stored)))


def guesses(
    labels: np.ndarray, accuracy: float, seed: int, seeds: int = 3, classes: int = 2
) -> np.ndarray:
    """Class codes [H, N] that are right in about `accuracy` of the images."""
    rng = np.random.default_rng(seed)
    other = rng.integers(0, classes, (seeds, len(labels)))
    return np.where(rng.random((seeds, len(labels))) < accuracy, labels, other)


def macro_f1(codes: np.ndarray, labels: np.ndarray, classes: int) -> float:
    """Of class codes [N]."""
    counts = classification.confusion(codes, labels, classes)
    return float(classification.of_counts(classification.MACRO_F1, counts))


def put(
    cells: Cells,
    model: str,
    task: str,
    codes: np.ndarray,
    labels: np.ndarray,
    /,
    *,
    at: dict[str, object] | None = None,
    **changes: object,
) -> Cell:
    """Write a cell whose scores are those of predicted classes [H, N].

    Args:
        at: coordinates other than model and task, e.g. {"fraction": 10}.
        changes: fields of the cell.
    """
    classes = int(labels.max()) + 1
    scores = [macro_f1(one, labels, classes) for one in codes]
    where = {"protocol": "paper-1", **(at or {})}
    coordinates = Coordinates(model, task, **where)  # type: ignore[arg-type]
    made = cell(model, task, *scores)
    made = made.model_copy(update={"coordinates": coordinates, **changes})
    cells.put(made, {"probabilities": np.eye(classes, dtype=np.float32)[codes]})
    return made


SIZE = 60


def results(
    cells: Cells,
    *,
    models: Sequence[str] = ("good", "fair", "pixels"),
    tasks: Sequence[str] = ("aul", "busbra", "mmotu"),
    protocols: Sequence[str] = ("paper-1",),
    fractions: Sequence[int] = (),
    corruptions: Sequence[str] = (),
    **changes: object,
) -> None:
    """A results folder of several conditions; "pixels" is a control.

    Args:
        changes: fields of all cells.
    """
    for t, task in enumerate(tasks):
        labels = np.arange(SIZE) % 2
        put_test(cells, task, labels, [str(row // 3) for row in range(SIZE)] if t else None)
        for m, model in enumerate(models):
            kind = {"title": model, "pooling": "mean", "input_size": 8, "dim": 3, "parameters": 1}
            fields = {"model": kind | ({"status": "control"} if model == "pixels" else {})}
            for p, protocol in enumerate(protocols):
                places: list[tuple[dict[str, object], float]] = [({}, 1.0)]
                places += [({"fraction": f}, 0.5) for f in fractions]
                places += [
                    ({"corruption": name, "severity": severity}, 1 - 0.2 * severity)
                    for name in corruptions
                    for severity in (1, 2, 3)
                ]
                for n, (at, left) in enumerate(places):
                    accuracy = left * (0.9 - 0.25 * (m if p == 0 else (m + 1) % 3))
                    codes = guesses(labels, accuracy, 1000 * t + 100 * m + 30 * p + n)
                    where = {"protocol": protocol, **at}
                    put(cells, model, task, codes, labels, at=where, **fields, **changes)


def marked(table: Table, mark: str = "best") -> set[tuple[int, int]]:
    """Places of a table (row, column) with a mark."""
    return {
        (r, c)
        for r, row in enumerate(table.rows)
        for c, one in enumerate(row)
        if isinstance(one, TableCell) and one.mark == mark
    }


# ---- of all kinds of task -----------------------------------------------------------------------


def put_numbers(
    cells: Cells, model: str, task: str, error: float, unit: str, /, **at: object
) -> None:
    """A cell of a task of numbers whose MAE is about `error`, and its test images.

    Args:
        at: coordinates, such as fraction.
    """
    noise = np.random.default_rng(len(model))
    values = np.linspace(60, 340, SIZE)
    test = TestSet(
        **{"fingerprint": f"t{task}", "task": task, "type": "regression", "kind": "number"},
        **{"classes": (), "synthetic": False, "names": tuple(f"{n}.png" for n in range(SIZE))},
        **{"labels": (), "values": tuple(values.tolist()), "unit": unit, "groups": None},
    )
    signs = np.where(noise.random((2, SIZE)) < 0.5, -1, 1)
    predicted = values + error * signs * noise.uniform(0.5, 1.5, (2, SIZE))
    calibrated = {"half_width": np.full(2, 2 * error), "constant": np.full(2, 200.0)}
    _put_kind(cells, model, test, {"predictions": predicted, **calibrated}, at)


def put_masks(cells: Cells, model: str, task: str, dice: float, /, **at: object) -> None:
    """A cell of a task of masks whose Dice is about `dice`, and its test images; see
    `put_numbers`."""
    noise = np.random.default_rng(len(model))
    test = TestSet(
        **{"fingerprint": f"t{task}", "task": task, "type": "segmentation", "kind": "mask"},
        **{"classes": ("background", "lesion"), "synthetic": False, "labels": (), "groups": None},
        names=tuple(f"{n}.png" for n in range(SIZE)),
    )
    found = np.zeros((2, SIZE, len(segmentation.COLUMNS)), np.float32)
    both = np.round(100 * np.clip(dice + noise.normal(0, 0.05, (2, SIZE)), 0, 1))
    columns = {"truth": 100, "called": 100, "both": both, "iou": both / (200 - both)}
    columns |= {name: both / 100 for name in segmentation.MEANS if "dice" in name}
    for name, value in (columns | dict.fromkeys(segmentation.MEANS.values(), 1)).items():
        found[..., segmentation.COLUMNS.index(name)] = value
    _put_kind(cells, model, test, {"statistics": found, "thresholds": np.full(2, 0.5)}, at)


def _put_kind(
    cells: Cells,
    model: str,
    test: TestSet,
    stored: dict[str, np.ndarray],
    at: dict[str, object],
) -> None:
    kind = task_types.get(test.type)
    sealed.write(cells.out / "tasks" / f"{test.fingerprint}.json", test)
    probe = {"regression": "ridge_regression", "segmentation": "dense"}[test.type]
    known = cell(model, test.task, 0.5, 0.5)
    cells.put(
        known.model_copy(
            update={
                "coordinates": Coordinates(model, test.task, f"{probe}-1", probe, **at),  # type: ignore[arg-type]
                "type": test.type,
                "main": kind.main.name,
                "scores": {name: one.tolist() for name, one in kind.again(stored, test).items()},
                "intervals": kind.intervals(kind.answers(stored), test),
                "classes": list(test.classes),
                "task": {**known.task, **({"unit": test.unit} if test.unit else {})},
                "protocol": {"probe": probe},
                "model": known.model
                | ({"status": "control"} if model in ("pixels", "border") else {}),
            }
        ),
        stored,
    )
