"""leaderboard.md: wide tables, how to read them, each number's detail and origin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tasks.task import SPLITS
from ultrabench_eval import task_types
from ultrabench_eval.cells import CLASSES, Cell, Coordinates
from ultrabench_eval.core import hashing
from ultrabench_eval.core.grouping import by_key
from ultrabench_eval.report.results.degenerate import TITLE, Finding, sentences, unranked
from ultrabench_eval.report.results.entries import (
    MOTION,
    Entry,
    Labels,
    Probing,
    applicable,
    bullets,
    cells_of,
    is_unsure,
    listed,
    main_cells,
    main_score,
    mean_sd,
    number,
    number_in,
    synthetic_words,
    tasks_of_kind,
)
from ultrabench_eval.report.results.notes import errors, mixtures, shown, warnings
from ultrabench_eval.report.tables.table import Table
from ultrabench_eval.report.tables.wide import SEEN, Wide, wide

BOLD = (
    "Bold: the best of a column, if it is significantly different from every other model there. "
    "A column of ties has nothing in bold."
)


def markdown(
    entries: Sequence[Entry],
    letters: Mapping[Coordinates, str] | None = None,
    links: Sequence[str] = (),
    unsure: Sequence[str] = (),
    found: Sequence[Finding] = (),
    verdict: Sequence[str] = (),
) -> str:
    """The leaderboard page.

    Args:
        entries: of a results folder.
        letters: see `wide`.
        links: lines on what else was made of these cells.
        unsure: what is not verified, a sentence each.
        found: what is degenerate (`degenerate.find`).
        verdict: who leads, and what that means (`verdict.verdict`).
    """
    labels, cells, mains = Labels.of(entries), cells_of(entries), main_cells(entries)
    tables = wide(entries, letters, unranked(found))
    told = how_to_read(tables, mains)
    remarks = dict.fromkeys(f"{_about(c, one)}: {one}" for c in mains for one in c.remarks)
    by_kind = by_key((Probing.of(cell).type, cell) for cell in mains)
    protocols = {
        (c.coordinates.protocol, str(c.protocol.get("probe", ""))): settings(c.protocol)
        for c in cells
    }
    rows = [[name, probe, text] for (name, probe), text in protocols.items()]
    real = [cell for cell in cells if not cell.synthetic]
    notes = dict.fromkeys(f"{c.coordinates.task}: {note}" for c in real for note in c.notes)
    return "\n".join(
        [
            "# Leaderboard\n",
            *synthetic_words(labels.synthetic),
            *listed("Not verified", unsure),
            *listed(TITLE, sentences(found)),
            *listed("Verdict", verdict),
            *(["\n".join(f"- {link}" for link in links) + "\n"] if links else []),
            *(part for one in tables for part in one.table.section()),
            *([bullets(told)] if told else []),
            *errors(entries).section(),
            *warnings(mains).section(),
            *listed("Not comparable", mixtures(cells)),
            *listed("How these are scored", remarks),
            *(part for of in by_kind.items() for part in _details(*of, labels).section()),
            "sd: over seeds (n - 1). 95 % CI: of the mean over seeds; it covers which patients or "
            "videos (images where a task has no groups) are in the test set, and the seeds. All "
            "metrics and conditions are in leaderboard.csv.\n",
            *Table(["protocol", "probe", "settings"], rows, "Protocols").section(),
            *Table(MODELS, model_rows(cells, labels), "Models").section(),
            *Table(_TASKS, _task_rows(cells, labels), "Tasks").section(),
            *listed("Notes on the models", model_notes(cells, labels)),
            *listed("Notes on the data", notes),
        ]
    )


def how_to_read(tables: Sequence[Wide], mains: Sequence[Cell]) -> list[str]:
    """What a reader must know of the tables above."""
    letters = next((one.letters for one in tables if one.letters), "")
    by_hand = any(cell.model.get("seen_images") for cell in mains)
    or_listed = ", or as --seen says of its test images (see Warnings)" if by_hand else ""
    without = dict.fromkeys(task for one in tables for task in one.without)
    ruled = any(one.table.rules for one in tables)
    controls = ",".join(dict.fromkeys(name for cell in mains for name in _controls(cell)))
    probings = {Probing.of(cell) for cell in mains if cell.type == CLASSES}
    alone = len(probings) == len({(one.probe, one.type) for one in probings})
    return applicable(
        (mains, BOLD),
        (letters, letters),
        (
            any(one.seen for one in tables),
            f"{SEEN}: the model was trained on images of this task, as its authors state"
            f"{or_listed}.",
        ),
        (
            without,
            f"Not ranked and left out of the mean: {', '.join(without)} (why: see “{TITLE}” "
            "above).",
        ),
        (
            ruled,
            "(control): trivial methods and models with random weights. They learned nothing about "
            "ultrasound; an encoder that does not beat them shows nothing on that task.",
        ),
        (
            mains and not ruled,
            "Controls are missing: no control and no random network was measured, so these scores "
            f"cannot be compared with a trivial baseline. Add them with `--model ...,{controls}`.",
        ),
        *((True, sentence) for sentence in shown(mains)),
        (
            probings and alone,
            "All numbers of a probe are from one protocol. An order of models that only one "
            "protocol shows is not called a ranking: add `--protocol paper,tuned`.",
        ),
    )


def _controls(cell: Cell) -> list[str]:
    """Controls for a task like that of a result."""
    of_cines = [MOTION] if cell.task.get("samples") == "clip" else []
    return [Probing.of(cell).controls, *of_cines]


# ---- where numbers come from --------------------------------------------------------------------

MODELS = [
    *("model", "what", "pooling", "input", "features", "parameters", "dtype", "weights"),
    *("wrapper", "tasks seen in pretraining", "fingerprint"),
]
_TASKS = ["task", "what", "classes", "groups", "fingerprint"]


def _further(cell: Cell) -> tuple[tuple[str, str], ...]:
    """Further metrics of the table of details, and their headings."""
    return task_types.get(cell.type).details if cell.type in task_types.registry else ()


def _details(kind: str, cells: Sequence[Cell], labels: Labels) -> Table:
    """A row a result of one kind of task, and of one unit."""
    metric = cells[0].main_metric
    score = metric.title if metric.unit == "%" else metric.on_axis
    header = [
        *("model", "task", "probe", "protocol", score, "sd", "95 % CI"),
        *(heading for _, heading in _further(cells[0])),
        *("seeds", "train", "validation", "test"),
    ]
    title = "Details" if kind == CLASSES else f"Details of {tasks_of_kind(kind)}"
    return Table(header, [_detail(cell, labels) for cell in cells], title)


def _detail(cell: Cell, labels: Labels) -> list[str]:
    metric = cell.main_metric
    low, high = (metric.scale * bound for bound in cell.intervals[metric.name])
    mean, sd = main_score(cell)
    at, places = cell.coordinates, metric.places
    return [
        labels.model(at.model),
        labels.task(at.task),
        at.probe,
        at.protocol,
        number(mean, places),
        number(sd, places),
        f"{low:.{places}f} to {high:.{places}f}",
        *(
            number(
                cell.metrics[name].scale * mean_sd(cell.scores[name])[0], cell.metrics[name].places
            )
            if name in cell.scores  # a grid's are not known of masks that were imported
            else ""
            for name, _ in _further(cell)
        ),
        str(len(cell.scores[metric.name])),
        *(str(cell.images[split]) for split in SPLITS),
    ]


def _about(cell: Cell, remark: str) -> str:
    """What a remark is about: the task, or the model that was fine-tuned on it."""
    at = cell.coordinates
    return f"{at.model} on {at.task}" if remark.startswith("fine-tuned") else at.task


def settings(protocol: Mapping[str, Any]) -> str:
    """Settings in words, whatever is nested in them."""
    return "; ".join(
        f"{name.replace('_', ' ')} {_setting(value)}"
        for name, value in protocol.items()
        if name != "probe"
    )


def _setting(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return f"({settings(value)})"
    if isinstance(value, Sequence) and not isinstance(value, str):
        one_of = "one of " if len(value) > 1 else ""
        return one_of + ", ".join(map(_setting, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def model_rows(cells: Iterable[Cell], labels: Labels) -> list[list[str]]:
    """What each model is, a row a fingerprint, in the order of `MODELS`."""
    rows = {}
    for cell in cells:
        info, fingerprint = cell.model, str(cell.identity["model"])
        size, count = info["input_size"], info["parameters"]
        rows[cell.coordinates.model, fingerprint] = [
            labels.model(cell.coordinates.model),
            str(info["title"]),
            str(info["pooling"]),
            f"{size} x {size}" if size else ("" if is_unsure(cell) else "as it is"),
            "" if info["dim"] is None else str(info["dim"]),
            "" if count is None else f"{count:,}",
            str(cell.identity["dtype"]),
            _weights(cell),
            _wrapper(info),
            "none: random" if cell.random_weights else str(info.get("saw") or ""),
            hashing.short(fingerprint),
        ]
    return list(rows.values())


def model_notes(cells: Iterable[Cell], labels: Labels) -> list[str]:
    """What is to be known of models besides their rows, a sentence each."""
    notes = []
    for cell in cells:
        rows, rounding, dropped, used, assumed = map(
            cell.model.get, ("rows", "rounding", "dropped", "used", "assumed")
        )
        told = applicable(
            (rows, f"imported from a file{'' if is_unsure(cell) else f', {rows}'}"),
            (rounding, f"{rounding}"),
            (dropped, f"not used of its weights file: {dropped}"),
            (
                used and assumed,
                f"{used} tensors are from its weights file; assumed, because it does not say: "
                f"{assumed}",
            ),
        )
        notes += [f"{labels.model(cell.coordinates.model)}: {sentence}" for sentence in told]
    return list(dict.fromkeys(notes))


def _wrapper(info: Mapping[str, Any]) -> str:
    """How its numbers were proved, and who confirmed them, where that is known."""
    status, verified = str(info.get("status") or ""), info.get("verified")
    return f"{status} (confirmed by: {verified})" if verified else status


def _weights(cell: Cell) -> str:
    """File, the part of it and the checksum's first digits."""
    if cell.random_weights:
        return "random"
    name, digest = weights_file(cell), cell.model.get("weights_sha256")
    return f"{name} ({hashing.short(str(digest))})" if name else ""


def weights_file(cell: Cell) -> str:
    """Its name, and the part of it after a "#"; "" where there is none."""
    name, part = cell.model.get("weights_file") or "", cell.model.get("weights_entry")
    return f"{name}#{part}" if name and part else str(name)


def _task_rows(cells: Iterable[Cell], labels: Labels) -> list[list[str]]:
    rows = {}
    for cell in cells:
        fingerprint = str(cell.identity["task"])
        rows[cell.coordinates.task, fingerprint] = [
            labels.task(cell.coordinates.task),
            cell.task["title"],
            ", ".join(cell.classes) or f"none: {number_in(cell)}",
            cell.task["groups"],
            hashing.short(fingerprint),
        ]
    return list(rows.values())
