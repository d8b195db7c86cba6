"""From a download to a task that can be traced: unpack, read, check, write down.

ROOT/<release>/                 the release as it was downloaded; mostly called as the task is
ROOT/<release>/unpacked/        its archives, unpacked
ROOT/prepared/<task>/           what was made of it:
    splits.csv                  every image with label, split, group and hash (`tasks.split_files`)
    report.md                   counts beside the published ones, why they differ, problems
    scan_masks.png              some images with the contour of their ultrasound region
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from tabulate import tabulate

import tasks
from tasks import contact_sheet, recognise, split_files, ultrabench
from tasks.check import Report, changed, check
from tasks.obtain import archives
from tasks.obtain.download import SOURCES, fetch
from tasks.obtain.sources import Manual
from tasks.recognise import PREPARED
from tasks.split_files import UNUSED, SplitRow
from tasks.splits import PUBLISHED
from tasks.task import Task
from ultrabench_eval.core import files
from ultrabench_eval.core.errors import UserError, not_found

UNPACKED = "unpacked"
SHEET = 48  # images on the contact sheet
NOTHING, NO_ROOT = "nothing", "no data root"

Progress = Callable[[int, int], None]


class Made(NamedTuple):
    """What `prepare` found and wrote."""

    report: Report
    files: tuple[Path, ...]


class Overview(NamedTuple):
    """A task or other folder of the data root: what is there, and how to get the rest."""

    name: str
    state: str
    prepared: bool
    how: str
    licence: str
    """As the task's card has it."""


def overview(root: Path | None) -> list[Overview]:
    """A line for each task whose source is known, and one for UltraBench's split files."""
    lines = []
    for name in (*tasks.RELEASED, PUBLISHED):
        given = SOURCES[tasks.home(name)]
        by_hand = any(isinstance(source, Manual) for source in given)
        known = name in tasks.registry
        licence = tasks.card(name).licence if known else "; ".join(s.licence for s in given)
        how = f"by hand: `ubench data download {name}` tells the steps" if by_hand else "yes"
        if not by_hand and any(source.consent for source in given):
            how = "with --accept-license"
        made = root is not None and record(name, root).is_file()
        there = NO_ROOT if root is None else state(name, root)
        lines.append(Overview(name, there, made, how, licence))
    return lines


def state(name: str, root: Path) -> str:
    """Whether a release is in a data root: `NOTHING`, "packed: " and the archives, or "there"."""
    folder = tasks.folder_of(name, root)
    if not folder.is_dir() or not any(folder.iterdir()):
        return NOTHING
    packed = archives.find_archives(folder)
    if packed and not (folder / UNPACKED).is_dir():
        return f"packed: {', '.join(path.name for path in packed)}"
    return "there"


def is_there(name: str, root: Path) -> bool:
    """Whether a data root holds a task's images; archives that are still packed do not count."""
    found = state(name, root)
    if not found.startswith("packed") or tasks.home(name) not in SOURCES:
        return found != NOTHING
    return any(one.held for one in recognise.releases(tasks.folder_of(name, root), [name]))


def download(
    name: str,
    root: Path,
    accept: bool = False,
    progress: Progress = lambda done, total: None,
) -> Path:
    """Fetch a release, or UltraBench's split files, into its folder; resumes what was interrupted.

    Args:
        name: a task whose source is known, or a name of `SOURCES`.
        root: data root.
        accept: consent to the terms of the release.
        progress: called with bytes here and in all of the file at hand (0: not told).

    Raises:
        UserError: no consent, it must be obtained by hand (with the steps), or it failed.
    """
    folder = root / tasks.home(name)
    for source in SOURCES[folder.name]:
        fetch(
            source,
            folder,
            accept=accept,
            progress=lambda file, done, total: progress(done, total or 0),
        )
    return folder


def record(name: str, root: Path) -> Path:
    """Where the split file of a prepared task lies, made or not."""
    return root / PREPARED / tasks.label(name) / "splits.csv"


def differences(task: Task, root: Path) -> list[str]:
    """How a task's images differ from the record that `prepare` wrote, one sentence each.

    Only what the splits hold is compared; images that are not used are not read. Empty if the task
    has not been prepared.
    """
    path = record(task.name, root)
    if tasks.split_name(task.name)[0] not in tasks.registry or not path.is_file():
        return []
    try:
        before = split_files.read(path)
    except UserError as error:
        return [str(error)]
    rows = [
        SplitRow(item.image.name, task.told(item), name, item.group or "", digest)
        for name, split in task.splits.items()
        for item, digest in zip(split.items, split.digests, strict=True)
    ]
    here = {row.image for row in rows}
    used = {name: row for name, row in before.items() if row.split != UNUSED or name in here}
    return changed(rows, used, path)


def prepare(
    name: str,
    root: Path,
    given: Sequence[Path] = (),
    progress: Progress = lambda done, total: None,
) -> Made:
    """Unpack a download if that is not done yet, and make ROOT/prepared/<task>/.

    Args:
        name: a task's name, with other splits or without.
        root: data root.
        given: archives, files or folders of the release, to be put into ROOT/<release>. Default:
            what lies there.
        progress: called with images done and in all.

    Raises:
        UserError: nothing to unpack and nothing unpacked, an archive that cannot be trusted, or a
            release that is not a task.
    """
    base, _ = tasks.split_name(name)
    _unpack(base, root, given)
    task = tasks.load(name, root)
    report = check(task, progress=progress)
    folder = record(name, root).parent
    written = [folder / "report.md"]
    files.write_text(
        written[0], text(report, ultrabench.agreement(task, tasks.folder_of(base, root)))
    )
    if not report.unreadable:  # else the record would call a damaged file right
        written += [folder / "splits.csv", folder / "scan_masks.png"]
        split_files.write(report.rows, written[1])
        contact_sheet.of_task(task, written[2], SHEET)
    return Made(report, tuple(written))


def _unpack(name: str, root: Path, given: Sequence[Path]) -> None:
    """Put a release into ROOT/<release>, or unpack the archives that lie there; once."""
    target = root / tasks.home(name) if given else tasks.folder_of(name, root)
    for path in given:
        if not path.exists():
            raise not_found(f"release of '{name}'", path, "give what was downloaded")
    packed = [path for path in given if archives.is_archive(path)]
    if packed:
        archives.unpack(packed, target, nested=True)
    for path in given:
        if path not in packed:
            _copy(path, target / path.name)
    if not target.is_dir():
        raise UserError(
            f"there is no release of '{name}': {target} is not a folder; give the download by "
            f"--from, or see `ubench tasks {name}` for where to download it"
        )
    if inside := archives.find_archives(target):
        archives.unpack(inside, target / UNPACKED, nested=True)


def _copy(path: Path, target: Path) -> None:
    """Copy a file or folder that is not an archive, whole or not at all; once."""
    if target.exists():
        return
    try:
        if path.is_dir():
            with files.atomic_folder(target) as temporary:
                shutil.copytree(path, temporary, dirs_exist_ok=True)
        else:
            with files.atomic_path(target) as temporary:
                shutil.copyfile(path, temporary)
    except shutil.Error as error:  # of a folder: what went wrong with each file
        first = error.args[0][0][-1] if error.args and error.args[0] else error
        raise UserError(f"{path} cannot be copied to {target} ({first}); run again") from error
    except OSError as error:
        if target.exists() and error.errno in archives.TAKEN:
            return  # another process has just copied it
        raise archives.not_written(error, target) from error


# ---- the report ---------------------------------------------------------------------------------


def text(report: Report, agreement: Iterable[ultrabench.SplitAgreement]) -> str:
    """The report of a prepared task, Markdown."""
    task = report.task
    lines = [f"# {task.card.title}"]
    if task.synthetic:
        lines.append("SYNTHETIC images: simulated, they say nothing about real ultrasound.")
    lines += [
        f"{task.card.organ}; {task.card.target}. {task.card.paper}. Source: {task.card.source}. "
        f"Licence: {task.card.licence}.",
        "## Images",
        _table(("", "train", "validation", "test"), counts(task)),
        *_section("Masks", report.shown()),
        *_section("Published lists", list(map(str, agreement))),
        *_section("What differs", task.notes),
        *_section("Problems", report.problems),
        *_section("Known defects of the release", task.card.defects),
        *_section(
            "Sizes",
            [
                f"{what}: {size.width} x {size.height} pixels, {name}"
                for what, (size, name) in report.extremes().items()
            ],
        ),
        "## Identity",
        f"Task fingerprint: {task.fingerprint}",
    ]
    return "\n\n".join(lines) + "\n"


def counts(task: Task) -> list[tuple[str, ...]]:
    """Images by class and split, and the published counts: rows of text."""
    here = task.counts()
    classes = task.classes if task.targets == "class" else ()
    rows = [(name, *(here[part][code] for part in here)) for code, name in enumerate(classes)]
    rows.append(("all", *(sum(here[part]) for part in here)))
    if task.card.groups != "none":
        groups = [len(set(split.groups or ())) for split in task.splits.values()]
        rows.append((f"groups ({task.card.groups})", *groups))
    for who, published in (
        ("paper, Table 4", task.card.paper_counts),
        ("UltraBench 1.0.1", task.card.ultrabench_counts),
    ):
        if published:
            rows.append((who, *published))
    return [tuple(map(str, row)) for row in rows]


def _section(title: str, sentences: Sequence[str]) -> list[str]:
    return [f"## {title}", "\n".join(f"- {one}" for one in sentences)] if sentences else []


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return str(tabulate(rows, header, tablefmt="pipe", disable_numparse=True))
