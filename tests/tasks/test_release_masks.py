"""CAMUS, PSFHS, HC18, Open Kidney and Stanford thyroid on phantoms: what is read and told."""

from __future__ import annotations

import csv
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import nibabel
import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tasks
from tasks.phantom import array_files
from tasks.samples import ellipses
from tasks.samples.ellipses import Ellipse
from tasks.samples.hdf5 import Hdf5Frame
from tasks.samples.volumes import VolumeFrame
from tasks.splits import PUBLISHED
from ultrabench_eval.core.errors import UserError

NEW = (
    *("camus", "camus-quality", "camus-ef", "psfhs", "hc18", "hc18-hc"),
    *("open-kidney", "stanford-thyroid", "fatty_liver-fat"),
)
Copy = Callable[[str], Path]


@pytest.fixture
def copy(phantom_root: Path, tmp_path: Path) -> Copy:
    """A root with a copy of one phantom release."""

    def copied(name: str) -> Path:
        shutil.copytree(phantom_root / name, tmp_path / "root" / name)
        (tmp_path / "root" / PUBLISHED).symlink_to(phantom_root / PUBLISHED)
        return tmp_path / "root"

    return copied


@pytest.mark.parametrize("name", NEW)
def test_phantoms_are_whole_tasks(phantom_root: Path, name: str) -> None:
    task = tasks.load(name, phantom_root)
    assert task.synthetic
    # UltraBench's 105 patients of Stanford thyroid are only there at larger sizes.
    assert task.missing == () or name == "stanford-thyroid"
    assert task.fingerprint == tasks.load(name, phantom_root).fingerprint
    found = np.zeros(256, int)
    for split in task.splits.values():
        for image, mask in zip(split.images, split.masks, strict=False):
            codes = mask.read()
            assert codes.dtype == np.uint8
            assert codes.shape == image.read().shape[:2]
            found += np.bincount(codes.ravel(), minlength=256)
            assert pickle.loads(pickle.dumps(mask)).digest() == mask.digest()
    if task.targets == "mask":  # every class is there, and none but them
        assert (np.flatnonzero(found) == np.arange(len(task.classes))).all()
        digests = {mask.digest() for split in task.splits.values() for mask in split.masks}
        assert len(digests) > 0.8 * sum(len(split) for split in task.splits.values())


def test_camus_takes_every_frame_of_half_sequences(phantom_root: Path) -> None:
    task = tasks.load("camus", phantom_root)
    names = {image.name for split in task.splits.values() for image in split.images}
    views = [f"patient0001_{view}_half_sequence#{n}" for view in ("2CH", "4CH") for n in (1, 2, 3)]
    assert set(views) <= names
    assert not any("not UltraBench's" in note for note in task.notes)
    stored = nibabel.load(next(phantom_root.rglob("patient0001_4CH_half_sequence_gt.nii.gz")))
    every = [item for split in task.splits.values() for item in split.items]
    item = next(item for item in every if item.image.name == views[-1])
    assert not isinstance(item.target, int | float)
    turned = np.rot90(np.asarray(stored.dataobj)[..., 2], axes=(1, 0))  # type: ignore[attr-defined]
    assert (item.target.read() == turned).all()
    millimetres = stored.header.get_zooms()[0]  # type: ignore[attr-defined]
    assert item.target.spacing == pytest.approx((millimetres, millimetres))


def test_camus_without_half_sequences_says_what_it_is(copy: Copy) -> None:
    root = copy("camus")
    for path in root.rglob("*half_sequence*"):
        path.unlink()
    for path in root.rglob("*2CH_E*"):
        path.unlink()
    gone = next(root.rglob("patient0002_4CH_ES_gt.nii.gz"))
    gone.unlink()
    task = tasks.load("camus", root)
    assert task.missing == ("patient0002_4CH_ES.nii.gz",)
    assert "it is ED and ES of 4CH instead of every frame" in task.notes[0]
    assert "1 of 12 frames have no image or mask file" in task.notes[1]
    # Each phase is that frame of the sequence.
    assert sum(len(split) for split in task.splits.values()) == 11


@pytest.fixture
def older(copy: Copy) -> Path:
    """CAMUS as its older release has it: ED and ES as .mhd with .raw, pixels half as high."""
    root = copy("camus")
    new = next(root.rglob("database_nifti"))
    for path in new.glob("*/*_E[DS]*.nii.gz"):
        image = nibabel.load(path)
        values = np.repeat(np.asarray(image.dataobj), 2, axis=1)  # type: ignore[attr-defined]
        wide = image.header.get_zooms()[0]  # type: ignore[attr-defined]
        file = root / "camus/training" / path.parent.name / path.name.replace(".nii.gz", ".mhd")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.with_suffix(".raw").write_bytes(values.tobytes(order="F"))
        file.write_text(
            f"ObjectType = Image\nNDims = 3\nElementSpacing = {wide} {wide / 2} 1.54\n"
            f"DimSize = {values.shape[0]}  {values.shape[1]}    1\nElementType = MET_UCHAR\n"
            f"ElementDataFile = {file.stem}.raw\n"
        )
    for path in new.glob("*/Info*"):
        told = path.read_text().replace("EF:", "LVef:")
        (root / "camus/training" / path.parent.name / path.name).write_text(told)
    shutil.copytree(new.with_name("database_split"), root / "camus/database_split")
    return root


def test_the_older_release_of_camus_is_the_same_with_other_pixels(older: Path) -> None:
    with pytest.raises(UserError, match=r"training is the older release, .* keep one release in"):
        tasks.load("camus", older)
    newer = next(older.rglob("CAMUS_public"))
    newer.rename(older / "newer")
    for path in older.rglob("newer/**/*half_sequence*"):
        path.unlink()
    task = tasks.load("camus@rule", older)
    assert "it is ED and ES of 2CH and 4CH instead of every frame" in task.notes[1]
    assert "images look stretched; distances in mm allow for it" in task.notes[0]
    assert task.missing == ()
    ef = tasks.load("camus-ef@rule", older)
    assert np.asarray(ef.train.targets).min() > 10
    shutil.rmtree(older / "camus")
    (older / "camus").mkdir()
    (older / "newer").rename(older / "camus/CAMUS_public")
    same = tasks.load("camus@rule", older)
    expected = {name: [image.name for image in split.images] for name, split in same.splits.items()}
    found = {name: [image.name for image in split.images] for name, split in task.splits.items()}
    assert found == expected


def test_pixels_of_the_older_release_are_not_square(older: Path) -> None:
    newer = next(older.rglob("CAMUS_public"))
    newer.rename(older / "newer")
    task = tasks.load("camus@rule", older)
    image, mask = task.test.images[0], task.test.masks[0]
    patient = image.name.split("_")[0]
    path = older / "newer/database_nifti" / patient / f"{image.name}_gt.nii.gz"
    stored = nibabel.load(path)
    turned = np.rot90(np.asarray(stored.dataobj), axes=(1, 0))  # type: ignore[attr-defined]
    assert (mask.read()[::2] == turned).all()
    assert (mask.read()[1::2] == turned).all()
    wide = stored.header.get_zooms()[0]  # type: ignore[attr-defined]
    assert mask.spacing == pytest.approx((wide / 2, wide))


def test_an_older_release_that_is_cut_short_is_one_sentence(older: Path) -> None:
    newer = next(older.rglob("CAMUS_public"))
    newer.rename(older / "newer")
    folder = older / "camus/training/patient0002"
    (folder / "patient0002_4CH_ES_gt.mhd").unlink()
    task = tasks.load("camus@rule", older)
    assert task.missing == ("patient0002_4CH_ES.mhd",)
    (folder / "patient0002_4CH_ED.raw").unlink()
    with pytest.raises(UserError, match=r"its data file patient0002_4CH_ED.raw is missing"):
        tasks.load("camus@rule", older)
    shutil.copy(older / "newer/database_nifti/patient0001/patient0001_2CH_ED.nii.gz", folder)
    (folder / "patient0001_2CH_ED.nii.gz").rename(folder / "patient0002_2CH_ED.nii.gz")
    with pytest.raises(UserError, match=r"_2CH_ED.nii.gz is a .nii.gz file, beside files of the"):
        tasks.load("camus@rule", older)


def test_ways_to_split_camus(copy: Copy) -> None:
    root = copy("camus")
    lists = next(root.rglob("database_split"))
    task = tasks.load("camus@fold2", root)
    assert set(task.test.groups or ()) == {(lists / "subGroup2_testing.txt").read_text().strip()}
    (lists / "subGroup2_testing.txt").write_text("patient0001\nnobody\n")
    with pytest.raises(UserError, match="lists 'nobody', not the name of a patient"):
        tasks.load("camus@fold2", root)
    shutil.rmtree(lists)
    with pytest.raises(UserError, match=r"cannot read .*subGroup2_training\.txt"):
        tasks.load("camus@fold2", root)
    rule = tasks.load("camus@rule", root)
    assert sum(len(split) for split in rule.splits.values()) == 36
    task = tasks.load("camus", root)  # of the patients 1 to 500
    assert task.notes == (
        "988 of 1000 half sequences have no image or mask file "
        "(first: patient0007_2CH_half_sequence.nii.gz)",
    )


def test_what_info_files_must_tell(copy: Copy) -> None:
    root = copy("camus")
    task = tasks.load("camus-ef", root)
    assert 10 < np.asarray(task.train.targets).min() < np.asarray(task.train.targets).max() < 80
    learnt, tested = (group[0] for group in (task.train.groups, task.test.groups) if group)
    folder = next(root.rglob("database_nifti"))
    info = folder / tested / "Info_2CH.cfg"
    info.unlink()
    again = tasks.load("camus-ef", root)
    assert len(again.test) == len(task.test) - 3
    assert any(note.startswith("3 of 36 images have no Info_<view>.cfg") for note in again.notes)
    info = folder / learnt / "Info_4CH.cfg"
    text = info.read_text()
    info.write_text(text.replace("ImageQuality: ", "ImageQuality: Not so "))
    with pytest.raises(UserError, match=r"states no ImageQuality that is known \(Not so "):
        tasks.load("camus-quality", root)
    info.write_text(text.replace("EF", "LVef"))
    with pytest.raises(UserError, match=r"states no EF that is known \(nothing\)"):
        tasks.load("camus-ef", root)
    info.unlink()
    with pytest.raises(UserError, match="missing for 1 training and validation patients"):
        tasks.load("camus-ef", root)


def test_sequences_have_a_mask_for_each_frame(copy: Copy) -> None:
    root = copy("camus")
    path = next(root.rglob("patient0001_2CH_half_sequence_gt.nii.gz"))
    shutil.copyfile(path.with_name("patient0001_2CH_ED_gt.nii.gz"), path)
    with pytest.raises(UserError, match=r"has 3 frame\(s\), but .* 1; copy both again"):
        tasks.load("camus", root)


def test_a_frame_that_is_mirrored_is_another_image(phantom_root: Path) -> None:
    path = next(phantom_root.rglob("patient0001_4CH_ED.nii.gz"))
    plain, mirrored = (VolumeFrame(path, "a", 0, mirrored=turn) for turn in (False, True))
    assert (plain.read()[:, ::-1] == mirrored.read()).all()
    assert plain.digest() != mirrored.digest()
    assert (mirrored.read(mirrored.digest()) == mirrored.read()).all()
    with pytest.raises(UserError, match="changed while it was being read"):
        mirrored.read(plain.digest())


def test_psfhs_without_a_mask_or_an_image(copy: Copy) -> None:
    root = copy("psfhs")
    whole = tasks.load("psfhs", root)
    base = root / "psfhs"
    (base / whole.train.images[0].name).unlink()
    (base / whole.test.images[0].name.replace("image", "label")).unlink()
    task = tasks.load("psfhs", root)
    assert task.missing == (whole.train.images[0].name,)
    assert [len(split) for split in task.splits.values()] == [
        len(whole.train) - 1,
        len(whole.validation),
        len(whole.test) - 1,
    ]
    assert any("1 of 17 images that have no mask" in note for note in task.notes)
    assert tasks.load("psfhs@rule", root).test.masks
    foreign = base / whole.test.images[1].name.replace("image", "label")
    foreign.write_bytes(array_files.metaimage(np.full((8, 8), 7, np.uint8)))
    with pytest.raises(UserError, match=r"holds 7 at 64 of 64 pixels, but only 0, 1, 2 stand"):
        tasks.load("psfhs", root).test.masks[0].read()


def test_hc18_as_its_record_unpacks(copy: Copy) -> None:
    """The table lies beside the archive of the images."""
    root = copy("hc18")
    plain = tasks.load("hc18", root).fingerprint
    (root / "hc18/unpacked").mkdir()
    (root / "hc18/training_set").rename(root / "hc18/unpacked/training_set")
    assert tasks.load("hc18", root).fingerprint == plain


def test_hc18_is_told_in_millimetres(copy: Copy) -> None:
    root = copy("hc18")
    task = tasks.load("hc18-hc", root)
    masks = tasks.load("hc18", root)
    with next(root.rglob("*.csv")).open() as file:
        rows = {f"training_set/{row['filename']}": row for row in csv.DictReader(file)}
    for part, split in task.splits.items():
        assert split.factors is not None
        for item, mask in zip(split.items, masks.splits[part].masks, strict=True):
            row = rows[item.image.name]
            width = item.image.read().shape[1]
            assert item.target == float(row["head circumference (mm)"])
            assert item.factor == pytest.approx(width * float(row["pixel size(mm)"]))
            ours = ellipses.through(outline(root / "hc18" / item.image.name))
            assert ours is not None
            assert mask.spacing is not None
            assert ours.perimeter * mask.spacing[0] == pytest.approx(item.target, rel=0.01)
    first = masks.train.groups[0] if masks.train.groups else ""
    assert first == Path(masks.train.images[0].name).name[:3]


def outline(image: Path) -> np.ndarray:
    with PIL.Image.open(image.with_name(f"{image.stem}_Annotation.png")) as opened:
        return np.asarray(opened) > 0


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("000_HC.png,0.2,", "line 2: it lacks filename"),
        ("000_HC.png,-1,150", "line 2: it lacks filename"),
        ("000_HC.png,0.2,nan", "line 2: it lacks filename"),
        ("head.png,0.2,150", "line 2: it lacks filename"),
    ],
)
def test_a_damaged_table_of_hc18(copy: Copy, line: str, told: str) -> None:
    root = copy("hc18")
    table = next(root.rglob("*.csv"))
    head, _, *rest = table.read_text().splitlines()
    table.write_text("\n".join([head, line, *rest]))
    with pytest.raises(UserError, match=told):
        tasks.load("hc18", root)


def test_open_kidney_takes_the_first_of_two_names(phantom_root: Path, copy: Copy) -> None:
    root = copy("open-kidney")
    task = tasks.load("open-kidney@rule", root)
    names = [Path(image.name).name for split in task.splits.values() for image in split.images]
    assert len({name.split("_")[1] for name in names}) == len(names)
    assert {name for name in names if name.startswith("1_")} == {"1_IM-0001-0059_anon.png"}
    assert len(list((root / "open-kidney/images").iterdir())) == len(names) + 2
    assert any(not mask.read().any() for mask in task.train.masks)  # some could not be drawn
    table = root / "open-kidney/labels/reviewed_labels_1.csv"
    table.write_text(table.read_text().replace("View", "Vue", 1))
    with pytest.raises(UserError, match=r"line 2: filename .* or the View"):
        tasks.load("open-kidney", root)


def test_stanford_thyroid_takes_ultrabenchs_patients(copy: Copy) -> None:
    root = copy("stanford-thyroid")
    task = tasks.load("stanford-thyroid", root)
    groups = {group for split in task.splits.values() for group in split.groups or ()}
    assert not groups & {"patient 1", "patient 2"}  # of a linear probe
    path = root / "stanford-thyroid/dataset.hdf5"
    with h5py.File(path, "r+") as file:
        file["mask"][...] = 7
    with pytest.raises(UserError, match="but only 0, 255 stand for classes"):
        tasks.load("stanford-thyroid", root).test.masks[0].read()
    with h5py.File(path, "r+") as file:
        del file["mask"]
    with pytest.raises(UserError, match=r"cannot read HDF5 file .*dataset\.hdf5"):
        tasks.load("stanford-thyroid", root).test.masks[0].read()
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match=r"cannot read HDF5 file .*dataset\.hdf5"):
        tasks.load("stanford-thyroid", root)


def test_frames_of_hdf5(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["grey"], file["deep"] = values, values.astype(np.int32)
        file["flat"] = np.zeros(3, np.uint8)
    frame = Hdf5Frame(path, "one", "grey", 1)
    assert (frame.read(frame.digest()) == values[1][..., None]).all()
    assert frame.digest() == Hdf5Frame(path, "two", "grey", 1).digest()
    assert frame.digest() != Hdf5Frame(path, "one", "deep", 1).digest()
    with pytest.raises(UserError, match="changed while it was being read"):
        frame.read("0")
    with pytest.raises(UserError, match="holds int32, not 8 bits"):
        Hdf5Frame(path, "one", "deep", 0).read()
    with pytest.raises(UserError, match="holds no images"):
        Hdf5Frame(path, "one", "flat", 0).read()
    with pytest.raises(UserError, match="cannot read HDF5 file"):
        Hdf5Frame(path, "one", "grey", 2).read()


def test_steatosis_in_percent(phantom_root: Path) -> None:
    degree = tasks.load("fatty_liver-fat", phantom_root)
    label = tasks.load("fatty_liver", phantom_root)
    for part, split in degree.splits.items():
        assert split.digests == label.splits[part].digests
        assert ((np.asarray(split.targets) >= 5) == (label.splits[part].labels == 1)).all()


@settings(max_examples=40)
@given(
    x=st.floats(70, 130),
    y=st.floats(56, 104),
    width=st.floats(20, 54),
    height=st.floats(20, 54),
    degrees=st.floats(0, 180),
    cut=st.booleans(),
)
def test_an_ellipse_is_found_again(
    x: float, y: float, width: float, height: float, degrees: float, cut: bool
) -> None:
    drawn = Ellipse(x, y, width, height, degrees)
    rows, columns = np.mgrid[:160, :200].astype(float)
    line = np.abs(drawn.distance(columns, rows) - 1) * min(width, height) < 1
    seen = line & (columns < x + 0.5 * min(width, height)) if cut else line
    found = ellipses.through(seen)
    assert found is not None
    assert found.perimeter == pytest.approx(drawn.perimeter, rel=0.1 if cut else 0.01)
    both = found.filled((160, 200)), drawn.filled((160, 200))
    assert (both[0] ^ both[1]).sum() < (0.15 if cut else 0.03) * both[1].sum()


def test_what_is_no_ellipse() -> None:
    square = np.zeros((60, 60), bool)
    square[10:50, 10:50] = True
    square[12:48, 12:48] = False
    assert ellipses.through(square) is None
    assert ellipses.through(np.zeros((9, 9), bool)) is None
    circle = Ellipse(0, 0, 3, 3, 0)
    assert circle.perimeter == pytest.approx(6 * np.pi)
    assert Ellipse(0, 0, 4, 3, 0).perimeter == pytest.approx(22.10349, abs=1e-5)


def test_array_files_are_read_by_others(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    (tmp_path / "a.nii.gz").write_bytes(array_files.nifti(values, 0.3))
    image = nibabel.load(tmp_path / "a.nii.gz")
    assert (np.asarray(image.dataobj) == values).all()  # type: ignore[attr-defined]
    header = image.header
    assert header.get_zooms()[:2] == pytest.approx((0.3, 0.3))  # type: ignore[attr-defined]
    assert header.get_xyzt_units()[0] == "mm"  # type: ignore[attr-defined]
    assert array_files.nifti(values, 0.3) == array_files.nifti(values, 0.3)
    (tmp_path / "a.mha").write_bytes(array_files.metaimage(values))
    frame = VolumeFrame(tmp_path / "a.mha", "a", 4)
    assert (frame.read()[..., 0] == values[4]).all()
