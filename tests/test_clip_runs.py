"""Runs on videos: what encoders are shown of them, the order of frames, masks, folds."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import PIL.Image
import pytest
import torch
from test_pipeline import tables

import tasks
import ultrabench_eval
from model_zoo.clip_rule import ClipRule
from tasks.samples.clips import Clip
from tasks.task import Split, Task, TaskCard
from ultrabench_eval import corrupt, features, seen, shown, task_types
from ultrabench_eval.cells import Cell, Cells
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.corrupt import CorruptedClip
from ultrabench_eval.encode import encode
from ultrabench_eval.grid import Grid
from ultrabench_eval.loading import Model
from ultrabench_eval.measure import Setting, is_finished, measure
from ultrabench_eval.pipeline import Step
from ultrabench_eval.task_types.regression import Numbers
from ultrabench_eval.task_types.task_type import FoldPredictions
from ultrabench_eval.test_set import TestSet

COUNT, FRAMES, SIDE = 30, 6, 24
ORDER = '''
import torch
import model_zoo
from model_zoo.clip_rule import ClipRule

@model_zoo.register("in-order")
class InOrder(model_zoo.Encoder):
    """Mean grey of each of four frames, by tubelets of two."""
    takes = "clip"
    clip_rule = ClipRule(frames=4)
    tubelet = 2
    batch_size = 4
    input_rule = model_zoo.InputRule(size=8)

    def build(self, weights):
        return torch.nn.Flatten()

    def _forward(self, x):
        return x.mean((2, 3, 4))

    def _tokens(self, x):
        return x.mean(2).unflatten(1, (2, 2)).flatten(2).mT.unflatten(1, (2, -1)).flatten(1, 2)
'''


@pytest.fixture(scope="module")
def cines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SYNTHETIC videos that grow brighter or darker, of the same frames; a square jumps
    about and is labelled in the second of them."""
    folder = tmp_path_factory.mktemp("videos")
    generator = np.random.default_rng(0)
    lines, masked = ["video,label,split,group"], ["video,mask,frame,split,group"]
    for n in range(COUNT):
        label = n // 2 % 2
        shades = np.sort(generator.uniform(20, 200, FRAMES))[:: 1 - 2 * label]
        mask = np.zeros((SIDE, SIDE), np.uint8)
        top, left = generator.integers(2, 10, 2)
        mask[top : top + 8, left : left + 8] = 1
        (folder / str(n)).mkdir()
        for place, shade in enumerate(shades):
            pixels = generator.normal(shade, 5, (SIDE, SIDE))
            square = mask if place == 1 else np.roll(mask, generator.integers(8, 16, 2), (0, 1))
            pixels[square > 0] = 250
            PIL.Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(
                folder / str(n) / f"{place}.png"
            )
        PIL.Image.fromarray(mask).save(folder / f"mask{n}.png")
        part = "train" if n < 16 else "val" if n < 22 else "test"
        lines.append(f"{n},{('up', 'down')[label]},{part},patient {n // 2}")
        masked.append(f"{n},mask{n}.png,2,{part},patient {n // 2}")
    (folder / "videos.csv").write_text("\n".join(lines) + "\n")
    (folder / "squares.csv").write_text("\n".join(masked) + "\n")
    (folder / "order.py").write_text(ORDER)
    return folder


@pytest.fixture(scope="module")
def out(cines: Path) -> tuple[Path, list[Step]]:
    """A run of a model that sees single frames, and one that sees their order."""
    steps: list[Step] = []
    ultrabench_eval.run(
        "pixels,in-order",
        str(cines / "videos.csv"),
        **{"seeds": 2, "device": "cpu", "probe": "logistic"},
        plugin_files=cines / "order.py",
        out=cines / "out",
        cache=cines / "cache",
        report=steps.append,
    )
    return cines / "out", steps


def cells(out: Path) -> dict[tuple[str, str], Cell]:
    found = [entry for entry in Cells(out).gather() if isinstance(entry, Cell)]
    return {(c.coordinates.model, c.coordinates.corruption): c for c in found}


def probabilities(out: Path, cell: Cell) -> np.ndarray:
    (found,) = Cells(out).predictions(cell).values()
    return found


# ---- what is shown --------------------------------------------------------------------------


def test_single_frames_lose_exactly_nothing_by_their_order(out: tuple[Path, list[Step]]) -> None:
    folder, steps = out
    found = cells(folder)
    assert {name for _, name in found} == {"none", *corrupt.CONTROLS}
    for model in ("pixels", "in-order"):
        clean = probabilities(folder, found[model, "none"])
        same = [
            np.array_equal(clean, probabilities(folder, found[model, name]))
            for name in ("shuffled", "reversed")
        ]
        assert same == [model == "pixels"] * 2
    # In both classes videos are of the same frames, so only their order tells them apart.
    assert found["in-order", "none"].scores["accuracy"] == [1, 1]
    assert found["in-order", "reversed"].scores["accuracy"] == [0, 0]
    assert max(found["pixels", "none"].scores["accuracy"]) < 1
    text = (folder / "robustness.md").read_text()
    assert "| shuffled     | 1          |         | 100.0 (100.0 to 100.0) |" in text
    # All videos as they are, and of the 8 test videos what is shown of each under the controls; for
    # an encoder of images that is something new for `repeated` alone.
    new = {step.model: 0 for step in steps}
    for step in steps:
        new[step.model] += step.new
    assert new["pixels"] == COUNT + 8
    assert COUNT + 2 * 8 < new["in-order"] <= COUNT + 3 * 8


def test_the_page_says_how_cines_are_shown(out: tuple[Path, list[Step]]) -> None:
    folder, _ = out
    assert "frames pooled (the model takes images" in (folder / "leaderboard.md").read_text()
    found = cells(folder)
    assert found["pixels", "none"].model["shown"] == "frames pooled"
    assert "shown" not in found["in-order", "none"].model
    assert found["pixels", "none"].identity["pooled"]


def test_features_are_the_mean_over_frames_and_are_kept(
    cines: Path, out: tuple[Path, list[Step]]
) -> None:
    task = tasks.load(str(cines / "videos.csv"))
    model = Model("pixels", None, "cpu", "float32")
    found = encode(model, task.test.images, cines / "cache").whole()
    for row, clip in zip(found, task.test.images, strict=True):
        frames = clip.read(None, ClipRule().positions(FRAMES))  # some of the six three times
        images = torch.from_numpy(frames.transpose(0, 3, 1, 2).copy()) / 255
        expected = model.encoder().encode(images).double().mean(0).float()
        torch.testing.assert_close(row, expected, rtol=0, atol=1e-6)
    model._encoder = None
    model.encoder = None  # type: ignore[method-assign, assignment]
    again = encode(model, task.test.images, cines / "cache").whole()  # from the run's cache
    assert torch.equal(found, again)


def test_tokens_are_averaged_down_in_each_time_step() -> None:
    tokens = torch.rand(2, 2 * 20 * 20, 3)
    encoder = SimpleNamespace(takes="clip", steps=2, batch_size=2, tokens_prepared=lambda x: tokens)
    found = features.encode_batch(encoder, [torch.zeros(1)] * 2, "tokens")
    assert found.shape == (2, 2 * 16 * 16, 3)
    step = tokens[1, 400:].mT.view(3, 20, 20)
    expected = torch.nn.functional.adaptive_avg_pool2d(step, 16).flatten(1).mT
    torch.testing.assert_close(found[1, 256:].float(), expected, rtol=0, atol=1e-3)


def test_cines_that_a_model_has_seen_are_found_by_their_frames(cines: Path, tmp_path: Path) -> None:
    task = tasks.load(str(cines / "videos.csv"))
    found = seen.read(cines / str(COUNT - 1), tmp_path / "cache").of(task)  # of the test part
    assert (found.count, found.of) == (1, len(task.test))


def test_a_still_is_repeated_for_an_encoder_of_clips_and_the_page_says_so(
    tmp_path: Path, cines: Path, manifest: Path
) -> None:
    notes: list[str] = []
    frame = ultrabench_eval.run(
        "pixels,in-order,frame-differences",
        f"{manifest},{cines / 'videos.csv'}",
        **{"seeds": 1, "device": "cpu", "probe": "ridge", "corruptions": "none"},
        plugin_files=cines / "order.py",
        out=tmp_path / "out",
        cache=cines / "cache",
        report=lambda step: notes.append(step.model) if step.stage == "note" else None,
    )
    rows = frame[frame.metric == "macro_f1"]
    assert set(rows.status) == {"ok"}
    assert len(rows) == 5  # and no row of what sees motion alone for images, nor of a control
    assert f"controls of motion, so not measured on {manifest}: frame-differences" in notes
    page = (tmp_path / "out" / "leaderboard.md").read_text()
    assert "still repeated (the model takes clips: it is shown an image as a video" in page
    assert ", on shades: in-order." in page


# ---- killed ---------------------------------------------------------------------------------

# Kills itself while `in-order` encodes its second shard, or after one of its four results.
KILLED = """
import os, signal, sys
import ultrabench_eval
from ultrabench_eval.cells import Cells
out, table, plugin, moment = sys.argv[1:]
new, put = 0, Cells.put

def report(step):
    global new
    new += step.new if step.model == "in-order" else 0
    if moment == "encoding" and new > 16:
        os.kill(os.getpid(), signal.SIGKILL)

def put_one(cells, cell, stored):
    if (cell.coordinates.model, cell.coordinates.corruption) == ("in-order", "reversed"):
        os.kill(os.getpid(), signal.SIGKILL)
    return put(cells, cell, stored)

Cells.put = put_one
ultrabench_eval.run("pixels,in-order", table, seeds=2, device="cpu", probe="logistic",
                    plugin_files=plugin, out=out, cache=out + "-cache", report=report)
"""


@pytest.mark.slow
def test_a_killed_run_of_videos_is_resumed_to_the_same_bytes(
    cines: Path, out: tuple[Path, list[Step]], tmp_path: Path
) -> None:
    again, left = tmp_path / "again", []
    for moment in ("encoding", "probing"):
        words = (str(again), str(cines / "videos.csv"), str(cines / "order.py"), moment)
        child = subprocess.run(
            [sys.executable, "-c", KILLED, *words], capture_output=True, text=True, check=False
        )
        assert child.returncode == -signal.SIGKILL, child.stderr
        left.append(sorted(corruption for _, corruption in cells(again)))
    steps: list[Step] = []
    ultrabench_eval.run(
        "pixels,in-order",
        str(cines / "videos.csv"),
        **{"seeds": 2, "device": "cpu", "probe": "logistic"},
        plugin_files=cines / "order.py",
        out=again,
        cache=tmp_path / "again-cache",
        report=steps.append,
    )
    of_pixels = ["none", "repeated", "reversed", "shuffled"]
    assert left == [of_pixels, sorted([*of_pixels, "none", "shuffled"])]
    ends = [step.stage for step in steps if step.stage in ("kept", "done")]
    assert ends == 6 * ["kept"] + 2 * ["done"]
    assert sum(step.new for step in steps) == 8  # what the control not yet measured shows
    assert tables(again) == tables(out[0])


# ---- corruptions ----------------------------------------------------------------------------


def test_what_is_asked_for_must_fit_the_samples(
    tmp_path: Path, cines: Path, manifest: Path
) -> None:
    options = {"out": tmp_path / "out", "cache": tmp_path / "cache", "device": "cpu"}
    words = r"task 'shades' holds images, and the corruptions shuffled, .* speed are of videos"
    with pytest.raises(UserError, match=words):
        ultrabench_eval.run("pixels", str(manifest), corruptions="temporal", **options)
    with pytest.raises(UserError, match="'videos' holds videos, on which no network is fine-tuned"):
        ultrabench_eval.run("pixels", str(cines / "videos.csv"), protocol="finetune", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", corrupt.TEMPORAL_CORRUPTIONS)
@pytest.mark.parametrize(("count", "at"), [(100, None), (100, 37), (5, 4), (1, 0)])
def test_temporal_corruptions_are_of_positions(name: str, count: int, at: int | None) -> None:
    positions = ClipRule().positions(count, at=at)
    different = []
    for severity in corrupt.find(name).severities:
        found = corrupt.reordered(positions, name, severity, at=at, seed=3)
        assert found == corrupt.reordered(positions, name, severity, at=at, seed=3)
        assert len(found) == len(positions)
        assert min(positions) <= min(found) <= max(found) <= max(positions)
        assert at is None or at in found
        different.append(sum(a != b for a, b in zip(found, positions, strict=True)))
    assert different == sorted(different) or name == "jitter"
    assert count == 1 or different[-1]
    if name in ("shuffled", "reversed"):
        assert sorted(found) == sorted(positions)
    if name == "repeated":
        assert len({*found}) == 1


def test_frames_of_a_cine_are_corrupted_by_one_draw(cines: Path) -> None:
    image = tasks.load(str(cines / "videos.csv")).test.images[0]
    worse = CorruptedClip(image, None, "speckle", 3, seed=0)
    still = dataclasses.replace(worse, image=_Standing(image, 2))
    cine = still.read(still.digest(), [0, 5, 1])
    assert cine.shape == (3, SIDE, SIDE, 3)
    assert (cine == cine[:1]).all()
    assert not np.array_equal(cine[0], image.read(None, [2])[0])
    assert worse.digest() not in (image.digest(), still.digest())
    (_, streamed), *_ = worse.stream(worse.digest(), [4])
    assert np.array_equal(streamed, worse.read(None, [4])[0])


@dataclasses.dataclass(frozen=True)
class _Standing:
    """A video that shows one of its frames all the time."""

    clip: Clip
    index: int

    def __getattr__(self, name: str) -> object:
        return getattr(self.clip, name)

    def digest(self) -> str:
        return f"{self.index}{self.clip.digest()}"

    def read(self, digest: str | None = None, positions: tuple[int, ...] = ()) -> np.ndarray:
        return self.clip.read(None, [self.index] * len(positions))


# ---- masks ----------------------------------------------------------------------------------


def test_masks_are_of_the_labelled_frame(cines: Path) -> None:
    task = tasks.load(str(cines / "squares.csv"))
    clip = task.test.images[0]
    assert shown.of(clip, "image", None, "maps").positions == (1,)
    assert shown.of(clip, "image", None, "maps", "shuffled", 1).positions == (1,)
    rule = ClipRule(frames=4)
    backwards = shown.of(clip, "clip", rule, "maps", "reversed", 1)
    assert (backwards.positions, backwards.place) == ((5, 3, 2, 1), 3)
    frame = ultrabench_eval.run(
        "pixel-grid,in-order",
        str(cines / "squares.csv"),
        **{"seeds": 1, "device": "cpu", "corruptions": "reversed,contrast"},
        plugin_files=cines / "order.py",
        out=cines / "masks",
        cache=cines / "cache",
    )
    frame = frame.set_index(["model", "corruption", "severity"])
    assert set(frame.status) == {"ok"}
    dice = frame[frame.metric == "dice"]["mean"]
    iou = frame[frame.metric == "iou"]["mean"]
    assert dice["pixel-grid", "none", 0] > 90
    assert dice["pixel-grid", "reversed", 1] == dice["pixel-grid", "none", 0]
    assert dice["pixel-grid", "contrast", 3] < dice["pixel-grid", "none", 0]
    assert dice["in-order", "none", 0] > 40
    assert (iou <= dice).all()
    assert {"dice", "iou"} <= cells(cines / "masks")["pixel-grid", "none"].intervals.keys()


def test_the_protocol_of_the_video_paper_reads_the_time_step_of_the_mask(
    cines: Path, tmp_path: Path
) -> None:
    own = tmp_path / "short_vjepa.yaml"
    words = "predicts: masks\nstandardize: true\nusual_probe: transposed\n"
    own.write_text(words + "transposed: {max_epochs: 25, batch_size: 4}\n")
    frame = ultrabench_eval.run(
        "in-order",
        str(cines / "squares.csv"),
        **{"seeds": 1, "device": "cpu", "corruptions": "none", "protocol": str(own)},
        plugin_files=cines / "order.py",
        out=tmp_path / "out",
        cache=cines / "cache",
    )
    frame = frame.set_index("metric")
    assert set(frame.probe) == {"transposed"}
    assert frame["mean"]["dice"] > 70  # other frames have the square elsewhere
    assert frame["mean"]["iou"] < frame["mean"]["dice"]


def test_the_released_layouts_of_echocardiography_are_run(
    cines: Path, phantom_root: Path, tmp_path: Path
) -> None:
    frame = ultrabench_eval.run(
        "pixel-grid,in-order",
        "camus-clips-ef,echonet-dynamic",
        **{"seeds": 1, "device": "cpu", "corruptions": "none", "data": str(phantom_root)},
        plugin_files=cines / "order.py",
        out=tmp_path / "out",
        cache=tmp_path / "cache",
    )
    assert set(frame.status) == {"ok (synthetic)"}
    assert frame[frame.metric.isin(["dice", "iou", "mae"])]["mean"].notna().sum() == 2 * 3
    page = (tmp_path / "out" / "leaderboard.md").read_text()
    assert page.count("frames pooled (the model takes images") == 1
    assert "), on camus-clips-ef, echonet-dynamic: pixel-grid." in page
    # One woman and one man are tested, and one patient tells nothing of how patients differ.
    by = pd.read_csv(tmp_path / "out" / "subgroups.csv").query("task == 'camus-clips-ef'")
    assert by.value.notna().all()
    assert by.query("patients == 1")[["low", "high"]].isna().all(axis=None)
    assert by.query("patients > 1")[["low", "high"]].notna().all(axis=None)
    assert set(by.patients) == {1, 2}


# ---- folds ----------------------------------------------------------------------------------


def folds_of(cines: Path) -> Task:
    """Three folds over all videos."""
    whole = tasks.load(str(cines / "videos.csv"))
    items = [item for split in whole.splits.values() for item in split.items]
    pairs = [items[n : n + 2] for n in range(0, COUNT, 2)]
    parts = [[item for pair in pairs[n::3] for item in pair] for n in range(3)]
    card = TaskCard("turns", "Turns", "none", "direction", whole.classes, samples="clip")
    folds = []
    for number in range(3):
        order = [*parts[number + 1 :], *parts[: number + 1]]  # the last is tested
        folds.append(Task(card, *map(Split.of, order), origin=str(cines)))
    return Task.of_folds(card, folds, origin=str(cines))


def measured(cines: Path, out: Path, task: Task, **changes: object) -> Cell:
    grid = Grid.parse("ridge", None, "100", "none")
    setting = Setting(
        *(Cells(out), cines / "cache", 2, grid), lambda *at: None, lambda *at: None, **changes
    )
    model = Model("pixels", None, "cpu", "float32")
    assert list(measure("pixels", model, "turns", task, setting)) == ["done"]
    assert is_finished("pixels", model, "turns", task, setting)
    assert list(measure("pixels", model, "turns", task, setting)) == ["kept"]
    (cell,) = cells(out).values()
    return cell


def test_folds_are_one_result_of_what_each_predicts_alone(cines: Path, tmp_path: Path) -> None:
    task = folds_of(cines)
    cell = measured(cines, tmp_path / "whole", task, keep_probes=True)
    alone = [measured(cines, tmp_path / str(n), fold) for n, fold in enumerate(task.folds)]
    np.testing.assert_array_equal(
        probabilities(tmp_path / "whole", cell),
        np.concatenate([probabilities(tmp_path / str(n), c) for n, c in enumerate(alone)], axis=1),
    )
    assert cell.images == {"train": 10, "validation": 10, "test": COUNT}
    assert [len(head["folds"]) for head in cell.heads] == [3, 3]
    assert [head["folds"][2] for head in cell.heads] == alone[2].heads
    rights = np.mean([one.scores["accuracy"] for one in alone], axis=0)
    np.testing.assert_allclose(cell.scores["accuracy"], rights)
    for name in ("brier_calibrated", "log_loss_calibrated"):  # by the temperatures of each fold
        np.testing.assert_allclose(
            cell.scores[name], np.mean([one.scores[name] for one in alone], axis=0)
        )
    assert cell.intervals.keys() == alone[0].intervals.keys()
    assert any("measured in 3 folds: each sample is tested once" in one for one in cell.remarks)
    test = Cells(tmp_path / "whole").test_set(str(cell.identity["task"]))
    assert len({*(test.groups or ())}) == COUNT // 2
    why = Grid.parse(None, None, "10,100", "none").refuses(task.card, "classes")
    assert why.startswith("is measured in 3 folds, which are too small for a part")


@pytest.mark.parametrize("kind", ["classification", "regression", "segmentation"])
def test_one_fold_of_a_kind_is_scored_as_without_folds(kind: str, cines: Path) -> None:
    generator, scored = np.random.default_rng(0), task_types.get(kind)
    if kind == "segmentation":
        split = tasks.load(str(cines / "squares.csv")).test
        truth = scored.truth(split, np.ones((len(split), 2)))
        shape = (2, len(split), 2, 6, 6)
        predicted = generator.normal(size=shape).astype(np.float16)
    else:
        values = generator.integers(0, 2, 20)
        truth = Numbers(values + 1.0, np.full(20, 2.0)) if kind == "regression" else values
        predicted = generator.normal(size=(2, 20))
        if kind == "classification":
            one = 1 / (1 + np.exp(-predicted))
            predicted = np.stack([one, 1 - one], -1)
    count = len(truth)
    test = TestSet.of_labels(np.zeros(count, int), 2).model_copy(
        update={"truth": truth, "type": kind}
    )
    validation = [(predicted[seed][: count // 2], truth[: count // 2]) for seed in range(2)]
    plain = scored.measure(predicted, test, validation)
    folded = scored.measure_folds([FoldPredictions(predicted, test, validation)], test)
    assert folded.scores.keys() == plain.scores.keys()
    for name, values in plain.scores.items():
        np.testing.assert_allclose(folded.scores[name], values, err_msg=name)
    half = FoldPredictions(predicted[:, :4], test.only(np.arange(4)), validation)
    rest = FoldPredictions(predicted[:, 4:], test.only(np.arange(4, count)), validation)
    twice = scored.measure_folds([half, rest], test)  # the same validation in both
    for name, values in plain.scores.items():
        np.testing.assert_allclose(twice.scores[name], values, err_msg=name)
    some = scored.only(twice.stored, np.arange(3, 6))
    assert scored.answers(some).shape[1] == 3
