"""Are wrong files refused by `ubench import`, and sound ones taken? Faults drawn by seed.

    python benchmarks/import_faults.py --data DATA --faults 200 --sound 50

Features of real images by encoders that come with the package are written in all formats, sound or
with one fault each: structural ones, and right keys with rows of other images (at least 40 % of
them). For the latter the model is at hand; how many are found without it is reported as well.
"""

from __future__ import annotations

import argparse
import dataclasses
import pickle
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

import tasks as task_zoo
from tasks.task import Task
from ultrabench_eval.cells import Cells
from ultrabench_eval.core import hashing
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.encode import encode
from ultrabench_eval.grid import Grid
from ultrabench_eval.imports import given
from ultrabench_eval.imports.entry import FeatureEntry
from ultrabench_eval.imports.joined import Images
from ultrabench_eval.loading import Model
from ultrabench_eval.measure import Setting

LEAST = 0.4  # part of the rows that is wrong under right keys
FORMATS = (".npz", ".safetensors", ".parquet", ".csv")


@dataclass
class World:
    """A task, an encoder, and its features of all images."""

    task: Task
    model: Model
    rows: np.ndarray
    images: Images

    @classmethod
    def of(cls, task: Task, name: str, cache: Path) -> World:
        """Encode what is not in the cache."""
        model, images = Model(name, None, "cpu", "float32"), Images(task)
        every = [images.images[digest] for digest in images.wanted]
        return cls(task, model, encode(model, every, cache).whole().numpy(), images)


@dataclass
class Sheet:
    """What is written: a row per image."""

    sha256: list[str]
    id: list[str]
    split: list[str]
    rows: np.ndarray
    keys: tuple[str, ...] = ("sha256", "id", "split")
    format: str = ".npz"
    spoil: Callable[[Path], None] = field(default=lambda path: None)

    @classmethod
    def of(cls, world: World, rng: np.random.Generator) -> Sheet:
        """A sound one, in an order, format and with keys that are drawn."""
        order = rng.permutation(len(world.rows)).tolist()
        digests = [world.images.wanted[row] for row in order]
        named = [world.images.by_digest[digest][0] for digest in digests]
        keys = [("sha256", "id", "split"), ("sha256",), ("id", "split"), ("id",)]
        return cls(
            digests,
            [name for name, _ in named],
            [split for _, split in named],
            world.rows[order].copy(),
            keys[rng.integers(len(keys))],
            FORMATS[rng.integers(len(FORMATS))],
        )

    def take(self, places: Sequence[int]) -> None:
        """Only some of the rows, with their keys."""
        self.sha256, self.id, self.split = (
            [column[place] for place in places] for column in (self.sha256, self.id, self.split)
        )
        self.rows = self.rows[[*places]]

    def write(self, folder: Path) -> Path:
        """The file."""
        path = folder / f"features{self.format}"
        columns = {name: getattr(self, name) for name in self.keys}
        if self.format == ".npz":
            texts = {name: np.array(column, dtype=str) for name, column in columns.items()}
            np.savez(path, features=self.rows, **texts)
        elif self.format == ".safetensors":
            import json

            from safetensors.numpy import save_file

            texts = {name: json.dumps(column) for name, column in columns.items()}
            save_file({"features": np.ascontiguousarray(self.rows)}, path, texts)
        elif self.format == ".parquet":
            import pyarrow as pa
            from pyarrow import parquet

            parquet.write_table(pa.table({**columns, "features": list(self.rows)}), path)
        else:
            head = ",".join([*columns, *(f"f{n}" for n in range(self.rows.shape[1]))])
            lines = [
                ",".join([*map(_quoted, texts), *(repr(float(x)) for x in row)])
                for *texts, row in zip(*columns.values(), self.rows.tolist(), strict=True)
            ]
            path.write_text("\n".join([head, *lines]) + "\n")
        self.spoil(path)
        return path


def _quoted(text: str) -> str:
    return f'"{text}"'


# ---- structural faults ---------------------------------------------------------------------------

Fault = Callable[[Sheet, np.random.Generator], None]


def _some(sheet: Sheet, rng: np.random.Generator, most: int = 10) -> list[int]:
    count = int(rng.integers(1, most + 1))
    return rng.permutation(len(sheet.id))[:count].tolist()


def missing_rows(sheet: Sheet, rng: np.random.Generator) -> None:
    """A few images have no row."""
    gone = {*_some(sheet, rng)}
    sheet.take([place for place in range(len(sheet.id)) if place not in gone])


def last_batch_missing(sheet: Sheet, rng: np.random.Generator) -> None:
    """drop_last of a data loader."""
    sheet.take(range(len(sheet.id) // 16 * 16 - 16 * (len(sheet.id) % 16 == 0)))


def split_missing(sheet: Sheet, rng: np.random.Generator) -> None:
    """No row of the test images."""
    lacking = ("train", "validation", "test")[rng.integers(3)]
    sheet.take([place for place, split in enumerate(sheet.split) if split != lacking])


def doubled_rows(sheet: Sheet, rng: np.random.Generator) -> None:
    """Some rows twice, as padding of the last batch leaves them."""
    sheet.take([*range(len(sheet.id)), *_some(sheet, rng)])


def doubled_otherwise(sheet: Sheet, rng: np.random.Generator) -> None:
    """Some keys twice, with other values."""
    doubled_rows(sheet, rng)
    sheet.rows[-1] = sheet.rows[-1] * 1.5 + 1


def foreign_rows(sheet: Sheet, rng: np.random.Generator) -> None:
    """Rows of images that the task has not."""
    for place in _some(sheet, rng):
        sheet.sha256[place] = hashing.digest([place, "foreign"])
        sheet.id[place] = f"elsewhere/{place}.png"


def no_hash(sheet: Sheet, rng: np.random.Generator) -> None:
    """A hash that is none."""
    sheet.keys = ("sha256",)
    sheet.sha256[_some(sheet, rng)[0]] = "d41d8cd98f00b204e9800998ecf8427e"  # MD5


def not_finite(sheet: Sheet, rng: np.random.Generator) -> None:
    """NaN or infinite values."""
    for place in _some(sheet, rng):
        sheet.rows[place, rng.integers(sheet.rows.shape[1])] = (np.nan, np.inf, -np.inf)[
            rng.integers(3)
        ]


def too_large(sheet: Sheet, rng: np.random.Generator) -> None:
    """Finite in float64, and infinite in float32."""
    sheet.format = ".npz"
    sheet.rows = sheet.rows.astype(np.float64)
    sheet.rows[_some(sheet, rng)[0], 0] = 1e39


def zero_rows(sheet: Sheet, rng: np.random.Generator) -> None:
    """Rows that were never written into their array."""
    sheet.rows[_some(sheet, rng)] = 0


def constant_rows(sheet: Sheet, rng: np.random.Generator) -> None:
    """One number throughout."""
    sheet.rows[_some(sheet, rng)] = rng.normal()


def all_the_same(sheet: Sheet, rng: np.random.Generator) -> None:
    """Every row is that of the first image."""
    sheet.rows[:] = sheet.rows[0]


def copied_row(sheet: Sheet, rng: np.random.Generator) -> None:
    """The row of another image."""
    one, two = rng.permutation(len(sheet.id))[:2].tolist()
    sheet.rows[one] = sheet.rows[two]


def copied_batch(sheet: Sheet, rng: np.random.Generator) -> None:
    """A buffer that was not filled again."""
    start = int(rng.integers(len(sheet.id) // 2))
    size = min(16, len(sheet.id) - start) // 2
    sheet.rows[start + size : start + 2 * size] = sheet.rows[start : start + size]


def other_splits(sheet: Sheet, rng: np.random.Generator) -> None:
    """Training and test images exchanged."""
    sheet.keys = ("sha256", "split")
    swapped = {"train": "test", "test": "train", "validation": "validation"}
    sheet.split = [swapped[split] for split in sheet.split]


def one_other_split(sheet: Sheet, rng: np.random.Generator) -> None:
    """One image of another split."""
    sheet.keys = ("id", "split")
    place = _some(sheet, rng)[0]
    sheet.split[place] = "test" if sheet.split[place] != "test" else "train"


def names_shifted(sheet: Sheet, rng: np.random.Generator) -> None:
    """Names a row further than hashes."""
    sheet.keys = ("sha256", "id")
    sheet.id = [*sheet.id[1:], sheet.id[0]]


def too_few_keys(sheet: Sheet, rng: np.random.Generator) -> None:
    """More rows than keys."""
    sheet.format = (".npz", ".safetensors")[rng.integers(2)]
    sheet.rows = np.concatenate([sheet.rows, sheet.rows[:1]])


def no_keys(sheet: Sheet, rng: np.random.Generator) -> None:
    """Only the splits: rows in somebody's order."""
    sheet.keys = ("split",)


def empty_key(sheet: Sheet, rng: np.random.Generator) -> None:
    """A name that is missing."""
    sheet.keys = ("id",)
    sheet.id[_some(sheet, rng)[0]] = ""


def pickled(sheet: Sheet, rng: np.random.Generator) -> None:
    """Keys as an array of objects, which NumPy pickles."""
    sheet.format = ".npz"

    def spoil(path: Path) -> None:
        np.savez(path, features=sheet.rows, id=np.array(sheet.id, dtype=object))

    sheet.spoil = spoil


def a_pickle(sheet: Sheet, rng: np.random.Generator) -> None:
    """A pickle that is called .npz."""
    sheet.format = ".npz"
    sheet.spoil = lambda path: path.write_bytes(pickle.dumps({"features": [[1.0]]})) and None


def cut_off(sheet: Sheet, rng: np.random.Generator) -> None:
    """A file that was not written to its end."""
    part = rng.uniform(0.3, 0.95)
    sheet.format = FORMATS[rng.integers(3)]
    sheet.spoil = lambda path: path.write_bytes(
        path.read_bytes()[: int(part * path.stat().st_size)]
    ) and None  # fmt: skip


def cut_off_text(sheet: Sheet, rng: np.random.Generator) -> None:
    """The same of a CSV file, in the middle of a line."""
    sheet.format = ".csv"

    def spoil(path: Path) -> None:
        lines = path.read_text().splitlines()
        kept = lines[: max(2, len(lines) // 2)]
        path.write_text("\n".join([*kept[:-1], kept[-1][: len(kept[-1]) // 2]]))

    sheet.spoil = spoil


def no_number(sheet: Sheet, rng: np.random.Generator) -> None:
    """A word among the numbers of a CSV file."""
    sheet.format = ".csv"

    def spoil(path: Path) -> None:
        lines = path.read_text().splitlines()
        cells = lines[-1].rsplit(",", 1)
        path.write_text("\n".join([*lines[:-1], f"{cells[0]},n/a"]) + "\n")

    sheet.spoil = spoil


def other_width(sheet: Sheet, rng: np.random.Generator) -> None:
    """One row is shorter than the others."""
    sheet.format = ".parquet"

    def spoil(path: Path) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        rows = [row.tolist() for row in sheet.rows]
        rows[-1] = rows[-1][:-1]
        parquet.write_table(pa.table({"id": sheet.id, "features": rows}), path)

    sheet.spoil = spoil


STRUCTURAL: tuple[Fault, ...] = (
    *(missing_rows, last_batch_missing, split_missing, doubled_rows, doubled_otherwise),
    *(foreign_rows, no_hash, not_finite, too_large, zero_rows, constant_rows, all_the_same),
    *(copied_row, copied_batch, other_splits, one_other_split, names_shifted, too_few_keys),
    *(no_keys, empty_key, pickled, a_pickle, cut_off, cut_off_text, no_number, other_width),
)


# ---- wrong rows under right keys -----------------------------------------------------------------


def _affected(sheet: Sheet, rng: np.random.Generator) -> int:
    return round(rng.uniform(LEAST, 1) * len(sheet.id) + 0.5)


def permuted(sheet: Sheet, rng: np.random.Generator) -> None:
    """A part of the rows in another order."""
    places = rng.permutation(len(sheet.id))[: _affected(sheet, rng)]
    sheet.rows[places] = sheet.rows[np.roll(places, 1)]


def shifted(sheet: Sheet, rng: np.random.Generator) -> None:
    """A run of rows moved on by a few, as by a skipped image."""
    count = _affected(sheet, rng)
    start = int(rng.integers(len(sheet.id) - count + 1))
    block = sheet.rows[start : start + count].copy()
    sheet.rows[start : start + count] = np.roll(block, int(rng.integers(1, 9)), axis=0)


def turned_round(sheet: Sheet, rng: np.random.Generator) -> None:
    """A run of rows from its end to its start."""
    count = _affected(sheet, rng) // 2 * 2
    start = int(rng.integers(len(sheet.id) - count + 1))
    sheet.rows[start : start + count] = sheet.rows[start : start + count][::-1].copy()


def batches_moved(sheet: Sheet, rng: np.random.Generator) -> None:
    """Batches that several workers finished in another order."""
    size = 8
    starts = range(0, len(sheet.id) // size * size, size)
    order = np.roll(np.arange(len(starts)), int(rng.integers(1, len(starts))))
    rows = [sheet.rows[starts[n] : starts[n] + size] for n in order]
    sheet.rows[: size * len(starts)] = np.concatenate(rows)


def by_name(sheet: Sheet, rng: np.random.Generator) -> None:
    """Rows in the order of a folder's listing, keys in that of a table."""
    order = sorted(range(len(sheet.id)), key=lambda place: sheet.id[place])
    sheet.rows = sheet.rows[order]


def within_splits(sheet: Sheet, rng: np.random.Generator) -> None:
    """A loader that shuffled each split."""
    for split in ("train", "validation", "test"):
        places = np.array([n for n, one in enumerate(sheet.split) if one == split])
        sheet.rows[places] = sheet.rows[np.roll(rng.permutation(places), 1)]


WRONG_ROWS: tuple[Fault, ...] = (
    *(permuted, shifted, turned_round, batches_moved, by_name, within_splits),
)


# ---- sound ones ----------------------------------------------------------------------------------


def as_it_is(sheet: Sheet, rng: np.random.Generator) -> None:
    """Nothing changed."""


def half(sheet: Sheet, rng: np.random.Generator) -> None:
    """Rounded to float16, as they are often kept."""
    with np.errstate(over="ignore"):
        rounded = sheet.rows.astype(np.float16)
    if np.isfinite(rounded).all():
        sheet.rows = rounded.astype(np.float32) if sheet.format == ".parquet" else rounded


def brain(sheet: Sheet, rng: np.random.Generator) -> None:
    """Rounded to bfloat16."""
    sheet.rows = torch.from_numpy(sheet.rows).bfloat16().float().numpy()


def double(sheet: Sheet, rng: np.random.Generator) -> None:
    """In float64."""
    sheet.rows = sheet.rows.astype(np.float64)


def noisy(sheet: Sheet, rng: np.random.Generator) -> None:
    """As by other kernels: 0.1 % of the deviation."""
    sheet.rows = (sheet.rows + rng.normal(0, 1e-3 * sheet.rows.std(), sheet.rows.shape)).astype(
        np.float32
    )


def with_folders(sheet: Sheet, rng: np.random.Generator) -> None:
    """Whole paths for names, with the backslashes of Windows."""
    sheet.keys = ("id",)
    sheet.id = [f"D:\\scans\\{name}".replace("/", "\\") for name in sheet.id]


def capitals(sheet: Sheet, rng: np.random.Generator) -> None:
    """Hashes in capital letters."""
    sheet.keys = ("sha256", "split")
    sheet.sha256 = [digest.upper() for digest in sheet.sha256]


SOUND: tuple[Fault, ...] = (as_it_is, half, brain, double, noisy, with_folders, capitals)


# ---- the figures ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Tried:
    """What became of a file."""

    family: str
    world: str
    affected: float
    """Part of the rows that changed."""
    at_hand: bool
    refused: str
    """The sentence; "" if it was taken."""


def attempt(world: World, fault: Fault, seed: int, cache: Path, *, at_hand: bool = True) -> Tried:
    """Write a file with a fault, and look at it as `ubench import` does."""
    purpose = f"{fault.__name__}/{world.task.name}/{world.model.name}"
    rng = np.random.default_rng(hashing.seed_for(seed, purpose))
    sheet = Sheet.of(world, rng)
    before = sheet.rows.copy()
    fault(sheet, rng)
    same = sheet.rows.shape == before.shape
    affected = float((sheet.rows != before).any(1).mean()) if same else float("nan")
    refused = ""
    setting = Setting(
        *(Cells(cache / "none"), cache, 1, Grid.parse(None, None, 100, ())),
        lambda *at: None,
        lambda *at: None,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = sheet.write(Path(folder))
        try:
            held = given.read(path, len(world.rows))
            known = world.model if at_hand else None
            FeatureEntry.of("imported/x", held, world.task, setting, lambda: (known, []))
        except UserError as error:
            refused = str(error).replace(str(path), path.name)
    return Tried(fault.__name__, purpose, affected, at_hand, refused)


def drawn(
    worlds: Sequence[World], families: Sequence[Fault], count: int, cache: Path, **how: bool
) -> list[Tried]:
    """So many files, families in turn and each with one world after the other."""
    return [
        attempt(
            worlds[(n + n // len(families)) % len(worlds)],
            families[n % len(families)],
            n,
            cache,
            **how,
        )
        for n in range(count)
    ]


def told(title: str, tried: Sequence[Tried]) -> None:
    """A line for each family."""
    print(f"\n{title}: {sum(bool(one.refused) for one in tried)} of {len(tried)} refused")
    every, refused = Counter(one.family for one in tried), Counter[str]()
    refused.update(one.family for one in tried if one.refused)
    for family, count in every.items():
        words = next((one.refused for one in tried if one.family == family and one.refused), "")
        print(f"  {family:20} {refused[family]:3} of {count:3}  {words[:150]}")


def main() -> int:
    """The figures; 1 if a fault was missed or a sound file refused."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--task", default="aul,hc18-hc,pocus")
    parser.add_argument("--model", default="pixels,image-stats,efficientnet-lite0,usrc-jepa-nano")
    parser.add_argument("--cache", type=Path, default=Path("runs/import_faults"))
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--sound", type=int, default=50)
    asked = parser.parse_args()
    start = time.perf_counter()
    loaded = [task_zoo.load(name, asked.data) for name in asked.task.split(",")]
    worlds = [
        World.of(task, name, asked.cache) for name in asked.model.split(",") for task in loaded
    ]
    for world in worlds:
        print(f"{world.model.name} on {world.task.name}: {world.rows.shape}")
    count = asked.faults * 3 // 10
    structural = drawn(worlds, STRUCTURAL, count, asked.cache)
    structural += drawn(worlds, STRUCTURAL, count, asked.cache, at_hand=False)
    wrong = drawn(worlds, WRONG_ROWS, asked.faults - 2 * count, asked.cache)
    sound = drawn(worlds, SOUND, asked.sound, asked.cache)
    unknown = drawn(worlds, SOUND, asked.sound, asked.cache, at_hand=False)
    blind = drawn(worlds, WRONG_ROWS, asked.faults - len(structural), asked.cache, at_hand=False)
    told("structural faults", structural)
    told("wrong rows under right keys, model at hand", wrong)
    told("sound, model at hand", sound)
    told("sound, without the model", unknown)
    told("wrong rows under right keys, without the model (for information)", blind)
    print(f"\nleast part of rows that was wrong: {min(one.affected for one in wrong):.2f}")
    missed = [one for one in (*structural, *wrong) if not one.refused]
    falsely = [one for one in (*sound, *unknown) if one.refused]
    for one in missed + falsely:
        print("WRONG:", dataclasses.asdict(one))
    print(f"{time.perf_counter() - start:.0f} s")
    return 1 if missed or falsely else 0


if __name__ == "__main__":
    sys.exit(main())
