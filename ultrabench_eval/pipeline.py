"""The pipeline: what is asked for, a plan, every cell measured, tables. Read it from the top."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, product
from pathlib import Path
from typing import Any, Literal

import pandas as pd

import model_zoo
import tasks as task_zoo
from model_zoo import guests
from tasks import derived
from tasks import prepare as prepared
from tasks.own_data.reading import Reading, unused
from tasks.task import Task
from ultrabench_eval import executors, loading, plugins, precision, remedies, seen
from ultrabench_eval.cells import Cells, Coordinates, Failure
from ultrabench_eval.core import files, memory
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.core.grouping import by_key
from ultrabench_eval.executors import Engine, Job, Lost, Outcome
from ultrabench_eval.grid import Grid
from ultrabench_eval.loading import Model, NoData, Plan, Problems
from ultrabench_eval.measure import (
    Setting,
    Stage,
    cines_of,
    is_finished,
    measure,
    places_of,
    predicts_of,
    tune,
)
from ultrabench_eval.report import write
from ultrabench_eval.report.results import kept
from ultrabench_eval.request import Request
from ultrabench_eval.units import Failures, Shard, Unit, Written, in_turn
from ultrabench_eval.workload import UnitForecast, Workload, rough_seconds

PHANTOM = "phantom"  # the data root that is made when it is asked for


@dataclass(frozen=True)
class Step:
    """What the pipeline is at, for a progress display."""

    stage: (
        Literal["phantom", "plan", "note", "begin", "audit", "encode", "probe", "tune", "units"]
        | Literal["wait"]
        | Literal["report"]
        | Stage
    )
    model: str = ""
    """In "audit", "units" and "wait": what is done, in words; in "note" what to tell."""
    task: str = ""
    done: int = 0
    """Of `total`: images in "encode", "tune", "audit" and "phantom", units that workers have
    finished in "units", cells in the last three."""
    total: int = 0
    new: int = 0
    """Images encoded since the last step."""
    work: Sequence[UnitForecast] = ()
    """In "begin": what is to be done, with encoding in proportion only."""


Report = Callable[[Step], None]


def run(
    models: str | Sequence[str] | Request,
    tasks: str | Path | Sequence[str | Path] = "all",
    *,
    report: Report = lambda step: None,
    **options: Any,
) -> pd.DataFrame:
    """Measure models on tasks and write the leaderboard.

    What is done already is not done again: features are kept in the cache, cells in `out`. A
    model, task or image that fails spoils its own cells only; they become rows whose status
    begins with "error". The same call in several processes at once, on one `out`, is one run that
    they share.

    Args:
        models: names of `model_zoo.names()`, a list or comma-separated; "all" for all of them. Or
            all that is asked for.
        tasks: names of `tasks.names()`, "all", or own data: tables of images, folders of classes.
        report: called at every step, for a progress display.
        options: all other fields of `Request`, by name: seeds, data, out, cache, weights, ...

    Returns:
        The leaderboard in long form, one row per metric: columns model, task, probe, protocol,
        fraction, corruption, severity, metric, mean, sd, low, high (95 % interval over
        test groups and seeds), n_seeds, n_test, status, warnings; scores in percent.

    Raises:
        Problems: unknown names, missing data or weights, tasks that cannot be trusted: one
            sentence each, before anything is encoded or written.
        NoData: all tasks are asked for, and no data are named or found.
        UserError: an option that does not exist or is not valid.
    """
    request = as_request(models, tasks, options)
    engine = executors.engine(
        request.executor, request.workers, request.executor_options, request.device
    )
    # GPUs belong to the workers; this process may not even be on a machine that has one.
    here = request if engine is None else replace(request, device="cpu")
    ready = prepare(here, report)
    _check_data(ready)
    if ready.planned.problems and not request.keep_going:
        raise Problems(ready.planned.problems, loading.WORKS_NOW)
    cells = ready.setting.cells
    try:
        _check_folders(ready)
    except UserError:
        if not _is_finished(ready):
            raise
        return _shown(ready, report)  # of a finished run on a disk that cannot be written
    files.remove_orphans(cells.out)
    for sentence in ready.notes:
        report(Step("note", sentence))
    report(Step("begin", total=ready.total, work=_work(ready)))
    if engine is None:
        measure_all(ready, report)
    else:
        _measure_by_workers(ready, engine, request, report)
    _look_up(ready, report)
    _mark_absent(ready)
    report(Step("report"))
    with files.locked(cells.out / "leaderboard"):
        files.write_bytes(cells.out / request.file, request.yaml().encode())
        return write.write(cells)


@dataclass(frozen=True)
class Ready:
    """A run that was thought through and not begun."""

    planned: Plan
    units: list[Unit]
    """Of this job, in the order in which they are measured."""
    setting: Setting
    asked: dict[str, str]
    """Tasks in the words of whoever asked, by label."""
    root: Path | None
    """Of the data."""
    absent: dict[str, str]
    """Tasks of "all" whose data are not there, by label, and the command that gets them."""
    notes: list[str]
    """What whoever asked must know before the run, a sentence each."""

    def cells(self, unit: Unit) -> list[Coordinates]:
        """Those of a unit."""
        task = self.planned.tasks[unit.task]
        return [place.at for place in places_of(unit.model, unit.task, task, self.setting.grid)]

    @property
    def total(self) -> int:
        """How many cells there are."""
        return sum(len(self.cells(unit)) for unit in self.units)


def as_request(
    models: str | Sequence[str] | Request,
    tasks: str | Path | Sequence[str | Path],
    options: Mapping[str, Any],
) -> Request:
    """What a Python call asks for.

    Raises:
        UserError: an option that does not exist or is not valid.
    """
    if isinstance(models, Request):
        return models
    return Request.of(models=models, tasks=tasks, **options)


def prepare(request: Request, report: Report = lambda step: None) -> Ready:
    """Load and check all that a run needs. Nothing is written into `out`.

    Raises:
        UserError: words that are not valid, unknown names. Missing data and weights are
            problems of the plan.
    """
    memory.keep_freed()
    if request.seeds < 1:
        raise UserError(f"--seeds must be at least 1, not {request.seeds}")
    # Absolute from the start: a plugin may change the folder that this process works in.
    out = Path(request.out).absolute()
    cache = (Path(request.cache) if request.cache else default_cache()).absolute()
    plugin_files = request.plugin_files
    for file in [plugin_files] if isinstance(plugin_files, str | Path) else plugin_files:
        plugins.load_file(Path(file))
    share = Shard.parse(request.shard) if request.shard else Shard()
    grid = Grid.parse(
        request.probe,
        request.protocol,
        request.fractions,
        request.corruptions,
        request.fewshot_validation,
    )
    weights = {name: str(path) for name, path in (request.weights or {}).items()}
    model_names = loading.resolve_names(request.models, model_zoo.names())
    model_names, notes = loading.with_stand_ins(model_names, weights)
    if request.pooling:
        model_names = [
            n if model_zoo.split(n)[1] else f"{n}/{request.pooling}" for n in model_names
        ]
    request = replace(request, data=chosen_data(request.data, request.tasks))
    root = None if request.data == PHANTOM else data_root(request.data)
    reading = request.reading
    if request.transfer:
        request = _with_pairs(request, root, reading)
    task_names = loading.resolve_names(request.tasks, task_zoo.names())
    if request.splits:
        task_names = [task_zoo.with_splits(name, str(request.splits)) for name in task_names]
    _check_names(model_names, task_names, weights, reading)
    given_up = Failures(out)  # from now on: to load all that takes a while

    if root is not None and not (request.data or os.environ.get("UBENCH_DATA")):
        notes.append(f"no data folder is named, so data are taken from {root}")
    task_names = _served(request, task_names, grid, notes)
    absent = _absent(request, task_names, root)
    task_names = [name for name in task_names if name not in absent]
    # A missing task of the paper leaves its mean blank; nobody expects to have all the others.
    others = [name for name in absent if task_zoo.split_name(name)[0] not in task_zoo.OF_THE_PAPER]
    absent = {name: how for name, how in absent.items() if name not in others}
    others = [name for name in others if task_zoo.split_name(name)[0] not in task_zoo.SIMULATED]
    if others and task_names:
        notes.append(
            f"no data of {', '.join(others)}: left out; `ubench tasks NAME` tells where to get them"
        )
    if absent and task_names:
        notes += [f"no data of {name}, which is left out: {how}" for name, how in absent.items()]
        notes.append("because tasks are left out, no mean over all tasks is shown")
    pairs = share.part(list(product(model_names, task_names)))
    task_names = list(dict.fromkeys(task for _, task in pairs))
    if request.data == PHANTOM:
        plain = (part for name in task_names for part in task_zoo.parts(name))
        bases = dict.fromkeys(task_zoo.split_name(name)[0] for name in plain)
        wanted = [task_zoo.home(name) for name in bases if name in task_zoo.BUILT_IN]
        root = phantom_root(cache, wanted, report)
    report(Step("plan"))
    planned = loading.make(
        list(dict.fromkeys(model for model, _ in pairs)),
        task_names,
        data=root,
        reading=reading,
        weights=weights,
        device=request.device,
        dtype=request.dtype,
        accept_license=request.accept_license,
        compile=request.compile,
        partial=request.partial,
        labels=None if request.labels is None else Path(request.labels),
        cache=cache,
    )
    for one in planned.models.values():
        notes += one.alarms if isinstance(one, Model) else []
    named = loading.resolve_names(request.tasks, ())
    named += [task_zoo.label(name) for name in named]
    for label, task in list(planned.tasks.items()):
        asked = {*named} & {label, *label.split("@")}
        if isinstance(task, loading.Lacking) and not asked:
            notes.append(f"{label} is left out: {task}")
            del planned.tasks[label]
        if isinstance(task, str):
            continue
        predicts = predicts_of(label, task)
        if why := grid.lacks(predicts):
            planned.tasks[label] = f"task '{label}' is {task.card.type}, and {why}"
        elif (why := grid.refuses(task.card, predicts)) and asked:
            planned.tasks[label] = f"task '{label}' {why}"
        elif why:
            notes.append(f"{label} is left out: it {why}")
            del planned.tasks[label]
        elif task.folds and request.keep_probes:
            notes.append(
                f"probes of {label} are not kept, for each of its {len(task.folds)} folds has "
                "probes of its own"
            )
    pairs = [(model, task) for model, task in pairs if task_zoo.label(task) in planned.tasks]
    pairs = _fitting(pairs, planned, notes)
    setting = Setting(
        *(Cells(out), cache, request.seeds, grid),
        lambda *at: report(Step("encode", *at)),
        lambda *at: report(Step("probe", *at)),
        given_up,
        keep_probes=request.keep_probes,
        identifiers=request.identifiers,
        seen=seen.read_all(
            request.seen, model_names, cache, lambda *at: report(Step("audit", at[0], "", *at[1:]))
        ),
        tuning=lambda *at: report(Step("tune", *at)),
    )
    units = [Unit(model, task_zoo.label(task)) for model, task in pairs]
    return Ready(
        *(planned, units, setting, {task_zoo.label(task): task for _, task in pairs}, root),
        {task_zoo.label(name): how for name, how in absent.items()},
        notes,
    )


def _with_pairs(request: Request, root: Path | None, reading: Reading) -> Request:
    """The request with `transfer` as tasks: the pairs, and what each is compared with.

    Raises:
        UserError: something else than pairs, or two tasks that do not fit.
    """
    labels = derived.read_labels(None if request.labels is None else Path(request.labels))
    named = loading.resolve_names(request.transfer or (), ())
    wanted = [] if request.tasks == "all" else loading.resolve_names(request.tasks, ())
    for name in named:
        both = task_zoo.pair(name)
        if both is None:
            raise UserError(f"--transfer {name} is not valid; write TRAINED:TESTED")
        if wrong := task_zoo.problem(name):
            raise UserError(wrong)
        if request.splits:
            both = type(both)(*(task_zoo.with_splits(one, str(request.splits)) for one in both))
        # The classes of own data are known when they are read.
        cards = [
            task_zoo.load(one, root, reading).card
            if task_zoo.is_manifest(one)
            else replace(task_zoo.card(task_zoo.split_name(one)[0]), name=one)
            for one in both
        ]
        wanted += [*derived.references(both, cards[0], cards[1], labels), str(both)]
    return replace(request, tasks=tuple(dict.fromkeys(wanted)), transfer=None)


def chosen_data(
    named: Path | str | None, tasks: str | Path | Iterable[str | Path]
) -> Path | str | None:
    """The data that are named, or `PHANTOM` where they cannot be others: the tasks are simulated
    ones, named one by one, and the data root holds none of them.

    So these tasks run without any data, "all" does not put them among real ones, and those that
    someone wrote into a data root are read from there.
    """
    asked = {task_zoo.split_name(name)[0] for name in loading.resolve_names(tasks, ())}
    if named == PHANTOM or not asked or not asked <= {*task_zoo.SIMULATED}:
        return named
    root = data_root(named)
    held = root is not None and any(prepared.is_there(name, root) for name in asked)
    return named if held else PHANTOM


def data_root(named: Path | str | None) -> Path | None:
    """The folder that is named, else `$UBENCH_DATA`, else ./data if the data of a task are there.

    Raises:
        UserError: several folders of it may be one task.
    """
    place = named or os.environ.get("UBENCH_DATA")
    if place:
        return Path(place).absolute()
    here = Path("data").absolute()
    found = here.is_dir() and any(prepared.is_there(name, here) for name in task_zoo.names())
    return here if found else None


def default_cache() -> Path:
    """`$UBENCH_CACHE`, else `ubench` in the user's cache folder; an empty variable is not set.

    Raises:
        UserError: there is no home folder to put it into.
    """
    if named := os.environ.get("UBENCH_CACHE"):
        return Path(named)
    if named := os.environ.get("XDG_CACHE_HOME"):
        return Path(named) / "ubench"
    try:
        return Path.home() / ".cache" / "ubench"
    except RuntimeError as error:
        raise UserError(
            "this user has no home folder to keep features in; set UBENCH_CACHE, or pass --cache"
        ) from error


def phantom_root(cache: Path, wanted: Sequence[str], report: Report) -> Path:
    """The small SYNTHETIC suite in the cache; tasks that are not there yet are simulated."""
    from tasks import phantom  # here, for its imports take a second that real data need not pay

    return phantom.write(
        cache / PHANTOM / f"{phantom.VERSION}-small-0",
        tasks=wanted,
        progress=lambda task, done, total: report(Step("phantom", "", task, done, total)),
    )


# ---- one function a stage -----------------------------------------------------------------------


def _fitting(
    pairs: list[tuple[str, str]], planned: Plan, notes: list[str]
) -> list[tuple[str, str]]:
    """Models on tasks, without those that have nothing to say there, if they fit any other.

    Those are models without feature maps on tasks of masks, and controls of motion on images.
    """

    def lacks(model: str, name: str) -> str:
        label, one = task_zoo.label(name), planned.models[model]
        task = planned.tasks[label]
        if not isinstance(one, Model):
            return ""
        if predicts_of(label, task) == "masks" and not one.has_maps:
            return "without feature maps"
        motion = one.takes == "clip" and one.card.status == "control"
        return "controls of motion" if motion and not cines_of(label, task) else ""

    some = {model for model, name in pairs if not lacks(model, name)}
    out = by_key(
        (why, (model, name))
        for model, name in pairs
        if model in some and (why := lacks(model, name))
    )
    for why, left_out in out.items():
        models, names = (dict.fromkeys(part) for part in zip(*left_out, strict=True))
        notes.append(f"{why}, so not measured on {', '.join(names)}: {', '.join(models)}")
    return [pair for pair in pairs if not any(pair in left_out for left_out in out.values())]


def _served(request: Request, task_names: list[str], grid: Grid, notes: list[str]) -> list[str]:
    """Tasks without those that only "all" names and none of the probes and protocols is for."""
    named = loading.resolve_names(request.tasks, ())
    left_out = by_key(
        (why, name)
        for name in task_names
        if not {name, task_zoo.split_name(name)[0]} & {*named}
        and (why := grid.lacks(predicts_of(name, "")))
    )
    notes += [f"{', '.join(names)} left out, because {why}" for why, names in left_out.items()]
    return [name for name in task_names if not any(name in names for names in left_out.values())]


def _absent(request: Request, task_names: Sequence[str], root: Path | None) -> dict[str, str]:
    """The tasks that only "all" names and whose data are not there: how to get them."""
    named = loading.resolve_names(request.tasks, ())
    found = {}
    for name in task_names:
        base = task_zoo.split_name(name)[0]
        if {name, base} & {*named}:
            continue
        if request.data == PHANTOM:
            there = base in task_zoo.BUILT_IN
        else:
            there = root is not None and prepared.is_there(base, root)
        if not there:
            found[name] = remedies.for_data(base, root)
    return found


def _check_data(ready: Ready) -> None:
    """See that all the tasks that are asked for are more than none.

    Raises:
        UserError: they are none.
    """
    if ready.asked or not ready.absent:
        return
    if ready.root is None:
        raise NoData(
            "no data are found: --data and UBENCH_DATA name no folder, and ./data holds no task; "
            "`ubench tasks` shows where to get the images"
        )
    task_zoo.names_at(ready.root)  # raises, with reason
    raise UserError(f"{ready.root} has folders of tasks, but no images are in them; fill them")


def _mark_absent(ready: Ready) -> None:
    """Rows for tasks without data, so that no table takes the mean of the others for that of all.

    Results that an earlier run has left stay.
    """
    cells = ready.setting.cells
    for model, task in product(ready.planned.models, ready.absent):
        predicts = predicts_of(task, "")
        for _, at in ready.setting.grid.cells(model, task, predicts, cines_of(task, "")):
            if not cells.holds(at):
                how = ready.absent[task].replace(str(ready.root), "DATA")
                reason = f"not found in the data folder; get them: {how}"
                kind = task_zoo.card(task_zoo.split_name(task)[0]).type
                cells.fail(Failure(coordinates=at, reason=reason, type=kind, absent=True))


def _check_names(
    model_names: Sequence[str],
    task_names: Sequence[str],
    weights: Mapping[str, Path | str],
    reading: Reading,
) -> None:
    """Everything that is wrong with the names as such, at once and before anything is loaded."""
    plain = [part for name in task_names for part in task_zoo.parts(name)]
    problems = [*loading.check_labels(task_names), *unused(plain, reading)]
    if not model_names:
        problems.append("no model is asked for; `ubench models` lists all")
    if not task_names:
        problems.append("no task is asked for; `ubench tasks` lists all")
    wrong = [
        found + _inside(weights.get(name))
        for name in model_names
        if (found := model_zoo.problem(name))
    ]
    wrong += [found for name in task_names if (found := task_zoo.problem(name))]
    problems += [found + plugins.registered() for found in wrong]
    named = {*model_names, *(model_zoo.split(name)[0] for name in model_names), "all"}
    problems += [
        f"weights are given for '{name}', which is not among the models of this run; "
        "write them as MODEL=PATH"
        for name in weights
        if name not in named
    ]
    if problems:
        raise Problems(problems)


def _inside(path: Path | str | None) -> str:
    """What the checkpoint holds that is given for a model which does not exist."""
    if path is None or not Path(path).is_file():
        return ""
    from model_zoo.checkpoints import contents  # here, because it imports timm
    from model_zoo.checkpoints.files import read

    try:
        return contents.told(read(Path(path)), Path(path))
    except UserError:
        return ""


def measure_all(ready: Ready, report: Report, patience: float | None = None) -> None:
    """Measure the units one after the other, in this process.

    Args:
        ready: the run.
        report: see `run`.
        patience: see `units.in_turn`.
    """
    planned, setting = ready.planned, ready.setting
    total = ready.total
    done = 0
    loaded: Model | None = None

    def held(units: list[Unit]) -> None:
        words = f"waiting for another process that measures {units[0].model} on {units[0].task}"
        report(Step("wait", words, "", done, total))

    for unit in in_turn(ready.units, setting.cells.out, patience, held):
        model = planned.models[unit.model]
        if loaded is not None and loaded is not model:
            loaded.release()  # memory never holds two
        loaded = model if isinstance(model, Model) else None
        task = planned.tasks[unit.task]
        with guests.settings_kept():
            if unit.seed is None:
                stages = list(measure(unit.model, model, unit.task, task, setting))
            elif isinstance(model, Model) and isinstance(task, Task):
                stages = []
                tune(unit.model, model, unit.task, task, setting, unit.seed)
        for stage in stages:
            done += 1
            report(Step(stage, unit.model, unit.task, done, total))
    if loaded is not None:
        loaded.release()


def _work(ready: Ready) -> list[UnitForecast]:
    """What is to be done, unit by unit."""
    shares = []
    for name, model in ready.planned.models.items():
        counted = Workload(model, ready.setting)
        settled = isinstance(model, Model) and precision.is_settled(model, ready.setting.cache)
        for unit in (unit for unit in ready.units if unit.model == name):
            share = counted.share(unit, ready.planned.tasks[unit.task], settle=settled)
            if isinstance(model, Model):
                share.encode_seconds = rough_seconds(model, share.inputs)
                share.probe_seconds += rough_seconds(model, share.passes)
            shares.append(share)
    return shares


def _check_folders(ready: Ready) -> None:
    """See that results and features can be written, before any work.

    Raises:
        UserError: they cannot.
    """
    files.check_writable(ready.setting.cells.out, "the results folder (--out)")
    files.check_writable(ready.setting.cache, "the cache (--cache or UBENCH_CACHE)")


def _is_finished(ready: Ready) -> bool:
    """Whether all that is asked for is on disk, and what it depends on has not changed."""
    planned = ready.planned
    return all(
        is_finished(u.model, planned.models[u.model], u.task, planned.tasks[u.task], ready.setting)
        for u in ready.units
    )


def _shown(ready: Ready, report: Report) -> pd.DataFrame:
    """The leaderboard of a finished run; nothing is written."""
    total = ready.total
    for done in range(total):
        report(Step("kept", done=done + 1, total=total))
    cells = ready.setting.cells
    return write.frame(cells.gather(), kept.findings(cells.out))


def _look_up(ready: Ready, report: Report) -> None:
    """See that every cell that was asked for is on disk; error rows for those that are not.

    The folder may have been changed, or deleted, while the run was under way.
    """
    cells, total = ready.setting.cells, ready.total
    for unit in ready.units:
        for at in ready.cells(unit):
            if not cells.holds(at):
                reason = (
                    f"its result is no longer in {cells.out}: was that folder changed? run again"
                )
                cells.fail(Failure(coordinates=at, reason=reason))
                report(Step("failed", unit.model, unit.task, total, total))


# ---- by workers ---------------------------------------------------------------------------------


def _measure_by_workers(ready: Ready, engine: Engine, request: Request, report: Report) -> None:
    """As `measure_all`, with every unit in a worker; this process only counts."""
    out = ready.setting.cells.out
    written = Written(out)
    stuck = [unit for unit in ready.units if _problem(ready.planned, unit)]
    jobs = [_job(ready, unit, request) for unit in _largest_first(ready) if unit not in stuck]
    rounds = _rounds(ready, jobs)
    total = ready.total
    done = ended = 0

    def count(unit: Unit, stages: Iterable[Stage], new: int = 0) -> None:
        nonlocal done
        for stage in stages:
            done += 1
            report(Step(stage, unit.model, unit.task, done, total, new))
            new = 0

    def tell(words: str) -> None:
        report(Step("units", words, "", ended, sum(map(len, rounds))))

    folder = out / executors.FOLDER
    at_work = f"units, {engine.workers} at a time ({engine.name}); logs in {folder}"
    with executors.started(engine, folder):
        for unit in stuck:  # known before the start, and told by --keep-going
            model, task = ready.planned.models[unit.model], ready.planned.tasks[unit.task]
            count(unit, measure(unit.model, model, unit.task, task, ready.setting))
        tell(at_work)
        for job, end in chain.from_iterable(executors.distribute(r, engine) for r in rounds):
            unit = job.unit
            if isinstance(end, Lost) and not executors.final(job):
                tell(f"{unit.model} on {unit.task} again, because {end.reason}")
                continue
            ended += 1
            if unit.seed is not None:
                pass  # what went wrong with a seed goes wrong with its unit, reported there
            elif isinstance(end, Outcome) and not end.error:
                count(unit, end.stages, end.encoded)
            else:
                count(unit, _given_up(ready, unit, executors.reason(job, end), written))
            tell(at_work)


def _rounds(ready: Ready, jobs: list[Job]) -> list[list[Job]]:
    """Jobs in three rounds, of which each needs what the one before has left on disk.

    Networks that are fine-tuned with the first seed, which chooses the setting, and units without
    any; networks of all other seeds; the units whose cells are made of them.
    """
    tuned = [job for job in jobs if _tunes(ready, job.unit)]
    of_seeds = [
        [_of_seed(ready, job, seed) for job in tuned for seed in seeds]
        for seeds in (range(1), range(1, ready.setting.seeds))
    ]
    others = [job for job in jobs if job not in tuned]
    rounds = [of_seeds[0] + others, of_seeds[1], tuned]
    return [part for part in rounds if part]


def _tunes(ready: Ready, unit: Unit) -> bool:
    """Whether networks are fine-tuned for a unit."""
    predicts = predicts_of(unit.task, ready.planned.tasks[unit.task])
    return any(one.finetune for one, _ in ready.setting.grid.ways(predicts))


def _of_seed(ready: Ready, job: Job, seed: int) -> Job:
    """The fine-tuning of one seed of a unit."""
    unit = job.unit._replace(seed=seed)
    log = executors.log_path(ready.setting.cells.out, unit)
    log.unlink(missing_ok=True)
    return replace(job, unit=unit, log=log)


def _problem(planned: Plan, unit: Unit) -> bool:
    """Whether its model or its task cannot be had."""
    return isinstance(planned.models[unit.model], str) or isinstance(planned.tasks[unit.task], str)


def _largest_first(ready: Ready) -> list[Unit]:
    """Units by their number of images, so that none that takes long begins at the end."""

    def size(unit: Unit) -> int:
        task = ready.planned.tasks[unit.task]
        return sum(map(len, task.splits.values())) if isinstance(task, Task) else 0

    return sorted(ready.units, key=size, reverse=True)


def _job(ready: Ready, unit: Unit, request: Request) -> Job:
    """A unit as a run of its own."""
    setting = ready.setting
    names = (unit.model, model_zoo.split(unit.model)[0], "all")
    weights = {name: path for name, path in (request.weights or {}).items() if name in names}
    lists = {name: path for name, path in (request.seen or {}).items() if name == unit.model}
    log = executors.log_path(setting.cells.out, unit)
    log.unlink(missing_ok=True)
    own = replace(
        request,
        models=(unit.model,),
        tasks=(ready.asked[unit.task],),
        transfer=None,
        weights=weights,
        seen=lists or None,
        data=request.data or ready.root,
        cache=setting.cache,
        shard=None,
    )
    return Job(unit, own, str(Path.cwd()), log)


def _given_up(ready: Ready, unit: Unit, reason: str, written: Written) -> Iterator[Stage]:
    """Error rows for the cells of a unit that its workers have not left behind."""
    setting, task = ready.setting, ready.planned.tasks[unit.task]
    for at in ready.cells(unit):
        if at in setting.given_up:
            yield "failed"
        elif at in written:
            yield "done"
        else:
            synthetic = isinstance(task, Task) and task.synthetic
            setting.cells.fail(Failure(coordinates=at, reason=reason, synthetic=synthetic))
            yield "failed"
