"""Finding an original release inside a folder, however it was unpacked."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.obtain import archives
from ultrabench_eval.core.errors import UserError

if TYPE_CHECKING:
    from tasks.samples.images import ImageFile

SYNTHETIC_MARKER = "SYNTHETIC.json"  # the phantom suite writes it beside every release it makes
MARKS = {
    "aul": ("Normal/image", "Benign/image", "Malignant/image"),
    "busbra": ("bus_data.csv", "Images"),
    "busi": ("Dataset_BUSI_with_GT",),
    "ddti": ("1.xml", "1_1.jpg", "2.xml", "2_1.jpg"),
    "echonet-dynamic": ("FileList.csv", "VolumeTracings.csv", "Videos"),
    "fatty_liver": ("dataset_liver_bmodes_steatosis_assessment_IJCARS.mat",),
    "gbcu": ("imgs", "train.txt", "test.txt"),
    "mmotu": ("images", "train_cls.txt", "val_cls.txt"),
    "pocus": ("pocus_images/convex", "pocus_videos/convex"),
    "camus": ("database_nifti",),
    "hc18": ("training_set", "training_set_pixel_size_and_HC.csv"),
    "open-kidney": ("labels/reviewed_labels_1.csv", "labels/reviewed_masks_1/capsule"),
    "psfhs": ("image_mha", "label_mha"),
    "stanford-thyroid": ("dataset.hdf5", "metadata.csv"),
    "tn5000": ("JPEGImages", "Annotations", "ImageSets/Main"),
}
"""What a folder holds if it is a task's release; of BUTTERFLY, `tasks.recognise` knows more."""
OLDER_MARKS = {"camus": ("training/patient0001",)}
"""The same of an older release."""
_MASK = "_mask"
_IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}


def find(folder: Path, *marks: str, source: str) -> Path:
    """The directory at or below `folder` that holds every path of `marks`.

    Directories nearest the top win, then alphabetical order, so that the choice never depends on
    the file system. Hidden folders and macOS leftovers are ignored.

    Raises:
        UserError: no directory holds them all.
    """
    found = next(candidates(folder, marks), None)
    if found is not None:
        return found
    raise UserError(
        f"{folder} does not hold the release: no folder at or below it has "
        f"{' and '.join(marks)}; {how_to_unpack(folder, source)}"
    )


def how_to_unpack(folder: Path, source: str) -> str:
    """What to do where a folder does not hold a release: the end of a sentence."""
    packed = archives.find_archives(folder)
    if packed:
        return f"`ubench data prepare {folder.name}` unpacks {packed[0].name} in it"
    return f"unpack {source} there"


def candidates(folder: Path, marks: Sequence[str], depth: int = 99) -> Iterator[Path]:
    """All directories at or at most `depth` levels below `folder` that hold every path of `marks`,
    in the order of `find`."""
    level, seen = [folder], set[Path]()
    for _ in range(depth + 1):
        yield from (d for d in level if all(inside(d, mark).exists() for mark in marks))
        seen.update(directory.resolve() for directory in level)  # links may run in circles
        level = [c for d in level for c in _subfolders(d) if c.resolve() not in seen]
        if not level:
            return


def inside(directory: Path, name: str) -> Path:
    """The file or folder `name` ("imgs/1.jpg") of a directory, in whatever case it is written.

    A release that went through another system may have its names in capitals. The exact name wins;
    where there is none in any case, the exact path comes back.
    """
    exact = directory / name
    if exact.exists():
        return exact
    found = directory
    for part in name.split("/"):
        found = _entries(found).get(part.casefold(), found / part)
    return found if found.exists() else exact


class Folder:
    """The files of a directory by name, in whatever case; listed once.

    Args:
        path: the directory; none that is not there has any files.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files = _entries(path)

    def __truediv__(self, name: str) -> Path:
        """The file of this name; the exact one wins, and is what comes back if there is none."""
        found = self._files.get(name.casefold())
        exact = self.path / name
        return exact if found is None or exact.exists() else found


def _entries(directory: Path) -> dict[str, Path]:
    """What a directory holds by name without case; of two that differ in case only, the first."""
    if not directory.is_dir():
        return {}
    entries: dict[str, Path] = {}
    for path in sorted(directory.iterdir()):
        entries.setdefault(path.name.casefold(), path)
    return entries


def files_in(directory: Path, suffixes: Collection[str]) -> list[Path]:
    """Files of a directory with one of these suffixes (".xml"), in any case; by name.

    Hidden and `._` files are ignored.
    """
    return [
        path
        for path in sorted(directory.iterdir())
        if path.suffix.lower() in suffixes and not path.name.startswith(".")
    ]


def images_in(directory: Path) -> list[Path]:
    """Image files of a directory as `files_in` lists them, without masks beside their images."""
    return without_masks(files_in(directory, _IMAGE_SUFFIXES))


def walk(folder: Path, suffix: str) -> Iterator[Path]:
    """Files below `folder` with this suffix, as `images_in` takes them from each directory."""
    yield from (path for path in images_in(folder) if path.suffix.lower() == suffix)
    for child in _subfolders(folder):
        yield from walk(child, suffix)


def without_masks(paths: Iterable[Path]) -> list[Path]:
    """The files without those that users' tools put beside them, like 12_mask.png beside 12.jpg."""
    paths = list(paths)
    stems = {(path.parent, path.stem.lower()) for path in paths}
    return [
        path
        for path in paths
        if not path.stem.lower().endswith(_MASK)
        or (path.parent, path.stem.lower().removesuffix(_MASK)) not in stems
    ]


def image(path: Path, name: str) -> ImageFile:
    """An image of a release, from which a damaged copy can be made good again."""
    from tasks.samples.images import (  # here, because names are listed without numpy
        RELEASE,
        ImageFile,
    )

    return ImageFile(path, name, RELEASE)


def read_text(path: Path) -> str:
    """Text of a release's file, UTF-8 with or without byte order mark.

    Raises:
        UserError: the file cannot be read or is in another encoding.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 text (byte {error.start}); copy it again from the release"
        ) from error
    except OSError as error:
        raise UserError(
            f"cannot read {path} ({error.strerror}); copy it again from the release"
        ) from error


def labelled_list(path: Path, separator: str | None, n_classes: int) -> list[tuple[str, int]]:
    """Rows `<name><separator><code>` of a list file, in order; empty lines are ignored.

    Args:
        path: the list file.
        separator: as for `str.split`; None is any white space.
        n_classes: codes run from 0 to n_classes - 1.

    Raises:
        UserError: a row is not of this form; it is named by its line number.
    """
    rows = []
    known = {str(code) for code in range(n_classes)}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        name, *code = (part.strip() for part in line.rsplit(separator, 1))
        if not name or not code or code[0].lstrip("0").zfill(1) not in known:
            raise UserError(
                f"{path}, line {number}: '{line.strip()}' is not an image name and a class code "
                f"from 0 to {n_classes - 1}; copy the file again from the release"
            )
        rows.append((name, int(code[0])))
    return rows


def missing_note(
    what: str, missing: Iterable[str], total: int, file: str = "image file"
) -> tuple[str, ...]:
    """A note that counts rows whose file is absent; empty if none is."""
    missing = list(missing)
    if not missing:
        return ()
    return (f"{len(missing)} of {total} {what} have no {file} (first: {missing[0]})",)


def unused_note(what: str, unused: Iterable[str]) -> tuple[str, ...]:
    """A note that counts files which are there but not read; empty if there are none."""
    unused = sorted(unused)
    if not unused:
        return ()
    return (f"{len(unused)} {what} (first: {unused[0]})",)


def _subfolders(directory: Path) -> list[Path]:
    try:
        children = sorted(path for path in directory.iterdir() if path.is_dir())
    except PermissionError as error:
        raise UserError(f"cannot read folder {directory}; give yourself the rights") from error
    return [c for c in children if not c.name.startswith(".") and c.name != "__MACOSX"]
