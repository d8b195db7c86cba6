"""The images in one file: itself, one frame of several, or all of them; or the clip in it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tasks.own_data.reading import Reading, fault_of_frame, frames_of
from tasks.samples import clip_files, dicom, image_kinds, images, volumes
from tasks.samples.grey_levels import HINT
from tasks.samples.images import Image, ImageFile
from ultrabench_eval.core.errors import UserError

SUFFIXES = frozenset((*image_kinds.SUFFIXES, *dicom.SUFFIXES, *volumes.SUFFIXES))

SEVERAL = (
    "hold several frames; say which with --frames: all, first, middle, last or a number from 1, or "
    "give the table a column frame"
)
MASKED = (
    "are clips with a mask, and nothing says which frame it is of; give the table a column frame "
    "with its number, from 1, or first, middle, last or all"
)
DEEP = f"have values of more than 8 bits and state no window; {HINT}"


class Undecided(Exception):
    """What only the user can say of a file: `SEVERAL` or `DEEP`."""

    def __init__(self, question: str, about: str) -> None:
        super().__init__(question, about)
        self.question, self.about = question, about


class Held(NamedTuple):
    """The images of a file that are meant."""

    images: tuple[Image, ...]
    frames: tuple[int, ...]
    """Their numbers from 1; none of a file that holds one image."""
    patient: str = ""
    """That a DICOM file states."""
    remarks: tuple[str, ...] = ()
    """What was done to it, for the notes of the task."""


def is_image(path: Path) -> bool:
    """Whether a file is of a kind that is read, by its suffix or by DICOM's mark."""
    return known_suffix(path) in SUFFIXES or dicom.is_dicom(path)


def known_suffix(path: Path) -> str:
    """A file's suffix in small letters, ".nii.gz" whole."""
    return volumes.suffix(path) or path.suffix.lower()


def held(path: Path, name: str, reading: Reading, frame: str) -> Held:
    """The images of a file.

    Args:
        path: of the file.
        name: of the image within its task.
        reading: as the user said.
        frame: which frames, in a word; "" if that is not said.

    Raises:
        UserError: it is damaged, or has no such frame.
        Undecided: it has several frames, or values of more than 8 bits, and the user said nothing.
    """
    suffix = known_suffix(path)
    if suffix in volumes.SUFFIXES:
        return _volume(path, name, reading, frame)
    if suffix not in image_kinds.SUFFIXES and (suffix in dicom.SUFFIXES or dicom.is_dicom(path)):
        return _dicom(path, name, reading, frame)
    levels = None if reading.levels.own else reading.levels
    count = images.count(path) if frame and suffix in image_kinds.STACKS else 1
    if count == 1:
        return Held((ImageFile(path, name, levels=levels),), ())
    numbers = _chosen(path, count, frame)
    return Held(
        tuple(ImageFile(path, f"{name}#{n}", levels=levels, frame=n - 1) for n in numbers),
        numbers,
    )


def held_clip(path: Path, name: str, reading: Reading, frame: str, *, masked: bool) -> Held:
    """The clip of a file or folder; several times if several of its frames have a mask.

    Args:
        path: of the file or folder.
        name: of the clip within its task.
        reading: as the user said.
        frame: that the target is of, in a word; "" if it is of the whole clip.
        masked: whether it must be said.

    Raises:
        UserError: it is damaged, of a kind that is not read, or has no such frame.
        Undecided: nothing says which frame a mask is of, or values of more than 8 bits are shown.
    """
    clip = clip_files.of(path, name, levels=reading.levels)
    patient, remarks = "", tuple[str, ...]()
    if isinstance(clip, clip_files.DicomClip):
        patient, remarks = _of_dicom(path, name, reading)
    elif isinstance(clip, clip_files.ArrayClip):
        known = volumes.sequence_facts(path, path)
        remarks = _of_volume(path, name, reading, not known.deep, known.spacing)
    if masked and not frame:
        raise Undecided(MASKED, name)
    if not frame:
        return Held((clip,), (), patient, remarks)
    numbers = _numbers(path, clip.count, frame)
    made = (
        clip_files.of(path, f"{name}#{number}", at=number - 1, levels=reading.levels)
        for number in numbers
    )
    return Held(tuple(made), numbers, patient, remarks)


def images_of(path: Path, reading: Reading) -> tuple[Image, ...]:
    """The images of a file that no table lists, named by its path.

    Raises:
        UserError: it is damaged, or the user must say which frames or which window are meant.
    """
    if not path.is_file():
        return (ImageFile(path, str(path)),)  # whose reading tells
    try:
        return held(path, str(path), reading, reading.frames or "").images
    except Undecided as error:
        raise UserError(f"some files ({error.about}) {error.question}") from error


def _volume(path: Path, name: str, reading: Reading, frame: str) -> Held:
    facts = volumes.facts(path)
    remarks = _of_volume(path, name, reading, facts.plain, facts.spacing)
    numbers = _chosen(path, facts.frames, frame)
    made = (
        volumes.VolumeFrame(path, shown, at, reading.levels) for shown, at in _named(name, numbers)
    )
    return Held(tuple(made), numbers, remarks=remarks)


def _of_volume(
    path: Path, name: str, reading: Reading, plain: bool, spacing: tuple[float, float]
) -> tuple[str, ...]:
    """What is done to a NIfTI or MetaImage file of so spaced rows and columns."""
    if not plain and reading.levels.own:
        raise Undecided(DEEP, name)
    remarks = []
    if spacing[0] != spacing[1] and abs(spacing[0] / spacing[1] - 1) > 0.01:
        remarks.append("pixels that are not square by the header are read as they are stored")
    if volumes.suffix(path) in volumes.NIFTI:
        remarks.append(
            "the first axis of NIfTI is taken for columns and the second for rows; the orientation "
            "in the header is not applied"
        )
    return tuple(remarks)


def _dicom(path: Path, name: str, reading: Reading, frame: str) -> Held:
    patient, remarks = _of_dicom(path, name, reading)
    numbers = _chosen(path, dicom.facts(path).frames, frame)
    made = (
        dicom.DicomFrame(path, shown, at, reading.levels) for shown, at in _named(name, numbers)
    )
    return Held(tuple(made), numbers, patient, remarks)


def _of_dicom(path: Path, name: str, reading: Reading) -> tuple[str, tuple[str, ...]]:
    """The patient that a DICOM file states, and what is done to its values."""
    dicom.check_installed(path)
    facts = dicom.facts(path)
    if not facts.plain and reading.levels.own and not facts.window:
        raise Undecided(DEEP, f"{name}, {facts.bits} bits")
    remarks = []
    if facts.inverted:
        remarks.append("MONOCHROME1 is inverted, so that large is bright")
    if not facts.plain:
        how = f"the window in the file ({facts.window})" if reading.levels.own else "--window"
        remarks.append(f"values become grey levels by {how}")
    return facts.patient, tuple(remarks)


def _chosen(path: Path, count: int, frame: str) -> tuple[int, ...]:
    """Numbers from 1 of the frames that are meant; none of a file with one."""
    if not frame:
        if count > 1:
            raise Undecided(SEVERAL, f"{path.name}, {count} frames")
        return ()
    numbers = _numbers(path, count, frame)
    return numbers if count > 1 else ()


def _numbers(path: Path, count: int, frame: str) -> tuple[int, ...]:
    """Numbers from 1 of the frames that a word means."""
    if wrong := fault_of_frame(frame):
        raise UserError(f"frame {frame!r} of {path.name} {wrong}")
    numbers = tuple(at + 1 for at in frames_of(frame, count))
    if not numbers:
        raise UserError(f"{path.name} has {count} frame(s), so none of number {frame}")
    return numbers


def _named(name: str, numbers: tuple[int, ...]) -> list[tuple[str, int]]:
    """Names of frames and their positions from 0."""
    return [(f"{name}#{number}", number - 1) for number in numbers] or [(name, 0)]
