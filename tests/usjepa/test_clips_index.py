"""Videos in an index: which frames a clip is made of, what is stored, and what is left out."""

from __future__ import annotations

import csv
import json
import shutil
import tracemalloc
from pathlib import Path

import cines
import numpy as np
import PIL.Image
import pytest

from tasks.samples import clip_files as samples
from ultrabench_eval.core.errors import UserError
from usjepa import augment, config, loader
from usjepa.config import LocalisationSettings, Video
from usjepa.frames import guard, index, store
from usjepa.frames.clips import positions, windows
from usjepa.frames.store import Frame, Settings, open_index


@pytest.mark.shared
def test_windows_are_those_of_the_official_loader(shared: Path) -> None:
    content = json.loads((shared / "conformance/vjepa-masks/clip_indices.json").read_text())
    assert len(content["rows"]) == 84
    for row in content["rows"]:
        generator = np.random.RandomState(row["numpy_global_seed"])
        found = windows(
            row["frames_in_video"],
            row["frames_per_clip"],
            row["frame_step"],
            row["num_clips"],
            row["allow_clip_overlap"],
            generator.randint if row["random_clip_sampling"] else None,
        )
        assert found == row["indices"], row


def test_frames_are_taken_by_stride_by_rate_or_from_the_whole_cine() -> None:
    def taken(**how: object) -> list[int]:
        return list(positions(40, 22.3, Video(frames=4, **how)))  # type: ignore[arg-type]

    assert taken(spacing="spread") == [0, 13, 26, 39]
    assert taken(step=2) == [0, 2, 5, 7]
    assert taken(spacing="rate", rate=8) == [0, 2, 5, 7]  # 23 frames a second over 8
    assert taken(spacing="rate", rate=100) == [0, 1, 2, 3]
    unknown = positions(40, None, Video(frames=4, spacing="rate", step=5))
    assert list(unknown) == [0, 6, 13, 19]
    late = positions(40, None, Video(frames=4, step=2), lambda first, end: end - 1)
    assert list(late) == [31, 33, 36, 38]


def test_cines_of_all_kinds_are_stored_whole_and_in_order(tmp_path: Path) -> None:
    root, frames = tmp_path / "in" / "hearts", cines.drawn(7, 1)
    root.mkdir(parents=True)
    cines.cine(root / "a.mkv", frames, rate=12)
    shutil.copy(root / "a.mkv", root / "copy.mkv")
    cines.pictures(root / "b", cines.drawn(12, 2))
    PIL.Image.fromarray(frames[0]).save(root / "still.png")
    cines.cine(root / "one.mkv", frames[:1])
    cines.cine(root / "black.mkv", np.zeros_like(frames))
    cines.cine(root / "whole.mkv", cines.drawn(40, 3))
    content = (root / "whole.mkv").read_bytes()
    (root / "cut.mkv").write_bytes(content[: len(content) // 2])
    (root / "whole.mkv").unlink()
    values = np.ascontiguousarray(cines.drawn(6, 4)[..., 0])
    write_meta(root / "c.mha", values)
    write_meta(root / "c_gt.mha", values)
    found = index.build(
        tmp_path / "in", tmp_path / "out", Settings(clips=True, inpaint_below=0), kind="folders"
    )
    assert found.counts.tolist() == [3]
    by_name = [found.cine(number) for number in range(3)]
    assert [(cine.count, cine.rate) for cine in by_name] == [(7, 12.0), (6, None), (12, None)]
    one = by_name[0].frames([3, 0, 3])
    assert one[0] is one[2]
    for frame, place in zip(one, (3, 0, 3), strict=True):
        assert np.array_equal(frame.pixels, frames[place][..., 0])
    assert np.array_equal(by_name[1].frames([5])[0].pixels, values[5])
    assert np.array_equal(by_name[2].frames([11])[0].pixels, cines.drawn(12, 2)[11][..., 0])
    with (tmp_path / "out/hearts/removed.csv").open(newline="") as file:
        removed = {name: reason for name, reason, _ in list(csv.reader(file))[1:]}
    assert removed == {
        "black.mkv": "no contrast",
        "c_gt.mha": "mask",
        "copy.mkv": "duplicate",
        "cut.mkv": "corrupt",
        "one.mkv": "one frame",
        "still.png": "one frame",
    }
    assert len(np.unique(found.groups("hearts"))) == 3
    again = index.build(
        tmp_path / "in", tmp_path / "out", Settings(clips=True, inpaint_below=0), kind="folders"
    )
    assert again.fingerprint == found.fingerprint


def write_meta(path: Path, values: np.ndarray) -> None:
    """A MetaImage sequence of uint8 [T, H, W]."""
    size = " ".join(map(str, values.shape[::-1]))
    header = (
        f"ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
        f"CompressedData = False\nDimSize = {size}\nElementSpacing = 1 1 1\n"
        "ElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
    )
    path.write_bytes(header.encode() + values.tobytes())


def test_a_cine_with_one_test_image_in_it_is_left_out(tmp_path: Path) -> None:
    hidden = cines.drawn(8, 1, 90, 120)

    class OneImage:
        tasks, digest = ("secret",), "0"

        def check(self, images: list[np.ndarray]) -> list[guard.Match | None]:
            match = guard.Match("secret", "it", "same image", 1.0)
            return [match if np.array_equal(one, hidden[6]) else None for one in images]

    root = tmp_path / "in" / "hearts"
    root.mkdir(parents=True)
    cines.cine(root / "a.mkv", hidden)
    cines.cine(root / "b.mkv", cines.drawn(8, 2, 90, 120))
    found = index.build(tmp_path / "in", tmp_path / "out", Settings(clips=True), OneImage())
    assert len(found) == 1
    assert found.name(0) == "hearts/b.mkv#0"
    assert "evaluation image" in (tmp_path / "out/hearts/removed.csv").read_text()
    sample = samples.of(root / "a.mkv", "a.mkv")
    assert [one.name for one in guard._images(sample)][:1] == [sample.frame(0).name]
    assert len(guard._images(sample)) == 8


def test_a_long_cine_is_never_held_in_memory(tmp_path: Path) -> None:
    root = tmp_path / "in" / "hearts"
    root.mkdir(parents=True)
    frames = np.broadcast_to(cines.drawn(1, 0, 240, 320), (300, 240, 320, 3))
    cines.cine(root / "long.mkv", frames)
    tracemalloc.start()
    found = index.build(tmp_path / "in", tmp_path / "out", Settings(size=64, clips=True))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.cine(0).count == 300
    assert peak < frames.nbytes / 2


def test_stills_and_clips_do_not_mix(tmp_path: Path) -> None:
    found = cines.index(tmp_path, 2)
    sample = found.cine(0).frames([0])[0]
    assert sample.pixels.shape == (44, 60)
    stills = open_index(found.path)
    assert stills.settings.clips
    (found.path / "hearts" / store.CLIPS).write_text("name,first,frames,rate\n")
    with pytest.raises(UserError, match=r"clips.csv is not as it was written; run `usjepa index"):
        open_index(found.path)
    (tmp_path / "other").mkdir()
    PIL.Image.fromarray(cines.drawn(1, 0)[0]).save(tmp_path / "other" / "a.png")
    with pytest.raises(UserError, match=r"no clip of .* can be used \(a still 1\)"):
        index.build(tmp_path / "other", tmp_path / "out2", Settings(clips=True))


def test_one_crop_and_one_stretch_for_all_frames_of_a_clip() -> None:
    frame = cines.drawn(1, 3)[0][..., 0]
    region = np.zeros(frame.shape, bool)
    region[:, 20:] = True
    clip = [Frame(frame, region), Frame(frame // 2, region), Frame(frame, region)]
    settings = cines.config(data={"percentiles": [2, 98]}, region_conditioning=True)
    seen = augment.training_clip(clip, settings, np.random.default_rng(1))
    assert seen.pixels.shape == (3, 32, 32)
    assert np.array_equal(seen.pixels[0], seen.pixels[2])
    ratio = seen.pixels[1].astype(float).sum() / seen.pixels[0].sum()
    assert 0.3 < ratio < 0.7  # a stretch of each by itself would make them alike
    assert seen.valid is not None
    assert seen.valid.shape == (4, 4)
    whole = augment.plain_clip(clip, settings)
    still = augment.plain(clip[0], cines.config(data={"percentiles": None}))
    assert np.array_equal(augment.plain_clip(clip, cines.config()).pixels[0], still.pixels)
    assert whole.pixels.shape == (3, 32, 32)


def test_batches_of_clips_are_grey_or_coloured(tmp_path: Path) -> None:
    found = cines.index(tmp_path, 4)
    parts = loader.ValidationParts(found, np.arange(4), cines.config(), 4)
    images, masks = parts[0].on("cpu")  # type: ignore[arg-type]
    assert images.shape == (4, 3, 4, 32, 32)
    assert 0 <= images.min() <= images.max() <= 1
    assert len(masks.kinds) == 2
    coloured = np.zeros((4, 32, 32, 3), np.uint8)
    coloured[..., 1] = 7
    batch = loader._batch([augment.Seen(coloured, None)] * 2, parts.masks, 0, 0)
    assert batch.images.shape == (2, 3, 4, 32, 32)
    assert batch.images.amax(dim=(0, 2, 3, 4)).tolist() == [0, 7, 0]


def test_the_official_configurations_are_those_of_the_papers() -> None:
    official, paper = config.load("vjepa_vitl16"), config.load("vjepa_loc_vitl16")
    assert official.video == paper.video == Video()
    assert paper.localisation == LocalisationSettings(weight=0.25, pairs=100)
    assert (paper.train.batch_size, official.train.batch_size) == (4, 3072)
