"""CAMUS: apical views of the heart, two and four chambers; 500 patients, from ED to ES."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tasks import release, splits
from tasks.samples import volumes
from tasks.samples.clip_files import ArrayClip
from tasks.samples.label_masks import ArrayFileMask, Codes
from tasks.samples.volumes import VolumeFrame
from tasks.targets import Target
from tasks.task import SPLITS, Item, Rule, Task, TaskCard
from ultrabench_eval.core.errors import NotInThisCopy, UserError
from ultrabench_eval.core.grouping import by_key

FOLDS = 10
CARD = TaskCard(
    name="camus",
    title="CAMUS",
    organ="heart",
    target="left ventricle, myocardium and left atrium",
    classes=("background", "left ventricle", "myocardium", "left atrium"),
    type="segmentation",
    paper="Leclerc et al., IEEE TMI 2019, doi 10.1109/TMI.2019.2900516",
    source="https://www.creatis.insa-lyon.fr/Challenge/camus (registration; CAMUS_public)",
    licence="CC BY-NC-SA 4.0, not verified; its paper must be cited",
    short_side=292,
    groups="patient",
    defects=(
        "Frames of a sequence are near copies, so splitting by image would leak.",
        "Images are turned as UltraBench turns them, which shows them mirrored left to right "
        "against the older .mhd release.",
    ),
    patients=500,
    rule=Rule("group", seed=42, validation=0.1, test=0.2),
    splits={
        "published": "UltraBench's patients: its rule over the patients 1 to 500, of whom some may "
        "not be there",
        "rule": "UltraBench's rule over the patients that are there",
        **{
            f"fold{k}": f"fold {k} of the {FOLDS} in database_split, which are those of the paper"
            for k in range(1, FOLDS + 1)
        },
    },
)
AGES = ((50, "0 to 49"), (65, "50 to 64"), (80, "65 to 79"), (999, "80 and over"))
"""Years below which a patient is of a group by age."""
QUALITIES = ("Poor", "Medium", "Good")  # the position is UltraBench's code
CARDS = {
    "camus": CARD,
    "camus-quality": dataclasses.replace(
        CARD,
        name="camus-quality",
        title="CAMUS quality",
        target="image quality",
        classes=tuple(quality.lower() for quality in QUALITIES),
        type="classification",
        dataset="camus",
    ),
    "camus-ef": dataclasses.replace(
        CARD,
        name="camus-ef",
        title="CAMUS EF",
        target="ejection fraction",
        classes=(),
        type="regression",
        dataset="camus",
        unit="%",
        defects=(
            *CARD.defects,
            "Each frame is asked for the ejection fraction of its patient, although only two "
            "moments of a beat together show it.",
        ),
    ),
    "camus-clips": dataclasses.replace(
        CARD,
        name="camus-clips",
        title="CAMUS clips",
        samples="clip",
        dataset="camus",
        defects=(
            *CARD.defects,
            "A sample is a half sequence, of which the first or the last frame (ED, ES) is scored: "
            "fewer frames than UltraBench's task, which takes them all.",
        ),
    ),
}
CARDS["camus-clips-ef"] = dataclasses.replace(
    CARDS["camus-ef"],
    name="camus-clips-ef",
    title="CAMUS clips EF",
    samples="clip",
    defects=(
        *CARD.defects,
        "A half sequence of one view is asked for the ejection fraction, which is measured on both "
        "views together.",
    ),
)

CODES: Codes = {code: code for code in range(len(CARD.classes))}
DATABASE, OLDER = "database_nifti", "training"  # of the older release, those with masks
SUFFIXES = {DATABASE: ".nii.gz", OLDER: ".mhd"}
PATIENT = re.compile(r"patient\d{4}")
PATIENTS = 500
VIEWS = ("2CH", "4CH")
PHASES = ("ED", "ES")
SEQUENCE = "half_sequence"
LISTS = ("training", "validation", "testing")  # what database_split calls our splits


class _Frame(NamedTuple):
    """An image of the task."""

    patient: str
    """As in patient0001."""
    view: str
    image: VolumeFrame | ArrayClip
    mask: ArrayFileMask
    phase: str = ""
    """Of a clip that is a sample for one of its ends: "ED" or "ES", if that is known."""


class _Copy(NamedTuple):
    """What is there of the release."""

    base: Path
    database: Path
    """Where the patients' folders lie."""
    patients: list[str]
    """Of the whole release."""
    frames: list[_Frame]
    missing: list[str]
    notes: list[str]

    @property
    def older(self) -> bool:
        """Whether it is the release of .mhd files."""
        return self.database.name.casefold() == OLDER


def read(folder: Path, how: str = "published") -> Task:
    """Read CAMUS by one of `CARD.splits`: every frame of every half sequence of both views.

    Where a copy has no half sequences, the frames of end-diastole and end-systole (ED, ES) that it
    has; a note says so. The older release of .mhd files has never more than these. Masks have the
    spacing of their headers.

    Raises:
        UserError: release not found, mixed with the other one, or a file of it is damaged.
    """
    copy = _copy(folder)
    return _task(folder, CARD, how, copy, [frame.mask for frame in copy.frames])


def read_quality(folder: Path, how: str = "published") -> Task:
    """Read the image quality of CAMUS, which `Info_<view>.cfg` states for each view of a patient.

    Raises:
        UserError: see `read`, or patients of training or validation have no such file.
    """
    copy = _copy(folder)
    card = CARDS["camus-quality"]
    return _task(folder, card, how, copy, _stated(copy, "ImageQuality", QUALITIES.index))


def read_ejection_fraction(folder: Path, how: str = "published") -> Task:
    """Read the ejection fraction of CAMUS in percent, which `Info_<view>.cfg` states.

    Raises:
        UserError: see `read_quality`.
    """
    copy = _copy(folder)
    key = "LVef" if copy.older else "EF"
    return _task(folder, CARDS["camus-ef"], how, copy, _stated(copy, key, float))


def read_clips(folder: Path, how: str = "published") -> Task:
    """Read the half sequences of CAMUS as clips, two samples each: for the mask of the first frame,
    and for that of the last. One is end-diastole, the other end-systole, as `Info_<view>.cfg` says.

    Raises:
        UserError: see `read`, or there are no half sequences.
    """
    copy = _as_clips(_copy(folder), whole=False)
    return _task(folder, CARDS["camus-clips"], how, copy, [frame.mask for frame in copy.frames])


def read_clips_ejection_fraction(folder: Path, how: str = "published") -> Task:
    """Read the ejection fraction of CAMUS in percent, of which each half sequence is one sample.

    Raises:
        UserError: see `read_quality`, or there are no half sequences.
    """
    copy = _as_clips(_copy(folder), whole=True)
    return _task(folder, CARDS["camus-clips-ef"], how, copy, _stated(copy, "EF", float))


def _as_clips(copy: _Copy, whole: bool) -> _Copy:
    """A copy with one sample a half sequence, or one for each end of it.

    Raises:
        NotInThisCopy: it has no half sequences.
    """
    sequences = by_key(
        (frame.image.path, frame)
        for frame in copy.frames
        if frame.image.name.partition("#")[0].endswith(SEQUENCE)
    )
    if not sequences:
        raise NotInThisCopy(
            f"there are no half sequences with masks in {copy.database}, and a clip is one of "
            "them; copy the files patient*_half_sequence*.nii.gz of CAMUS_public"
        )
    samples = []
    for path, frames in sequences.items():
        about = _info_of(frames[0])
        name, rate = frames[0].image.name.partition("#")[0], _rate(about.get("FrameRate", ""))
        clip = ArrayClip(path, name, told_rate=rate, mirrored=True)
        ends = [] if whole else sorted({0, len(frames) - 1})
        phases = {about.get(phase, ""): phase for phase in PHASES}
        samples += [
            frames[at]._replace(
                image=dataclasses.replace(clip, name=f"{name}#{at + 1}", at=at),
                phase=phases.get(str(at + 1), ""),
            )
            for at in ends
        ] or [frames[0]._replace(image=clip)]
    return copy._replace(frames=samples)


def _rate(text: str) -> float | None:
    """Frames a second as an Info file has them; None where it has no such number."""
    try:
        return float(text) if float(text) > 0 else None
    except ValueError:
        return None


def _task(
    folder: Path, card: TaskCard, how: str, copy: _Copy, targets: Sequence[Target | None]
) -> Task:
    """The task of a copy's frames; a target is None where the copy does not state it."""
    side = _sides(folder, how, copy)
    parts: dict[str, list[Item]] = {name: [] for name in SPLITS}
    untold: list[_Frame] = []
    for frame, target in zip(copy.frames, targets, strict=True):
        if frame.patient in side and target is not None:
            of = side[frame.patient]
            known = _subgroups(frame) if of == "test" else ()  # the only split that is scored
            parts[of].append(Item(frame.image, target, frame.patient, subgroups=known))
        elif frame.patient in side:
            untold.append(frame)
    learnt = [frame for frame in untold if side[frame.patient] != "test"]
    if learnt:
        patients = {frame.patient for frame in learnt}
        raise NotInThisCopy(
            f"Info_{learnt[0].view}.cfg is missing for {len(patients)} training and validation "
            f"patients in {copy.database} (first: {learnt[0].patient}), so nothing tells "
            f"the {card.target} that {card.name} has to learn; copy these files from the release"
        )
    names = [frame.image.name for frame in untold]
    return splits.assemble(
        card,
        folder,
        train=parts["train"],
        validation=parts["validation"],
        test=parts["test"],
        missing=[*copy.missing, *names],
        notes=(
            *copy.notes,
            *release.missing_note("images", names, len(copy.frames), "Info_<view>.cfg"),
            *release.unused_note(
                f"patients are in no list of {how}: not used",
                {frame.patient for frame in copy.frames} - set(side),
            ),
        ),
    )


def _sides(folder: Path, how: str, copy: _Copy) -> dict[str, str]:
    """The split of each patient."""
    if how.startswith("fold"):
        return {
            patient: split
            for called, split in zip(LISTS, SPLITS, strict=True)
            for patient in _listed(copy.base, int(how[4:]), called)
        }
    every = {frame.patient for frame in copy.frames} if how == "rule" else copy.patients
    numbers = {str(int(patient[-4:])): patient for patient in every}
    drawn = splits.sides(numbers, CARD.rule, folder)
    return {patient: drawn[number] for number, patient in numbers.items()}


def _copy(folder: Path) -> _Copy:
    base, name = _found(folder)
    suffix = SUFFIXES[name]
    database = release.Folder(release.inside(base, name))
    patients = _patients(base, database.path)
    folders = {patient: release.Folder(database / patient) for patient in patients}

    def there(view: str, kind: str, suffix: str) -> Iterator[Path]:
        paths = (_files(at, who, view, kind, suffix)[0] for who, at in folders.items())
        return (path for path in paths if path.is_file())

    kinds = [(view, kind) for kind in (SEQUENCE, *PHASES) for view in VIEWS]
    held = [one for one in kinds if any(there(*one, suffix))]
    (other,) = set(SUFFIXES.values()) - {suffix}
    if foreign := next((path for one in kinds for path in there(*one, other)), None):
        raise _mixed(foreign, f"a {other} file")
    whole = any(kind == SEQUENCE for _, kind in held)
    wanted = [(view, SEQUENCE) for view in VIEWS] if whole else held
    frames: list[_Frame] = []
    missing: list[str] = []
    for patient, at in folders.items():
        for view, kind in wanted:
            files = _files(at, patient, view, kind, suffix)
            if all(path.is_file() for path in files):
                frames += _frames(patient, view, kind, *files)
            else:
                missing.append(files[0].name)
    what = "half sequences" if whole else "frames"
    notes = release.missing_note(what, missing, len(wanted) * len(patients), "image or mask file")
    notes = (*([] if whole else [_part(held)]), *notes)
    if name == OLDER and frames:
        notes = (_of_older(frames[0]), *notes)
    return _Copy(base, database.path, patients, frames, missing, [*notes])


def _found(folder: Path) -> tuple[Path, str]:
    """The release at or below a folder, and what its folder of patients is called."""
    training = release.candidates(folder, (OLDER,), depth=2)
    older = next((base for base in training if _has_patients(release.inside(base, OLDER))), None)
    newer = next(release.candidates(folder, (DATABASE,)), None)
    if older and newer:
        raise _mixed(older / OLDER, "the older release, of .mhd files")
    if older:
        return older, OLDER
    return newer or release.find(folder, DATABASE, source=f"CAMUS_public ({DATABASE}/)"), DATABASE


def _has_patients(place: Path) -> bool:
    return place.is_dir() and any(PATIENT.fullmatch(path.name.lower()) for path in place.iterdir())


def _mixed(place: Path, what: str) -> UserError:
    return UserError(
        f"{place} is {what}, beside files of the other release of CAMUS; keep one release in the "
        "folder"
    )


def _of_older(frame: _Frame) -> str:
    """What to know of the older release."""
    rows, columns = frame.mask.spacing or (float("nan"),) * 2
    return (
        f"the older release of .mhd files: pixels are {columns:g} mm wide and {rows:g} mm high, so "
        "images look stretched; distances in mm allow for it. Its patients are taken to have the "
        "numbers of the NIfTI release; those of testing/ have no masks and are not used"
    )


def _part(held: Sequence[tuple[str, str]]) -> str:
    """What a copy without half sequences has, in words."""
    views = " and ".join(dict.fromkeys(view for view, _ in held))
    kinds = " and ".join(dict.fromkeys(kind for _, kind in held))
    return (
        f"not UltraBench's task: there are no half sequences here, so it is {kinds} of {views} "
        "instead of every frame from ED to ES of 2CH and 4CH; scores cannot be compared"
    )


def _files(
    at: release.Folder, patient: str, view: str, kind: str, suffix: str
) -> tuple[Path, Path]:
    """Where an image (or sequence) and its masks lie, there or not."""
    stem = f"{patient}_{view}_{kind}"
    return at / f"{stem}{suffix}", at / f"{stem}_gt{suffix}"


def _frames(patient: str, view: str, kind: str, image: Path, mask: Path) -> Iterator[_Frame]:
    """The frames of a file, numbered from 1 as UltraBench numbers those of sequences."""
    counts = [volumes.facts(path).frames for path in (image, mask)]
    if counts[0] != counts[1]:
        raise UserError(
            f"{image} has {counts[0]} frame(s), but {mask.name} {counts[1]}; copy both again from "
            "the release"
        )
    for index in range(counts[0]):
        name = f"{patient}_{view}_{kind}" + (f"#{index + 1}" if kind == SEQUENCE else "")
        frame = VolumeFrame(image, name, index, mirrored=True)
        masked = ArrayFileMask(frame, (mask,), codes=CODES, index=index, mirrored=True)
        yield _Frame(patient, view, frame, masked)


def _patients(base: Path, database: Path) -> list[str]:
    """Those of the release: of its lists, or 1 to 500 where they are not there."""
    lists = release.inside(base, "database_split").is_dir()
    every = (
        {patient for called in LISTS for patient in _listed(base, 1, called)}
        if lists
        else {f"patient{number:04}" for number in range(1, PATIENTS + 1)}
    )
    there = {path.name.lower() for path in database.iterdir() if path.is_dir()}
    return sorted(every | {name for name in there if PATIENT.fullmatch(name)})


def _listed(base: Path, fold: int, called: str) -> list[str]:
    """The patients of a list, one a line."""
    path = release.inside(base, f"database_split/subGroup{fold}_{called}.txt")
    patients = release.read_text(path).split()
    for patient in patients:
        if not PATIENT.fullmatch(patient):
            raise UserError(
                f"{path} lists '{patient}', not the name of a patient (patient0001); copy it "
                "again from the release"
            )
    return patients


def _stated(copy: _Copy, key: str, parse: Callable[[str], Target]) -> list[Target | None]:
    """What the Info file of each frame's view says; None where there is none."""
    told: dict[Path, Target | None] = {}
    for frame in copy.frames:
        folder = frame.image.path.parent
        path = folder / f"Info_{frame.view}.cfg"
        if path not in told:
            told[path] = _of_info(release.inside(folder, path.name), key, parse)
    return [told[f.image.path.parent / f"Info_{f.view}.cfg"] for f in copy.frames]


def _subgroups(frame: _Frame) -> tuple[tuple[str, str], ...]:
    """View, sex, age and image quality of a frame; the view alone without an Info file."""
    values = _info_of(frame)
    age = values.get("Age", "")
    known = {
        "view": frame.view,
        "phase": frame.phase,
        "sex": values.get("Sex", ""),
        "age": next(name for limit, name in AGES if int(age) < limit) if age.isdecimal() else "",
        "image quality": values.get("ImageQuality", "").lower(),
    }
    return tuple((name, value) for name, value in known.items() if value)


def _info_of(frame: _Frame) -> dict[str, str]:
    """What the Info file of a frame's view says; nothing where there is none."""
    path = release.inside(frame.image.path.parent, f"Info_{frame.view}.cfg")
    return _info(path) if path.is_file() else {}


def _info(path: Path) -> dict[str, str]:
    """The lines "key: value" of an Info file."""
    lines = (line.partition(":") for line in release.read_text(path).splitlines())
    return {name.strip(): value.strip() for name, _, value in lines}


def _of_info(path: Path, key: str, parse: Callable[[str], Target]) -> Target | None:
    """A value of an Info file, whose lines are "key: value"; None if there is no such file."""
    if not path.is_file():
        return None
    values = _info(path)
    try:
        return parse(values[key])
    except (KeyError, ValueError) as error:
        raise UserError(
            f"{path} states no {key} that is known ({values.get(key, 'nothing')}); copy it again "
            "from the release"
        ) from error
