"""What planning, measuring, checking and auditing cost as a data set grows, up to a million images.

    python benchmarks/scale.py --sizes 1000,10000,100000,1000000 --out DIR [--only run,check]

Images are SYNTHETIC: 64 x 64 pixels, 16 x 16 squares of noise whose level depends on the class,
four images of each patient, three classes, a table with a split. Scores mean nothing. Each command
is a process of its own, on one thread. `run killed` is killed in the middle of a run and started
again, and must end in the leaderboard of `run`. Prints CPU seconds and peak memory for each size,
and the exponent between the two largest: 1 is linear. DIR keeps the images (4 kB each) and what was
measured.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
from tabulate import tabulate

GROUP, IN_FOLDER = 4, 1000


def squares(number: int) -> np.ndarray:
    """What an image shows, uint8 [16, 16]."""
    noise = np.random.default_rng([0, number]).integers(-60, 60, (16, 16))
    return (noise + 90 + 30 * (number // GROUP % 3)).astype(np.uint8)


def images(folder: Path, count: int) -> Path:
    """The table of the first `count` images, which are made where they are missing."""
    table = folder / f"table-{count}.csv"
    if table.is_file():
        return table
    rows = []
    for number in range(count):
        patient = number // GROUP
        path = folder / _name(number)
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = squares(number).repeat(4, 0).repeat(4, 1)
            PIL.Image.fromarray(pixels).save(path, compress_level=1)
        split = ("test", "val", "train", "train", "train")[patient % 5]
        rows.append((_name(number), "abc"[patient % 3], patient, split))
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("image", "label", "group", "split"), *rows])
    return table


def features(folder: Path, count: int) -> Path:
    """Given features [N, 64] of the images: their means in 8 x 8 squares."""
    path = folder / f"features-{count}.npz"
    if not path.is_file():
        shown = np.stack([squares(n) for n in range(count)])
        values = shown.reshape(count, 8, 2, 8, 2).mean((2, 4), dtype=np.float32).reshape(count, 64)
        np.savez(path, features=values, id=np.array([_name(n) for n in range(count)]))
    return path


def _name(number: int) -> str:
    return f"{number // IN_FOLDER:04}/{number}.png"


Words = Callable[[Path, int, Path], list[object]]
JOBS: dict[str, Words] = {
    "plan": lambda folder, n, out: [
        *("ubench", "plan", "--model", "image-stats", "--task", images(folder, n), "--no-timing"),
        *("--out", out / "run", "--cache", out / "cache"),
    ],
    "run": lambda folder, n, out: [
        *("ubench", "run", "--model", "image-stats", "--task", images(folder, n)),
        *("--probe", "ridge", "--fractions", "10,100", "--seeds", "2", "--device", "cpu"),
        *("--out", out / "run", "--cache", out / "cache"),
    ],
    "run again": lambda folder, n, out: JOBS["run"](folder, n, out),
    "run killed": lambda folder, n, out: JOBS["run"](folder, n, out / "killed"),
    "import": lambda folder, n, out: [
        *("ubench", "import", features(folder, n), "--model", "given", "--task", images(folder, n)),
        *("--out", out / "imported", "--cache", out / "cache"),
    ],
    "check": lambda folder, n, out: ["ubench", "data", "check", images(folder, n)],
    "audit": lambda folder, n, out: [
        *("ubench", "audit", "--task", images(folder, n), "--out", out / "audit"),
        *("--cache", out / "cache"),
    ],
    "index": lambda folder, n, out: [
        *("usjepa", "index", *(folder / f"{part:04}" for part in range(-(-n // IN_FOLDER)))),
        *("--out", out / "index", "--unguarded", "--size", "64"),
    ],
}


def cost(words: list[object], log: Path, kill_after: float = math.inf) -> dict[str, float]:
    """CPU seconds and peak memory of a command, which may be killed after some seconds."""
    start = time.time()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    program = Path(sys.executable).with_name(str(words[0]))
    with log.open("a") as file:
        print(*words, file=file, flush=True)
        action = [(os.POSIX_SPAWN_DUP2, file.fileno(), 1), (os.POSIX_SPAWN_DUP2, file.fileno(), 2)]
        pid = os.posix_spawn(
            program, list(map(str, [program, *words[1:]])), environment, file_actions=action
        )
        clock = threading.Timer(
            min(kill_after, threading.TIMEOUT_MAX), os.kill, (pid, signal.SIGKILL)
        )
        clock.start()
        _, status, used = os.wait4(pid, 0)
        clock.cancel()
    killed = kill_after < math.inf
    # 1: it has found something
    if os.waitstatus_to_exitcode(status) not in ((-signal.SIGKILL,) if killed else (0, 1)):
        sys.exit(
            f"{' '.join(map(str, words))} {'was not killed' if killed else 'failed'}; see {log}"
        )
    return {
        "CPU s": used.ru_utime + used.ru_stime,
        "wall s": time.time() - start,
        "peak MB": used.ru_maxrss / 1024,
    }


def interrupted(words: list[object], log: Path, whole: dict[str, float]) -> dict[str, float]:
    """The same of a command that is killed in the middle and started again: both together."""
    first, second = cost(words, log, whole["wall s"] / 2), cost(words, log)
    together = {name: first[name] + second[name] for name in ("CPU s", "wall s")}
    return together | {"peak MB": max(first["peak MB"], second["peak MB"])}


def same_scores(one: Path, other: Path) -> bool:
    """Whether two folders have the same leaderboard."""
    return (one / "leaderboard.csv").read_bytes() == (other / "leaderboard.csv").read_bytes()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="1000,10000")
    parser.add_argument("--only", default=",".join(JOBS))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    known_path = options.out / "measured.json"
    known = json.loads(known_path.read_text()) if known_path.is_file() else {}
    for size in sizes:
        folder = options.out / "images"
        folder.mkdir(parents=True, exist_ok=True)
        images(folder, size)
        out = options.out / str(size)
        for name in options.only.split(","):
            key = f"{name} {size}"
            if key not in known:
                if name == "run":
                    shutil.rmtree(out / "run", ignore_errors=True)
                out.mkdir(exist_ok=True)
                words, log = JOBS[name](folder, size, out), out / "log"
                if name == "run killed":
                    shutil.rmtree(out / "killed", ignore_errors=True)
                    known[key] = interrupted(words, log, known[f"run {size}"])
                    if not same_scores(out / "killed/run", out / "run"):
                        sys.exit(f"killed and resumed, {out} has other scores")
                else:
                    known[key] = cost(words, log)
                known_path.write_text(json.dumps(known, indent=1))
            print(key, {k: round(v, 1) for k, v in known[key].items()}, flush=True)
    rows = []
    for name in options.only.split(","):
        for what in ("CPU s", "peak MB"):
            values = [known[f"{name} {size}"][what] for size in sizes]
            grown = (
                math.log(values[-1] / values[-2]) / math.log(sizes[-1] / sizes[-2])
                if len(sizes) > 1
                else math.nan
            )
            rows.append((name, what, *(f"{value:.1f}" for value in values), f"{grown:.2f}"))
    print(tabulate(rows, ("", "", *map(str, sizes), "exponent"), tablefmt="pipe"))


if __name__ == "__main__":
    main()
