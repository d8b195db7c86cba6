"""Scores while training: ridge on validation images, and never a test image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

import model_zoo
import tasks
from tasks.samples.images import ImageArray
from tasks.task import Item, Split, Task, TaskCard
from ultrabench_eval import live
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.live import RidgeProbe


class Unreadable(ImageArray):
    """A test image that nobody may look at."""

    def read(self) -> np.ndarray:
        raise AssertionError(f"test image {self.name} was read")


def task(apart: float) -> Task:
    """Two classes of noise whose brightness is that far apart."""
    generator = np.random.default_rng(0)

    def split(count: int, kind: type[ImageArray] = ImageArray) -> Split:
        items = []
        for number in range(count):
            label = number % 2
            pixels = generator.normal(100 + apart * label, 20, (24, 24)).clip(0, 255)
            items.append(Item(kind(pixels.astype(np.uint8), f"{number}"), label))
        return Split.of(items)

    card = TaskCard("noise", "NOISE", "none", "brightness", ("dark", "bright"))
    return Task(card, split(60), split(40), split(4, Unreadable))


def test_it_tells_an_easy_task_from_noise() -> None:
    encoder = model_zoo.load("image-stats", device="cpu")
    easy = RidgeProbe([task(60)])(encoder)
    assert easy == {"noise": 100.0, "mean": 100.0}
    assert RidgeProbe([task(0)])(encoder)["noise"] < 75


def test_the_score_is_scikit_learns_of_the_same_prediction(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {}
    confusion = live.classification.confusion

    def caught(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
        kept.update(predicted=predicted, labels=labels)
        return confusion(predicted, labels, classes)

    monkeypatch.setattr(live.classification, "confusion", caught)
    score = RidgeProbe([task(4)])(model_zoo.load("image-stats", device="cpu"))["noise"]
    wanted = f1_score(kept["labels"], kept["predicted"], average="macro")
    assert score == pytest.approx(100 * wanted)
    assert 55 < score < 100


def test_the_data_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    encoder = model_zoo.load("image-stats", device="cpu")
    monkeypatch.delenv("UBENCH_DATA", raising=False)
    with pytest.raises(UserError, match="set UBENCH_DATA"):
        live.ridge(encoder)
    monkeypatch.setenv("UBENCH_DATA", str(tmp_path))
    with pytest.raises(UserError, match="no task is in"):
        live.ridge(encoder)
    (tmp_path / "aul").mkdir()
    monkeypatch.setattr(tasks, "load", lambda name, root: task(60))
    assert live.ridge(encoder)["mean"] == 100.0
