"""A task of one's own: a table with a row per image, or a folder with a sub-folder per class.

    image,label,split,group
    scans/001.png,benign,train,patient-7

- image: path relative to the table's folder (or absolute).
- video: instead of image, where each sample is a whole clip: path of a video, a DICOM, NIfTI or
  MetaImage file, or a folder of frames.
- label, mask or target, one of them: what is right for the image.
- mask: path of an image, NIfTI or MetaImage file of the size of the image; see `own_masks`.
- target: a number; its unit is written in brackets behind the name of the column, "target (mm)".
- label: any text but a word for a missing value ("nan", "NA", "#N/A"). If all labels are integers,
  classes are sorted by number, else as text; either way the codes are 0 ... C-1 and the class names
  are the labels as written ("01" stays "01").
- split: train, validation (or val) or test.
- group: patient or video; it must stay within one split. Leave the column out if not known.
- frame: of files with several, which: "all", "first", "middle", "last", or a number from 1. Of a
  clip, the frame that its mask is of; each frame with a mask is a sample, and all those of one clip
  are a group.

Labels or groups that differ only in letter case, blanks, Unicode form or the way a number is
written ("1" and "1.0") are refused: they are neither merged nor taken for two.

Other columns are ignored. `Reading` names the columns that are called otherwise, and `tables` has
the kinds of files. The task's name is the file's name without its suffix, or the folder's.
"""

from __future__ import annotations

import math
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import tasks
from tasks.own_data import class_folders, image_files, own_masks, tables
from tasks.own_data.image_files import Undecided
from tasks.own_data.own_masks import OwnMasks
from tasks.own_data.own_sample import OwnSample
from tasks.own_data.reading import ROLES, SAMPLES, TARGETS, Reading
from tasks.own_data.tables import OddCell
from tasks.targets import Target
from tasks.task import SPLITS, Item, Split, Task, TaskCard
from ultrabench_eval.core import names
from ultrabench_eval.core.errors import NotInstalled, UserError

SYNONYMS = {"val": "validation"}
SHOWN = 5  # bad rows told in full
TYPES = {"label": "classification", "mask": "segmentation", "target": "regression"}


@dataclass(frozen=True)
class OwnData:
    """All that a table or folder lists."""

    path: Path
    samples: tuple[OwnSample, ...]
    classes: tuple[str, ...]
    """None where the table has numbers."""
    groups: str
    """Where the groups come from, in words; "none" if there are none."""
    notes: tuple[str, ...]
    told: str = "label"
    """What the table says of an image: one of `reading.TARGETS`."""
    column: str = "label"
    """What the table calls it."""
    masks: OwnMasks | None = None
    """Of all samples, where the table has masks."""
    sample: str = "image"
    """What a sample is: one of `reading.SAMPLES`."""

    @property
    def unit(self) -> str:
        """Of numbers, as the column tells it: "mm" of "target (mm)"."""
        return _without_unit(self.column)[1] if self.told == "target" else ""

    @property
    def targets(self) -> list[Target]:
        """Of all samples: class codes, numbers or masks."""
        if self.masks is not None:
            return list(self.masks.masks)
        if self.told == "target":
            return [float(sample.label) for sample in self.samples]
        codes = {label: code for code, label in enumerate(self.classes)}
        return [codes[sample.label] for sample in self.samples]


def read(path: Path, reading: Reading | None = None) -> Task:
    """Read a task; the module's docstring has the form of its table.

    Raises:
        UserError: one sentence with all bad rows (the first five by line number), or what else
            keeps it from being a task.
    """
    own = listed(path, reading)
    rows: dict[str, list[Item]] = {name: [] for name in SPLITS}
    for sample, target in zip(own.samples, own.targets, strict=True):
        rows[sample.split].append(
            Item(sample.image, target, sample.group, subgroups=sample.subgroups)
        )
    for name, items in rows.items():
        if not items:
            raise UserError(
                f"no row of {path} has split '{name}'; a task needs all of {', '.join(SPLITS)}: "
                f"mark some rows so, or let `ubench data split` draw them"
            )
    if own.masks is not None:
        own_masks.check_training(path, own.samples, own.masks)
    name = tasks.file_label(str(path))
    card = TaskCard(
        name=name,
        title=name,
        organ="not stated",
        target="not stated",
        classes=own.classes,
        type=TYPES[own.told],
        samples="clip" if own.sample == "video" else "image",
        unit=own.unit,
        source=names.printable(path.name),
        groups=own.groups,
    )
    train, validation, test = (Split.of(rows[name]) for name in SPLITS)
    return Task(card, train, validation, test, origin=str(path), notes=own.notes)


def listed(path: Path, reading: Reading | None = None, *, split: bool = True) -> OwnData:
    """What a table or folder lists.

    Args:
        path: of the file or folder.
        reading: as the user said.
        split: whether it must name the splits; if not, it must not.

    Raises:
        UserError: see `read`.
    """
    reading = reading or Reading()
    is_folder = not tasks.is_table(str(path))
    if is_folder:
        of_tables = {
            "--columns": reading.columns,
            "--sheet": reading.sheet,
            "--subgroups": reading.subgroups,
        }
        for option, value in of_tables.items():
            if value:
                raise UserError(f"{option} is for tables, and {path} is a folder; leave it out")
        listing = class_folders.listing(path)
    else:
        listing = tables.read(path, lambda cells: _fits(cells, reading), reading.sheet)
    places = _places(path, listing.columns, reading, split)
    (told,) = TARGETS.keys() & places.keys()
    (sample,) = SAMPLES.keys() & places.keys()
    by = {column: _subgroup(path, listing.columns, column) for column in reading.subgroups}
    if reading.classes and told != "mask":
        raise UserError(f"--classes is for masks, and {path} has none; leave it out")
    table = _Rows(path if is_folder else path.parent, reading, told, sample)
    for where, cells in listing.rows:
        if len(cells) == len(listing.columns):
            known = tuple((name, cells[at]) for name, at in by.items() if cells[at])
            table.add(where, {role: cells[at] for role, at in places.items()}, known)
        else:
            table.complain(where, f"{len(cells)} cells where the header has {len(listing.columns)}")
    table.check(path)
    table.check_subgroups(path)
    groups = table.groups(reading.column("group") if "group" in places else "")
    samples, notes = tuple(table.samples), [*listing.notes, *table.notes(is_folder)]
    classes: tuple[str, ...] = ()
    masks = None
    words = {sample.label for sample in samples}
    _check_several(path, told, words)
    if told == "label":
        classes = _classes(words)
    elif told == "mask":
        masks = own_masks.of(path, samples, reading.classes, table.complain)
        table.check(path)
        classes = masks.classes
        notes.append(masks.note)
    column = listing.columns[places[told]]
    return OwnData(path, samples, classes, groups, tuple(notes), told, column, masks, sample)


def _fits(cells: Sequence[str], reading: Reading) -> bool:
    """Whether a row names all columns that are needed or that the user named."""
    found = {role: _place_of(role, cells, reading) for role in ROLES}
    needed = [role for role in ROLES if ROLES[role].needed or role in reading.columns]
    several = (SAMPLES, TARGETS)
    return all(found[role] for role in needed) and all(any(map(found.get, one)) for one in several)


def _place_of(role: str, columns: Sequence[str], reading: Reading) -> list[int]:
    """Where a role's column is; that of numbers may have a unit in brackets."""
    column, named = reading.column(role), role in reading.columns
    found = tables.place_of(column, columns, exact=named)
    if role != "target" or named or found:
        return found
    return tables.place_of(column, [_without_unit(name)[0] for name in columns], exact=False)


def _without_unit(column: str) -> tuple[str, str]:
    """The name of a column, and the unit in brackets behind it."""
    match = re.fullmatch(r"(.*\S)\s*[(\[]([^()\[\]]+)[)\]]", column.strip())
    return (match[1], match[2].strip()) if match else (column, "")


def _places(path: Path, columns: tuple[str, ...], reading: Reading, split: bool) -> dict[str, int]:
    """Where the column of each role is; of `TARGETS`, there is one."""
    found = {}
    for role, what in ROLES.items():
        column = reading.column(role)
        at = _place_of(role, columns, reading)
        if len(at) > 1:
            raise UserError(
                f"{path} has the column {column} twice ({', '.join(columns[n] for n in at)}); "
                "rename one of them"
            )
        if at and role == "group" and reading.groups is not None:
            raise UserError(
                f"{path} has the column {column}, and --groups gives another rule; leave out "
                "--groups, or rename the column"
            )
        if at and role == "split" and not split:
            raise UserError(
                f"{path} has the column {column} already, so nothing is drawn; remove or rename "
                "it if its parts are to be drawn again"
            )
        if at:
            found[role] = at[0]
        elif what.needed or role in reading.columns:
            raise UserError(
                f"{path} lacks the column {column}; it has {_named(columns)}: say which is the "
                f"{role} with --columns {role}=NAME"
            )
    found = _one_of(path, columns, reading, found, SAMPLES)
    found = _one_of(path, columns, reading, found, TARGETS)
    if split and "split" not in found:
        raise UserError(
            f"{path} lacks the column {reading.column('split')}, by which images are for training, "
            "validation or test; `ubench data split` draws one, or say which it is with --columns "
            "split=NAME"
        )
    return found


def _subgroup(path: Path, columns: tuple[str, ...], column: str) -> int:
    """Where a column of subgroups is."""
    at = tables.place_of(column, columns, exact=True)
    if len(at) != 1:
        what = "has twice" if at else "lacks"
        raise UserError(
            f"{path} {what} the column {column} of --subgroups; it has {_named(columns)}"
        )
    return at[0]


def _one_of(
    path: Path,
    columns: tuple[str, ...],
    reading: Reading,
    found: dict[str, int],
    roles: Mapping[str, str],
) -> dict[str, int]:
    """The places, with one of `SAMPLES` or `TARGETS`: that which the user named, should there be
    several."""
    told = [role for role in roles if role in found]
    meant = [role for role in told if role in reading.columns] or told
    if not told:
        first, *others = roles
        also = " or ".join(f"{role}=NAME" for role in others)
        what = " or ".join(roles[role] for role in others)
        raise UserError(
            f"{path} lacks the column {first}; it has {_named(columns)}: say which is the {first} "
            f"with --columns {first}=NAME, or, for {what}, with {also}"
        )
    if len(meant) > 1:
        both = " and ".join(f"{columns[found[role]]} ({roles[role]})" for role in meant)
        raise UserError(
            f"{path} has the columns {both}, but a task has one of them; say which is meant with "
            f"--columns {meant[0]}={columns[found[meant[0]]]}, or remove the others"
        )
    return {role: at for role, at in found.items() if role not in roles or role in meant}


def _named(columns: tuple[str, ...]) -> str:
    """The columns of a table, in words."""
    filled = [f"'{name[:40]}'" for name in columns if name]
    more = f" and {len(filled) - 12} more" if len(filled) > 12 else ""
    return f"{', '.join(filled[:12])}{more}" if filled else "none"


MOST_SUBGROUPS = 20  # more would be a name or a measure of each patient


@dataclass
class _Rows:
    """Good rows, and what is wrong with the others."""

    folder: Path
    """That the names of images are given from."""
    reading: Reading
    told: str
    """One of `TARGETS`."""
    sample: str = "image"
    """One of `SAMPLES`."""
    samples: list[OwnSample] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    _undecided: dict[str, list[str]] = field(default_factory=dict)  # question -> the files
    _remarks: Counter[str] = field(default_factory=Counter)
    _files: set[str] = field(default_factory=set)
    _several: bool = False  # whether a file gives several images
    _seen: dict[tuple[str, int | None], tuple[str, str]] = field(default_factory=dict)
    _labels: dict[str, str] = field(default_factory=dict)  # label -> the first line that has it
    _groups: dict[str, str] = field(default_factory=dict)

    def add(self, where: str, row: dict[str, str], by: tuple[tuple[str, str], ...]) -> None:
        """Take a row, or note what is wrong with it.

        Args:
            where: it is, in words.
            row: its cells by role.
            by: what else it says, by column (`OwnSample.subgroups`).
        """
        try:
            self._take(where, row, by)
        except NotInstalled:
            raise
        except Undecided as error:
            self._undecided.setdefault(error.question, []).append(error.about)
        except UserError as error:
            self.complain(where, str(error))

    def complain(self, where: str, problem: str) -> None:
        """Note what is wrong with a row."""
        self.problems.append(f"{where}: {problem}")

    def _take(self, where: str, row: dict[str, str], by: tuple[tuple[str, str], ...]) -> None:
        for role, cell in row.items():
            if isinstance(cell, OddCell):
                raise UserError(f"{role} {_quoted(cell)}{cell.why}")
        empty = [role for role, cell in row.items() if not cell and role != "frame"]
        if empty:
            raise UserError(f"{' and '.join(empty)} empty")
        split = SYNONYMS.get(row.get("split", ""), row.get("split", ""))
        if "split" in row and split not in SPLITS:
            allowed = ", ".join(SPLITS)
            raise UserError(f"split '{split}' is not one of {allowed} (val means validation)")
        for role in ("label", "group"):
            if role in row and (why := names.fault(row[role])):
                raise UserError(f"{role} {row[role]!r} {why} ({ROLES[role].empty})")
        if tables.is_shortened(row.get("group", "")):
            raise UserError(
                f"group {row['group']!r} looks like a long number that a spreadsheet shortened "
                "(write the column as text)"
            )
        if self.told == "target":
            _check_number(row["target"])
        name, path = self._file(self.sample, row[self.sample])
        mask = self._file("mask", row["mask"])[1] if self.told == "mask" else None
        frame = row.get("frame") or self.reading.frames or ""
        if self.sample == "video":
            masked = self.told == "mask"
            held = image_files.held_clip(path, name, self.reading, frame, masked=masked)
        else:
            held = image_files.held(path, name, self.reading, frame)
        numbers = held.frames or (None,)
        # Two names for one file are two images until the audit finds them equal.
        known = os.path.normpath(path)
        self._several |= len(numbers) > 1 or known in self._files
        self._files.add(known)
        for number in numbers:
            if (known, number) in self._seen:
                first, said = self._seen[known, number]
                now, then = (f" ({part})" if part else "" for part in (split, said))
                raise UserError(
                    f"{self.sample} {row[self.sample]!r}{now} is already listed in {first}{then}"
                )
            self._seen[known, number] = where, split
        if self.told == "label":
            self._labels.setdefault(row["label"], where)
        group = row["group"] if "group" in row else self._group_of(name, held.patient)
        if group is not None:
            self._groups.setdefault(group, where)
        self._remarks.update(held.remarks)
        for image, number in zip(held.images, numbers, strict=True):
            label = row[self.told]
            self.samples.append(
                OwnSample(image, path, number, label, split, group, where, mask, by)
            )

    def _file(self, what: str, written: str) -> tuple[str, Path]:
        """The name and path of a file that a row names."""
        name = self._name(written)
        # As it stands: where a folder is a link, "lists/../im" is not "im".
        path = self._start / name
        if what == "video" and path.is_dir():
            return name, path  # of frames
        if problem := _not_a_file(path, self._start):
            raise UserError(f"{what} file {written!r} {problem}")
        return name, path

    @property
    def _start(self) -> Path:
        """The folder that paths start at."""
        return self.reading.images or self.folder

    def _name(self, written: str) -> str:
        """The path of an image as it is meant here: those of Windows have other slashes."""
        slashed = written.replace("\\", "/")
        if slashed == written or os.path.lexists(self._start / written):
            return written
        if re.match(r"[A-Za-z]:/|//", slashed):
            raise UserError(
                f"image {written!r} is a full path of a Windows computer (write paths from the "
                "folder of the images, and say which that is with --images FOLDER)"
            )
        return slashed

    def _group_of(self, name: str, patient: str) -> str | None:
        """The group of an image by the rule of the user; None without a rule."""
        rule = self.reading.groups
        if rule in (None, "image"):
            return None
        if rule == "folder":
            return Path(name).parent.as_posix()
        if rule == "dicom":
            if names.is_missing(patient):
                raise UserError(f"image file {name!r} states no PatientID (choose other --groups)")
            return patient
        found = re.search(str(rule), name)
        if found is None or not found[1]:
            raise UserError(f"image {name!r} has no group by --groups {rule} (correct either)")
        return found[1]

    def check(self, path: Path) -> None:
        """Refuse bad rows, files of which the user must say more, and words in two spellings."""
        if self.problems:
            shown = "; ".join(self.problems[:SHOWN])
            more = len(self.problems) - SHOWN
            raise UserError(
                f"{path} has {len(self.problems)} bad row(s): {shown}"
                + (f"; and {more} more" if more > 0 else "")
                + "; fix or remove them"
            )
        for question, about in self._undecided.items():
            raise UserError(
                f"{len(about)} {self.sample}(s) of {path} (first: {about[0]}) {question}"
            )
        self._check_spelling(path, "label", self._labels, names.key)
        self._check_spelling(path, "group", self._groups, names.group_key)

    def check_subgroups(self, path: Path) -> None:
        """Refuse columns of names or measures: their values are not subgroups, and are kept."""
        for column in self.reading.subgroups:
            values = {dict(sample.subgroups).get(column, "") for sample in self.samples}
            if len(values) > MOST_SUBGROUPS:
                raise UserError(
                    f"column {column} of {path} has {len(values)} different values, and "
                    f"--subgroups takes at most {MOST_SUBGROUPS}; make groups of them"
                )

    def _check_spelling(
        self, path: Path, column: str, lines: dict[str, str], key: Callable[[str], str]
    ) -> None:
        pairs = names.alike(lines, key)
        if pairs:
            one, other = pairs[0]
            more = f", and {len(pairs) - 1} more such pair(s)" if len(pairs) > 1 else ""
            raise UserError(
                f"{column}s {_shown(one)} ({lines[one]}) and {_shown(other)} "
                f"({lines[other]}) of "
                f"{path} are the same but for their spelling{more}; write them alike if they "
                f"are one {column}, else change one of them"
            )

    def groups(self, column: str) -> str:
        """Where groups come from; samples of one file become a group where none is known.

        Args:
            column: of the groups; "" if there is none.
        """
        if not column and not self._groups and self._several:
            self.samples = [one._replace(group=_file_of(one)) for one in self.samples]
            return "file"
        if not self._groups:
            return "none"
        rule = {"folder": "folder", "dicom": "PatientID of the DICOM file"}
        return f"column {column}" if column else rule.get(str(self.reading.groups), "file name")

    def notes(self, is_folder: bool) -> list[str]:
        """What was done to images, and what is not known of them."""
        total = len(self.samples)
        said = [f"{remark}: {count} of the files" for remark, count in self._remarks.items()]
        if (chosen := self.reading.frames) and any(one.frame for one in self.samples):
            said.append(f"of files with several frames: {chosen} ({total} images in all)")
        if is_folder and not self._groups and not self._several and self.reading.groups is None:
            said.append(
                "every image counts as a patient of its own; if patients have several, say which "
                "with --groups"
            )
        return said


def _file_of(one: OwnSample) -> str:
    """The name of a sample's file, as its row has it."""
    return one.image.name if one.frame is None else one.image.name.rpartition("#")[0]


def _quoted(cell: str) -> str:
    return f"{str(cell)!r} " if cell else ""


def _shown(word: str) -> str:
    """A word with escapes for what looks the same, of a length that can be read."""
    text = ascii(word)
    return text if len(text) <= 80 else f"{text[:60]}...{text[-15:]}"


def _not_a_file(path: Path, start: Path) -> str | None:
    """Why a path is not a file that can be read, or not one file; None if it is."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        near = sorted(path.parent.glob(f"{_escaped(path.name)}.*"))[:2]
        there = f"; there is {near[0].name}" if len(near) == 1 else ""
        return f"not found (paths start at {start}, or at --images FOLDER{there})"
    except (OSError, ValueError) as error:  # no rights, too long, a circle of links, a zero byte
        return f"cannot be opened ({getattr(error, 'strerror', None) or error})"
    if not stat.S_ISREG(mode):
        return "is not a file but a folder or device"
    # Behind a link, ".." is the folder above the link's target; text editors take it otherwise.
    shorter = os.path.normpath(path)
    if ".." in path.parts and os.path.isfile(shorter) and not os.path.samefile(path, shorter):
        return (
            f"may be {os.path.realpath(path)} or {shorter}, because a folder before '..' is a link "
            "(write the path without '..')"
        )
    return None


def _escaped(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)


def _check_number(text: str) -> None:
    try:
        finite = math.isfinite(float(text))
    except ValueError:
        finite = False
    if not finite:
        hint = " (write it with a point)" if re.fullmatch(r"[+-]?\d+,\d+", text) else ""
        raise UserError(f"target {text!r} is not a number{hint}")


def _check_several(path: Path, told: str, words: set[str]) -> None:
    """Refuse data of which nothing can be learnt."""
    if not words:
        raise UserError(f"{path} has no rows below its header; add one for each image")
    several = {float(word) for word in words} if told == "target" else words
    if told != "mask" and len(several) == 1:
        more = "second class" if told == "label" else "row with another"
        raise UserError(f"all rows of {path} have {told} '{min(words)}'; add a {more}")


def _classes(labels: set[str]) -> tuple[str, ...]:
    """Class names in order of their codes."""
    if not all(re.fullmatch(r"[+-]?[0-9]+", label) for label in labels):
        return tuple(sorted(labels))
    # Decimal, because Python limits the digits of integers that it reads.
    return tuple(sorted(labels, key=Decimal))
