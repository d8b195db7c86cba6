"""Whether two versions of this software give the same bytes: the guard of a refactoring.

    python benchmarks/same_bytes.py OLD NEW --out DIR --quick        # after every step
    python benchmarks/same_bytes.py OLD NEW --out DIR                # everything
    python benchmarks/same_bytes.py OLD NEW --out DIR --only wide,real
    python benchmarks/same_bytes.py OLD NEW --out DIR --ways one,reported

OLD and NEW are checkouts. Both run in the environment of this Python, on one thread, in float32,
and only by `ubench ...`, so that modules may move between them. What a checkout without changes
made is kept in DIR under its commit. Each side encodes for itself: they share no cache.

A part (`PARTS`) is one `ubench run`, made in several ways (`WAYS`). NEW also reports OLD's results
and resumes OLD's interrupted runs, where nothing may be measured again. Every file of the results
folders is compared, but for what `SKIPPED`, `FIELDS` and `LINES` name. Of an HTML page its data is
compared: text, values, titles, pictures and embedded JSON.

The attentive probe would take many hours on all tasks. It is trained on the small manifests, on the
simulated FATTY LIVER (`attentive`) and, under the paper's protocol, on AUL (`attentive_real`).

Exit code 1: something differs, or 300 classes (`wide`) cost more than before (`TOLERANCE`).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Container, Iterator
from fnmatch import fnmatch
from html.parser import HTMLParser
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import same_bytes_inputs
from tabulate import tabulate

# ---- what may differ, and why; everything else is compared ---------------------------------------

SKIPPED = {
    "*.lock": "locks are empty; which of them remain depends on timing",
    "*/.workers/*": "logs of workers hold the time of day and process numbers",
    "partial/*": "what a killed run left depends on timing; see `kept`",
    "*/requests/*": "what was asked for, which checkouts before `--config` did not write",
    "log": "ours: commands and standard error",
    "done.json": "ours: what it cost",
}
FIELDS = {
    "*/cells/*.json": {
        "seconds": "wall-clock time",
        "sha256": "digest over all fields, `seconds` included",
        "traceback": "names files and lines of our own code; `reason` is compared",
    },
    "*/.report.json": {
        "made_of": "digest over our own source files",
        "files": "digests of the pages, which are compared themselves",
    },
    "*/ledger.jsonl": {"sha256": "of the cells; and its lines are sorted: their order is timing"},
}
LINES = {
    "terminal.txt": {"images encoded: .*": "depends on which parts filled the cache before"},
    "run/leaderboard.html": {"Measured .*": "the day of the last result"},
}
# `Making.plain` also replaces the paths of checkouts and of the sides' folders.

TOLERANCE = {"CPU seconds": 1.25, "peak MB": 1.05}
"""NEW over OLD, at most, in `wide`. Eight runs of one commit on a busy machine took 26 to 32 CPU
seconds and 1,234 to 1,277 MB."""

SHOWN = 20  # differences of a way

# ---- what is run ---------------------------------------------------------------------------------


class Way(NamedTuple):
    """How a part is made."""

    how: tuple[str, ...] = ()
    """More options of `ubench run`."""
    shards: int = 0
    killed: bool = False
    of_old: str = ""
    """NEW resumes what this way of OLD left when it was killed, and must end up with the same."""
    reports: bool = False
    """Both sides make the pages of the results that OLD measured in one process."""


TWO = ("--workers", "2")
WAYS = {
    "one": Way(),
    "workers": Way(TWO),
    "shards": Way(shards=2),
    "killed": Way(killed=True),
    "killed_workers": Way(TWO, killed=True),
    "reported": Way(reports=True),
    "continued": Way(of_old="killed"),
    "continued_workers": Way(TWO, of_old="killed_workers"),
}


class Part(NamedTuple):
    """One `ubench run`; "{}" in `tasks` is the folder of the inputs."""

    models: str
    tasks: str
    probes: str
    protocols: str = "paper"
    options: tuple[str, ...] = ()
    data: str = "phantom"
    ways: tuple[str, ...] = ("one",)
    quick: bool = False
    apart: bool = False
    """Each way has a cache of its own and so tests that as well; else the ways of a side share."""


ALL = "efficientnet-lite0,usrc-jepa-nano,pixels,fan-mask,guest,raising"
FAST, EVERY, BOTH = (
    "linear,logistic,ridge,knn",
    "linear,logistic,ridge,knn,attentive",
    "paper,tuned",
)
MANIFESTS = ",".join(f"{{}}/{name}.csv" for name in same_bytes_inputs.MANIFESTS)
FEW = ("--fractions", "10,100")
GRID = (*FEW, "--corruptions", "paper")
SUBSET = (*FEW, "--fewshot-validation", "subset")
PARTS = {
    "quick_models": Part(ALL, "{}/plain.csv,{}/broken.csv", "linear", options=GRID, quick=True),
    "quick_probes": Part("pixels,guest", "{}/plain.csv", EVERY, BOTH, SUBSET, quick=True),
    "quick_ways": Part(
        *("pixels,guest,raising", "{}/clinic.csv,fatty_liver", "linear"),
        ways=("one", "workers", "shards", "killed", "reported", "continued"),
        quick=True,
        apart=True,
    ),
    "wide": Part("pixels,image-stats", "{}/wide.csv", "knn", quick=True, apart=True),
    "manifests": Part(ALL, MANIFESTS, EVERY, BOTH, GRID, ways=tuple(WAYS), apart=True),
    "subset": Part(ALL, "fatty_liver,{}/clinic.csv", FAST, BOTH, SUBSET),
    "attentive": Part(ALL, "fatty_liver", "attentive", BOTH),
    "attentive_real": Part(ALL, "aul", "attentive", data="real"),
    "phantom": Part(ALL, "all", FAST, BOTH, GRID, ways=tuple(WAYS)),
    "real": Part(ALL, "aul,pocus", FAST, BOTH, GRID, "real", ways=tuple(WAYS)),
}


class Side:
    """A checkout, and the folder of what it makes."""

    def __init__(self, checkout: Path, folder: Path, inputs: Path, data: Path) -> None:
        self.checkout, self.folder = checkout.resolve(), folder.resolve()
        self.inputs, self.data = inputs.resolve(), data.resolve()
        own = {name: text for name, text in os.environ.items() if not name.startswith("UBENCH_")}
        # One thread, because several may add in another order.
        ours = {"PYTHONPATH": str(self.checkout), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        self.environment = own | ours
        command = [sys.executable, "-Pc", "import ultrabench_eval as u; print(u.__file__)"]
        found = subprocess.check_output(command, env=self.environment, text=True).strip()
        if self.checkout not in Path(found).resolve().parents:
            sys.exit(f"{found} is imported instead of {checkout}; remove what is in front of it")


class Making:
    """One part made in one way by one side."""

    def __init__(self, side: Side, name: str, way: str, old: Side) -> None:
        self.side, self.part, self.way = side, PARTS[name], WAYS[way]
        self.place = side.folder / name / way
        self.run, self.partial = self.place / "run", self.place / "partial"
        self.old = old.folder / name
        self.cache = side.folder / "cache" / (f"{name}-{way}" if self.part.apart else "shared")
        self.cost = dict.fromkeys(TOLERANCE, 0.0)
        data = self.part.data if self.part.data == "phantom" else side.data
        self.words = [
            *("--model", self.part.models, "--probe", self.part.probes),
            *("--task", self.part.tasks.replace("{}", str(side.inputs)), "--data", str(data)),
            *("--protocol", self.part.protocols, *self.part.options, *self.way.how),
            *(f"--plugin={side.inputs / name}.py" for name in ("guest", "raising")),
            *("--cache", str(self.cache), "--dtype", "float32", "--device", "cpu"),
        ]

    def plain(self, text: str) -> str:
        """A text without what only says where this checkout and its results are."""
        side = self.side
        for path, word in ((self.place, "PLACE"), (side.folder, "SIDE"), (side.checkout, "CODE")):
            text = text.replace(f"{path}/", f"{word}/")
        return text

    def make(self) -> None:
        """Run what is needed, unless it is there."""
        done, words = self.place / "done.json", [self.plain(word) for word in self.words]
        if done.is_file() and (known := json.loads(done.read_text()))["words"] == words:
            self.cost = known["cost"]
            return
        shutil.rmtree(self.place, ignore_errors=True)
        if self.part.apart:
            shutil.rmtree(self.cache, ignore_errors=True)
        self.place.mkdir(parents=True)
        self._make()
        done.write_text(json.dumps({"words": words, "cost": self.cost}))

    def _make(self) -> None:
        if self.way.reports:
            for kept in ("cells", "tasks", "behaviour"):
                shutil.copytree(self.old / "one/run" / kept, self.run / kept)
            paper = ("--published", "--claims", "--against", "us-jepa")
            return self._ubench("report", self.run, *paper)
        run = ("run", *self.words, "--out")
        if self.way.shards:
            parts = [self.place / f"part{number + 1}" for number in range(self.way.shards)]
            for number, part in enumerate(parts, 1):
                self._ubench(*run, part, "--shard", f"{number}/{self.way.shards}")
            return self._ubench("merge", self.run, *parts)
        if self.way.of_old:
            shutil.copytree(self.old / self.way.of_old / "partial", self.run)
        if self.way.killed:
            self._ubench(*run, self.run, kill_at=3)
        if self.way.of_old or self.way.killed:
            shutil.copytree(self.run, self.partial)
        self._ubench(*run, self.run)

    def _ubench(self, *words: str | Path, kill_at: int = 0) -> None:
        """Run a command to its end, or kill it as soon as so many results are on disk."""
        command = [sys.executable, str(Path(sys.executable).with_name("ubench")), *map(str, words)]
        with (self.place / "log").open("a") as log, (self.place / "terminal.txt").open("a") as out:
            print(*command, file=log, flush=True)
            process = subprocess.Popen(
                *(command, -1, None, None, log if kill_at else out, log),
                cwd=self.side.inputs,
                env=self.side.environment,
                start_new_session=True,
            )
        try:
            # `poll` would take the exit status and the cost away from `wait4`.
            look = (os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            while kill_at and os.waitid(*look) is None:
                if len(list(self.run.glob("cells/*/*/*.json"))) >= kill_at:
                    os.killpg(process.pid, signal.SIGKILL)
                time.sleep(0.01)
            _, status, used = os.wait4(process.pid, 0)
        except KeyboardInterrupt:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
        # Exit code 1: some results are error rows, which are compared.
        if process.returncode not in ((-signal.SIGKILL,) if kill_at else (0, 1)):
            sys.exit(f"exit code {process.returncode}: {' '.join(command)}; see {self.place}/log")
        self.cost["CPU seconds"] += used.ru_utime + used.ru_stime
        self.cost["peak MB"] = max(self.cost["peak MB"], used.ru_maxrss / 1024)


# ---- what is compared ----------------------------------------------------------------------------


class Difference(NamedTuple):
    """The first place at which a file differs."""

    file: str
    place: str
    old: str
    new: str


def compare(
    old: Path,
    new: Path,
    plain_old: Callable[[str], str] = str,
    plain_new: Callable[[str], str] = str,
) -> Iterator[Difference | None]:
    """For every file of two folders how it differs, or None if it is equal.

    Args:
        old: folder of one side; results are in its sub-folders.
        new: of the other side.
        plain_old: applied to every text of `old`, see `Making.plain`.
        plain_new: likewise.
    """
    for file in sorted(_files(old) | _files(new)):
        if any(fnmatch(file, pattern) for pattern in SKIPPED):
            continue
        if not all((folder / file).is_file() for folder in (old, new)):
            there = [str((folder / file).is_file()) for folder in (old, new)]
            yield Difference(file, "exists", *there)
            continue
        lines = _lines(old, file, plain_old), _lines(new, file, plain_new)
        pairs = enumerate(zip_longest(*lines), 1)
        differ = (Difference(file, f"line {n}", *_around(a, b)) for n, (a, b) in pairs if a != b)
        yield next(differ, None)


def kept(partial: Path, run: Path) -> Iterator[Difference | None]:
    """For every result that was there before a run was resumed: None if it was left alone."""
    for file in sorted(_files(partial)):
        if fnmatch(file, "cells/*/*/[!.]*.json") and not fnmatch(file, "*.error.json"):
            times = [path.stat().st_mtime_ns for path in (partial / file, run / file)]
            again = Difference(file, "resumed", "there", "measured again")
            yield None if times[0] == times[1] else again


def _around(*lines: str | None) -> list[str]:
    """The parts of two lines about the first place at which they differ."""
    pairs = enumerate(zip_longest(*(line or "" for line in lines)))
    start = max(0, next((at for at, (a, b) in pairs if a != b), 0) - 40)
    return ["no such line" if line is None else line[start : start + 80] for line in lines]


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def _lines(folder: Path, file: str, plain: Callable[[str], str]) -> list[str]:
    """A file as lines, the first differing one of which says where it differs."""
    data = (folder / file).read_bytes()
    try:
        text = plain(data.decode())
    except UnicodeDecodeError:  # predictions and pictures
        return [f"byte {at}: {data[at : at + 16].hex()}" for at in range(0, len(data), 16)]
    dropped = {field for pattern in FIELDS if fnmatch(file, pattern) for field in FIELDS[pattern]}
    if file.endswith(".jsonl"):
        return sorted({"; ".join(_leaves(json.loads(s), dropped)) for s in text.splitlines()})
    if file.endswith(".json"):
        return list(_leaves(json.loads(text, parse_float=str), dropped))  # digits as written
    lines = _Page(text).lines if file.endswith(".html") else text.split("\n")
    return [s for s in lines if not any(re.fullmatch(one, s) for one in LINES.get(file, ()))]


def _leaves(value: Any, dropped: Container[str] = (), name: str = "") -> Iterator[str]:
    """A line for each leaf of a JSON value, as in "scores.macro_f1.0 = '0.5'"."""
    if isinstance(value, dict | list) and value:
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            if name or key not in dropped:
                yield from _leaves(part, (), f"{name}.{key}".removeprefix("."))
    else:
        yield f"{name} = {value!r}"


class _Page(HTMLParser):
    """What an HTML page says, whatever its markup; neither style nor script."""

    SAYING = ("data-value", "title", "alt", "aria-label", "src")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.silent = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.silent = tag == "style" or (
            tag == "script" and ("type", "application/json") not in attrs
        )
        self.lines += [f"{name}: {said}" for name, said in attrs if name in self.SAYING]

    def handle_endtag(self, tag: str) -> None:
        self.silent = False

    def handle_data(self, data: str) -> None:
        if not self.silent and data.strip():
            self.lines.append(" ".join(data.split()))


def costs(old: Making, new: Making) -> Iterator[Difference | None]:
    """Whether NEW takes more than OLD. If it seems to, both are measured once more, in turn."""
    if any(new.cost[name] > most * old.cost[name] for name, most in TOLERANCE.items()):
        for making in (old, new):
            shutil.rmtree(making.place)
            making.cost = dict.fromkeys(TOLERANCE, 0.0)
            making.make()
    for name, most in TOLERANCE.items():
        pair = old.cost[name], new.cost[name]
        print(f"{name}: OLD {pair[0]:.0f}, NEW {pair[1]:.0f}")
        more = Difference("cost", name, *(f"{value:.0f}" for value in pair))
        yield more if pair[1] > most * pair[0] else None


# ---- the whole -----------------------------------------------------------------------------------


def _commit(checkout: Path) -> str:
    """Its commit, with "-changed" if there are changes."""
    git = ["git", "-C", str(checkout)]
    status = subprocess.check_output([*git, "status", "--porcelain", "--", ".", ":!.venv"])
    commit = subprocess.check_output([*git, "rev-parse", "--short=12", "HEAD"], text=True).strip()
    return commit + ("-changed" if status else "")


def _sides(options: argparse.Namespace) -> tuple[Side, Side]:
    commits = [_commit(checkout) for checkout in (options.old, options.new)]
    if commits[0].endswith("changed"):
        sys.exit(
            f"{options.old} has changes, and its results are kept by commit; commit them first"
        )
    for stale in options.out.glob("new-*"):
        if stale.name != f"new-{commits[1]}" or commits[1].endswith("changed"):
            shutil.rmtree(stale)
    inputs = same_bytes_inputs.make(options.out)
    old = Side(options.old, options.out / f"old-{commits[0]}", inputs, options.data)
    return old, Side(options.new, options.out / f"new-{commits[1]}", inputs, options.data)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", type=Path, help="a checkout without changes")
    parser.add_argument("new", type=Path, help="another checkout")
    parser.add_argument("--out", type=Path, required=True, help="folder for all that is made")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="real releases")
    parser.add_argument("--only", help=f"parts, comma-separated, of {', '.join(PARTS)}")
    parser.add_argument("--ways", help=f"these alone, comma-separated, of {', '.join(WAYS)}")
    parser.add_argument("--quick", action="store_true", help="only the parts for every step")
    options = parser.parse_args()
    names = [name for name, part in PARTS.items() if part.quick or not options.quick]
    names = options.only.split(",") if options.only else names
    ways = options.ways.split(",") if options.ways else [*WAYS]
    for given, known in ((names, PARTS), (ways, WAYS)):
        if unknown := set(given) - set(known):
            parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}")
    old, new = _sides(options)
    table: list[tuple[object, ...]] = []
    found: list[tuple[object, ...]] = []
    for name, way in ((one, way) for one in names for way in PARTS[one].ways if way in ways):
        base, made = Making(old, name, WAYS[way].of_old or way, old), Making(new, name, way, old)
        base.make()
        made.make()
        ends = [
            *compare(base.place, made.place, base.plain, made.plain),
            *kept(made.partial, made.run),
            *(costs(base, made) if name == "wide" else ()),
        ]
        differ = [(name, way, *end) for end in ends if end]
        found += differ[:SHOWN]
        spent = (f"{making.cost['CPU seconds']:.0f}" for making in (base, made))
        table.append((name, way, len(ends), len(ends) - len(differ), len(differ), *spent))
        print(*table[-1], flush=True)
    if found:
        titles = ["part", "way", "file", "place", "old", "new"]
        print("", tabulate(found, titles, tablefmt="pipe", disable_numparse=True), sep="\n")
    titles = ["part", "way", "files compared", "equal", "different", "CPU s of OLD", "of NEW"]
    print("", tabulate(table, titles, tablefmt="pipe"), sep="\n")
    print("\nnot equal" if found else "\nall equal")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
