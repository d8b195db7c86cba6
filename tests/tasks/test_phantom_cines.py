"""Simulated videos: volumes that are known, speckle that tissue carries, a class that no single
frame shows; and tasks that run without data."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import tasks
from tasks import phantom
from tasks.phantom import clip
from tasks.phantom.anatomy.ventricle import Beat
from tasks.phantom.cines import beating, sliding
from tasks.phantom.cines.recording import scanner_of
from tasks.phantom.cines.sliding import Sweep
from tasks.phantom.machine import generator
from tasks.phantom.picture import Study
from tasks.phantom.plan import SIZES, Size
from tasks.samples import clip_files
from tasks.task import Task
from ultrabench_eval import pipeline
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.request import Request

SEED = 5


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """8 hearts at full size, and 64 lungs at half of it."""
    folder = tmp_path_factory.mktemp("cines")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIZES, "hearts", Size("hearts", 0.2, 1.0))
        patch.setitem(SIZES, "lungs", Size("lungs", 0.45, 0.5))
        phantom.write(folder, "hearts", SEED, ["phantom-lv"])
        phantom.write(folder, "lungs", SEED, ["phantom-sliding"])
    return folder


def table(root: Path, name: str) -> list[dict[str, str]]:
    with (root / name / "cines.csv").open() as file:
        return list(csv.DictReader(file))


def discs(mask: np.ndarray, pixel: float) -> float:
    """Volume in ml of a cavity [H, W] around the axis from its apex, by the method of discs."""
    rows, columns = np.nonzero(mask)
    points = np.stack([columns, rows], axis=1) * pixel
    middle = points - points.mean(axis=0)
    axes = np.linalg.svd(np.cov(middle.T))[2]
    along = middle @ axes[0]
    length = along.max() - along.min() + pixel
    # The area in each of 20 discs over its height is the disc's diameter.
    areas, _ = np.histogram(along, 20, (along.min() - pixel / 2, along.max() + pixel / 2))
    height = length / 20
    return float(np.pi / 4 * ((areas * pixel**2 / height) ** 2).sum() * height) / 1000


def test_volumes_of_the_outline_are_those_that_were_drawn() -> None:
    for number in range(20):
        name = f"lv-{number:04}"
        heart, fraction, full = beating.heart_of(SEED, name)
        beat, count, _ = beating.times_of(SEED, name, fraction)
        volumes = [heart.volume(beat.filled(frame)) for frame in range(count)]
        assert volumes[beat.diastole()] == max(volumes) == pytest.approx(full, rel=1e-4)
        assert volumes[beat.end_systole()] == min(volumes)
        ejected = 1 - min(volumes) / max(volumes)
        assert ejected == pytest.approx(fraction, abs=1e-6)
        assert beat.opening(beat.end_systole()) == 0 < max(map(beat.opening, range(count)))


def test_the_wall_keeps_its_volume_and_tissue_comes_from_where_it_was() -> None:
    heart, _, _ = beating.heart_of(SEED, "lv-0001")
    v = np.linspace(2, heart.length, 30, dtype=np.float32)
    for right in (False, True):
        u = heart.radius(v, np.full(30, right)) * (1 if right else -1)
        squeezed = heart.placed(np.stack([u * 0.4**0.4, v * 0.4**0.2], axis=1))
        before = np.stack(heart.before(*squeezed.T.astype(np.float32), 0.4), axis=1)
        assert np.abs(before - heart.placed(np.stack([u, v], axis=1))).max() < 0.05
    far = np.array([[75.0, 100.0]], np.float32).T
    np.testing.assert_allclose(heart.before(*far, 0.4), far)

    x, z = np.meshgrid(np.arange(-60, 60, 0.4), np.arange(0, 160, 0.4))
    distance = np.abs(heart.own(x, z)[0])  # each side is turned around the axis
    cavity, wall = zip(*(heart.where(x, z, filled) for filled in (1.0, 0.4)), strict=True)
    assert distance[wall[1]].sum() == pytest.approx(distance[wall[0]].sum(), rel=0.01)
    assert distance[cavity[1]].sum() == pytest.approx(0.4 * distance[cavity[0]].sum(), rel=0.01)


def test_masks_give_the_ejection_fraction_of_the_table(root: Path) -> None:
    task, known = tasks.load("phantom-lv", root), tasks.load("phantom-lv-ef", root)
    assert task.synthetic
    assert known.synthetic
    errors = []
    for name, split in task.splits.items():
        for place, mask in enumerate(split.masks[::2]):
            pixel = mask.spacing[0]  # type: ignore[index]
            full, least = (discs(one.read() == 1, pixel) for one in split.masks[2 * place :][:2])
            errors.append(100 * (1 - least / full) - known.splits[name].targets[place])
    assert len(errors) == 8
    assert np.abs(errors).mean() < 1  # pixels are 1.2 to 1.9 mm
    shown = {tuple(np.unique(mask.read())) for mask in task.test.masks}
    assert shown == {(0, 1, 2)}


def test_masks_fit_the_frames(root: Path) -> None:
    """Blood is darker than the wall around it, in every asked-for frame."""
    for split in tasks.load("phantom-lv", root).splits.values():
        for sample, mask in zip(split.images, split.masks, strict=True):
            grey = sample.frame(sample.at).read()[..., 0].astype(float)  # type: ignore[attr-defined]
            codes = mask.read()
            inside = ndimage.binary_erosion(codes == 1, iterations=2)
            assert np.median(grey[inside]) < np.median(grey[codes == 2]) - 15, sample.name


def test_tissue_carries_its_speckle() -> None:
    study = Study(SEED, "speckle", beating.STYLE)
    heart, _, _ = beating.heart_of(SEED, "lv-0002")
    beat = Beat(12, 5, 0, 0.6)
    frames, masks = beating.recorded(study, heart, beat, 6)
    canvas = scanner_of(study).canvas
    rows, columns = np.nonzero(masks[5] == beating.CODES["wall"])
    now = (np.stack([columns, rows], 1) - (canvas.left, canvas.top)) * canvas.pixel
    still = now - beating.drift_of(study, 5)
    was = np.stack(heart.before(*still.T.astype(np.float32), beat.filled(5)), 1)
    was = was + beating.drift_of(study, 0)

    def seen(frame: int, points: np.ndarray) -> np.ndarray:
        places = canvas.to_pixels(points).T[::-1]
        smooth = ndimage.gaussian_filter(frames[frame].astype(float), 8)
        values = ndimage.map_coordinates(frames[frame] - smooth, places, order=1)
        return np.asarray(values)

    followed = np.corrcoef(seen(5, now), seen(0, was))[0, 1]
    in_place = np.corrcoef(seen(5, now), seen(0, now))[0, 1]
    assert followed > 0.55
    assert followed > in_place + 0.2


def test_settings_do_not_follow_the_ejection_fraction() -> None:
    drawn = []
    for number in range(300):
        name = f"lv-{number:04}"
        _, fraction, full = beating.heart_of(SEED, name)
        _, count, rate = beating.times_of(SEED, name, fraction)
        scanner = scanner_of(Study(SEED, f"phantom-lv/{name}", beating.STYLE))
        canvas = scanner.canvas
        drawn.append((fraction, full, count, rate, scanner.gain, canvas.probe.depth, canvas.height))
    assert np.abs(np.corrcoef(np.array(drawn).T)[0, 1:]).max() < 0.16  # 3 standard errors


# Sliding


def test_both_sides_of_a_patient_have_the_same_settings(root: Path) -> None:
    settings: dict[str, Counter[tuple[str, ...]]] = {"yes": Counter(), "no": Counter()}
    for row in table(root, "phantom-sliding"):
        size = clip_files.of(root / "phantom-sliding/videos" / row["file"], "v").size
        about = (row["patient"], row["frames"], row["frames_per_second"], row["depth_mm"])
        settings[row["sliding"]][(*about, row["gain_db"], str(size), row["split"])] += 1
    assert settings["yes"] == settings["no"]
    assert set(settings["yes"].values()) == {1}


def views(task: Task) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """What a still shows and what frames' differences show of each video; labels; patients."""
    still, motion, grouped = [], [], []
    items = [item for split in task.splits.values() for item in split.items]
    for item in items:
        frames = [
            np.asarray(PIL.Image.fromarray(frame[..., 0]).resize((56, 56)), np.float32)
            for frame in item.image.read()
        ]
        changes = np.abs(np.diff(frames, axis=0)).mean(axis=0)
        places = changes.reshape(14, 4, 14, 4).mean(axis=(1, 3))
        motion.append(np.log(places.ravel() + 0.1))
        still.append(frames[len(frames) // 2].reshape(14, 4, 14, 4).mean(axis=(1, 3)).ravel())
        grouped.append(item.group)
    shown = {"still": np.array(still), "motion": np.array(motion)}
    return shown, np.array([item.label for item in items]), np.array(grouped)


def test_only_motion_shows_the_class(root: Path) -> None:
    shown, labels, patients = views(tasks.load("phantom-sliding", root))
    names = np.unique(patients)
    right: dict[str, list[bool]] = {"still": [], "motion": []}
    for fold in range(4):
        tested = np.isin(patients, names[fold::4])
        for kind, x in shown.items():
            probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1))
            probe.fit(x[~tested], labels[~tested])
            right[kind] += list(probe.predict(x[tested]) == labels[tested])
    count = len(labels)
    assert count >= 60
    assert np.mean(right["motion"]) >= 0.9
    assert abs(np.mean(right["still"]) - 0.5) < 1.96 * 0.5 / np.sqrt(count)


def test_a_frame_of_a_sliding_lung_is_one_of_a_still_lung_that_begins_elsewhere() -> None:
    """And where it begins is drawn evenly over the ring."""
    scanner = scanner_of(Study(SEED, "sides", sliding.STYLES[1], 0.6))
    sweep = Sweep(SEED, "lung", scanner, 6, 7)
    slides = sweep.frames(sweep.start, slides=True)
    for number, moved in enumerate(sweep.breath):
        still = sweep.frames(sweep.start + moved, slides=False)
        assert np.abs(slides[number].astype(int) - still[number]).max() <= 1
        assert np.abs(slides[number - 1].astype(int) - still[number - 1]).max() > 20
    around = sweep.frames(sweep.start + sweep.ring, slides=True)
    assert np.abs(np.array(around, int) - slides).max() <= 1


# Files and tasks


def test_equal_seeds_give_equal_bytes(phantom_root: Path, tiny: Size, tmp_path: Path) -> None:
    phantom.write(tmp_path, tiny.name, 3, ["phantom-lv-ef"])
    phantom.write(tmp_path / "other", tiny.name, 4, ["phantom-lv"])
    hashes = [
        {
            path.relative_to(base): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted((base / "phantom-lv").rglob("*"))
            if path.is_file()
        }
        for base in (phantom_root, tmp_path, tmp_path / "other")
    ]
    assert hashes[0] == hashes[1]
    assert not {*hashes[0].values()} & {*hashes[2].values()}


def test_grey_frames_lose_nothing(tmp_path: Path) -> None:
    frames = generator(0, "grey").integers(0, 256, (5, 34, 48, 1)).astype(np.uint8)
    (tmp_path / "v.avi").write_bytes(clip.encode(list(frames), ".avi", 9, "ffv1"))
    read = clip_files.of(tmp_path / "v.avi", "v")
    assert read.rate == 9
    assert (read.read() == frames).all()


def test_simulated_tasks_need_no_data(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UBENCH_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    chosen = pipeline.chosen_data
    assert chosen(None, "phantom-lv") == "phantom"
    assert chosen(tmp_path, "phantom-lv-ef,phantom-sliding") == "phantom"
    assert chosen(root, "phantom-lv-ef,phantom-sliding@published") == root
    assert chosen(None, "all") is None
    assert chosen(None, "phantom-lv,aul") is None
    with pytest.raises(UserError, match=r"is simulated, and .* --task phantom-lv\), or run it"):
        tasks.load("phantom-lv-ef", tmp_path)

    monkeypatch.setitem(SIZES, "small", Size("small", 0.05, 0.3))
    ready = pipeline.prepare(
        Request(models="pixels", tasks="phantom-lv-ef", out=tmp_path / "o", cache=tmp_path / "c")
    )
    (task,) = ready.planned.tasks.values()
    assert isinstance(task, Task)
    assert task.synthetic


def test_a_shipped_encoder_of_clips_is_measured_without_any_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SIZES, "small", Size("small", 0.5, 0.5))
    board = pipeline.run(
        *("vjepa-loc-nano", "phantom-lv"),
        **{"seeds": 1, "out": tmp_path / "o", "cache": tmp_path / "c", "dtype": "float32"},
    )
    rows = [row for row in board.to_dict("records") if row["metric"] == "dice"]
    # Also with the temporal controls that come with every task of videos.
    assert [row["corruption"] for row in rows] == ["none", "repeated", "reversed", "shuffled"]
    assert all(row["status"].startswith("ok") for row in rows)
    assert 20 < rows[0]["mean"] < 100


def test_all_leaves_simulated_tasks_out_of_a_root_without_them(
    phantom_root: Path, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/busbra").symlink_to(phantom_root / "busbra")
    request = Request(
        models="pixels", tasks="all", data=tmp_path / "data", out=tmp_path / "o", cache=tmp_path
    )
    ready = pipeline.prepare(request)
    assert list(ready.planned.tasks) == ["busbra", "busbra-seg"]
    assert not [note for note in ready.notes if "phantom" in note]


@pytest.mark.parametrize(
    ("task", "cell", "instead", "told"),
    [
        ("phantom-lv", "train", "practice", "in a split"),
        ("phantom-lv-ef", "ef_percent", None, "lacks the column ef_percent"),
        ("phantom-sliding", "yes", "perhaps", "sliding is 'perhaps'"),
    ],
)
def test_a_damaged_table_is_told(
    phantom_root: Path, tmp_path: Path, task: str, cell: str, instead: str | None, told: str
) -> None:
    home = tasks.home(task)
    (tmp_path / home).mkdir()
    for name in ("videos", "masks"):
        (tmp_path / home / name).symlink_to(phantom_root / home / name)
    text = (phantom_root / home / "cines.csv").read_text()
    (tmp_path / home / "cines.csv").write_text(text.replace(cell, instead or "other", 1))
    with pytest.raises(UserError, match=f"cines.csv.*{told}.*ubench data phantom"):
        tasks.load(task, tmp_path)
