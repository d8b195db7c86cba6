"""What would make a result on own data worthless is reported, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
import pytest
from test_cli import ubench
from typer.testing import CliRunner

import tasks
from tasks.near_duplicates import search
from tasks.task import Task
from ultrabench_eval import worth
from ultrabench_eval.cli import app

Spoil = Callable[[int, int, np.ndarray], np.ndarray]


def speckle(seed: int) -> np.ndarray:
    """A scan of its own: smooth speckle in a bright sector of an image, uint8 [80, 96]."""
    generator = np.random.default_rng(seed)
    coarse = PIL.Image.fromarray(generator.integers(40, 200, (12, 14), np.uint8))
    scan = np.asarray(coarse.resize((96, 80), PIL.Image.Resampling.BICUBIC)).copy()
    rows, columns = np.indices(scan.shape)
    scan[abs(columns - 48) > 12 + rows / 2] = 0
    return scan


def write(folder: Path, spoil: Spoil, patients: int = 60, images: int = 1) -> Path:
    """A manifest of patients in two classes, a fifth each for validation and test."""
    rows = []
    for patient in range(patients):
        split = ("train", "train", "train", "val", "test")[patient // 2 % 5]
        for n in range(images):
            pixels = spoil(patient, patient % 2, speckle(1000 * patient + n))
            name = f"{patient}_{n}.png"
            PIL.Image.fromarray(pixels).save(folder / name)
            rows.append(f"{name},{'ab'[patient % 2]},{split},p{patient}")
    path = folder / "mine.csv"
    path.write_text("\n".join(["image,label,split,group", *rows]) + "\n")
    return path


def load(folder: Path, spoil: Spoil, **counts: int) -> Task:
    return tasks.load(str(write(folder, spoil, **counts)))


def text(patient: int, label: int, scan: np.ndarray) -> np.ndarray:
    """What the scanner wrote into a corner."""
    image = PIL.Image.fromarray(scan)
    PIL.ImageDraw.Draw(image).text((2, 2), ("LIVER", "MASS")[label], fill=255)
    return np.asarray(image)


SPOILT = {
    "image size": lambda patient, label, scan: np.pad(scan, ((0, 24 * label), (0, 0))),
    "brightness and colours": lambda patient, label, scan: scan // (1 + label),
    "outline of the scan": lambda patient, label, scan: np.where(
        np.indices(scan.shape)[0] < 80 - 30 * label, scan, 0
    ).astype(np.uint8),
    "text and marks around the scan": text,
}


def test_nothing_is_said_of_sound_data(tmp_path: Path) -> None:
    found = worth.look(load(tmp_path, lambda patient, label, scan: scan))
    assert found.problems == ()
    assert [one.clue for one in found.scores] == list(SPOILT)
    for one in found.scores:
        assert one.low <= one.chance == 0.5 <= one.high
        assert one.low <= one.score <= one.high


@pytest.mark.parametrize("clue", SPOILT)
def test_labels_that_can_be_predicted_are_told(tmp_path: Path, clue: str) -> None:
    found = worth.look(load(tmp_path, SPOILT[clue]))
    (told,) = [one for one in found.scores if one.clue == clue]
    assert told.score > 0.9
    assert any(
        f"can partly be predicted from the {clue} alone: balanced accuracy" in problem
        for problem in found.problems
    )


def test_few_patients_are_told(tmp_path: Path) -> None:
    task = load(tmp_path, lambda patient, label, scan: scan, patients=40, images=2)
    sentences = worth.few_patients(task)
    assert len(sentences) == 4  # images are more than five, patients are not
    assert sentences[0].startswith("class 'a' has 4 patients in validation; with fewer than 5")


def test_test_images_that_training_shows_are_told(tmp_path: Path) -> None:
    path = write(tmp_path, lambda patient, label, scan: scan)
    first = PIL.Image.open(tmp_path / "0_0.png")
    first.resize((120, 100), PIL.Image.Resampling.BICUBIC).save(tmp_path / "8_0.png")  # in test
    found = worth.look(tasks.load(str(path)))
    assert [one for one in found.problems if "across train and test show the same picture" in one]
    assert "0_0.png and 8_0.png" in " ".join(found.same)


def test_pictures_searched_by_an_index_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, lambda patient, label, scan: scan)
    PIL.Image.open(tmp_path / "0_0.png").save(tmp_path / "8_0.png")  # 59 different pictures
    whole = worth.look(tasks.load(str(path)))
    monkeypatch.setattr(search, "ALL_PAIRS", 59)
    assert worth.look(tasks.load(str(path))) == whole
    monkeypatch.setattr(search, "ALL_PAIRS", 58)
    found = worth.look(tasks.load(str(path)))
    assert found.same == whole.same != ()
    assert whole.notes == ()
    (note,) = found.notes
    assert note.startswith("59 images are too many to compare all pairs")
    result = CliRunner().invoke(app, ["data", "check", str(path)])
    assert f"note: {note}" in result.stderr


def test_the_check_of_own_data_tells_it(tmp_path: Path) -> None:
    sound = tmp_path / "sound"
    sound.mkdir()
    done = ubench("data", "check", str(write(sound, lambda patient, label, scan: scan)))
    assert done.returncode == 0, done.stderr
    assert "nothing that would make a result worthless was found" in done.stdout
    assert "text and marks around the scan" in done.stdout
    done = ubench("data", "check", str(write(tmp_path, SPOILT["image size"], patients=40)))
    assert done.returncode == 1
    assert "problem: the labels can partly be predicted from the image size" in done.stderr
    assert "problem: class 'a' has 4 patients in test" in done.stderr
