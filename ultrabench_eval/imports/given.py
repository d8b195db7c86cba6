"""What a file of features or predictions holds: keys, and a row for each. Nothing is unpickled.

N is the number of rows, D the feature width, C of classes, S of seeds. What is meant follows
from the names of columns or arrays: `features` (or f0, f1 ...), `probabilities` (or p_<class> ...),
`numbers` (or `number`), `masks` (or `mask`).
"""

from __future__ import annotations

import csv
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ultrabench_eval.core.errors import UserError, not_found, not_installed

Held = Literal["features", "probabilities", "numbers", "masks"]
NPZ, SAFETENSORS, PARQUET, TEXTS = ".npz", ".safetensors", ".parquet", (".csv", ".tsv")
SUFFIXES = (NPZ, SAFETENSORS, PARQUET, *TEXTS)
NAMES = ("id", "image", "path", "file")  # of images; the first that is there
KEYS = ("sha256", *NAMES)
_ARRAYS: tuple[Held, ...] = ("features", "probabilities", "numbers", "masks")
_DIMENSIONS = {"features": (2,), "probabilities": (2, 3), "numbers": (1, 2), "masks": (3, 4)}
_LARGEST = 2**31  # numbers in an array; more cannot be features of images
_SEEDS, _MORE = 200, 1000  # predictions of an image, and rows too many, that are still looked at
_HEADER = 2**20  # bytes of an array's header at most


@dataclass
class Given:
    """The rows of a file, in its order."""

    path: Path
    held: Held
    keys: dict[str, list[str]]
    """"sha256", "id" or both, N each."""
    values: Any
    """Features float32 [N, D], probabilities float64 [N, C], numbers float64 [N]; masks: uint8
    [N, H, W], or N paths of files."""
    splits: list[str] | None = None
    seeds: list[str] | None = None
    """Of predictions: which of several models each row is of."""
    classes: tuple[str, ...] = ()
    """Of probabilities."""
    made_by: dict[str, Any] = field(default_factory=dict)
    """What `ubench embed` wrote beside them."""

    def __len__(self) -> int:
        return len(next(iter(self.keys.values())))


def read(path: Path, most: int) -> Given:
    """The rows of a file.

    Args:
        path: of one of `SUFFIXES`.
        most: images of the task; a file of many more rows is refused before it is read.

    Raises:
        UserError: no such file, none of its kind, damaged, or it does not say what it holds.
    """
    if not path.is_file():
        raise not_found("features or predictions", path, "give a file")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(
            f"{path} is of a kind that is not read; give one of {', '.join(SUFFIXES)} "
            "(docs/import.md has their layout)"
        )
    if suffix == NPZ:
        found = _npz(path, most)
    elif suffix == SAFETENSORS:
        found = _safetensors(path, most)
    elif suffix == PARQUET:
        found = _parquet(path, most)
    else:
        found = _text(path, most)
    if len(found) == 0:
        raise UserError(f"{path} holds no row; write a row for each image")
    return found


# ---- arrays --------------------------------------------------------------------------------------


def _npz(path: Path, most: int) -> Given:
    """Of arrays that say what they are; a pickled one is never opened."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {
                info.filename.removesuffix(".npy"): info
                for info in archive.infolist()
                if info.filename.endswith(".npy")
            }
            shapes = {name: _header(path, archive, info) for name, info in members.items()}

            def get(name: str) -> np.ndarray:
                with archive.open(members[name]) as file:
                    return np.lib.format.read_array(file, allow_pickle=False)

            def listed(name: str) -> list[str] | None:
                return _texts(path, name, get(name)) if name in members else None

            return _of_arrays(path, shapes, get, listed, most)
    except (zipfile.BadZipFile, zlib.error, ValueError, OSError, EOFError, RuntimeError) as error:
        raise _damaged(path, ".npz", error) from error


def _header(
    path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo
) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and dtype of an array, of which nothing else is read."""
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        reader = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if reader is None:
            raise ValueError(f"array format {version}")
        shape, _, dtype = reader(file, max_header_size=_HEADER)
    name = info.filename.removesuffix(".npy")
    if dtype.hasobject:
        raise UserError(
            f"array '{name}' of {path} is pickled, and nothing is unpickled here; write it as "
            "numbers, or as text with np.array(list, dtype=str)"
        )
    if np.prod(shape, dtype=object) * dtype.itemsize > info.file_size:
        raise ValueError(f"array '{name}' is shorter than it says")
    return shape, dtype


def _texts(path: Path, name: str, array: np.ndarray) -> list[str]:
    if array.ndim != 1 or array.dtype.kind not in "USiu":
        raise UserError(
            f"array '{name}' of {path} is {array.dtype} {list(array.shape)}; write one text per row"
        )
    if array.dtype.kind == "S":
        return [bytes(one).decode() for one in array.tolist()]
    return list(map(str, array.tolist()))


def _safetensors(path: Path, most: int) -> Given:
    """Of tensors, with lists as JSON in the metadata: the format holds no text otherwise."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            shapes = {}
            for name in file.keys():  # noqa: SIM118  (no mapping)
                tensor = file.get_slice(name)
                shapes[name] = (tuple(tensor.get_shape()), np.dtype(np.float32))

            def get(name: str) -> np.ndarray:
                tensor = file.get_tensor(name)
                if tensor.is_floating_point() and tensor.dtype.itemsize < 4:  # float16, bfloat16
                    tensor = tensor.float()
                return np.asarray(tensor.numpy())

            def listed(name: str) -> list[str] | None:
                if name not in metadata:
                    return None
                values = json.loads(metadata[name])
                if not isinstance(values, list):
                    raise ValueError(f"its metadata '{name}' is not a list")
                return list(map(str, values))

            return _of_arrays(path, shapes, get, listed, most, _made_by(metadata))
    except (SafetensorError, OSError, ValueError, TypeError, RecursionError) as error:
        raise _damaged(path, "safetensors", error) from error


def _of_arrays(
    path: Path,
    shapes: Mapping[str, tuple[tuple[int, ...], Any]],
    get: Callable[[str], np.ndarray],
    listed: Callable[[str], list[str] | None],
    most: int,
    made_by: dict[str, Any] | None = None,
) -> Given:
    """What arrays tell; the large one is read once it is known to fit.

    Args:
        path: of the file.
        shapes: shape of each array.
        get: an array by name.
        listed: a list of texts by name; None if there is none.
        most: see `read`.
        made_by: see `Given`.
    """
    held = _one_of(path, [name for name in _ARRAYS if name in shapes], [*shapes])
    shape = shapes[held][0]
    if len(shape) not in _DIMENSIONS[held] or 0 in shape:
        wanted = " or ".join(f"{n}" for n in _DIMENSIONS[held])
        raise UserError(
            f"array '{held}' of {path} has the shape {list(shape)}; it must have {wanted} "
            "dimensions, none of them 0 (docs/import.md)"
        )
    several = len(shape) > _DIMENSIONS[held][0]
    count = shape[1] if several else shape[0]
    keys = _keys(path, {name: listed(name) for name in KEYS})
    lengths = {len(column) for column in keys.values()}
    splits = listed("split")
    if {count, *lengths, len(splits) if splits is not None else count} != {count}:
        raise UserError(
            f"{path} has {count} rows of {held}, but keys or splits of "
            f"{', '.join(map(str, sorted(lengths - {count}) or [len(splits or ())]))}; "
            "write one for each row"
        )
    _check_size(path, held, count, most, int(np.prod(shape, dtype=object)))
    values = _numeric(path, held, get(held))
    seeds = None
    if several:
        seeds = [str(seed) for seed in range(shape[0]) for _ in range(count)]
        keys = {name: column * shape[0] for name, column in keys.items()}
        splits = splits and splits * shape[0]
        values = values.reshape(-1, *values.shape[2:])
    classes = tuple(listed("classes") or ())
    return Given(path, held, keys, values, splits, seeds, classes, made_by or {})


def _numeric(path: Path, held: Held, array: np.ndarray) -> np.ndarray:
    kinds = "iub" if held == "masks" else "fiu"
    if array.dtype.kind not in kinds:
        raise UserError(f"array '{held}' of {path} is {array.dtype}; write numbers")
    if held == "masks":
        if array.size and not 0 <= int(array.min()) <= int(array.max()) <= 255:
            raise UserError(f"array 'masks' of {path} has codes outside 0 to 255; correct them")
        return array.astype(np.uint8, copy=False)
    with np.errstate(over="ignore"):  # told as infinite below
        return array.astype(np.float32 if held == "features" else np.float64, copy=False)


# ---- tables --------------------------------------------------------------------------------------


def _parquet(path: Path, most: int) -> Given:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise not_installed(path, "a Parquet file", "pyarrow") from error
    try:
        with parquet.ParquetFile(path) as file:
            schema, count = file.schema_arrow, file.metadata.num_rows
            plan = _plan(path, schema.names)
            _check_size(path, plan.held, count, most)
            wanted = [*plan.texts.values(), *plan.columns]
            said = (schema.metadata or {}).get(b"ultrabench_eval", b"")
            made_by = _made_by({"ultrabench_eval": said.decode()})
            filler = _Filler(path, plan, count)
            for batch in file.iter_batches(1024, columns=wanted):
                columns = {name: batch.column(name) for name in batch.schema.names}
                filler.add(
                    {role: _plain(columns[name]) for role, name in plan.texts.items()},
                    _block(path, plan, columns, batch.num_rows),
                )
            return filler.given(made_by)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _damaged(path, "Parquet", error) from error


def _plain(column: Any) -> list[str]:
    return ["" if value is None else str(value) for value in column.to_pylist()]


def _block(path: Path, plan: _Plan, columns: Mapping[str, Any], count: int) -> Any:
    """The values of some rows of a Parquet file."""
    from pyarrow import types

    if plan.held == "masks":
        return _plain(columns[plan.columns[0]])
    if plan.nested:
        lists = columns[plan.columns[0]]
        if not (types.is_list(lists.type) or types.is_large_list(lists.type) or
                types.is_fixed_size_list(lists.type)):  # fmt: skip
            raise UserError(
                f"column 'features' of {path} holds {lists.type}; write a list of numbers per row"
            )
        flat = lists.flatten()
        if lists.null_count or flat.null_count or (count and len(flat) % count):
            raise UserError(f"rows of 'features' in {path} differ in length or lack numbers")
        lengths = {len(flat) // max(count, 1)}
        if not types.is_fixed_size_list(lists.type):
            lengths = set(lists.value_lengths().to_pylist())
        if len(lengths) != 1:
            raise UserError(
                f"rows of 'features' in {path} have {min(lengths)} to {max(lengths)} numbers; "
                "write as many for each image"
            )
        return _floats(path, "features", flat).reshape(count, -1)
    return np.column_stack([_floats(path, name, columns[name]) for name in plan.columns])


def _floats(path: Path, name: str, column: Any) -> np.ndarray:
    from pyarrow import types

    if not (types.is_floating(column.type) or types.is_integer(column.type)):
        raise UserError(f"column '{name}' of {path} holds {column.type}; write numbers")
    found: np.ndarray = column.to_numpy(zero_copy_only=False)  # what is missing becomes NaN
    return found


def _text(path: Path, most: int) -> Given:
    """Of CSV, row by row."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            separator = max(",;\t", key=first.count)
            header = [name.strip() for name in next(csv.reader([first], delimiter=separator), [])]
            plan = _plan(path, header)
            at = {name: header.index(name) for name in header}
            filler = _Filler(path, plan, None)
            for number, cells in enumerate(csv.reader(file, delimiter=separator, strict=True), 2):
                if not any(cells):
                    continue
                if len(cells) != len(header):
                    raise UserError(
                        f"{path}, line {number}: {len(cells)} cells under {len(header)} columns; "
                        "correct that line"
                    )
                _check_size(path, plan.held, number - 1, most)
                texts = {role: [cells[at[name]].strip()] for role, name in plan.texts.items()}
                values = [cells[at[name]] for name in plan.columns]
                filler.add(texts, _parsed(path, plan, number, values))
            return filler.given({})
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise _damaged(path, "CSV (UTF-8)", error) from error


def _parsed(path: Path, plan: _Plan, number: int, cells: list[str]) -> Any:
    if plan.held == "masks":
        return [cell.strip() for cell in cells]
    try:
        return np.array(cells, np.float64)[None]
    except ValueError:
        wrong = next(place for place, cell in enumerate(cells) if not _is_number(cell))
        raise UserError(
            f"{path}, line {number}: {cells[wrong]!r} in column '{plan.columns[wrong]}' is not a "
            "number; correct it"
        ) from None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class _Plan:
    """Which columns of a table are what."""

    held: Held
    columns: list[str]
    nested: bool
    texts: dict[str, str]
    """Columns by role: sha256, id, split, seed."""
    classes: tuple[str, ...] = ()


def _plan(path: Path, header: Sequence[str]) -> _Plan:
    if len({*header}) < len(header):
        twice = next(name for name in header if [*header].count(name) > 1)
        raise UserError(f"{path} has two columns '{twice}'; rename one")
    numbered = [name for name in header if re.fullmatch(r"f\d+", name)]
    numbered.sort(key=lambda name: int(name[1:]))
    if numbered and numbered != [f"f{n}" for n in range(len(numbered))]:
        lacking = next(n for n in range(len(numbered)) if numbered[n] != f"f{n}")
        raise UserError(
            f"{path} has no column f{lacking}, but others behind it; number features from f0 on"
        )
    probabilities = [name for name in header if name.startswith("p_")]
    found: dict[Held, list[str]] = {
        "features": numbered or [name for name in header if name == "features"],
        "probabilities": probabilities,
        "numbers": [name for name in header if name == "number"],
        "masks": [name for name in header if name == "mask"],
    }
    held = _one_of(path, [name for name in _ARRAYS if found[name]], header)
    nested = held == "features" and not numbered
    if nested and path.suffix.lower() in TEXTS:
        raise UserError(f"{path} has a column 'features'; in CSV write columns f0, f1, ...")
    names = next((name for name in NAMES if name in header), None)
    texts = {"sha256": "sha256"} if "sha256" in header else {}
    texts |= {"id": names} if names else {}
    texts |= {role: role for role in ("split", "seed") if role in header}
    if not texts.keys() & {"sha256", "id"}:
        raise _without_keys(path)
    classes = tuple(name.removeprefix("p_") for name in probabilities)
    return _Plan(held, found[held], nested, texts, classes)


class _Filler:
    """Rows of a table as they come, in one array as soon as its size is known.

    Args:
        path: of the table.
        plan: of its columns.
        count: of rows; None if that is not known.
    """

    def __init__(self, path: Path, plan: _Plan, count: int | None) -> None:
        self.path, self.plan, self.count = path, plan, count
        self.texts: dict[str, list[str]] = {role: [] for role in plan.texts}
        self.parts: list[np.ndarray] = []
        self.whole: np.ndarray | None = None
        self.files: list[str] = []
        self.done = 0
        self.dtype = np.float32 if plan.held == "features" else np.float64

    def add(self, texts: Mapping[str, list[str]], values: Any) -> None:
        """Some more rows."""
        for role, column in texts.items():
            self.texts[role] += column
        if self.plan.held == "masks":
            self.files += values
            return
        with np.errstate(over="ignore"):
            block = values.astype(self.dtype)
        width = block.shape[1]
        known = self.whole if self.whole is not None else next(iter(self.parts), block)
        if known.shape[1] != width:
            raise UserError(
                f"rows of '{self.plan.held}' in {self.path} have {known.shape[1]} and {width} "
                "numbers; write as many for each image"
            )
        if self.count is None:
            self.parts.append(block)
            return
        if self.whole is None:
            self.whole = np.empty((self.count, width), self.dtype)
        self.whole[self.done : self.done + len(block)] = block
        self.done += len(block)

    def given(self, made_by: dict[str, Any]) -> Given:
        """All of them."""
        values: Any = self.files
        if self.plan.held != "masks":
            empty = np.empty((0, 1), self.dtype)
            values = self.whole if self.whole is not None else np.concatenate(self.parts or [empty])
        if self.plan.held == "numbers":
            values = values[:, 0]
        keys = {role: column for role, column in self.texts.items() if role in ("sha256", "id")}
        return Given(
            path=self.path,
            held=self.plan.held,
            keys=keys,
            values=values,
            splits=self.texts.get("split"),
            seeds=self.texts.get("seed"),
            classes=self.plan.classes,
            made_by=made_by,
        )


# ---- what both share -----------------------------------------------------------------------------


def _one_of(path: Path, held: list[Held], there: Sequence[str]) -> Held:
    if len(held) == 1:
        return held[0]
    if held:
        raise UserError(
            f"{path} holds {' and '.join(held)}; write each into a file of its own, so that it is "
            "told what is meant"
        )
    some = ", ".join(map(repr, [*there][:5])) or "nothing"
    raise UserError(
        f"{path} holds {some}, and neither features (an array 'features', columns f0, f1, ...) nor "
        "predictions (arrays 'probabilities', 'numbers', 'masks'; columns p_<class>, 'number', "
        "'mask'); name them so"
    )


def _keys(path: Path, columns: Mapping[str, list[str] | None]) -> dict[str, list[str]]:
    names = next((columns[name] for name in NAMES if columns[name] is not None), None)
    found = {"sha256": columns["sha256"], "id": names}
    keys = {role: column for role, column in found.items() if column is not None}
    if not keys:
        raise _without_keys(path)
    return keys


def _without_keys(path: Path) -> UserError:
    return UserError(
        f"{path} does not say which image each row is of; add 'sha256' (of the image file) or 'id' "
        "(the file's name), because rows are never joined by their order"
    )


def _check_size(path: Path, held: Held, count: int, most: int, numbers: int = 0) -> None:
    each = 2 if held == "features" else _SEEDS
    if count > each * most + _MORE or numbers > _LARGEST:
        raise UserError(
            f"{path} has {count:,} rows or more, too many for the images of this task; leave the "
            "others out"
        )


def _made_by(metadata: Mapping[str, str]) -> dict[str, Any]:
    """What `ubench embed` says of its file; nothing of others'."""
    try:
        found = json.loads(metadata.get("ultrabench_eval", ""))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _damaged(path: Path, kind: str, error: Exception) -> UserError:
    why = " ".join(str(error).split())[:200]
    return UserError(f"{path} is damaged or not a file of the kind {kind} ({why}); write it again")
