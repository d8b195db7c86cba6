"""Do the tests fail when the code is wrong? Plants one mistake after the other and looks.

    python benchmarks/planted.py              all of them
    python benchmarks/planted.py --only 3,17  some, by their number
    python benchmarks/planted.py --jobs 4     so many at a time

Each mistake is a change of one place of the core. It is made in a copy of the tracked files, never
in this folder, and only the tests that are named for it are run, on one thread. The script fails
if a change is not caught, if its place is not found exactly once, or if a test fails without any.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

from planted_changes import CHANGES, Change

ROOT = Path(__file__).resolve().parents[1]
PASSED, FAILED = 0, 1  # pytest's exit codes; any other is a mistake in the table


class Result(NamedTuple):
    """What became of a change."""

    caught: bool
    by: str
    """The test that failed, or why there is none."""


def main() -> None:
    options = _options()
    numbers = options.only or range(1, len(CHANGES) + 1)
    with tempfile.TemporaryDirectory(prefix="planted-") as folder:
        copies = [_copy(Path(folder) / str(job)) for job in range(options.jobs)]
        named = sorted({test for n in numbers for test in CHANGES[n - 1].tests})
        code, first = _run(copies[0], named)
        if code != PASSED:
            sys.exit(f"without any change: {first}; correct this before anything is planted")
        free: SimpleQueue[Path] = SimpleQueue()
        for copy in copies:
            free.put(copy)

        def try_one(number: int) -> Result:
            copy = free.get()
            try:
                return _tried(copy, CHANGES[number - 1])
            finally:
                free.put(copy)

        missed = 0
        with ThreadPoolExecutor(options.jobs) as pool:
            for number, result in zip(numbers, pool.map(try_one, numbers), strict=True):
                change = CHANGES[number - 1]
                missed += not result.caught
                word = "caught by" if result.caught else "NOT CAUGHT:"
                print(f"{number:3} {change.file}: {change.what}", flush=True)
                print(f"      {word} {result.by}", flush=True)
    print(f"{len(numbers) - missed} of {len(numbers)} planted changes are caught")
    sys.exit(1 if missed else 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", type=_numbers, help="numbers of the table, e.g. 3,17")
    parser.add_argument("--jobs", type=int, default=1, help="changes that are tried at a time")
    return parser.parse_args()


def _numbers(text: str) -> list[int]:
    numbers = [int(part) for part in text.split(",")]
    if not all(1 <= number <= len(CHANGES) for number in numbers):
        raise argparse.ArgumentTypeError(f"changes are numbered from 1 to {len(CHANGES)}")
    return numbers


def _copy(folder: Path) -> Path:
    """The tracked files as they are in this folder now."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.split("\0"):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def _tried(copy: Path, change: Change) -> Result:
    path = copy / change.file
    right = path.read_text()
    if (count := right.count(change.old)) != 1:
        return Result(False, f"the old text is there {count} times; bring the table up to date")
    path.write_text(right.replace(change.old, change.new))
    try:
        code, first = _run(copy, change.tests)
    finally:
        path.write_text(right)
    if code == PASSED:
        return Result(False, f"{', '.join(change.tests)} passed")
    return Result(code == FAILED, first)


def _run(copy: Path, tests: Sequence[str]) -> tuple[int, str]:
    """pytest's exit code, and the first test that failed."""
    command = [sys.executable, "-m", "pytest", *tests, "-x", "-n", "0", "--tb=no", "-rfE"]
    command += ["-p", "no:cacheprovider", "--hypothesis-seed=0"]
    environment = {
        **os.environ,
        "PYTHONPATH": str(copy),  # before this folder, which is perhaps installed
        # By time and size of a file alone, bytecode of the change before would pass for this one's.
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        command, cwd=copy, env=environment, capture_output=True, text=True, check=False
    )
    for line in done.stdout.splitlines():
        if line.startswith(("FAILED ", "ERROR ")):
            return done.returncode, line.split(" ", 1)[1].split(" - ")[0]
    return done.returncode, f"pytest ended with code {done.returncode} {done.stderr[-200:].strip()}"


if __name__ == "__main__":
    main()
