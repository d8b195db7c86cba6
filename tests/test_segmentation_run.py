"""A whole run on masks, and its Dice again by another way: from the stored logits, with torch's own
upsampling and plain counting."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from model_zoo.controls import Pixels
from tasks import load
from ultrabench_eval import pipeline
from ultrabench_eval.audit import clean, report
from ultrabench_eval.cells import Cell, Cells, Failure
from ultrabench_eval.pipeline import Step
from ultrabench_eval.report.drawings import overlays
from ultrabench_eval.report.results.evidence import Evidence
from ultrabench_eval.task_types import segmentation

SIDE = 32


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SYNTHETIC squares about the middle of square images; one test mask is empty."""
    folder = tmp_path_factory.mktemp("mine")
    generator = np.random.default_rng(0)
    lines = ["image,mask,split,group"]
    for n in range(40):
        pixels = generator.normal(40, 10, (SIDE, SIDE))
        mask = np.zeros((SIDE, SIDE), np.uint8)
        top, left = generator.integers(6, 14, 2)
        size = int(generator.integers(8, 14))
        if n != 39:
            mask[top : top + size, left : left + size] = 1
        pixels += 100 * mask
        for kind, array in (("image", pixels.clip(0, 255).astype(np.uint8)), ("mask", mask)):
            PIL.Image.fromarray(array).save(folder / f"{kind}{n}.png")
        part = "train" if n < 20 else "val" if n < 28 else "test"
        lines.append(f"image{n}.png,mask{n}.png,{part},patient {n // 2}")
    path = folder / "squares.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def out(table: Path) -> Path:
    """A run that has a control with maps, and one without."""
    notes: list[str] = []

    def report(step: Step) -> None:
        if step.stage == "note":
            notes.append(step.model)

    options = {"seeds": 2, "fractions": "20,100", "corruptions": "blur", "report": report}
    out = table.parent / "out"
    pipeline.run("mean-mask,pixels", str(table), out=out, cache=table.parent / "cache", **options)
    assert notes == []
    return out


def cells(out: Path) -> list[Cell]:
    entries = Cells(out).gather()
    assert all(isinstance(entry, Cell) for entry in entries), entries
    return entries  # type: ignore[return-value]


def dice_again(out: Path, cell: Cell, table: Path) -> list[float]:
    """Of each seed, the mean over test images."""
    stored = Cells(out).predictions(cell)
    assert (stored["extents"] == 1).all()  # square images fill the input
    logits = torch.from_numpy(stored["logits"].astype(np.float32))
    found = []
    for of_seed in logits:
        size = (SIDE, SIDE)
        large = torch.nn.functional.interpolate(of_seed, size, mode="bilinear", align_corners=False)
        called = large.argmax(1).numpy()
        scores = []
        for answer, mask in zip(called, load(str(table)).test.masks, strict=True):
            truth = mask.read()
            whole = (answer > 0).sum() + (truth > 0).sum()
            both = ((answer > 0) & (truth > 0)).sum()
            scores.append(2 * both / whole if whole else 1.0)
        found.append(float(np.mean(scores)))
    return found


def test_dice_of_every_cell_is_that_of_plain_counting(out: Path, table: Path) -> None:
    """Of corrupted images too: their masks are the clean ones."""
    found = cells(out)
    assert len(found) == 2 * (1 + 1 + 3)
    for cell in found:
        assert cell.scores["dice"] == pytest.approx(dice_again(out, cell, table), abs=2e-3)
    main = {c.coordinates.model: np.mean(c.scores["dice"]) for c in found
            if (c.coordinates.fraction, c.coordinates.corruption) == (100, "none")}  # fmt: skip
    assert 0.4 < main["mean-mask"] < 0.9  # squares overlap, but not all of them
    # It sees nothing, so corruption changes nothing of it.
    blind = [
        c for c in found if c.coordinates.model == "mean-mask" and c.coordinates.fraction == 100
    ]
    assert len({tuple(c.scores["dice"]) for c in blind}) == 1


def test_few_images_are_of_few_patients(out: Path) -> None:
    counts = {c.coordinates.fraction: c.images["train"] for c in cells(out)}
    assert counts == {20: 4, 100: 20}


def test_again_is_the_same_bytes(out: Path, table: Path, tmp_path: Path) -> None:
    names = ("leaderboard.md", "leaderboard.csv", "statistics.md", "robustness.md", "fewshot.md")
    before = [(out / name).read_bytes() for name in names]
    steps: list[Step] = []
    options = {"seeds": 2, "fractions": "20,100", "corruptions": "blur", "report": steps.append}
    cache = table.parent / "cache"
    pipeline.run("mean-mask,pixels", str(table), out=out, cache=cache, **options)
    assert "done" not in {step.stage for step in steps}
    first = next(iter((out / "cells").rglob("*100-none-0.json")))
    first.unlink()
    pipeline.run("mean-mask,pixels", str(table), out=out, cache=cache, **options)
    assert [(out / name).read_bytes() for name in names] == before


def test_maps_that_have_changed_are_not_mixed_with_those_of_before(
    out: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pooled features and fingerprint stay, as when the layer is changed that maps are taken of."""
    copy = shutil.copytree(out, tmp_path / "out")
    usual = Pixels._maps
    monkeypatch.setattr(Pixels, "_maps", lambda self, x: [2 * one for one in usual(self, x)])
    options = {"seeds": 2, "fractions": "20,50,100", "cache": tmp_path / "cache"}
    pipeline.run("mean-mask,pixels", str(table), out=copy, **options)
    failed = [one for one in Cells(copy).gather() if isinstance(one, Failure)]
    assert [(one.coordinates.model, one.coordinates.fraction) for one in failed] == [("pixels", 50)]
    assert "model 'pixels' is not the one that" in failed[0].reason
    pipeline.run("pixels", str(table), out=tmp_path / "other", **options)
    assert all(isinstance(one, Cell) for one in Cells(tmp_path / "other").gather())


def test_masks_are_drawn_from_a_run_and_not_from_an_archive(
    out: Path, table: Path, tmp_path: Path
) -> None:
    drawn = overlays.overlays(Evidence(Cells(out), cells(out)), table)
    assert "figures/masks-squares-dense.svg" in drawn
    archive = Cells(shutil.copytree(out, tmp_path / "archive"))
    for cell in cells(out):
        archive.put(cell, segmentation.TYPE.compact(Cells(out).predictions(cell)))
    assert overlays.overlays(Evidence(archive, cells(archive.out)), table) == {}


def test_an_audit_rescores_masks_and_says_what_the_numbers_are(out: Path, table: Path) -> None:
    seen = {"squares": {"image30.png", "image39.png"}}
    rescored, notes = clean.rescore(out, seen, [load(str(table))])
    assert notes == []
    assert report.scores_are(rescored) == "Dice in percent"
    assert {(one.n_full, one.n_clean) for one in rescored} == {(12, 10)}
    mixed = [*rescored, rescored[0]._replace(task="length", in_unit="MAE in mm", chance=0.1)]
    assert report.scores_are(mixed) == "squares: Dice in percent; length: MAE in mm"


def test_models_without_maps_are_told_once(table: Path, manifest: Path, tmp_path: Path) -> None:
    notes: list[str] = []

    def report(step: Step) -> None:
        if step.stage == "note":
            notes.append(step.model)

    frame = pipeline.run(
        *("image-stats,pixels", [str(table), str(manifest)]),
        **{"out": tmp_path / "out", "cache": table.parent / "cache", "seeds": 1, "report": report},
    )
    assert {(row.model, row.task) for row in frame.itertuples()} >= {("image-stats", "shades")}
    assert ("image-stats", "squares") not in {(r.model, r.task) for r in frame.itertuples()}
    assert notes == [f"without feature maps, so not measured on {table}: image-stats"]
