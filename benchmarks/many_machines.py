"""Twenty processes with faults on one results folder, against one that works alone.

    python benchmarks/many_machines.py --out DIR [--machines 20] [--seed 0] [--locks]

Each machine is a process that measures a share of the run, as another machine of a cluster would,
into one results folder with one cache; there are half as many shares as machines, so that each is
measured twice at once. By the seed a third of them are killed in the middle, a third are stopped
for seconds and go on, and of those that were killed half are started again. Without --locks the
file system refuses every lock, as NFS without its lock service does. In the end one more process
resumes what is missing and writes the pages. All files must then be those of a single run, which is
made first. Images are SYNTHETIC (`scale.py`). Exit code 1: they differ.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import many_results
import same_bytes

MODELS = "pixels,image-stats,fan-mask,border"
TASKS = 5
STEP = 0.2  # seconds between two looks
MACHINE = """
import errno, fcntl, sys
def refused(file, operation):
    raise OSError(errno.ENOLCK, "No locks available")
if sys.argv.pop(1) == "refuse":
    fcntl.flock = fcntl.lockf = refused
from ultrabench_eval.cli import main
main()
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--machines", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--locks", action="store_true")
    options = parser.parse_args()
    out = options.out.resolve()
    tables = ",".join(str(many_results.table(out, number)) for number in range(TASKS))
    words = ["run", "--model", MODELS, "--task", tables, "--probe", "linear,ridge", "--seeds", "2"]
    words += ["--fractions", "10,100", "--device", "cpu"]
    program = [sys.executable, "-c", MACHINE, "keep" if options.locks else "refuse", *words]

    def begin(folder: Path, *more: str) -> subprocess.Popen[bytes]:
        folder.mkdir(parents=True, exist_ok=True)
        command = [*program, "--out", str(folder / "run"), "--cache", str(folder / "cache"), *more]
        with folder.with_suffix(".log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log)

    alone, many = out / "alone", out / "many"
    for folder in (alone, many):
        shutil.rmtree(folder, ignore_errors=True)
    if begin(alone).wait():
        sys.exit(f"the single run failed; see {alone}.log")

    rng = random.Random(options.seed)
    shares = max(1, options.machines // 2)
    lost = 0
    fates = [("killed", "stopped", "well")[number % 3] for number in range(options.machines)]
    running = {
        number: (begin(many, "--shard", f"{number % shares + 1}/{shares}"), rng.uniform(5, 60))
        for number in range(options.machines)
    }
    start = time.monotonic()
    stopped: dict[int, float] = {}
    while running:
        time.sleep(STEP)
        now = time.monotonic() - start
        for number, (process, moment) in list(running.items()):
            if process.poll() is not None:
                del running[number]
            elif number in stopped:
                if now >= stopped[number]:
                    process.send_signal(signal.SIGCONT)
                    stopped[number] = float("inf")
            elif fates[number] == "stopped" and now >= moment:
                process.send_signal(signal.SIGSTOP)
                stopped[number] = now + rng.uniform(5, 20)
            elif fates[number] == "killed" and now >= moment:
                process.kill()
                process.wait()
                lost += 1
                del running[number]
                if rng.random() < 0.5:
                    fates[number] = "well"
                    again = begin(many, "--shard", f"{number % shares + 1}/{shares}")
                    running[number] = again, moment
    cells = len(list((many / "run").glob("cells/*/*/*.json")))
    if begin(many).wait():
        sys.exit(f"the run of what was missing failed; see {many}.log")
    print(
        f"{options.machines} machines: {lost} killed, {len(stopped)} stopped; {cells} results when"
    )
    print(
        f"they were gone, {len(list((many / 'run').glob('cells/*/*/*.json')))} after one more run"
    )

    def plain(folder: Path) -> Callable[[str], str]:
        return lambda text: text.replace(f"{folder}/", "PLACE/")

    for folder in (alone, many):  # same_bytes looks at results alone
        shutil.rmtree(folder / "cache")
    found = list(same_bytes.compare(alone, many, plain(alone), plain(many)))
    differ = [one for one in found if one]
    print(f"{len(found)} files compared, {len(differ)} differ", *differ[:20], sep="\n")
    sys.exit(bool(differ))


if __name__ == "__main__":
    main()
