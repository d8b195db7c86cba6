"""What is right after a command: the same tables, or a word about why not."""

from __future__ import annotations

import csv
import io
import os
import re
from enum import Enum
from pathlib import Path

from fuzzing.process import Done

TABLES = (".md", ".csv", ".tex", ".html")


class Verdict(Enum):
    """Of one input; the last four are faults."""

    EQUAL = "equal"
    TOLD = "told"
    SILENT = "SILENTLY WRONG"
    TRACEBACK = "TRACEBACK"
    POOR = "POOR SENTENCE"
    HANGS = "HANGS OR CRASHES"

    @property
    def bad(self) -> bool:
        """Whether it is a fault."""
        return self.value.isupper()


_FILE = re.compile(
    r"/|\.(csv|jsonl?|pt|safetensors|ya?ml|png|jpe?g|gif|npy|py|tif|bmp|webp|dcm)\b|\b(out|cache)\b"
)
_REMEDY = re.compile(
    r"\b(run|rerun|give|fix|delete|remove|copy|convert|write|save|use|choose|set|rename|move|"
    r"change|check|add|name|install|correct|download|free|make|start|put|take|leave|export|list|"
    r"spell|see|replace|restore|wait|return|raise|lower|index|train|measure|mark|state|switch|"
    r"must name|must be|did you mean)\b"
)
_HINT = re.compile(r"ubench: (this works now|to try)", re.I)  # follows the sentences themselves
_WORD = re.compile(
    r"[Nn]ot verified|damaged|unreadable|left out|missing|gone|cannot|was not|were not|is not|"
    r"are not|changed|twice|more than one|measured again|not what|same content|two normal|read as"
)


def tables(out: Path) -> dict[str, bytes]:
    """The tables of a results folder, by name."""
    if not out.is_dir():
        return {}
    return {
        path.name: path.read_bytes()
        for path in sorted(out.iterdir())
        if path.suffix in TABLES and path.is_file() and not path.name.startswith(".")
    }


def failed(done: Done) -> Verdict | None:
    """A verdict that follows from how the command ended alone; None if its output decides."""
    if done.code < 0 or done.code > 2:
        return Verdict.HANGS
    if "Traceback (most recent call last)" in done.text:
        return Verdict.TRACEBACK
    return None


def sentences(done: Done, program: str) -> list[str]:
    """What a command said about errors, on lines that begin with its name."""
    lines = done.text.splitlines()
    said = [line for line in lines if line.startswith(f"{program}: ")]
    return [line for line in said if not _HINT.match(line)]


def good(sentence: str) -> bool:
    """Whether a sentence names a file and a remedy."""
    body = sentence.split(": ", 1)[-1]
    return bool(_FILE.search(body) and _REMEDY.search(body.lower()))


def of_run(done: Done, out: Path, clean: dict[str, bytes], numbers_only: bool) -> Verdict:
    """After `ubench run`, `report` or `merge`.

    Args:
        done: how it ended.
        out: where its tables are.
        clean: the tables without any damage.
        numbers_only: files were written in another way, so that names and digests in the pages may
            differ, but no number.
    """
    if (verdict := failed(done)) is not None:
        return verdict
    if done.code == 2:
        told = sentences(done, "ubench")
        return Verdict.TOLD if told and all(map(good, told)) else Verdict.POOR
    # `report` writes more kinds of tables than `run`.
    found = {name: data for name, data in tables(out).items() if name in clean}
    rows, wanted = _rows(found), _rows(clean)
    errors = {row["status"] for row in rows.values() if row["status"].startswith("error")}
    if done.code == 1:
        if not errors and not sentences(done, "ubench"):
            return Verdict.SILENT
        if not all(map(good, errors)):
            return Verdict.POOR
    for key, row in rows.items():
        fine = row["status"] == wanted.get(key, {}).get("status", "ok")
        if fine and row != wanted.get(key):  # a number like any other, and another one
            return Verdict.SILENT
    if done.code == 1 or errors:
        return Verdict.TOLD
    if found == clean or (numbers_only and rows == wanted):
        return Verdict.EQUAL
    return Verdict.TOLD if _mentions(done, found, clean) else Verdict.SILENT


def _rows(found: dict[str, bytes]) -> dict[tuple[str, ...], dict[str, str]]:
    text = found.get("leaderboard.csv", b"").decode()
    rows = csv.DictReader(io.StringIO(text))
    key = ("model", "task", "probe", "protocol", "fraction", "corruption", "severity", "metric")
    return {tuple(row[name] for name in key): row for row in rows}


def _mentions(done: Done, found: dict[str, bytes], clean: dict[str, bytes]) -> bool:
    """Whether the command, or a new line of its pages, says that something is wrong."""
    page = (b"leaderboard.md", b"statistics.md")
    new = {line for name in page for line in found.get(name.decode(), b"").splitlines()}
    new -= {line for name in page for line in clean.get(name.decode(), b"").splitlines()}
    said = [*sentences(done, "ubench"), *(line.decode() for line in new)]
    telling = [line for line in said if _WORD.search(line) and "Friedman" not in line]
    if os.environ.get("FUZZ_SHOW"):
        print("told by:", *telling[:2], sep="\n  ", flush=True)
    return bool(telling)


def of_file(done: Done, program: str, found: Path, clean: bytes) -> Verdict:
    """After a command that makes one file, which must be equal to the clean one's."""
    if (verdict := failed(done)) is not None:
        return verdict
    told = sentences(done, program)
    if done.code:
        return Verdict.TOLD if told and all(map(good, told)) else Verdict.POOR
    if found.is_file() and found.read_bytes() == clean:
        return Verdict.EQUAL
    return Verdict.TOLD if any(map(_WORD.search, told)) else Verdict.SILENT
