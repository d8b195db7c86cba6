"""Images on which models agree or disagree, by name, and as small pictures if data are given.

Releases have licences, so a picture is shown only to whom has the data: they are read from there,
checked to be the very images that were measured, and shrunk.

M is the number of models, N of test images, C of classes.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from tasks.samples.clips import still
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.core.grouping import by_key
from ultrabench_eval.report.results import sources
from ultrabench_eval.report.results.entries import Probing, task_order
from ultrabench_eval.report.results.evidence import Comparison, Evidence

SHOWN = 4  # images of each kind
SIDE = 160  # pixels of the longer side of a picture
QUALITY = 70  # of JPEG: about 5 KB a picture
KINDS = {
    "apart": "Models disagree",
    "wrong": "All models are wrong",
    "right": "All models are right",
}


def examples(evidence: Evidence, data: Path | None) -> list[dict[str, Any]]:
    """Parts of the page, a task each, of the first probe and protocol that has any: another one
    would show much the same.

    Args:
        evidence: of the folder, which tells where own data are.
        data: data root to take pictures from; None: names alone.
    """
    for probing, comparisons in evidence.main.items():
        every = (_examples(probing, one, evidence, data) for one in comparisons.values())
        if found := list(filter(None, every)):
            return sorted(found, key=lambda one: task_order(one["task"]))
    return []


def _examples(
    probing: Probing, one: Comparison, evidence: Evidence, data: Path | None
) -> dict[str, Any] | None:
    """Of a task that two models have; None if there are no two.

    Encoders are asked, or all models where there are no two of them.
    """
    if one.type.predicts != "classes":
        return None
    encoders = [m for m, model in enumerate(one.models) if model not in one.controls]
    asked = encoders if len(encoders) > 1 else list(range(len(one.models)))
    if len(asked) < 2:
        return None
    votes = np.stack([majority(one.answers[m], len(one.test.classes)) for m in asked])
    models = [one.models[m] for m in asked]
    chosen, counts = choose(votes, one.test.targets)
    wanted = [n for rows in chosen.values() for n in rows]
    pictures, why = _pictures(one, data, evidence.cells.out, wanted) if data else ({}, "")
    return {
        "task": one.task,
        "images": {
            "asked": f"{probing}; models asked: {', '.join(models)}",
            "count": len(one.test),
            "why": why,
            "kinds": [
                {
                    "title": title,
                    "count": counts[kind],
                    "examples": [_example(n, votes, models, one, pictures) for n in chosen[kind]],
                }
                for kind, title in KINDS.items()
            ],
        },
    }


def majority(codes: np.ndarray, classes: int) -> np.ndarray:
    """The answer of most seeds, the lowest class of a tie; [H, N] -> [N]."""
    counts = np.stack([(codes == code).sum(0) for code in range(classes)])
    return np.asarray(counts.argmax(0))


def choose(votes: np.ndarray, truth: np.ndarray) -> tuple[dict[str, list[int]], dict[str, int]]:
    """Up to `SHOWN` images of each of `KINDS`, and how many there are.

    Of disagreement, those with the most answers and then the evenest votes; of the others, classes
    in turn. Among equals the first, so that equal cells give equal pages.

    Args:
        votes: [M, N] class codes.
        truth: [N].
    """
    right = votes == truth
    same = (votes == votes[0]).all(0)
    where = {
        "apart": np.flatnonzero(~same),
        "wrong": np.flatnonzero(~right.any(0)),
        "right": np.flatnonzero(right.all(0)),
    }
    spread = {int(n): _spread(votes[:, n]) for n in where["apart"]}
    chosen = {"apart": sorted(spread, key=lambda n: (spread[n], n))[:SHOWN]}
    for kind in ("wrong", "right"):
        chosen[kind] = _in_turn(where[kind], truth)[:SHOWN]
    return chosen, {kind: len(rows) for kind, rows in where.items()}


def _spread(votes: np.ndarray) -> tuple[int, int]:
    """Sorts images by disagreement: many answers first, then no answer of many models."""
    _, counts = np.unique(votes, return_counts=True)
    return -len(counts), int(counts.max())


def _in_turn(rows: np.ndarray, truth: np.ndarray) -> list[int]:
    """The first image of each class, then the second of each, and so on."""
    by_class = by_key((int(truth[n]), n) for n in rows.tolist())
    turns = zip_longest(*(members for _, members in sorted(by_class.items())))
    return [n for turn in turns for n in turn if n is not None]


def _example(
    n: int, votes: np.ndarray, models: Sequence[str], one: Comparison, pictures: dict[int, str]
) -> dict[str, Any]:
    """Name, true class, picture (a data URL), and answers as [class, whether right, models]."""
    truth = one.test.labels[n]
    codes, counts = np.unique(votes[:, n], return_counts=True)
    answers = []
    for _, code in sorted(zip((-counts).tolist(), codes.tolist(), strict=True)):
        named = [model for model, vote in zip(models, votes[:, n], strict=True) if vote == code]
        by = "all models" if len(named) == len(models) else ", ".join(named)
        answers.append([one.test.classes[code], code == truth, by])
    return {
        "name": one.test.names[n],
        "truth": one.test.classes[truth],
        "picture": pictures.get(n),
        "answers": answers,
    }


# ---- pictures -----------------------------------------------------------------------------------


def _pictures(
    one: Comparison, data: Path, run: Path, wanted: Sequence[int]
) -> tuple[dict[int, str], str]:
    """Data URLs of images by place, or why there are none."""
    try:
        task = sources.load(one.task, data, run)
        if task.fingerprint != one.test.fingerprint:
            return {}, "the images in this data folder are not those that were measured"
        images = {n: still(task.test.images[n]) for n in wanted}
        return {n: _thumbnail(one.read(one.digest())) for n, one in images.items()}, ""
    except UserError as error:
        return {}, _without_folder(str(error), data)


def _without_folder(reason: str, data: Path) -> str:
    """A page names no folder of the machine that made it."""
    return reason.replace(str(data), "DATA").replace(str(data.resolve()), "DATA")


def _thumbnail(pixels: np.ndarray) -> str:
    image = PIL.Image.fromarray(pixels)
    image.thumbnail((SIDE, SIDE), PIL.Image.Resampling.LANCZOS)
    # Most are grey: a third of the bytes.
    if (pixels == pixels[..., :1]).all():
        image = image.convert("L")
    data = io.BytesIO()
    image.save(data, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()
