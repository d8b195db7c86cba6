"""Readers of masks and numbers on the real data of ../shared, against what others say of them."""

from __future__ import annotations

import csv
import gzip
import json
import tarfile
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import tasks
from tasks import camus
from tasks.samples.label_masks import FilledEllipse
from tasks.splits import PUBLISHED
from tasks.task import Task
from ultrabench_eval.core.errors import UserError

pytestmark = pytest.mark.shared


@cache
def load(name: str, root: Path) -> Task:
    return tasks.load(name, root)


@pytest.fixture(scope="module")
def psfhs_root(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole PSFHS, which lies packed in ../shared."""
    root = tmp_path_factory.mktemp("root")
    with tarfile.open(real_data / "psfhs/psfhs_all.tar.xz") as archive:
        archive.extractall(root / "psfhs", filter="data")
    (root / PUBLISHED).symlink_to(real_data / PUBLISHED)
    return root


def raw(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The values of a MetaImage file whose last header line is ElementDataFile = LOCAL."""
    _, data = path.read_bytes().split(b"LOCAL\n", 1)
    count = int(np.prod(shape))
    return np.frombuffer(data if len(data) == count else zlib.decompress(data), "u1").reshape(shape)


def stored(path: Path) -> np.ndarray:
    """The uint8 values of a .nii.gz file, as [x, y]; by its format, without nibabel."""
    data = gzip.decompress(path.read_bytes())
    columns, rows = np.frombuffer(data, "<i2", 2, 42).tolist()
    start = int(np.frombuffer(data, "<f4", 1, 108)[0])
    return np.frombuffer(data, "u1", columns * rows, start).reshape((columns, rows), order="F")


def test_psfhs_is_ultrabenchs(psfhs_root: Path) -> None:
    task = load("psfhs", psfhs_root)
    assert [len(split) for split in task.splits.values()] == [977, 109, 272]
    assert task.missing == ()
    assert any("no patient ids" in note for note in task.notes)
    named = {
        part: [Path(row["image"]).stem for row in json.loads(path.read_text())]
        for part in ("train_val", "test")
        if (path := psfhs_root / PUBLISHED / f"psfhs/{part}.json")
    }
    ours = {name: [Path(i.name).stem for i in s.images] for name, s in task.splits.items()}
    assert ours["test"] == named["test"]
    assert sorted([*ours["train"], *ours["validation"]]) == sorted(named["train_val"])
    # The published lists are the rule over the images in order of name.
    drawn = load("psfhs@rule", psfhs_root)
    assert {name: [Path(i.name).stem for i in s.images] for name, s in drawn.splits.items()} == ours
    for image, mask in list(zip(task.test.images, task.test.masks, strict=True))[::30]:
        file = Path(image.name).name
        planes = raw(psfhs_root / "psfhs/image_mha" / file, (3, 256, 256))
        assert (planes == planes[:1]).all()
        assert (image.read() == planes.mean(axis=0).astype(np.uint8)[..., None]).all()
        assert (mask.read() == raw(psfhs_root / "psfhs/label_mha" / file, (256, 256))).all()
        assert mask.spacing is None  # the header's 1 x 1 is a placeholder


def test_camus_here_is_ed_and_es_of_one_view_in_ultrabenchs_patients(real_data: Path) -> None:
    task = load("camus", real_data)
    rows = json.loads((real_data / PUBLISHED / "camus/test.json").read_text())
    assert {int(g.removeprefix("patient")) for g in task.test.groups or ()} == {
        row["patient"] for row in rows
    }
    assert [len(split) for split in task.splits.values()] == [718, 80, 200]
    assert task.missing == ("patient0039_4CH_ED.nii.gz", "patient0039_4CH_ES.nii.gz")
    assert any("not UltraBench's task" in note for note in task.notes)
    assert any(note.startswith("downscaled copies") for note in task.notes)
    folder = real_data / "camus/CAMUS_public/database_nifti"
    for image, mask in list(zip(task.test.images, task.test.masks, strict=True))[::40]:
        path = folder / image.name.split("_")[0] / image.name
        for made, end in ((image.read()[..., 0], ""), (mask.read(), "_gt")):
            values = stored(path.with_name(f"{path.name}{end}.nii.gz"))
            assert (made == np.rot90(values, axes=(1, 0))).all()
        assert set(np.unique(mask.read())) == {0, 1, 2, 3}
        assert mask.spacing is not None
        assert 0.4 < mask.spacing[0] < 1.2
        assert mask.spacing[0] == pytest.approx(mask.spacing[1], rel=0.01)


def test_the_older_camus_shows_the_same_patient_in_other_pixels(real_data: Path) -> None:
    older = camus._copy(real_data / "camus_mhd").frames
    assert [frame.image.name for frame in older] == [
        f"patient0001_{view}_{phase}" for phase in ("ED", "ES") for view in ("2CH", "4CH")
    ]
    raw = real_data / "camus_mhd/training/patient0001/patient0001_4CH_ED_gt.raw"
    stored = np.frombuffer(raw.read_bytes(), np.uint8).reshape(778, 549)
    assert (older[1].mask.read() == stored[:, ::-1]).all()
    newer = {frame.image.name: frame for frame in camus._copy(real_data / "camus").frames}
    for frame in older[1::2]:  # 4CH, which both copies have
        same = newer[frame.image.name]
        assert frame.mask.spacing == (0.154, 0.308)
        assert frame.image.read().shape == (778, 549, 3)
        large, small = frame.mask.read(), same.mask.read()
        rows, columns = (
            ((np.arange(few) + 0.5) * many / few).astype(int)
            for few, many in zip(small.shape, large.shape, strict=True)
        )
        assert (large[np.ix_(rows, columns)] == small).mean() > 0.98
        square_mm = [
            float(np.prod(mask.spacing or 0)) * np.count_nonzero(mask.read() == 1)
            for mask in (frame.mask, same.mask)
        ]
        assert square_mm[0] == pytest.approx(square_mm[1], rel=0.02)


def test_folds_of_camus_are_the_lists(real_data: Path) -> None:
    task = load("camus@fold7", real_data)
    lists = real_data / "camus/CAMUS_public/database_split"
    parts = ("training", "validation", "testing")
    for called, split in zip(parts, task.splits.values(), strict=True):
        named = (lists / f"subGroup7_{called}.txt").read_text().split()
        assert set(split.groups or ()) == set(named) - {"patient0039"}


@pytest.mark.parametrize("name", ["camus-quality", "camus-ef"])
def test_what_only_test_patients_tell_cannot_be_learnt(real_data: Path, name: str) -> None:
    message = r"Info_4CH.cfg is missing for 399 training and validation patients .*patient0002"
    with pytest.raises(UserError, match=message):
        tasks.load(name, real_data)


def test_hc18_is_split_by_fetus(real_data: Path) -> None:
    task = load("hc18", real_data)
    assert [len(split) for split in task.splits.values()] == [413, 50, 122]
    for split in task.splits.values():
        names = [Path(image.name).stem.split("_")[0] for image in split.images]
        assert list(split.groups or ()) == names
    numbers = load("hc18-hc", real_data)
    for part, split in numbers.splits.items():
        assert [i.name for i in split.images] == [i.name for i in task.splits[part].images]


def test_circumference_of_each_ellipse_of_hc18_is_that_of_the_table(real_data: Path) -> None:
    numbers = load("hc18-hc", real_data)
    table = real_data / "hc18/training_set_pixel_size_and_HC.csv"
    with table.open() as file:
        rows = {f"training_set/{row['filename']}": row for row in csv.DictReader(file)}
    masks: dict[str, FilledEllipse] = {}
    for split in load("hc18", real_data).splits.values():
        for image, mask in zip(split.images, split.masks, strict=True):
            assert isinstance(mask, FilledEllipse)
            masks[image.name] = mask
    off = []
    for split in numbers.splits.values():
        assert split.factors is not None
        assert not isinstance(split.targets, tuple)
        for image, target, factor in zip(split.images, split.targets, split.factors, strict=True):
            row = rows[image.name]
            assert target == float(row["head circumference (mm)"])
            pixel = float(row["pixel size(mm)"])
            with PIL.Image.open(real_data / "hc18" / image.name) as opened:
                assert factor == pytest.approx(pixel * opened.width)
            mask = masks[image.name]
            assert mask.spacing == (pixel, pixel)
            off.append(mask.ellipse().perimeter * pixel / target - 1)
    assert len(off) == 585
    assert np.abs(off).max() < 0.005
    # An independent one, from the pixels: second moments of the filled mask.
    for name in list(masks)[::60]:
        y, x = np.nonzero(masks[name].read())
        a, b = 2 * np.sqrt(np.linalg.eigvalsh(np.cov(x, y)))
        perimeter = np.pi * (3 * (a + b) - np.sqrt((3 * a + b) * (a + 3 * b)))  # Ramanujan's first
        pixel = float(rows[name]["pixel size(mm)"])
        assert perimeter * pixel == pytest.approx(
            float(rows[name]["head circumference (mm)"]), rel=0.02
        )


def test_an_ellipse_that_the_border_cuts_off(real_data: Path) -> None:
    task = load("hc18", real_data)
    every = {
        image.name: mask
        for split in task.splits.values()
        for image, mask in zip(split.images, split.masks, strict=True)
    }
    mask = every["training_set/787_HC.png"].read()
    assert mask[0].any()
    assert 0.1 < mask.mean() < 0.9


def test_steatosis_and_its_degree_agree(real_data: Path) -> None:
    """The 5 % that make the class, on the true table; its images are regions of 28 x 28."""
    folder = real_data / "fatty_liver_roi28"
    degree = tasks.read_release("fatty_liver-fat", folder)
    label = tasks.read_release("fatty_liver", folder)
    for part, split in degree.splits.items():
        assert split.groups == label.splits[part].groups
        assert ((np.asarray(split.targets) >= 5) == (label.splits[part].labels == 1)).all()


def test_stanford_thyroid_has_ultrabenchs_test_patients(real_data: Path) -> None:
    from tasks import splits, stanford_thyroid

    rows = json.loads((real_data / PUBLISHED / "stanford_thyroid/test.json").read_text())
    names = [f"patient {number}" for number in stanford_thyroid.PATIENTS]
    side = splits.sides(names, stanford_thyroid.CARD.rule, real_data)
    ours = {str(name) for name, part in side.items() if part == "test"}
    assert ours == {f"patient {row['patient']}" for row in rows}
