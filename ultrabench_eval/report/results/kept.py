"""Pages and figures are rewritten only if a cell, or the code that makes them, has changed.

OUT/.report.json holds what they were made of and the checksum of each. It also tells which files
are ours, so that those whose section no longer exists can be removed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from pydantic import TypeAdapter

from ultrabench_eval.cells import CLASSES, Coordinates
from ultrabench_eval.core import files, hashing
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.report.look import look
from ultrabench_eval.report.results.degenerate import Finding
from ultrabench_eval.report.results.entries import Entry
from ultrabench_eval.report.sections.speeds import Speed

_NAME = ".report.json"
_FINDINGS = TypeAdapter(tuple[Finding, ...])
_LETTERS = TypeAdapter(list[tuple[Coordinates, str]])
# All that a report consists of, or consisted of in an earlier version.
_OURS = re.compile(
    r"leaderboard\.(md|html|csv|tex|parquet)|(statistics|choose|fewshot|robustness)\.md|fewshot\.tex"
    r"|(pairs|ranks|informativeness|protocols|places|transfer|subgroups|robustness|imported)\.(csv|parquet)"
    r"|figures/[\w.-]+\.(svg|png|pdf)"
)
_PACKAGE = Path(__file__).parents[2]
# What decides how a page looks, besides the cells.
_SOURCES = (
    *(
        "report/**/*.py",
        "report/templates/*",
        "stats/*.py",
        *("metrics.py", "task_types/*.py", "test_set.py", "cells.py"),
        "corrupt/__init__.py",
        "data_warnings.py",
    ),
    *(
        "core/hashing.py",
        "core/grouping.py",
        "core/drawing.py",
        "../tasks/*.py",
    ),  # the cards of the tasks
)
_LIBRARIES = ("numpy", "scipy", "pandas", "tabulate", "matplotlib", "jinja2", "pillow")


@dataclass(frozen=True)
class PageNotes:
    """What pages tell besides numbers; the terminal repeats it and computes no statistics."""

    findings: tuple[Finding, ...] = ()
    """Above their tables."""
    letters: Mapping[Coordinates, str] = field(default_factory=dict)
    """See `standing.letters`."""
    reading: str = ""
    """How the letters are read."""
    verdict: tuple[str, ...] = ()
    """What follows from all of it, a sentence each."""


def key(
    entries: Iterable[Entry],
    unsure: Iterable[str] = (),
    speeds: Iterable[Speed] = (),
    *,
    pictures: bool = False,
    reference: str | None = None,
) -> str:
    """SHA-256 of all that the files are made of: cells, speeds, code and libraries.

    Args:
        entries: the cells.
        unsure: what is not verified.
        speeds: of the encoders.
        pictures: whether the page shows test images.
        reference: the model that all others are compared with.
    """
    sources = sorted(p for pattern in _SOURCES for p in _PACKAGE.glob(pattern) if p.is_file())
    parts = [
        f"pictures {pictures}, reference {reference}, {look()}",
        *(f"{name} {version(name)}" for name in _LIBRARIES),
        *(f"{path.name} {hashing.digest_file(path)}" for path in sources),
        *(entry.model_dump_json() for entry in entries),
        *unsure,
        *(speed.model_dump_json() for speed in speeds),
    ]
    return hashing.digest_bytes("\n".join(parts).encode())


def holds(out: Path, made_of: str) -> bool:
    """Whether every file exists, as it was made of just this."""
    known, digests, *_ = _read(out)
    return known == made_of and all(
        (out / name).is_file() and hashing.digest_file(out / name) == digest
        for name, digest in digests.items()
    )


def findings(out: Path) -> tuple[Finding, ...]:
    """What the pages of a folder tell above their tables."""
    return told(out).findings


def told(out: Path) -> PageNotes:
    """What the pages of a folder tell."""
    return _read(out)[2]


def replace(
    out: Path, made: Mapping[str, bytes], made_of: str, tell: PageNotes | None = None
) -> None:
    """Write the files and remove those of before that are not among them.

    Args:
        out: the results folder.
        made: file names, relative to it, and contents.
        made_of: see `key`.
        tell: what the pages tell; the terminal tells it as well.
    """
    tell = tell or PageNotes()
    _, before, _ = _read(out)
    folder = out / "figures"
    if folder.is_symlink():
        raise UserError(
            f"{folder} is a link, through which another folder would be changed; remove the link, "
            "and run the same command again"
        )
    for name, data in made.items():
        files.write_bytes(out / name, data)
    for name, digest in before.items():
        if name not in made and _is_ours(out / name, name, digest):
            (out / name).unlink(missing_ok=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
    findings = _FINDINGS.dump_python(tell.findings, mode="json")
    for probing in (one["probing"] for one in findings if one["probing"]):
        if probing["type"] == CLASSES:  # as earlier versions wrote it
            del probing["type"]
    stored = {
        "made_of": made_of,
        "files": {name: hashing.digest_bytes(data) for name, data in sorted(made.items())},
        "findings": findings,
        "letters": _LETTERS.dump_python(sorted(tell.letters.items()), mode="json"),
        "reading": tell.reading,
        "verdict": tell.verdict,
    }
    files.write_text(out / _NAME, json.dumps(stored, indent=1) + "\n")


def _is_ours(path: Path, name: str, digest: str) -> bool:
    """Whether it is a file of ours, as we made it: an edited list must not reach further."""
    return (
        _OURS.fullmatch(name) is not None
        and not path.is_symlink()
        and path.is_file()
        and hashing.digest_file(path) == digest
    )


def _read(out: Path) -> tuple[str, dict[str, str], PageNotes]:
    """What was made last, of what, and what it tells; nothing if that cannot be told."""
    try:
        stored = json.loads((out / _NAME).read_bytes())
        known = {str(name): str(digest) for name, digest in stored["files"].items()}
        tell = PageNotes(
            _FINDINGS.validate_python(stored.get("findings", ())),
            dict(_LETTERS.validate_python(stored.get("letters", []))),
            str(stored.get("reading", "")),
            tuple(map(str, stored.get("verdict", ()))),
        )
        return str(stored["made_of"]), known, tell
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "", {}, PageNotes()
