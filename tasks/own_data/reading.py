"""What a user says of data of their own: which column is which, which frames, which window."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import tasks
from tasks.samples.grey_levels import GreyLevels
from ultrabench_eval.core.errors import UserError, did_you_mean


class Role(NamedTuple):
    """What a column can be."""

    needed: bool
    empty: str = ""
    """What an empty or unusable cell is to be told, after "or"."""


ROLES = {
    "image": Role(needed=False),
    "video": Role(needed=False),
    "label": Role(needed=False, empty="write another word if it is a class"),
    "mask": Role(needed=False),
    "target": Role(needed=False),
    "split": Role(needed=False),
    "group": Role(
        needed=False,
        empty="write the patient or video, or leave the column out if they are not known",
    ),
    "frame": Role(needed=False),
}
SAMPLES = {"image": "images", "video": "clips"}
"""Roles of which a table has exactly one, and what its samples are."""
TARGETS = {"label": "classes", "mask": "masks", "target": "numbers"}
"""Roles of which a table has exactly one, and what it says of an image."""

ALL = "all"
MAX_CODE = 255
_PLACES = ("first", "middle", "last")


@dataclass(frozen=True)
class Reading:
    """How a table or folder is read; `of` makes one of the words of a command line.

    Args:
        columns: for a role of `ROLES`, what the table calls it; otherwise by the role's own name.
        sheet: of a workbook; None for the only one that has the columns.
        images: the folder that paths of images start at; None for the table's own.
        groups: for data without a column of groups, the rule: "image", "folder", "dicom", or a
            regular expression with one pair of brackets, which is searched for in the image's path.
        frames: of files with several: "all", "first", "middle", "last", or a number from 1.
        levels: how values of more than 8 bits become grey levels.
        classes: of masks, what their values or colours stand for, the background first: "0" or
            "#ff0000" to a name. Values of one name are one class.
        subgroups: columns of tables by whose values scores are also shown.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    sheet: str | None = None
    images: Path | None = None
    groups: str | None = None
    frames: str | None = None
    levels: GreyLevels = field(default_factory=GreyLevels)
    classes: Mapping[str, str] = field(default_factory=dict)
    subgroups: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        columns: Mapping[str, str] | None = None,
        sheet: str | None = None,
        images: Path | str | None = None,
        groups: str | None = None,
        frames: str | int | None = None,
        window: str | None = None,
        classes: Mapping[str, str] | None = None,
        subgroups: str | Iterable[str] | None = None,
    ) -> Reading:
        """The reading of these words.

        Raises:
            UserError: one of them is not valid.
        """
        for role in columns or ():
            if role not in ROLES:
                raise UserError(
                    f"--columns {role}=... is not valid{did_you_mean(role, ROLES)} columns "
                    f"are {', '.join(ROLES)}"
                )
        if images is not None and not Path(images).is_dir():
            raise UserError(f"--images {images} is not a folder; give the one that holds them")
        if frames is not None and (wrong := fault_of_frame(str(frames))):
            raise UserError(f"--frames {frames} {wrong}")
        if groups is not None:
            _check_rule(groups)
        return cls(
            dict(columns or {}),
            sheet,
            None if images is None else Path(images),
            groups,
            None if frames is None else str(frames),
            GreyLevels.parse(window),
            _checked_classes(classes or {}),
            tuple(subgroups.split(",") if isinstance(subgroups, str) else subgroups or ()),
        )

    def column(self, role: str) -> str:
        """What the table calls a role."""
        return self.columns.get(role, role)


def unused(names: Iterable[str], reading: Reading) -> list[str]:
    """A problem if it is said how to read own data, and none of the tasks of these names is any."""
    if reading == Reading() or any(map(tasks.is_manifest, names)):
        return []
    return [
        "--columns, --sheet, --images, --groups, --frames, --window, --classes and --subgroups are "
        "for tables and folders of your own, and no task is one; leave them out, or give the path "
        "as the task"
    ]


def columns_of(pairs: Iterable[str]) -> dict[str, str]:
    """ "image=file,label=diagnosis" as a mapping; names may hold blanks and commas.

    Raises:
        UserError: it is not of this form, or names a role twice.
    """
    example = "ROLE=NAME once for each of the columns, e.g. image=file,label=diagnosis"
    return _pairs("--columns", r"\w+", pairs, f"{example},group=PatientID")


def classes_of(pairs: Iterable[str]) -> dict[str, str]:
    """ "0=background,1=cyst" or "#000000=background,#ff0000=cyst" as a mapping.

    Raises:
        UserError: it is not of this form, or names a value twice.
    """
    return _pairs("--classes", r"#?\w+", pairs, "VALUE=NAME, e.g. 0=background,1=cyst")


def _pairs(option: str, key: str, pairs: Iterable[str], form: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in (part for pair in pairs for part in re.split(rf",(?=\s*{key}\s*=)", pair)):
        role, equals, name = (word.strip() for word in part.partition("="))
        if not (role and equals and name) or role in found:
            raise UserError(f"{option} {part} is not valid; write {form}")
        found[role] = name
    return found


def _checked_classes(classes: Mapping[str, str]) -> dict[str, str]:
    """Classes of masks that are all told by numbers from 0 to 255, or all by colours."""
    numbers = [key for key in classes if key.isdecimal() and int(key) <= MAX_CODE]
    colours = [key for key in classes if re.fullmatch("#[0-9a-fA-F]{6}", key)]
    if max(len(numbers), len(colours)) < len(classes):
        raise UserError(
            f"--classes {', '.join(classes)} are not valid; write all values of masks as "
            f"numbers from 0 to {MAX_CODE}, or all as colours such as #ff0000"
        )
    if classes and len(set(classes.values())) < 2:
        raise UserError(
            f"--classes names {next(iter(classes.values()))} alone; name the background first, "
            "then one class or more"
        )
    return dict(classes)


def fault_of_frame(word: str) -> str | None:
    """What is wrong with a word that says which frames are meant; None if nothing is."""
    if word in (ALL, *_PLACES) or (word.isdecimal() and int(word) > 0):
        return None
    return f"is not valid; write {ALL}, {', '.join(_PLACES)}, or a number from 1"


def frames_of(word: str, count: int) -> Iterable[int]:
    """Positions from 0 that a word means in a file of `count` frames; none beyond its end."""
    if word == ALL:
        return range(count)
    places = {"first": 0, "middle": count // 2, "last": count - 1}
    at = places[word] if word in places else int(word) - 1
    return range(at, at + 1) if at < count else ()


def _check_rule(groups: str) -> None:
    if groups in ("image", "folder", "dicom"):
        return
    try:
        brackets = re.compile(groups).groups
    except re.error as error:
        raise UserError(
            f"--groups {groups} is not valid ({error}); write image, folder, dicom, or a "
            "regular expression"
        ) from error
    if brackets != 1:
        raise UserError(
            f"--groups {groups} is not valid; write image, folder, dicom, or a regular "
            r"expression with one pair of brackets around the patient, e.g. '(P\d+)_'"
        )
