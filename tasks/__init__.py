"""The tasks: `load(name, root)` reads one from its original release, or from anyone's CSV."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.derived_names import is_derived, pair, parts, selected
from tasks.release import SYNTHETIC_MARKER
from ultrabench_eval.core.errors import UserError, not_found
from ultrabench_eval.core.names import printable
from ultrabench_eval.core.registry import Registry

if TYPE_CHECKING:
    from tasks.own_data.reading import Reading
    from tasks.task import Task, TaskCard

__all__ = [
    "BUILT_IN",
    "OF_THE_PAPER",
    "RELEASED",
    "SIMULATED",
    "card",
    "describe",
    "file_label",
    "folder_of",
    "home",
    "is_derived",
    "is_folder",
    "is_manifest",
    "is_table",
    "label",
    "load",
    "names",
    "names_at",
    "pair",
    "parts",
    "problem",
    "read_release",
    "register",
    "registry",
    "selected",
    "split_name",
    "ways_to_split",
    "with_splits",
]

registry: Registry[Any] = Registry("task", group="ultrabench_eval.tasks", listing="ubench tasks")

# A reader is a function `read(folder: Path) -> Task`; `folder` is ROOT/<task name>.
OF_THE_PAPER = ("aul", "busbra", "butterfly", "fatty_liver", "gbcu", "mmotu", "pocus", "tn5000")
_READERS = {
    **{name: f"tasks.{name}:read" for name in OF_THE_PAPER},
    "pocus-clips": "tasks.pocus:read_clips",
    "aul-liver": "tasks.aul:read_liver",
    "aul-mass": "tasks.aul:read_mass",
    "mmotu-seg": "tasks.mmotu:read_tumour",
    "busbra-seg": "tasks.busbra:read_tumour",
    "busi": "tasks.busi:read",
    "ddti": "tasks.ddti:read",
    "busi-seg": "tasks.busi:read_lesions",
    "ddti-seg": "tasks.ddti:read_nodules",
    "psfhs": "tasks.psfhs:read",
    "hc18": "tasks.hc18:read",
    "hc18-hc": "tasks.hc18:read_circumference",
    "camus": "tasks.camus:read",
    "camus-quality": "tasks.camus:read_quality",
    "camus-ef": "tasks.camus:read_ejection_fraction",
    "camus-clips": "tasks.camus:read_clips",
    "camus-clips-ef": "tasks.camus:read_clips_ejection_fraction",
    "echonet-dynamic": "tasks.echonet:read",
    "echonet-dynamic-ef": "tasks.echonet:read_ejection_fraction",
    "fatty_liver-fat": "tasks.fatty_liver:read_fat",
    "open-kidney": "tasks.open_kidney:read",
    "stanford-thyroid": "tasks.stanford_thyroid:read",
}
_SIMULATED_READERS = {
    "phantom-lv": "tasks.phantom_cines:read",
    "phantom-lv-ef": "tasks.phantom_cines:read_ejection_fraction",
    "phantom-sliding": "tasks.phantom_cines:read_sliding",
}
RELEASED = tuple(_READERS)
"""Tasks that others have released the images of."""
SIMULATED = tuple(_SIMULATED_READERS)
"""Tasks that have no images but SYNTHETIC ones of this project."""
BUILT_IN = (*RELEASED, *SIMULATED)
for _name, _reader in {**_READERS, **_SIMULATED_READERS}.items():
    registry.register(_name, _reader)


def names() -> list[str]:
    """Names of all tasks: the eight of UltraBench and those of installed packages."""
    return registry.names()


def names_at(root: Path) -> list[str]:
    """Names of the known tasks that have a sub-folder in a data root, whatever it is called.

    Of several tasks on the images of one release it is the one that is called as the release.

    Raises:
        UserError: no such folder, or no task in it.
    """
    if not root.is_dir():
        raise not_found("data folder", root, "give the one that holds aul, busbra ...")
    held = {name for folder in _others(root) for name in _tasks_of(folder)}
    found = [
        name
        for name in names()
        for folder in [home(name)]
        if name in held or ((folder == name or folder not in registry) and (root / folder).is_dir())
    ]
    if not found:
        raise UserError(
            f"no task is in {root}: it has no sub-folder aul, busbra ...; give the folder that "
            "holds them"
        )
    return found


def folder_of(name: str, root: Path) -> Path:
    """The folder of a task in a data root: ROOT/<name>, or the one that holds its release.

    A release keeps the name that it unpacks to: ROOT/BUSBRA, ROOT/OTU_2d. ROOT/<name> comes back if
    there is none.

    Raises:
        UserError: several folders hold it.
    """
    exact = root / home(name)
    if exact.is_dir() or not root.is_dir():
        return exact
    found = [folder for folder in _others(root) if {name, exact.name} & _tasks_of(folder)]
    if len(found) > 1:
        raise UserError(
            f"{len(found)} folders of {root} may be task '{name}': "
            f"{', '.join(folder.name for folder in found)}; rename the right one to {exact.name}"
        )
    return found[0] if found else exact


def home(name: str) -> str:
    """What the folder of a task in a data root is called; an unknown name comes back as it is."""
    return (card(name).dataset if name in registry else "") or name


def _others(root: Path) -> list[Path]:
    """The sub-folders of a data root that are not called as tasks are."""
    from tasks import recognise
    from tasks.splits import PUBLISHED

    return [
        path
        for path in sorted(root.iterdir())
        if path.is_dir()
        and path.name not in registry
        and path.name != PUBLISHED  # split lists, in folders that are called as tasks are
        and not recognise.is_hidden(path.name)
    ]


def _tasks_of(folder: Path) -> set[str]:
    """The tasks whose releases a folder is or holds; deeper folders don't count by their names."""
    from tasks import recognise

    found = recognise.releases(folder, names())
    return {one.task for one in found if one.held or one.place == folder}


def register(name: str, target: Any = None) -> Any:
    """Register a reader `read(folder) -> Task` under `name`; a decorator without `target`."""
    return registry.register(name, target)


def card(name: str) -> TaskCard:
    """What is known of a task without its data: the CARD beside its reader, or, where a module has
    readers of several tasks, its CARDS by name."""
    from tasks.task import TaskCard

    module = sys.modules[registry.get(name).__module__]
    known = getattr(module, "CARDS", {}).get(name, getattr(module, "CARD", None))
    if isinstance(known, TaskCard):
        return known
    return TaskCard(name, title=name, organ="not stated", target="not stated", classes=())


def describe(name: str) -> dict[str, Any]:
    """A task's card as plain data, with all the ways to split it and how to get its images."""
    from tasks.obtain import sources

    known = {**dataclasses.asdict(card(name)), "dataset": home(name)}
    del known["licence_kind"]  # for programs; `licence` tells a person
    del known["transfer"]  # of tasks without a reader of their own
    if known["rule"] is not None:
        known["rule"] = known["rule"]._asdict()
    steps = sources.steps(name, home(name))
    if name in SIMULATED:
        steps = [f"nothing to download: ubench run --task {name} simulates it", how_to_write(name)]
    return {"name": name, **known, "splits": ways_to_split(name), "download": steps}


def how_to_write(name: str, root: Path | str = "DATA") -> str:
    """The command that writes a simulated task into a data root."""
    return f"ubench data phantom --out {root} --task {home(name)}"


def split_name(name: str) -> tuple[str, str | None]:
    """A task's name and how it is to be split: "aul@rule" is the task "aul" split by "rule".

    A name without "@", or whose first part is not a task, comes back as it is, and so does that of
    a task which is made of others.
    """
    base, _, how = name.partition("@")
    if how and is_derived(name):
        return name, None
    return (base, how) if how and base in registry else (name, None)


def with_splits(name: str, how: str) -> str:
    """The task `name` split by `how`, if it names no splits itself and is not a manifest."""
    if both := pair(name):
        return str(type(both)(*(with_splits(one, how) for one in both)))
    if some := selected(name):
        return str(some._replace(task=with_splits(some.task, how)))
    return name if is_manifest(name) or split_name(name)[1] else f"{name}@{how}"


def label(name: str) -> str:
    """What a task is called in tables: its name, of files the name without folder and suffix."""
    if both := pair(name):
        return ":".join(map(label, both))
    if some := selected(name):
        return str(some._replace(task=label(some.task)))
    base, how = split_name(name)
    if how is None:
        return file_label(name) if is_manifest(name) else name
    return f"{base}@{file_label(how) if _is_file(how) else how}"


def file_label(path: str) -> str:
    """A file's name without its suffix, or that of a folder, as UTF-8 can hold it."""
    called = os.path.basename(path)
    suffix = next((one for one in _TABLES if called.lower().endswith(one)), "")
    if suffix:
        return printable(called[: -len(suffix)])
    return printable(os.path.basename(os.path.abspath(path)))


def is_manifest(name: str) -> bool:
    """True if a task is data of the user's own: a table of images, or a folder of classes."""
    if is_derived(name):
        return False
    return (is_table(name) and split_name(name)[1] is None) or is_folder(name)


def is_folder(name: str) -> bool:
    """True if a task is given as a folder, which is written with a slash: "./scans", "scans/"."""
    return (
        "/" in name
        and name not in registry
        and split_name(name)[1] is None
        and not is_table(name)
        and not is_derived(name)
    )


def is_table(path: str) -> bool:
    """True if a file's name is that of a table of images."""
    return path.lower().endswith(_TABLES)


# Suffixes of tables, those included that `tasks.own_data.tables` refuses with a remedy.
_TABLES = (
    *(".csv", ".tsv", ".tab", ".xlsx", ".xlsm", ".parquet", ".pq"),
    *(".xls", ".xlsb", ".ods", ".numbers", ".json", ".jsonl", ".sav", ".dta", ".rds"),
)


def _is_file(name: str) -> bool:
    """Whether it names a split file."""
    return name.lower().endswith(".csv")


def problem(name: str) -> str | None:
    """What is wrong with a task's name, in a sentence; None if nothing is. Files are not opened."""
    if is_derived(name):
        return _problem_of_derived(name)
    called = label(name)
    if called in ("", ".", "..") or not called.isprintable():
        where = f"manifest {name!a}" if is_manifest(name) else f"task {name!a}"
        return f"{where} would be called {called!a}, which is not a name; rename it"
    if is_manifest(name):
        return None
    base, how = split_name(name)
    if base not in registry:
        folder = f"; the folder is written ./{base}" if os.path.isdir(base) else ""
        return registry.unknown(base) + folder
    if how is None or _is_file(how) or how in ways_to_split(base):
        return None
    return (
        f"task '{base}' has no splits '{how}'; it has {', '.join(ways_to_split(base))}, or give "
        f"{base}@FILE.csv (`ubench data splits {base}` writes one)"
    )


def _problem_of_derived(name: str) -> str | None:
    both = pair(name)
    if both and (both.trained == both.tested or any(map(pair, both))):
        return f"task {name!a} is not valid; write TRAINED:TESTED, two tasks, as busbra:busi"
    return next((wrong for one in both or parts(name) if (wrong := problem(one))), None)


def ways_to_split(name: str) -> dict[str, str]:
    """The ways to split a task of this name, and what each is; the first is the default."""
    ways = dict(card(name).splits) or {"published": "as published"}
    return {**ways, "rule": ways.get("rule", f"the same as {next(iter(ways))}")}


def load(name: str, root: Path | str | None = None, reading: Reading | None = None) -> Task:
    """Read a task.

    Args:
        name: a name of `names()`, or the path of a table of images (columns
            image,label,split[,group]) or of a folder of classes. With "@" behind a name, one of its
            `ways_to_split`, or a split file (`tasks.split_files`): "aul@rule", "aul@mine.csv". Or
            one that is made of others: "busbra:busi", "busi[benign+malignant]" (`tasks.derived`).
        root: data root with one sub-folder per task (`ROOT/aul` ...); not needed for a manifest.
        reading: how a manifest is to be read: names of columns, frames, window.

    Raises:
        UserError: unknown name, missing folder or files, or a task that cannot be trusted.
    """
    if wrong := problem(name):
        raise UserError(wrong)
    if is_derived(name):
        from tasks import derived

        return derived.load(name, lambda one: load(one, root, reading))
    if is_manifest(name):
        from tasks.own_data import manifest

        return manifest.read(Path(name), reading)
    base, how = split_name(name)
    if root is None:
        raise UserError(
            f"no data folder given for task '{base}'; pass --data ROOT or set UBENCH_DATA, "
            f"where ROOT/{base} holds the release (or try --data phantom)"
        )
    way = None if how is None or _is_file(how) else how
    task = read_release(base, folder_of(base, Path(root)), way)
    if how is not None and _is_file(how):
        from tasks import split_files

        task = split_files.apply(task, Path(how))
    if how is not None:
        task = dataclasses.replace(task, card=dataclasses.replace(task.card, name=label(name)))
    return task


def read_release(name: str, folder: Path, how: str | None = None) -> Task:
    """Read a task from the folder of its release, or of UltraBench's processed copy of it.

    Args:
        name: of `names()`.
        folder: of any name, with the release in it or deeper.
        how: one of its `ways_to_split`; None is the first.

    Raises:
        UserError: missing folder or files, or a task that cannot be trusted.
    """
    from tasks import original_size, ultrabench

    if not folder.is_dir() and name in SIMULATED:
        raise UserError(
            f"task '{name}' is simulated, and {folder.parent} does not hold it; write it there "
            f"({how_to_write(name, folder.parent)}), or run it without other tasks"
        )
    if not folder.is_dir():
        raise UserError(
            f"data of task '{name}' not found: {folder} is not a folder; "
            f"unpack the release there (`ubench tasks {name}` shows where to download it)"
        )
    processed = ultrabench.find(name, folder)
    read = registry.get(name)
    if processed is not None:
        task = ultrabench.read(name, processed, how)
    elif how in (None, *[*ways_to_split(name)][:1]) or how not in card(name).splits:
        task = read(folder)  # the default; "rule" is it, where it is the same
    else:
        task = read(folder, how)
    places = [folder, *folder.glob("*/"), processed or folder]
    if any((place / SYNTHETIC_MARKER).exists() for place in places):
        return dataclasses.replace(task, synthetic=True)
    return original_size.told(task)
