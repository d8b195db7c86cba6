"""The index on disk: what goes in comes out, damage is reported, groups stay together."""

from __future__ import annotations

import csv
import json
import multiprocessing
import pickle
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ultrabench_eval.core.errors import UserError
from usjepa.frames import sampling, store
from usjepa.frames import writer as frame_writer
from usjepa.frames.sampling import hold_out
from usjepa.frames.store import Frames, Settings, open_index
from usjepa.frames.writer import Writer

SETTINGS = Settings()
FINGERPRINT = "1d969829172cd9681b7dbe59bd01497f6ac2f54dc4bf159c02fda5f8b270f73f"


def picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (20 + number % 7, 31), dtype=np.uint8)


def region(number: int) -> np.ndarray | None:
    """Of every third frame, everything."""
    return None if number % 3 == 0 else picture(number) > 40


def write(index: Path, name: str = "hearts", count: int = 12, options: Settings = SETTINGS) -> Path:
    """A set in which three frames after another are one video."""
    with Writer(index, name, options) as writer:
        for i in range(count):
            writer.add(f"{i}.png", f"video {i // 3}", f"{i:064x}", picture(i), region(i))
        writer.remove("broken.png", "corrupt", "no image")
    return index / name


def check(index: Frames, first: int = 0, count: int = 12) -> None:
    for i in range(count):
        frame = index.read(first + i)
        np.testing.assert_array_equal(frame.pixels, picture(i))
        wanted = region(i)
        assert (frame.region is None) == (wanted is None)
        if wanted is not None:
            np.testing.assert_array_equal(frame.region, wanted)
            assert frame.region is not None
            assert frame.region.dtype == bool


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write(tmp_path, "livers", 5)
    write(tmp_path)
    index = open_index(tmp_path)
    assert index.sets == ("hearts", "livers")
    assert index.counts.tolist() == [12, 5]
    assert index.counts.dtype == np.int64
    assert len(index) == 17
    assert index.settings == SETTINGS
    assert index.guard is None
    assert [index.first(name) for name in index.sets] == [0, 12]
    check(index)
    check(index, 12, 5)
    assert index.name(3) == "hearts/3.png"
    assert index.name(13) == "livers/1.png"
    groups = index.groups("hearts")
    assert groups.dtype == np.uint64
    assert len(np.unique(groups)) == 4
    assert np.unique(groups.reshape(4, 3), axis=1).shape == (4, 1)
    for outside in (-1, 17):
        with pytest.raises(IndexError):
            index.read(outside)


def test_a_set_tells_what_it_holds(tmp_path: Path) -> None:
    folder = write(tmp_path)
    told = json.loads((folder / "set.json").read_text())
    assert told["counts"] == {"kept": 12, "removed": 1}
    assert told["removed"] == {"corrupt": 1}
    rows = list(csv.reader((folder / "frames.csv").open()))
    assert rows[0] == ["name", "group", "digest"]
    assert rows[4] == ["3.png", "video 1", f"{3:064x}"]
    assert list(csv.reader((folder / "removed.csv").open()))[1:] == [
        ["broken.png", "corrupt", "no image"]
    ]


def test_colour_is_kept_where_settings_say_so(tmp_path: Path) -> None:
    pixels = np.stack([picture(1), picture(8), picture(15)], axis=-1)
    with Writer(tmp_path, "a", Settings(grey=False)) as writer:
        writer.add("a", "a", "0" * 64, pixels, None)
    index = open_index(tmp_path)
    assert not index.settings.grey
    np.testing.assert_array_equal(index.read(0).pixels, pixels)


def test_a_region_of_all_pixels_is_none(tmp_path: Path) -> None:
    with Writer(tmp_path, "a", SETTINGS) as writer:
        writer.add("a", "a", "0" * 64, picture(0), np.ones((20, 31), bool))
    assert open_index(tmp_path).read(0).region is None


def test_shards_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_writer, "SHARD_BYTES", 2000)
    folder = write(tmp_path)
    assert len(list(folder.glob("pixels-*.bin"))) > 2
    check(open_index(tmp_path))


def read_all(index: Frames, queue: multiprocessing.Queue[int]) -> None:
    queue.put(sum(int(index.read(i).pixels.sum()) for i in range(len(index))))


def test_workers_and_threads(tmp_path: Path) -> None:
    write(tmp_path)
    index = open_index(tmp_path)
    wanted = sum(int(picture(i).sum()) for i in range(12))
    index.read(0)  # a shard is open before the fork
    assert len(pickle.dumps(index)) < 1000
    check(pickle.loads(pickle.dumps(index)))
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [context.Process(target=read_all, args=(index, queue)) for _ in range(2)]
    for worker in workers:
        worker.start()
    assert [queue.get(timeout=30) for _ in workers] == [wanted, wanted]
    for worker in workers:
        worker.join()
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda i: int(index.read(i).pixels.sum()), range(12))) == wanted


def test_a_set_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    write(tmp_path, count=3)

    def interrupted() -> None:
        with Writer(tmp_path, "hearts", SETTINGS) as writer:
            writer.add("a", "a", "0" * 64, picture(0), None)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["hearts"]
    check(open_index(tmp_path), count=3)
    write(tmp_path, count=6)  # replaced
    assert open_index(tmp_path).counts.tolist() == [6]


def test_a_set_of_another_index_or_a_missing_one_is_told(tmp_path: Path) -> None:
    for index, count in (("one", 3), ("other", 6)):
        for name in ("hearts", "livers"):
            write(tmp_path / index, name=name, count=count)
    shutil.rmtree(tmp_path / "one" / "hearts")
    with pytest.raises(UserError, match=r"set 'hearts' of the index .*one is gone"):
        open_index(tmp_path / "one")
    shutil.copytree(tmp_path / "other" / "hearts", tmp_path / "one" / "hearts")
    with pytest.raises(UserError, match=r"hearts is not the one that was made in this index"):
        open_index(tmp_path / "one")
    write(tmp_path / "one", name="hearts", count=3)
    assert open_index(tmp_path / "one").counts.tolist() == [3, 3]


def test_another_folder_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "hearts").mkdir()
    (tmp_path / "hearts" / "thesis.tex").touch()
    with pytest.raises(UserError, match=r"hearts is there and is not a set"):
        write(tmp_path)
    assert (tmp_path / "hearts" / "thesis.tex").exists()


def test_the_fingerprint_is_of_the_frames(tmp_path: Path) -> None:
    seen = set()
    for number, options in enumerate(({}, {}, {"count": 11}, {"name": "livers"})):
        write(tmp_path / str(number), **options)  # type: ignore[arg-type]
        seen.add(open_index(tmp_path / str(number)).fingerprint)
    assert len(seen) == 3


def test_frames_of_impossible_size_are_refused() -> None:
    with pytest.raises(ValueError, match="too long"):
        frame_writer.pack(np.zeros((1, 70_000), np.uint8), None)
    with pytest.raises(ValueError, match="not of the frame's size"):
        frame_writer.pack(np.zeros((4, 5), np.uint8), np.zeros((5, 4), bool))


# What is reported


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def cut(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-9])


def replaced(name: str, old: bytes, new: bytes) -> Callable[[Path], None]:
    def replace(folder: Path) -> None:
        content = (folder / name).read_bytes()
        assert old in content
        (folder / name).write_bytes(content.replace(old, new))

    return replace


def written(name: str, content: bytes) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return write


def flipped(name: str, at: int) -> Callable[[Path], None]:
    def flip(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[at] ^= 1
        (folder / name).write_bytes(content)

    return flip


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (remove("set.json"), r"cannot read .*set\.json"),
        (cut("set.json"), r"cannot read .*set\.json"),
        (written("set.json", b"[]"), r"cannot read .*set\.json"),
        (written("set.json", b"[" * 100_000), r"cannot read .*set\.json"),
        (replaced("set.json", b'"format": 2', b'"format": 3'), r"format 3, newer than the 2"),
        (replaced("set.json", b'"format": 2', b'"format": 1'), r"written by an earlier version"),
        (replaced("set.json", b'"grey"', b'"gray"'), r"set\.json is not as it was written"),
        (replaced("set.json", b'"kept": 12', b'"kept": 13'), r"set\.json is not as it was written"),
        (replaced("set.json", b'"guard": null', b'"guard": 1'), r"set\.json is not as it was"),
        (remove("records.npy"), r"records\.npy is missing"),
        (cut("records.npy"), r"records\.npy is not as it was written"),
        (written("records.npy", b"\x93NUMPY\x01\x00\x06\x00{'"), r"records\.npy is not as it"),
        (flipped("records.npy", 128), r"records\.npy is not as it was written"),
        (replaced("frames.csv", b"video 1", b"video 0"), r"frames\.csv is not as it was written"),
        (remove("removed.csv"), r"removed\.csv is missing"),
        (replaced("removed.csv", b"corrupt", b"correct"), r"removed\.csv is not as it was"),
        (remove("pixels-00000.bin"), r"pixels-00000\.bin is missing"),
        (cut("pixels-00000.bin"), r"pixels-00000\.bin is not of the length"),
    ],
)
def test_damage_is_told_on_opening(
    tmp_path: Path, damage: Callable[[Path], None], told: str
) -> None:
    damage(write(tmp_path))
    with pytest.raises(UserError, match=f"(?s)hearts.*{told}|{told}.*hearts"):
        open_index(tmp_path)


def test_damage_is_told_on_reading(tmp_path: Path) -> None:
    folder = write(tmp_path)
    index = open_index(tmp_path)
    shard = folder / "pixels-00000.bin"
    content = bytearray(shard.read_bytes())
    start, length = (int(index._sets[0].records[4][key]) for key in ("offset", "length"))
    content[start + length // 2] ^= 1  # the picture could still be decoded, perhaps
    shard.write_bytes(content)
    index = open_index(tmp_path)
    index.read(3)
    told = r"pixels-00000\.bin is not as it was written at frame 4; run `usjepa index` again"
    with pytest.raises(UserError, match=told):
        index.read(4)
    (folder / "frames.csv").unlink()
    with pytest.raises(UserError, match=r"frames\.csv has no row for frame 4"):
        index.name(4)
    index._sets[0]._shards.clear()  # as in a worker that has not read yet
    shard.unlink()
    with pytest.raises(UserError, match=r"pixels-00000\.bin is missing"):
        index.read(3)


def test_a_whole_set_in_the_wrong_place_is_told(tmp_path: Path) -> None:
    hearts, livers = write(tmp_path, "hearts", 12), write(tmp_path, "livers", 12)
    hearts.rename(tmp_path / "x")
    livers.rename(hearts)
    (tmp_path / "x").rename(livers)
    with pytest.raises(UserError, match=r"hearts/set\.json is of a set called 'livers'"):
        open_index(tmp_path)
    shutil.copytree(livers, tmp_path / "copy")
    with pytest.raises(UserError, match=r"copy/set\.json is of a set called 'hearts', not 'copy'"):
        store._Set(tmp_path / "copy")


def test_files_of_another_time_are_told(tmp_path: Path) -> None:
    old = write(tmp_path / "old", count=12)
    now = tmp_path / "now"
    with Writer(now, "hearts", SETTINGS) as writer:  # as many frames, of the same sizes
        for i in range(12):
            writer.add(f"{i}.png", f"{i}", f"{i:064x}", picture(i)[::-1], region(i))
    for name in ("records.npy", "frames.csv", "set.json"):
        before = (now / "hearts" / name).read_bytes()
        (now / "hearts" / name).write_bytes((old / name).read_bytes())
        with pytest.raises(UserError, match="is not as it was written"):
            open_index(now)
        (now / "hearts" / name).write_bytes(before)
    open_index(now)


def test_shards_that_were_swapped_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_writer, "SHARD_BYTES", 1)  # a shard per frame
    same = picture(0)  # noise, which compresses to one length
    with Writer(tmp_path, "a", SETTINGS) as writer:
        for i in range(2):
            writer.add(f"{i}", f"{i}", f"{i:064x}", same + np.uint8(i), None)
    shards = sorted((tmp_path / "a").glob("pixels-*.bin"))
    contents = [shard.read_bytes() for shard in shards]
    assert len(contents[0]) == len(contents[1])
    for shard, content in zip(shards, reversed(contents), strict=True):
        shard.write_bytes(content)
    with pytest.raises(UserError, match=r"pixels-00000\.bin is not as it was written at frame 0"):
        open_index(tmp_path).read(0)
    assert store.about(tmp_path / "a") is not None
    assert store.about(tmp_path / "a", thorough=True) is None


def test_names_that_are_not_text_are_written(tmp_path: Path) -> None:
    with Writer(tmp_path, "a", SETTINGS) as writer:
        for name in ("caf\udce9.png", "café.png"):
            writer.add(name, name, "0" * 64, picture(0), None)
        writer.remove("br\udcfcst.png", "corrupt", "caf\udce9")
    index = open_index(tmp_path)
    assert index.name(0) == "a/caf\\udce9.png"
    assert index.name(1) == "a/café.png"
    assert len(set(index.groups("a").tolist())) == 2


def test_equal_frames_have_the_fingerprint_of_earlier_versions(tmp_path: Path) -> None:
    write(tmp_path)
    assert open_index(tmp_path).fingerprint == FINGERPRINT


def test_what_is_no_index_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="index of frames not found"):
        open_index(tmp_path / "nowhere")
    (tmp_path / "pictures").mkdir()
    with pytest.raises(UserError, match="is not an index"):
        open_index(tmp_path)
    write(tmp_path, "a")
    write(tmp_path, "b", options=Settings(size=300))
    with pytest.raises(UserError, match=r"b was made with .*300.* but .*a with .*288"):
        open_index(tmp_path)


def test_the_guard_of_an_index_is_that_of_all_its_sets(tmp_path: Path) -> None:
    guard = {"tasks": ["aul"], "digest": "0"}
    for name in ("a", "b"):
        with Writer(tmp_path, name, SETTINGS, guard=guard) as writer:
            writer.add("a", "a", "0" * 64, picture(0), None)
    assert open_index(tmp_path).guard == guard
    write(tmp_path, "c")
    assert open_index(tmp_path).guard is None


# Holding out

group_sizes = st.lists(st.integers(1, 30), min_size=1, max_size=60)
shares = st.floats(0.001, 0.6)


def groups_of(sizes: list[int], seed: int = 0) -> np.ndarray:
    """Groups of these sizes, their frames in any order, uint64 [n]."""
    generator = np.random.default_rng(seed)
    names = generator.integers(0, 2**63, len(sizes), dtype=np.uint64)
    return generator.permutation(np.repeat(names, sizes))


@settings(max_examples=300)
@given(group_sizes, shares, st.integers(0, 5))
def test_groups_are_held_out_whole(sizes: list[int], share: float, seed: int) -> None:
    groups = groups_of(sizes)
    out = sampling._held_out(groups, share, seed)
    assert not set(groups[out].tolist()) & set(groups[~out].tolist())
    assert out.any() == (len(set(groups.tolist())) > 1)
    assert not out.all()
    np.testing.assert_array_equal(out, sampling._held_out(groups, share, seed))


@settings(max_examples=300)
@given(group_sizes, shares, st.integers(0, 5))
def test_the_share_is_near(sizes: list[int], share: float, seed: int) -> None:
    held = sampling._held_out(groups_of(sizes), share, seed).sum()
    wanted = share * sum(sizes)
    # One group more would not be nearer, except that one must be held out and one must stay.
    small = [size for size in sizes if size <= max(2 * wanted, min(sizes))]
    if len(sizes) > 1 and sum(small) >= wanted and len(small) < len(sizes):
        assert abs(held - wanted) <= max(max(small) / 2, min(sizes))


def test_stills_and_a_long_video() -> None:
    out = sampling._held_out(np.arange(10_000, dtype=np.uint64), 0.05, 0)
    assert out.sum() == 500
    assert abs(np.flatnonzero(out).mean() - 5000) < 500  # from everywhere
    groups = groups_of([900, *[1] * 100])
    for seed in range(20):
        assert sampling._held_out(groups, 0.05, seed).sum() == 50  # never the long one
    assert not sampling._held_out(groups, 0.0, 0).any()


def test_seeds_and_order_of_frames() -> None:
    groups = groups_of([3] * 50)
    splits = {sampling._held_out(groups, 0.1, seed).tobytes() for seed in range(10)}
    assert len(splits) == 10
    order = np.random.default_rng(1).permutation(len(groups))
    np.testing.assert_array_equal(
        sampling._held_out(groups[order], 0.1, 0), sampling._held_out(groups, 0.1, 0)[order]
    )


def test_a_set_is_split_as_if_alone(tmp_path: Path) -> None:
    write(tmp_path / "one", "livers", 30)
    write(tmp_path / "two", "livers", 30)
    write(tmp_path / "two", "hearts", 9)
    (alone,), (held_alone,) = hold_out(open_index(tmp_path / "one"), 0.2, 4)
    train, held = hold_out(open_index(tmp_path / "two"), 0.2, 4)
    assert [len(numbers) for numbers in held] == [3, 6]
    np.testing.assert_array_equal(train[1] - 9, alone)
    np.testing.assert_array_equal(held[1] - 9, held_alone)
    everything = np.concatenate(train + held)
    assert everything.dtype == np.int64
    assert sorted(everything.tolist()) == list(range(39))


def test_millions_of_frames_are_split_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = np.random.default_rng(0).integers(0, 2**63, 1_000_000, dtype=np.uint64)
    assert sampling._held_out(groups, 0.05, 0).sum() == 50_000
