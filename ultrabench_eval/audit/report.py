"""The audit on disk: audit.md, audit.json, CSV files, clean splits and a gallery to look at."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Sequence
from importlib.resources import files as resources
from pathlib import Path
from typing import Any

import PIL.Image
import PIL.ImageOps
from tabulate import tabulate

from tasks import split_files
from tasks.near_duplicates import duplicates
from tasks.samples.clips import still
from ultrabench_eval.audit import clean
from ultrabench_eval.audit.audit import Audit, SamePicture
from ultrabench_eval.audit.clean import Rescored
from ultrabench_eval.audit.collection import PRETRAINING, Entry
from ultrabench_eval.core import files, hashing
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.core.grouping import by_key

SHOWN = 200  # pairs in the gallery
_SIDE = 320  # pixels of the longer side of a picture in the gallery

COUNT_HEADER = ("place", "task", *duplicates.GRADES, "identical in one group", "different labels")
SCORE_HEADER = ("model", "task", "all", "clean", "difference", "by chance", "n", "n clean")


def count_rows(audit: Audit) -> list[tuple[str, ...]]:
    """Pairs by place, task and grade; equal ones of one known group apart."""
    return [
        (place, task, *(str(row[key]) for key in (*duplicates.GRADES, "expected", "conflict")))
        for place, task, row in audit.counts()
    ]


def score_rows(scores: Iterable[Rescored]) -> list[tuple[str, ...]]:
    """The main metric on all and on the clean test images, one row per cell."""
    return [
        (
            s.model,
            s.task,
            f"{s.full:.2f}",
            f"{s.clean:.2f}",
            f"{s.difference:+.2f}",
            f"± {s.chance:.2f}",
            str(s.n_full),
            str(s.n_clean),
        )
        for s in scores
        if not math.isnan(s.chance)  # which only the main metric has
    ]


def scores_are(scores: Iterable[Rescored]) -> str:
    """What the numbers of `score_rows` are, task by task where they differ."""
    tasks: dict[str, dict[str, None]] = {}
    for one in scores:
        if not math.isnan(one.chance):
            tasks.setdefault(one.in_unit, {})[one.task] = None
    if len(tasks) < 2:
        return "".join(title[:1].upper() + title[1:] for title in tasks)
    return "; ".join(f"{', '.join(named)}: {title}" for title, named in tasks.items())


def summary(audit: Audit) -> list[str]:
    """What the audit found, a sentence each."""
    lines = []
    for name, task in audit.tasks.items():
        count, total = len(audit.seen[name]), len(task.test)
        lines.append(
            f"{name}: {count} of {total} test images ({100 * count / total:.1f} %) are seen: they "
            "show the same as a train, validation or pretraining image"
        )
    if audit.unreadable:
        lines.append(f"{len(audit.unreadable)} images cannot be read and were not compared")
    return lines


def write(
    audit: Audit, out: Path, scores: Sequence[Rescored] = (), notes: Sequence[str] = ()
) -> None:
    """Write everything to the folder `out`.

    Args:
        audit: what was found.
        out: the folder; files of an earlier audit are replaced.
        scores: of a results folder on the clean images, if one was given.
        notes: further notes for audit.md.
    """
    notes = [*audit.notes, *notes]
    files.write_text(out / "pairs.csv", _csv(_PAIR_COLUMNS, map(_pair_row, audit.findings)))
    files.write_text(out / "groups.csv", _csv(_GROUP_COLUMNS, _group_rows(audit)))
    for name, task in audit.tasks.items():
        split_files.write(clean.rows(audit, task), out / "clean" / f"{name}_clean.csv")
    if scores:
        rows = (
            (*(_number(value) for value in score), _number(score.difference)) for score in scores
        )
        files.write_text(out / "scores.csv", _csv((*Rescored._fields, "difference"), rows))
    files.write_text(out / "audit.md", _markdown(audit, scores, notes))
    files.write_bytes(out / "audit.json", hashing.canonical_json(as_dict(audit, scores, notes)))
    files.write_text(out / "gallery.html", _gallery(audit))


_SCORES = (
    "{}. By chance: standard deviation of the difference if as many test images "
    "are left out at random. Images that are seen may be easier or harder for other reasons too.\n"
)

# ---- tables -------------------------------------------------------------------------------------

_SIDE_COLUMNS = ("task", "split", "label", "group", "image")
_PAIR_COLUMNS = (
    *("place", "grade", "distance", "correlation", "flip", "expected", "different_labels"),
    *(f"{column}_{side}" for side in ("a", "b") for column in _SIDE_COLUMNS),
)
_GROUP_COLUMNS = ("content", *_SIDE_COLUMNS, "sha256")


def _pair_row(finding: SamePicture) -> tuple[object, ...]:
    pair = finding.pair
    return (
        finding.place,
        pair.grade,
        pair.distance,
        f"{pair.correlation:.4f}",
        pair.flip,
        "yes" if finding.expected else "no",
        "yes" if finding.conflict else "no",
        *_side(finding.first),
        *_side(finding.second),
    )


def _side(entry: Entry) -> tuple[str, ...]:
    return entry.task, entry.split, entry.label, entry.group, entry.image.name


def _contents(audit: Audit) -> list[list[int]]:
    """Entries that show the same by a chain of pairs, in the order of their first one."""
    members = by_key((content, row) for row, content in enumerate(audit.content.tolist()))
    return [rows for rows in members.values() if len(rows) > 1]


def _group_rows(audit: Audit) -> Iterable[tuple[object, ...]]:
    for number, rows in enumerate(_contents(audit), start=1):
        for row in rows:
            yield (number, *_side(audit.entries[row]), audit.digests[row])


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    return files.csv_text([header, *rows])


def _number(value: object) -> object:
    return f"{value:.4f}" if isinstance(value, float) else value


def _spans(audit: Audit) -> list[tuple[str, str]]:
    """How many groups by content there are, and how many reach over borders."""
    groups = [[audit.entries[row] for row in rows] for rows in _contents(audit)]

    def reaching(*fields: str) -> str:
        return str(sum(len({tuple(getattr(e, f) for f in fields) for e in g}) > 1 for g in groups))

    known = [[e for e in group if e.group] for group in groups]
    return [
        ("groups by content", str(len(groups))),
        ("images in them", str(sum(map(len, groups)))),
        ("over several splits or tasks", reaching("task", "split")),
        (
            "over several patients or videos",
            str(sum(len({(e.task, e.group) for e in g}) > 1 for g in known)),
        ),
        (
            "over several labels of a task",
            str(
                sum(
                    any(one.task == two.task and one.label != two.label for one in g for two in g)
                    for g in groups
                )
            ),
        ),
    ]


# ---- audit.md and audit.json --------------------------------------------------------------------


def _markdown(audit: Audit, scores: Sequence[Rescored], notes: Sequence[str]) -> str:
    parts = ["# Audit: images that show the same\n"]
    if any(task.synthetic for task in audit.tasks.values()):
        parts.append("SYNTHETIC images: says nothing about real ultrasound\n")
    parts += [*(f"- {line}" for line in summary(audit)), "", "## Pairs\n"]
    parts.append(_table(COUNT_HEADER, count_rows(audit)))
    parts.append(
        "\nidentical: equal pixels. near duplicate: a copy, however resized, compressed, cropped, "
        f"flipped, turned (texture correlates at least {duplicates.NEAR_DUPLICATE}). same scene: a "
        "copy with much drawn over it, or another frame of the same view (at least "
        f"{duplicates.SAME_SCENE}). Images of one known patient or video are expected to be alike: "
        "of them only equal ones are counted, apart. pairs.csv lists all pairs, gallery.html shows "
        "the gravest.\n"
    )
    parts += ["## Groups by content\n", _table(("", "count"), _spans(audit)), ""]
    if scores:
        words = _SCORES.format(scores_are(scores))
        parts += ["## Scores without the seen test images\n", words]
        parts += [_table(SCORE_HEADER, score_rows(scores)), ""]
    if audit.unreadable:
        parts += ["## Not readable\n", *(f"- {reason}" for _, reason in audit.unreadable), ""]
    if notes:
        parts += ["## Notes\n", *(f"- {note}" for note in notes), ""]
    return "\n".join(parts)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    text: str = tabulate(rows, header, tablefmt="github", disable_numparse=True)
    return text


def as_dict(audit: Audit, scores: Sequence[Rescored], notes: Sequence[str]) -> dict[str, Any]:
    """What audit.json holds."""
    return {
        "tasks": {
            name: {
                "images": {split: len(images) for split, images in task.splits.items()},
                "synthetic": task.synthetic,
                "seen": sorted(audit.seen[name]),
            }
            for name, task in audit.tasks.items()
        },
        "pretraining_images": sum(entry.split == PRETRAINING for entry in audit.entries),
        "thresholds": {
            "descriptor": duplicates.LIKE,
            "same_scene": duplicates.SAME_SCENE,
            "near_duplicate": duplicates.NEAR_DUPLICATE,
        },
        "pairs": [
            {"place": place, "task": task, **dict(row)} for place, task, row in audit.counts()
        ],
        "groups": dict(_spans(audit)),
        "scores": [
            {
                field: None if isinstance(value, float) and math.isnan(value) else value
                for field, value in score._asdict().items()
            }
            for score in scores
        ],
        "unreadable": [
            {"task": entry.task, "image": entry.image.name, "reason": reason}
            for entry, reason in audit.unreadable
        ],
        "notes": list(notes),
    }


# ---- gallery ------------------------------------------------------------------------------------


def _gallery(audit: Audit) -> str:
    """One page that needs nothing else: pictures are in it."""
    import jinja2

    pictures: dict[int, str] = {}
    shown = audit.findings[:SHOWN]
    for finding in shown:
        for entry in (finding.first, finding.second):
            if id(entry) not in pictures:
                pictures[id(entry)] = _picture(entry)
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = (resources("ultrabench_eval.audit") / "gallery.html.j2").read_text("utf-8")
    page: str = environment.from_string(template).render(
        findings=shown,
        picture=lambda entry: pictures[id(entry)],
        total=len(audit.findings),
        summary=summary(audit),
        header=COUNT_HEADER,
        rows=count_rows(audit),
        synthetic=any(task.synthetic for task in audit.tasks.values()),
    )
    return page


def _picture(entry: Entry) -> str:
    """The image as a data URL, or "" if it cannot be read any more."""
    try:
        image = PIL.Image.fromarray(still(entry.image).read())
    except UserError:
        return ""
    image.thumbnail((_SIDE, _SIDE))
    data = io.BytesIO()
    image.save(data, "JPEG", quality=75)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()
