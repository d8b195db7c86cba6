"""Writing the suite: which folders there are, whose they are, and resuming after a kill."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import tasks as task_zoo
from tasks.phantom.cines import beating, sliding
from tasks.phantom.plan import SIZES, PhantomPlan, Size
from tasks.phantom.releases import (
    aul,
    busbra,
    busi,
    butterfly,
    camus,
    ddti,
    echonet,
    fatty_liver,
    gbcu,
    hc18,
    mmotu,
    open_kidney,
    pocus,
    psfhs,
    stanford_thyroid,
    tn5000,
)
from tasks.release import SYNTHETIC_MARKER
from tasks.splits import PUBLISHED
from ultrabench_eval.core import files
from ultrabench_eval.core.errors import UserError

VERSION = "2"
"""Raised whenever the bytes that `write` makes change."""

INCOMPLETE_MARKER = ".phantom-incomplete"

Progress = Callable[[str, int, int], None]
_Planner = Callable[[Path, Size, int], PhantomPlan]

# Folders of each task, relative to the root, with what fills them.
_FOLDERS: dict[str, tuple[tuple[str, _Planner], ...]] = {
    "aul": (("aul", aul.plan), (f"{PUBLISHED}/aul_mass", aul.plan_split)),
    "busbra": (("busbra", busbra.plan),),
    "busi": (("busi", busi.plan),),
    "butterfly": (("butterfly", butterfly.plan),),
    "camus": (("camus", camus.plan),),
    "ddti": (("ddti", ddti.plan),),
    "echonet-dynamic": (("echonet-dynamic", echonet.plan),),
    "fatty_liver": (("fatty_liver", fatty_liver.plan),),
    "gbcu": (("gbcu", gbcu.plan),),
    "hc18": (("hc18", hc18.plan),),
    "mmotu": (("mmotu", mmotu.plan),),
    "open-kidney": (
        ("open-kidney", open_kidney.plan),
        (f"{PUBLISHED}/open_kidney", open_kidney.plan_split),
    ),
    "phantom-lv": (("phantom-lv", beating.plan),),
    "phantom-sliding": (("phantom-sliding", sliding.plan),),
    "pocus": (("pocus", pocus.plan),),
    "psfhs": (("psfhs", psfhs.plan), (f"{PUBLISHED}/psfhs", psfhs.plan_split)),
    "stanford-thyroid": (("stanford-thyroid", stanford_thyroid.plan),),
    "tn5000": (("tn5000", tn5000.plan),),
}
TASKS = tuple(_FOLDERS)


def write(
    out: Path,
    size: str = "small",
    seed: int = 0,
    tasks: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write the suite below `out`, or what is missing of it.

    The bytes of a task depend on (VERSION, size, seed) and on nothing else: not on the other
    tasks, their order, the number of processors, or an earlier run that was killed. (They are
    those of the installed NumPy, SciPy, Pillow and PyAV; other releases may round or compress
    otherwise.)

    Args:
        out: root folder; `out/<task>` holds a release. Made if need be.
        size: a name of `SIZES`.
        seed: of everything random.
        tasks: names of `TASKS`, or of tasks that are read from the same release; all unless told.
        progress: called with (task, images or files done, of how many), from this thread.

    Returns:
        `out`.

    Raises:
        UserError: unknown size or task, or a folder holds something that is not this suite's.
    """
    out = Path(out)
    if size not in SIZES:
        raise UserError(f"unknown phantom size '{size}'; choose one of {', '.join(SIZES)}")
    wanted = list(dict.fromkeys(map(task_zoo.home, TASKS if tasks is None else tasks)))
    for task in wanted:
        if task not in _FOLDERS:
            raise UserError(
                f"the phantom suite has no task '{task}'; choose from {', '.join(TASKS)}"
            )
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; give a folder for the phantom suite")
    identity = {"version": VERSION, "size": size, "seed": seed}
    with files.locked(out / ".phantom"):
        todo = [
            (task, out / name, planner)
            for task in wanted
            for name, planner in _FOLDERS[task]
            if not _is_complete(out / name, identity)
        ]
        for task, folder, planner in todo:
            _fill(folder, planner, SIZES[size], identity, task, progress)
    return out


def _is_complete(folder: Path, identity: dict[str, Any]) -> bool:
    """Whether `folder` holds the very thing; False if it may be written.

    Raises:
        UserError: it holds anything else.
    """
    marker = folder / SYNTHETIC_MARKER
    if marker.exists():
        try:
            found = json.loads(marker.read_text())
            same = {key: found[key] for key in identity} == identity
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{marker} is not of the phantom suite; choose another folder"
            ) from error
        if same:
            return True
        raise UserError(
            f"{folder} holds another phantom suite (version {found['version']}, size "
            f"{found['size']}, seed {found['seed']}); choose another folder or delete it"
        )
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; choose another folder for the phantom suite")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / INCOMPLETE_MARKER).exists():
        raise UserError(
            f"{folder} is not empty and not of the phantom suite; choose another folder"
        )
    return False


def _fill(
    folder: Path,
    planner: _Planner,
    size: Size,
    identity: dict[str, Any],
    task: str,
    progress: Progress | None,
) -> None:
    """Write one folder from scratch; the marker of completeness comes last."""
    folder.mkdir(parents=True, exist_ok=True)
    # First of all, so that a run killed at any later moment leaves a folder known to be ours.
    incomplete = folder / INCOMPLETE_MARKER
    incomplete.touch()
    for path in folder.iterdir():
        if path == incomplete:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    plan = planner(folder, size, int(identity["seed"]))
    results = []
    # Threads, since NumPy, SciPy and the codecs let go of the interpreter lock, and a caller
    # needs no `__main__` guard as for processes. Each item seeds its own generators.
    with ThreadPoolExecutor(max_workers=min(_processors(), 8)) as pool:
        futures = [pool.submit(item) for item in plan.items]
        try:
            for done, future in enumerate(futures, 1):
                results.append(future.result())
                if progress:
                    progress(task, done, len(futures))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    plan.finish(results)
    what = "Simulated B-mode ultrasound, no patient's data"
    if task not in task_zoo.SIMULATED:
        what += f": in place of the {task} release"
    marker = {**identity, "what": what}
    files.write_text(folder / SYNTHETIC_MARKER, json.dumps(marker, indent=2) + "\n")
    incomplete.unlink()


def _processors() -> int:
    """Processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
