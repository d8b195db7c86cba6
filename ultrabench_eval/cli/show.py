"""What the commands print: tables, cards, and words after a run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from ultrabench_eval.core.names import printable

if TYPE_CHECKING:
    from tasks.check import Report
    from tasks.own_data.draw import Drawn
    from tasks.task import Task
    from tasks.ultrabench import SplitAgreement
    from ultrabench_eval.report.results.entries import Entry
    from ultrabench_eval.worth import Worth


_PAGES = (
    *("leaderboard.md", "leaderboard.html", "leaderboard.csv", "leaderboard.tex"),
    *("statistics.md", "fewshot.md", "robustness.md", "figures"),
)


def results(out: Path, encoded: int) -> None:
    """The leaderboard on screen, what failed, where the files are, and what follows."""
    from ultrabench_eval.cells import Cells

    entries = Cells(out).gather()
    leaderboard(out, entries)
    for error in errors(entries):
        say(f"error: {error}", err=True)
    for warning in warnings(out, entries):
        say(f"warning: {warning}", err=True)
    say(f"images encoded: {encoded}")
    for page in pages(out):
        print(page)
    verdict(out)


def json(data: object) -> None:
    """Print data for programs."""
    from json import dumps

    print(dumps(data, indent=1, ensure_ascii=False, default=str))


def results_data(out: Path, run: Path | None = None) -> dict[str, Any]:
    """All that a results folder says, as plain data; `run` holds the results if they are
    elsewhere. docs/output_for_programs.md lists the keys."""
    from json import loads

    from ultrabench_eval.cells import Cells
    from ultrabench_eval.report import write
    from ultrabench_eval.report.results import degenerate, kept, notes, standing

    cells, told = Cells(run or out), kept.told(out)
    entries = cells.gather()
    rows = write.frame(entries, told.findings).to_json(orient="records", double_precision=15)
    doubts = notes.doubts(entries, cells.gone(entries))
    return {
        "out": str(out),
        "synthetic": any(entry.synthetic for entry in entries),
        "scores": loads(rows),
        "significance": [
            {
                "model": at.model,
                "task": None if at.task.startswith(standing.OVER_TASKS) else at.task,
                **{"probe": at.probe, "protocol": at.protocol, "groups": text},
            }
            for at, text in told.letters.items()
        ],
        "verdict": told.verdict,
        "warnings": [*doubts, *degenerate.sentences(told.findings)],
        "errors": errors(entries),
    }


def leaderboard(out: Path, entries: Sequence[Entry]) -> None:
    """The main tables of a results folder."""
    from ultrabench_eval import display
    from ultrabench_eval.report.results import degenerate, kept

    told, console = kept.told(out), display.console()
    without = degenerate.unranked(told.findings)
    for one in display.leaderboard(entries, told.letters, without, console.width):
        console.print(one)
    if any(told.letters.values()):
        say(told.reading)


def errors(entries: Sequence[Entry]) -> list[str]:
    """What failed and why: once, however many conditions it spoils."""
    from ultrabench_eval.cells import Failure

    failures = [entry for entry in entries if isinstance(entry, Failure) and not entry.absent]
    words = (f"{f.coordinates.model} on {f.coordinates.task}: {f.reason}" for f in failures)
    return list(dict.fromkeys(words))


def pages(out: Path) -> list[Path]:
    """What a results folder has to look at."""
    return [out / name for name in _PAGES if (out / name).exists()]


def warnings(out: Path, entries: Sequence[Entry], run: Path | None = None) -> list[str]:
    """Which numbers of a results folder are not verified, and what its pages tell above their
    tables; `run` holds the results where the pages are elsewhere."""
    from ultrabench_eval.cells import Cells
    from ultrabench_eval.report.results import degenerate, kept, notes

    doubts = notes.doubts(entries, Cells(run or out).gone(entries))
    return [*doubts, *degenerate.grouped(kept.findings(out))]


def verdict(out: Path) -> None:
    """Who leads, and what that means; last, because it is the answer."""
    from ultrabench_eval.report.results import kept

    print()
    for sentence in kept.told(out).verdict:
        say(sentence)


def say(text: str, *, err: bool = False) -> None:
    """Print a sentence: broken between words on a terminal, on one line elsewhere."""
    from ultrabench_eval import display

    display.console(err=err).print(Text(printable(text)), soft_wrap=not display.is_terminal(err))


def page(path: Path) -> None:
    """Print a page that was just written; nothing if there was nothing to write."""
    if path.is_file():
        print("\n".join(map(printable, path.read_text("utf-8").splitlines())))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a plain table."""
    from ultrabench_eval import display

    console = display.console()
    console.print(display.listing(header, rows, console.width))


_LABELS = {
    "saw": "tasks seen in pretraining",
    "hub": "fetched with --accept-license",
    "dataset": "data folder",
}


def card(known: dict[str, Any]) -> None:
    """Print what is known of a model or task, a line a field."""
    rows: list[tuple[str, str]] = []
    for field, value in known.items():
        if value == "" or (field == "classes" and not value):  # does not apply
            continue
        label = _LABELS.get(field, field.replace("_", " "))
        lines = _lines(field, value)
        rows += zip([label, *[""] * (len(lines) - 1)], lines, strict=True)
    table(("", ""), rows)


def _lines(field: str, value: Any) -> list[str]:
    """A field's value as text: sentences a line each, short parts in one line."""
    if value is None:
        return ["no: by hand only" if field == "hub" else "not known"]
    if isinstance(value, dict):
        parts = [f"{key.replace('_', ' ')} {part}" for key, part in value.items()]
    elif isinstance(value, list | tuple):
        parts = [str(part) for part in value]
    else:
        return [str(value)]
    if any(len(part) > 60 for part in parts):
        return parts
    return ["; ".join(parts) or "none stated"]


def task(known: Task) -> None:
    """Print counts, notes and fingerprint of a task that was read."""
    _counts(known)
    for note in known.notes:
        print(f"- {note}")
    print(f"fingerprint {known.fingerprint}")


def task_data(known: Task) -> dict[str, Any]:
    """A task that was read, as plain data."""
    return {
        "task": known.name,
        "origin": str(known.origin),
        "synthetic": known.synthetic,
        "classes": list(known.classes),
        "counts": {name: list(map(int, counts)) for name, counts in known.counts().items()},
        "notes": list(known.notes),
        "fingerprint": known.fingerprint,
    }


def check_data(report: Report) -> dict[str, Any]:
    """What a check found, as plain data."""
    extremes = {
        what: {"width": size.width, "height": size.height, "image": image}
        for what, (size, image) in report.extremes().items()
    }
    found = {
        "images": len(report.rows),
        "extremes": extremes,
        "masks": list(report.shown()),
        "problems": list(report.problems),
    }
    return {**task_data(report.task), **found}


def check(report: Report) -> None:
    """Print what a check found; problems go to standard error."""
    known = report.task
    print(f"{known.name}: {len(report.rows)} images in {known.origin}")
    _counts(known)
    for what, (size, name) in report.extremes().items():
        print(f"{what}: {size.width} x {size.height} pixels, {name}")
    for sentence in report.shown():
        print(sentence)
    for note in known.notes:
        print(f"- {note}")
    for problem in report.problems:
        print(f"problem: {problem}", file=sys.stderr)
    print("no problems" if not report.problems else f"{len(report.problems)} problem(s)")


def worth_data(found: Worth) -> dict[str, Any]:
    """What would make results on own data worthless, as plain data."""
    scores = [one._asdict() for one in found.scores]
    return {"few": list(found.few), "same": list(found.same), "scores": scores}


def worth(found: Worth) -> None:
    """Print what would make a result worthless; it goes to standard error."""
    if found.scores:
        print("How well test labels are predicted without looking at tissue (balanced accuracy):")
        table(
            ("from", "score", "95 % interval", "chance"),
            [
                (
                    one.clue,
                    f"{one.score:.0%}",
                    f"{one.low:.0%} to {one.high:.0%}",
                    f"{one.chance:.0%}",
                )
                for one in found.scores
            ],
        )
    else:
        print(
            "whether masks or numbers can be told without looking at tissue was not checked: run "
            "the controls beside your encoder"
        )
    for problem in found.problems:
        print(f"problem: {problem}", file=sys.stderr)
    if not found.problems:
        print("nothing that would make a result worthless was found")


def drawn(made: Drawn, notes: Sequence[str]) -> None:
    """Print the counts of splits that were drawn, and where they are small."""
    from tasks.own_data.draw import FEW
    from tasks.task import SPLITS

    rows = []
    for label, of_class in made.counts.items():
        cells = [f"{images} of {patients}" for images, patients in of_class.values()]
        rows.append((label, *cells))
    table(("class: images of patients", *SPLITS), rows)
    for note in notes:
        print(f"- {note}")
    for label, of_class in made.counts.items():
        for split, (_, patients) in of_class.items():
            if patients < FEW:
                words = f"class '{label}' has {patients} patients in {split}, fewer than {FEW}"
                print(f"warning: {words}", file=sys.stderr)


def splits(known: Task, ways: dict[str, str], agreement: Sequence[SplitAgreement]) -> None:
    """Print a task's splits beside the published ones."""
    _counts(known)
    for one in agreement:
        print(one)
    if known.card.differs:
        print(f"why a whole copy has not the paper's counts: {known.card.differs}")
    for note in known.notes:
        print(f"- {note}")
    for way, what in ways.items():
        print(f"{known.name}@{way}: {what}")
    print(f"fingerprint {known.fingerprint}")


def _counts(known: Task) -> None:
    from tasks.prepare import counts

    if known.synthetic:
        print("SYNTHETIC images")
    table(("class", "train", "validation", "test"), counts(known))


def tasks(described: Sequence[dict[str, Any]]) -> None:
    """Print a line for each task."""
    table(
        ("task", "title", "organ", "target", "predicted", "images", "groups", "licence"),
        [
            (
                one["name"],
                one["title"],
                one["organ"],
                one["target"],
                _predicted(one),
                "" if one["images"] is None else str(one["images"]),
                one["groups"],
                one["licence"],
            )
            for one in described
        ],
    )


def _predicted(described: dict[str, Any]) -> str:
    """What a model has to predict for an image of a task."""
    from ultrabench_eval import task_types

    kind, classes = task_types.predicts(described["type"]), len(described["classes"])
    if kind == "numbers":
        return f"number ({described['unit'] or 'no unit'})"
    if kind == "masks":  # the first class is the background
        return f"mask, {classes - 1} region{'' if classes == 2 else 's'}"
    return f"{classes} classes"
