"""Own images of every kind: what they are decoded to, what is asked, and what is reported."""

from __future__ import annotations

import contextlib
import gzip
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import PIL.Image
import pytest
from dicom_files import save_dicom
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

import tasks
from tasks.own_data import image_files
from tasks.own_data.manifest import listed
from tasks.own_data.reading import Reading, columns_of, frames_of
from tasks.samples import dicom, volumes
from tasks.samples.grey_levels import GreyLevels
from tasks.samples.images import ImageFile
from tasks.task import Task
from ultrabench_eval.core import hashing
from ultrabench_eval.core.errors import UserError

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
DEEP = GREY.astype(np.uint16) * 16  # 12 bits
CLIP = np.stack([GREY, GREY + 3, GREY + 6])


def table(folder: Path, names: list[str], more: str = "", values: str = "") -> Path:
    """A manifest of images in turn benign and malignant, for train, val and test."""
    labels, splits = ("benign", "malignant"), ("train", "train", "val", "test")
    rows = [f"{name},{labels[n % 2]},{splits[n % 4]}{values}" for n, name in enumerate(names)]
    path = folder / "mine.csv"
    path.write_text("\n".join([f"image,label,split{more}", *rows]) + "\n")
    return path


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Task]:
    """Reads a task whose third image is the file that is named, beside plain ones."""
    for n in range(3):
        PIL.Image.new("L", (8, 6), 40 * n).save(tmp_path / f"{n}.png")

    def read(name: str, **said: Any) -> Task:
        path = table(tmp_path, ["0.png", "1.png", name, "2.png"])
        return tasks.load(str(path), reading=Reading.of(**said))

    return read


def pixels_of(task: Task, at: int = 0) -> np.ndarray:
    image = task.validation.images[at]
    read = image.read(image.digest())
    assert read.dtype == np.uint8
    assert (read == read[..., :1]).all()
    return np.asarray(read[..., 0])


def as_nifti(path: Path, values: np.ndarray) -> Path:
    """Values [T, H, W] or [H, W], stored with columns first."""
    nibabel.save(nibabel.Nifti1Image(values.T if values.ndim < 4 else values, np.eye(4)), path)
    return path


def as_meta(path: Path, values: np.ndarray, kind: str = "MET_UCHAR", more: str = "") -> Path:
    """Values [T, H, W] or [H, W]; an .mhd file has its data beside it."""
    data = zlib.compress(values.tobytes()) if "CompressedData = True" in more else values.tobytes()
    local = path.suffix == ".mha"
    header = (
        f"ObjectType = Image\nNDims = {values.ndim}\n{more}"
        f"DimSize = {' '.join(map(str, values.shape[::-1]))}\nElementType = {kind}\n"
        f"ElementDataFile = {'LOCAL' if local else path.with_suffix('.raw').name}\n"
    ).encode()
    path.write_bytes(header + data if local else header)
    if not local:
        path.with_suffix(".raw").write_bytes(data)
    return path


# ---- still images --------------------------------------------------------------------------------


def test_formats_are_decoded_alike(tmp_path: Path, load: Callable[..., Task]) -> None:
    save_dicom(tmp_path / "a.dcm", GREY)
    save_dicom(tmp_path / "IM_0001", GREY)
    save_dicom(tmp_path / "inverted.dcm", 255 - GREY, "MONOCHROME1")
    as_nifti(tmp_path / "a.nii", GREY)
    as_nifti(tmp_path / "a.nii.gz", GREY)
    as_meta(tmp_path / "a.mha", GREY)
    as_meta(tmp_path / "b.mha", GREY, more="CompressedData = True\n")
    as_meta(tmp_path / "a.mhd", GREY[None])
    for suffix in ("tif", "bmp"):
        PIL.Image.fromarray(GREY).save(tmp_path / f"a.{suffix}")
    for name in sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".raw"):
        if name[0] not in "012" and name != "mine.csv":
            np.testing.assert_array_equal(pixels_of(load(name)), GREY, err_msg=name)
    assert (
        "MONOCHROME1 is inverted, so that large is bright: 1 of the files"
        in load("inverted.dcm").notes
    )
    assert any("orientation in the header is not applied" in note for note in load("a.nii").notes)


def test_colours(tmp_path: Path, load: Callable[..., Task]) -> None:
    colours = np.stack([GREY, GREY // 2, 255 - GREY], axis=-1)
    save_dicom(tmp_path / "a.dcm", colours, "RGB")
    header = "ObjectType = Image\nNDims = 2\nElementNumberOfChannels = 3\nDimSize = 8 6\n"
    header += "ElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
    (tmp_path / "a.mha").write_bytes(header.encode() + colours.tobytes())
    rgb = np.zeros((8, 6), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    for n, name in enumerate("RGB"):
        rgb[name] = colours[..., n].T
    nibabel.save(nibabel.Nifti1Image(rgb, np.eye(4)), tmp_path / "a.nii")
    for name in ("a.dcm", "a.mha", "a.nii"):
        np.testing.assert_array_equal(load(name).validation.images[0].read(), colours)


# ---- values of more than 8 bits ------------------------------------------------------------------


def windows(path: Path, **tags: Any) -> Path:
    return save_dicom(path, DEEP, BitsStored=12, HighBit=11, **tags)


def test_the_window_in_the_file_is_used(tmp_path: Path, load: Callable[..., Task]) -> None:
    windows(tmp_path / "a.dcm", WindowCenter=2048, WindowWidth=4096)
    task = load("a.dcm")
    np.testing.assert_array_equal(pixels_of(task), np.rint(DEEP / 4095 * 255))
    assert "values become grey levels by the window in the file (2048/4096): 1 of the files" in (
        task.notes
    )


def test_rescale_comes_before_the_window(tmp_path: Path, load: Callable[..., Task]) -> None:
    windows(
        tmp_path / "a.dcm",
        RescaleSlope=0.5,
        RescaleIntercept=-100,
        WindowCenter=400,
        WindowWidth=601,
    )
    shown = np.clip((DEEP * 0.5 - 100 - 399.5) / 600 + 0.5, 0, 1) * 255
    np.testing.assert_array_equal(pixels_of(load("a.dcm")), np.rint(shown))


@pytest.mark.parametrize(
    ("function", "shown"),
    [
        ("LINEAR_EXACT", np.clip((DEEP - 1500.0) / 1000 + 0.5, 0, 1)),
        ("SIGMOID", 1 / (1 + np.exp(-4 * (DEEP - 1500.0) / 1000))),
    ],
)
def test_functions_of_windows(
    tmp_path: Path, load: Callable[..., Task], function: str, shown: np.ndarray
) -> None:
    windows(tmp_path / "a.dcm", WindowCenter=1500, WindowWidth=1000, VOILUTFunction=function)
    np.testing.assert_array_equal(pixels_of(load("a.dcm")), np.rint(255 * shown))


def test_a_table_of_levels(tmp_path: Path, load: Callable[..., Task]) -> None:
    entries = Dataset()
    entries.LUTDescriptor = [4096, 0, 16]
    entries.LUTData = (np.arange(4096) * 16).astype("<u2").tobytes()
    windows(tmp_path / "a.dcm", VOILUTSequence=[entries])
    np.testing.assert_array_equal(pixels_of(load("a.dcm")), np.rint(DEEP * (16 * 255 / 65535)))


def test_of_several_windows_the_first_is_used_and_told(
    tmp_path: Path, load: Callable[..., Task]
) -> None:
    windows(tmp_path / "a.dcm", WindowCenter=[2048, 100], WindowWidth=[4096, 200])
    task = load("a.dcm")
    np.testing.assert_array_equal(pixels_of(task), np.rint(DEEP / 4095 * 255))
    assert any("2048/4096 (the first of 2)" in note for note in task.notes)


def test_eight_bits_stay_unless_the_file_says_otherwise(
    tmp_path: Path, load: Callable[..., Task]
) -> None:
    for window in ((128, 256), (127, 255), (127.5, 255)):
        save_dicom(tmp_path / "a.dcm", GREY, WindowCenter=window[0], WindowWidth=window[1])
        np.testing.assert_array_equal(pixels_of(load("a.dcm")), GREY)
    save_dicom(tmp_path / "a.dcm", GREY, WindowCenter=100, WindowWidth=101)
    shown = np.clip((GREY - 99.5) / 100 + 0.5, 0, 1) * 255
    task = load("a.dcm")
    np.testing.assert_array_equal(pixels_of(task), np.rint(shown))
    assert any("(100/101)" in note for note in task.notes)
    save_dicom(tmp_path / "a.dcm", GREY, RescaleSlope=2)
    with pytest.raises(UserError, match=r"a\.dcm, 8 bits\) have values of more than 8 bits"):
        load("a.dcm")


def test_values_without_a_window_are_asked_for(tmp_path: Path, load: Callable[..., Task]) -> None:
    windows(tmp_path / "a.dcm")
    as_nifti(tmp_path / "a.nii", DEEP)
    as_meta(tmp_path / "a.mha", DEEP, "MET_USHORT")
    PIL.Image.fromarray(DEEP).save(tmp_path / "a.png")
    PIL.Image.fromarray(DEEP).save(tmp_path / "a.tif")
    for name in ("a.dcm", "a.nii", "a.mha"):
        with pytest.raises(UserError, match=r"1 image\(s\) of .*mine\.csv .*state no window; say"):
            load(name)
    for name in ("a.png", "a.tif"):
        with pytest.raises(UserError, match=r"bits per channel.*say --window"):
            pixels_of(load(name))
    spread = np.rint((DEEP - DEEP.min()) * (255 / (DEEP.max() - DEEP.min())))
    digests = set()
    for name in ("a.dcm", "a.nii", "a.mha", "a.png", "a.tif"):
        np.testing.assert_array_equal(pixels_of(load(name, window="range")), spread)
        chosen = load(name, window="2048/4096")
        np.testing.assert_array_equal(pixels_of(chosen), np.rint(DEEP / 4096 * 255))
        digests |= {chosen.fingerprint, load(name, window="range").fingerprint}
    assert len(digests) == 10  # the window counts


def test_a_window_changes_no_image_of_eight_bits(tmp_path: Path, load: Callable[..., Task]) -> None:
    PIL.Image.fromarray(GREY).save(tmp_path / "a.png")
    assert load("a.png").fingerprint == load("a.png", window="10/20").fingerprint


def test_sixteen_bits_of_colour_stay_refused(tmp_path: Path, load: Callable[..., Task]) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = b"".join(b"\0" + bytes(8 * 6) for _ in range(6))
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 6, 16, 2, 0, 0, 0))
    (tmp_path / "a.png").write_bytes(
        data + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
    with pytest.raises(UserError, match="16 bits per channel"):
        pixels_of(load("a.png", window="range"))


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.lists(st.floats(-1e6, 1e6), min_size=1))
def test_levels_rise_with_values(centre: float, width: float, values: list[float]) -> None:
    levels = GreyLevels((centre, width)).of(np.sort(np.array(values)))
    assert (np.diff(levels.astype(int)) >= 0).all()
    ends = GreyLevels((centre, width)).of(np.array([centre - width, centre + width]))
    assert ends.tolist() == [0, 255]


# ---- frames --------------------------------------------------------------------------------------


def clips(folder: Path) -> list[str]:
    save_dicom(folder / "a.dcm", CLIP)
    as_nifti(folder / "a.nii.gz", CLIP)
    as_meta(folder / "a.mhd", CLIP)
    frames = [PIL.Image.fromarray(frame) for frame in CLIP]
    frames[0].save(folder / "a.tif", save_all=True, append_images=frames[1:])
    return ["a.dcm", "a.nii.gz", "a.mhd", "a.tif"]


def test_of_several_frames_it_is_asked_which(tmp_path: Path, load: Callable[..., Task]) -> None:
    for name in clips(tmp_path):
        with pytest.raises(UserError, match=r"(3 frames|3 images).*say which with --frames"):
            pixels_of(load(name))
        for word, at in (("first", 0), ("middle", 1), ("last", 2), ("3", 2), (2, 1)):
            task = load(name, frames=word)
            np.testing.assert_array_equal(pixels_of(task), CLIP[at])
            assert task.validation.images[0].name == f"{name}#{at + 1}"
        with pytest.raises(
            UserError, match=rf"line 4: {name} has 3 frame\(s\), so none of number 4"
        ):
            load(name, frames="4")


def test_all_frames_are_samples_of_one_group(tmp_path: Path, load: Callable[..., Task]) -> None:
    for name in clips(tmp_path):
        task = load(name, frames="all")
        assert [pixels_of(task, at).tolist() for at in range(3)] == CLIP.tolist()
        assert task.validation.groups == (name,) * 3
        assert task.train.groups == ("0.png", "1.png")
        assert task.card.groups == "file"
        assert "of files with several frames: all (6 images in all)" in task.notes


def test_a_column_may_say_which_frame(tmp_path: Path) -> None:
    for n in range(3):
        PIL.Image.new("L", (8, 6), 40 * n).save(tmp_path / f"{n}.png")
    clips(tmp_path)
    names = ["0.png", "1.png", "a.dcm", "2.png"]
    task = tasks.load(str(table(tmp_path, names, ",frame", ",2")))
    np.testing.assert_array_equal(pixels_of(task), CLIP[1])
    reading = Reading.of(columns=columns_of(["frame=key frame"]))
    again = tasks.load(str(table(tmp_path, names, ",Key Frame", ",2")), reading=reading)
    assert again.fingerprint == task.fingerprint
    with pytest.raises(UserError, match=r"frame 'ED' of a\.dcm is not valid; write all, first"):
        tasks.load(str(table(tmp_path, names, ",frame", ",ED")))


def test_frames_of_one_file_in_several_rows_are_one_group(tmp_path: Path) -> None:
    clips(tmp_path)
    for n in range(3):
        PIL.Image.new("L", (8, 6), 40 * n).save(tmp_path / f"{n}.png")
    rows = ["0.png,a,train,", "a.dcm,b,train,1", "1.png,a,val,", "2.png,a,test,", "a.dcm,b,%s,3"]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["image,label,split,frame", *rows]) % "train")
    assert tasks.load(str(path)).train.groups == ("0.png", "a.dcm", "a.dcm")
    path.write_text("\n".join(["image,label,split,frame", *rows]) % "test")
    with pytest.raises(UserError, match=r"'a\.dcm' in train and test.*keep each group within one"):
        tasks.load(str(path))


def test_a_column_frame_of_still_images_says_nothing(tmp_path: Path) -> None:
    """As it always has: such a column may be there for other programs."""
    for n in range(4):
        PIL.Image.new("L", (8, 6), 40 * n).save(tmp_path / f"{n}.png")
    names = [f"{n}.png" for n in range(4)]
    plain = tasks.load(str(table(tmp_path, names))).fingerprint
    assert tasks.load(str(table(tmp_path, names, ",frame", ",ED 7"))).fingerprint == plain


def test_frames_and_windows_count_in_the_fingerprint(
    tmp_path: Path, load: Callable[..., Task]
) -> None:
    for name in clips(tmp_path):
        assert len({load(name, frames=word).fingerprint for word in ("1", "2", "3", "all")}) == 4
        assert load(name, frames="first").fingerprint == load(name, frames="1").fingerprint


@given(st.sampled_from(["all", "first", "middle", "last", "1", "2", "77"]), st.integers(1, 99))
def test_frames_are_within_the_file(word: str, count: int) -> None:
    frames = list(frames_of(word, count))
    assert all(0 <= at < count for at in frames)
    assert len(frames) == (
        count if word == "all" else int(not (word.isdigit() and int(word) > count))
    )


# ---- what is wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda p: (p / "a.dcm").write_bytes(b"nothing"), "cannot read DICOM file"),
        (lambda p: (p / "a.nii").write_bytes(b"\x5c\1\0\0" + bytes(100)), "cannot read NIfTI file"),
        (lambda p: (p / "a.nii.gz").write_bytes(gzip.compress(bytes(400))), "cannot read NIfTI"),
        (lambda p: as_nifti(p / "a.nii", np.zeros((4, 3, 2, 2), "u1")), "it has 4 dimensions"),
        (
            lambda p: (p / "a.mha").write_text("ObjectType = Image\nNDims = 2\n"),
            "header is damaged",
        ),
        (lambda p: as_meta(p / "a.mhd", GREY).with_suffix(".raw").unlink(), "a.raw is missing"),
        (lambda p: as_meta(p / "a.mha", GREY, "MET_STRANGE"), "MET_STRANGE are not supported"),
    ],
)
def test_damaged_files_are_bad_rows(
    tmp_path: Path, load: Callable[..., Task], make: Callable[[Path], object], told: str
) -> None:
    make(tmp_path)
    (name,) = (path.name for path in tmp_path.iterdir() if path.name.startswith("a."))
    with pytest.raises(UserError, match=rf"1 bad row.*line 4: .*{told}") as caught:
        load(name)
    assert "\n" not in str(caught.value)


def test_data_that_end_early_are_told(tmp_path: Path, load: Callable[..., Task]) -> None:
    path = as_meta(tmp_path / "a.mha", GREY)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(UserError, match="43 bytes of values where its header says 48"):
        pixels_of(load("a.mha"))
    path = as_nifti(tmp_path / "a.nii", GREY)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(UserError, match=r"cannot read NIfTI file .*a\.nii"):
        pixels_of(load("a.nii"))


def test_files_that_change_are_told(tmp_path: Path) -> None:
    as_meta(tmp_path / "a.mhd", GREY)
    as_nifti(tmp_path / "a.nii", GREY)
    for name in ("a.mhd", "a.nii"):
        frame = volumes.VolumeFrame(tmp_path / name, name, 0)
        known = frame.digest()
        as_meta(tmp_path / "a.mhd", GREY[:, ::-1].copy()) if name == "a.mhd" else as_nifti(
            tmp_path / "a.nii", GREY + 1
        )
        with pytest.raises(UserError, match="changed while it was being read"):
            frame.read(known)


def test_the_data_beside_a_header_count(tmp_path: Path) -> None:
    one = volumes.VolumeFrame(as_meta(tmp_path / "a.mhd", GREY), "a", 0).digest()
    other = volumes.VolumeFrame(as_meta(tmp_path / "b.mhd", GREY + 1), "a", 0).digest()
    assert one != other


@pytest.mark.parametrize(("package", "name"), [("pydicom", "a.dcm")])
def test_packages_that_are_missing_are_named(
    tmp_path: Path,
    load: Callable[..., Task],
    monkeypatch: pytest.MonkeyPatch,
    package: str,
    name: str,
) -> None:
    save_dicom(tmp_path / "a.dcm", GREY)
    as_nifti(tmp_path / "a.nii", GREY)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"^\S*{name} is .*`pip install {package}`"):
        load(name)


@pytest.mark.parametrize("word", ["2048", "a/b", "1/0", "1/-5", "inf/2", "1/2/3"])
def test_windows_that_are_not_understood(word: str) -> None:
    with pytest.raises(UserError, match=rf"--window {word} is not valid; write CENTRE/WIDTH"):
        Reading.of(window=word)


@pytest.mark.filterwarnings("ignore")  # of pydicom
@given(st.data())
def test_damage_of_any_kind_is_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / "damaged"
    folder.mkdir(exist_ok=True)
    kind = data.draw(st.sampled_from([".dcm", ".nii", ".nii.gz", ".mha"]))
    path = folder / f"a{kind}"
    path.unlink(missing_ok=True)
    if kind == ".dcm":
        save_dicom(path, CLIP, WindowCenter=100, WindowWidth=90)
    else:
        (as_meta if kind == ".mha" else as_nifti)(path, CLIP)
    content = bytearray(path.read_bytes())
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=6)):
        content[at] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    reading = Reading.of(frames="last", window="range")
    with contextlib.suppress(UserError):  # which is all that may come of it
        for image in image_files.held(path, path.name, reading, "last").images:
            pixels = image.read(image.digest())
            assert pixels.dtype == np.uint8
            assert pixels.shape[2] == 3


# ---- as it was -----------------------------------------------------------------------------------


def test_manifests_of_before_keep_their_fingerprints(tmp_path: Path) -> None:
    """Values written down with the reader that knew CSV files and 8-bit images alone."""
    said = ("2,train,p1", "10,train,p2", "2,validation,p3", "10,val,p4", "10,test,p5", "2,test,p6")
    rows = []
    for n, words in enumerate(said):
        (tmp_path / f"{n}.pgm").write_bytes(b"P5 4 3 255\n" + bytes(range(n, n + 12)))
        rows.append(f"{n}.pgm,{words}")
    (tmp_path / "grouped.csv").write_text("\n".join(["image,label,split,group", *rows]) + "\n")
    plain = [row.rpartition(",")[0] for row in rows]
    (tmp_path / "plain.csv").write_text("\n".join(["image,label,split", *plain]) + "\n")
    known = {
        "grouped": "874876b660a38cb5e5ac74b08f7357a2d9a2f56b4add3eb3eeca05e67698701b",
        "plain": "9da698d129d38fab6f11e23acc93cb6669ed21bc2b4725b1d947d122c0173b40",
    }
    for name, fingerprint in known.items():
        task = tasks.load(str(tmp_path / f"{name}.csv"))
        assert task.fingerprint == fingerprint
        assert task.notes == ()
        assert task.card.groups == ("column group" if name == "grouped" else "none")
        assert (
            task.test.digests[0]
            == "dafbae73ce4f27c750ffebf8d7e80c586d76ca5f88b185673e5d63e4d5b5241a"
        )
        assert all(isinstance(image, ImageFile) for image in task.train.images)


def test_frames_for_pretraining_keep_their_digests(tmp_path: Path) -> None:
    """`usjepa` names frames by them; no level of grey is stated there."""
    path = save_dicom(tmp_path / "a.dcm", DEEP)
    frame = dicom.DicomFrame(path, "a", 0)
    file = hashing.digest_file(path)
    assert frame.digest() == hashing.digest({"file": file, "frame": 0})
    assert frame.read().max() == 255
    assert frame.read().min() == 0


# ---- real files ----------------------------------------------------------------------------------


@pytest.mark.shared
def test_real_nifti_and_metaimage_files(real_data: Path, tmp_path: Path) -> None:
    release = real_data / "camus" / "CAMUS_public" / "database_nifti" / "patient0001"
    heart = volumes.VolumeFrame(release / "patient0001_4CH_ED.nii.gz", "a", 0).read()
    assert heart.shape == (192, 271, 3)
    assert (heart[5] > 0).sum() < (heart[150] > 0).sum() / 4  # the sector's tip is on top
    meta = real_data / "camus_mhd" / "training" / "patient0001"
    assert volumes.facts(meta / "patient0001_2CH_ED.mhd").spacing == (0.308, 0.154)
    names = sorted(path.name for path in meta.glob("*E[DS].mhd"))
    path = tmp_path / "camus.csv"
    path.write_text("image,label\n" + "".join(f"{name},{name[12:15]}\n" for name in names))
    own = listed(path, Reading.of(images=meta), split=False)
    assert len(own.samples) == 4
    assert any("not square" in note for note in own.notes)
