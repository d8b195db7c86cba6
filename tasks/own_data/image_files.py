"""The images in one file: itself, one frame of several, or all of them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tasks.own_data.reading import Reading, fault_of_frame, frames_of
from tasks.samples import dicom, image_kinds, images, volumes
from tasks.samples.grey_levels import HINT
from tasks.samples.images import Image, ImageFile
from ultrabench_eval.core.errors import UserError

SUFFIXES = frozenset((*image_kinds.SUFFIXES, *dicom.SUFFIXES, *volumes.SUFFIXES))

SEVERAL = (
    "hold several frames; say which with --frames: all, first, middle, last or a number from 1, or "
    "give the table a column frame"
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
    if not facts.plain and reading.levels.own:
        raise Undecided(DEEP, name)
    remarks = []
    if facts.spacing[0] != facts.spacing[1] and abs(facts.spacing[0] / facts.spacing[1] - 1) > 0.01:
        remarks.append("pixels that are not square by the header are read as they are stored")
    if volumes.suffix(path) in volumes.NIFTI:
        remarks.append(
            "the first axis of NIfTI is taken for columns and the second for rows; the orientation "
            "in the header is not applied"
        )
    numbers = _chosen(path, facts.frames, frame)
    made = (
        volumes.VolumeFrame(path, shown, at, reading.levels) for shown, at in _named(name, numbers)
    )
    return Held(tuple(made), numbers, remarks=tuple(remarks))


def _dicom(path: Path, name: str, reading: Reading, frame: str) -> Held:
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
    numbers = _chosen(path, facts.frames, frame)
    made = (
        dicom.DicomFrame(path, shown, at, reading.levels) for shown, at in _named(name, numbers)
    )
    return Held(tuple(made), numbers, facts.patient, tuple(remarks))


def _chosen(path: Path, count: int, frame: str) -> tuple[int, ...]:
    """Numbers from 1 of the frames that are meant; none of a file with one."""
    if not frame:
        if count > 1:
            raise Undecided(SEVERAL, f"{path.name}, {count} frames")
        return ()
    if wrong := fault_of_frame(frame):
        raise UserError(f"frame {frame!r} of {path.name} {wrong}")
    numbers = tuple(at + 1 for at in frames_of(frame, count))
    if not numbers:
        raise UserError(f"{path.name} has {count} frame(s), so none of number {frame}")
    return numbers if count > 1 else ()


def _named(name: str, numbers: tuple[int, ...]) -> list[tuple[str, int]]:
    """Names of frames and their positions from 0."""
    return [(f"{name}#{number}", number - 1) for number in numbers] or [(name, 0)]
