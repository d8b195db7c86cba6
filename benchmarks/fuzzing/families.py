"""The inputs: each is a copy of a clean world in which one thing is not as it should be.

A family is a function of a generator and a folder. It changes the folder and says what is run then
and what is right. Damage that cannot be told from a wish of the user (another label in a manifest,
another number in a protocol) is not among them.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import unicodedata
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import PIL.Image

from fuzzing import edits, worlds
from fuzzing.worlds import MERGE, OWN, REPORT, RUN, WIDE, Worlds


@dataclass(frozen=True)
class Trial:
    """What is done with an input.

    Args:
        words: the change, for people.
        command: what is run.
        clean: which clean outcome is right, a key of `Worlds.tables` or `Worlds.files`.
        found: file or folder to be compared with it.
        numbers_only: see `judge.of_run`.
    """

    words: str
    command: list[str]
    clean: str
    found: str = "out"
    numbers_only: bool = False


@dataclass(frozen=True)
class Family:
    """Inputs of one kind.

    Args:
        world: which world they are copies of.
        make: changes a copy.
        weight: how many of 100 inputs.
        misplaced: whether these are valid files in the wrong place or time.
    """

    world: str
    make: Callable[[Random, Path, Worlds], Trial]
    weight: int
    misplaced: bool = False


def _files(folder: Path, pattern: str) -> list[Path]:
    return sorted(
        path for path in folder.glob(pattern)
        if path.is_file() and not path.name.startswith(".") and path.suffix != ".lock"
    )  # fmt: skip


# ---- results: cells, their predictions, the ledger, tasks ---------------------------------------


def _looked_at(rng: Random, words: str, wide: bool = False) -> Trial:
    """`run`, `report` or `merge`, at random."""
    if wide:
        command = rng.choice((WIDE, REPORT))
        return Trial(words, command, "wide")
    command = rng.choice((RUN, RUN, REPORT, REPORT, MERGE))
    if command == MERGE:
        return Trial(words, command, "merge", "merged")
    return Trial(words, command, "bench")


def cell(rng: Random, folder: Path, clean: Worlds, wide: bool = False) -> Trial:
    """A damaged file of a results folder."""
    path = rng.choice(_files(folder, "out/cells/**/*"))
    words = _damaged(rng, path)
    return _looked_at(rng, f"{path.relative_to(folder)}: {words}", wide)


def wide_cell(rng: Random, folder: Path, clean: Worlds) -> Trial:
    """The same in a folder with fractions and corruptions."""
    return cell(rng, folder, clean, wide=True)


def _damaged(rng: Random, path: Path) -> str:
    if path.suffix == ".jsonl":
        return rng.choice((edits.lines, edits.damage))(rng, path)
    if path.suffix == ".json":
        return rng.choice((edits.json_value, edits.json_value, edits.damage))(rng, path)
    return rng.choice((edits.damage, edits.header, edits.numbers))(rng, path)


def misplaced_cell(rng: Random, folder: Path, clean: Worlds, of: str = "bench") -> Trial:
    """A whole cell of another run, model, task, probe, seed, time or version; or it is gone.

    Its JSON alone, its predictions alone, or both.
    """
    donors = clean.donors(of)
    ours = _files(folder, "out/cells/*/*/*.json")
    path = rng.choice(ours)
    suffixes = rng.choice(((".json",), (".safetensors",), (".json", ".safetensors")))
    kind = rng.choice(("donor", "donor", "donor", "swap", "copy", "new name", "gone", "elsewhere"))
    name = rng.choice(sorted(donors))
    theirs = donors[name] / path.relative_to(folder)
    other = rng.choice(ours)
    if kind == "elsewhere":  # another run's, at other coordinates
        theirs = donors[name] / other.relative_to(folder)
    if not theirs.is_file():  # names of cells may have changed with the version
        theirs = rng.choice(_files(donors[name], "out/cells/*/*/*.json"))
    for suffix in suffixes:
        to = path.with_suffix(suffix)
        if kind in ("donor", "elsewhere"):
            shutil.copyfile(theirs.with_suffix(suffix), to)
        elif kind == "swap" and other != path:
            there = other.with_suffix(suffix)
            first, second = to.read_bytes(), there.read_bytes()
            to.write_bytes(second)
            there.write_bytes(first)
        elif kind == "copy" and other != path:
            shutil.copyfile(to, other.with_suffix(suffix))
        elif kind == "new name":
            copy = rng.choice(("x", "mine", "knn-paper-00000000-100-none-0"))
            shutil.copyfile(to, to.with_name(copy + suffix))
        elif kind == "gone":
            to.unlink()
    words = f"{path.relative_to(folder)} {suffixes}: {kind} {name if 'do' in kind else other.name}"
    return _looked_at(rng, words, of == "wide")


def misplaced_wide_cell(rng: Random, folder: Path, clean: Worlds) -> Trial:
    """The same in a folder with fractions and corruptions."""
    return misplaced_cell(rng, folder, clean, "wide")


def task(rng: Random, folder: Path, clean: Worlds) -> Trial:
    """A damaged file of a task's test images."""
    path = rng.choice(_files(folder, "out/tasks/*"))
    return _looked_at(rng, f"{path.relative_to(folder)}: {_damaged(rng, path)}")


def misplaced_task(rng: Random, folder: Path, clean: Worlds) -> Trial:
    """A whole one of another task, data or version."""
    paths = _files(folder, "out/tasks/*")
    return _looked_at(
        rng, edits.misplace(rng, folder, paths, _only(clean.donors("bench"), "out/tasks"))
    )


def _only(donors: dict[str, Path], part: str) -> dict[str, Path]:
    return {name: path for name, path in donors.items() if (path / part).is_dir()}


# ---- features ---------------------------------------------------------------------------------


def _without_results(folder: Path, words: str) -> Trial:
    """Features are read only where a result is missing."""
    shutil.rmtree(folder / "out")
    return Trial(words, RUN, "fresh")


def shard(rng: Random, folder: Path, clean: Worlds) -> Trial:
    """A damaged file of features."""
    path = rng.choice(_files(folder, "cache/**/*.safetensors"))
    return _without_results(folder, f"{path.relative_to(folder)}: {_damaged(rng, path)}")


def misplaced_shard(rng: Random, folder: Path, clean: Worlds) -> Trial:
    """A whole file of features of another model, data, weights or version."""
    paths = _files(folder, "cache/**/*.safetensors")
    donors = clean.donors("bench")
    if rng.random() < 0.5:  # all of a folder at once
        one, other = (path.parent for path in rng.sample(paths, 2))
        if one != other:
            for path in _files(one, "*.safetensors"):
                shutil.copyfile(path, other / path.name)
            for path, name in zip(
                _files(one, "*.safetensors"), _files(other, "*.safetensors"), strict=False
            ):
                shutil.copyfile(path, name)
            return _without_results(folder, f"features of {one.name} into {other.name}")
    return _without_results(folder, edits.misplace(rng, folder, paths, donors))


# ---- training ---------------------------------------------------------------------------------


def _trained(rng: Random, words: str, export: bool = True) -> Trial:
    command = rng.choice((worlds.TRAIN, worlds.TRAIN, worlds.EXPORT if export else worlds.TRAIN))
    if command == worlds.EXPORT:
        return Trial(words, command, "export", "exported/encoder.safetensors")
    return Trial(words, command, "train", "run/encoder.safetensors")


def checkpoint(rng: Random, folder: Path, clean: Worlds) -> Trial:
    """A damaged file of a training."""
    path = rng.choice([*_files(folder, "run/*.pt"), *_files(folder, "run/*.pt"),
                       *_files(folder, "run/*")])  # fmt: skip
    words = edits.lines(rng, path) if path.suffix == ".jsonl" else edits.damage(rng, path)
    return _trained(rng, f"{path.relative_to(folder)}: {words}")


def misplaced_checkpoint(rng: Random, folder: Path, clean: Worlds) -> Trial:
    """A whole file of another training, an older one, or of another version."""
    paths = _files(folder, "run/*.pt")
    words = edits.misplace(rng, folder, paths, clean.donors("train"))
    # The end of the very same run is as good as its middle, and gives another export.
    return _trained(rng, words, export="of finished" not in words)


def frames(rng: Random, folder: Path, clean: Worlds) -> Trial:
    """A damaged index."""
    path = rng.choice(_files(folder, "index/**/*"))
    words = _damaged(rng, path) if path.suffix == ".json" else edits.damage(rng, path)
    return _indexed(rng, folder, f"{path.relative_to(folder)}: {words}")


def misplaced_frames(rng: Random, folder: Path, clean: Worlds) -> Trial:
    """A file or set of another index."""
    donors = {name: clean.donors("train")[name] for name in clean.donors("train")}
    donors = {name: path for name, path in donors.items() if name in ("frames", "version")}
    sets = [path for path in sorted((folder / "index").iterdir()) if path.is_dir()]
    kind = rng.choice(("file", "file", "set", "sets swapped"))
    if kind == "file":
        words = edits.misplace(rng, folder, _files(folder, "index/*/*"), donors)
    elif kind == "set":
        name, one = rng.choice(sorted(donors)), rng.choice(sets)
        shutil.rmtree(one)
        shutil.copytree(donors[name] / one.relative_to(folder), one)
        # A new training on it is a training on an index that somebody put together, so the run
        # that has begun, or its sources, must tell.
        return _indexed(rng, folder, f"index/{one.name} of {name}", begun=True)
    else:
        one, other = sets[0], sets[-1]
        one.rename(folder / "aside")
        other.rename(one)
        (folder / "aside").rename(other)
        words = "the sets of the index swapped"
    return _indexed(rng, folder, words)


def _indexed(rng: Random, folder: Path, words: str, begun: bool = False) -> Trial:
    """Train with it, from the start or from a checkpoint; or index again, then train."""
    if not begun and rng.random() < 0.5:
        shutil.rmtree(folder / "run")
        words += ", from the start"
    if rng.random() < 0.4:
        return Trial(words, worlds.INDEX, "train", "then train")
    return _trained(rng, words, export=False)


# ---- manifests --------------------------------------------------------------------------------


def manifest(rng: Random, folder: Path, clean: Worlds) -> Trial:
    """The same rows written in another way, or rows that cannot be meant."""
    path = folder / "one.csv"
    text = path.read_text()
    name = rng.choice(sorted(_MANIFESTS))
    changed = _MANIFESTS[name](rng, text)
    path.write_bytes(changed if isinstance(changed, bytes) else changed.encode())
    return Trial(f"one.csv: {name}", RUN, "bench", numbers_only=True)


def _cell(column: int, change: Callable[[str], str], every: bool = False):
    """Change one row's value in a column, or all."""

    def edit(rng: Random, text: str) -> str:
        rows = [line.split(",") for line in text.splitlines()]
        for number in range(1, len(rows)) if every else [rng.randrange(1, len(rows))]:
            rows[number][column] = change(rows[number][column])
        return "\n".join(",".join(row) for row in rows) + "\n"

    return edit


def _missing(column: int):
    """A word for "missing" in a column of one row."""

    def edit(rng: Random, text: str) -> str:
        word = rng.choice(_WORDS)
        return _cell(column, lambda _: word)(rng, text)

    return edit


def _line(change: Callable[[str], str]):
    """Add something made of one row after it."""

    def edit(rng: Random, text: str) -> str:
        rows = text.splitlines()
        at = rng.randrange(1, len(rows))
        return "\n".join([*rows[: at + 1], change(rows[at]), *rows[at + 1 :]]) + "\n"

    return edit


_POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 9\n"
_HEADER = "image,label,split,group"
_WORDS = (
    "",
    " ",
    "nan",
    "NaN",
    "NA",
    "n/a",
    "None",
    "null",
    "?",
    "-",
    "missing",
    "#N/A",
)
_SPELT = (str.upper, str.title, lambda value: value + "s", lambda value: value + " ")
_MANIFESTS: dict[str, Callable[[Random, str], str | bytes]] = {
    "with a byte order mark": lambda _, t: b"\xef\xbb\xbf" + t.encode(),
    "UTF-16": lambda _, t: t.encode("utf-16"),
    "UTF-32": lambda _, t: t.encode("utf-32"),
    "Latin-1 label": lambda _, t: t.replace("dark", "d\xe4rk").encode("latin-1"),
    "semicolons": lambda _, t: t.replace(",", ";"),
    "tabs": lambda _, t: t.replace(",", "\t"),
    "semicolons in the header": lambda _, t: t.replace(",", ";", 3),
    "carriage returns": lambda _, t: t.replace("\n", "\r\n"),
    "old Mac line ends": lambda _, t: t.replace("\n", "\r"),
    "empty lines": lambda _, t: t.replace("\n", "\n\n"),
    "blanks after commas": lambda _, t: t.replace(",", ", "),
    "all quoted": lambda _, t: "".join(
        ",".join(f'"{one}"' for one in line.split(",")) + "\n" for line in t.splitlines()),
    "an open quote": lambda rng, t: t[: (at := rng.randrange(len(t)))] + '"' + t[at:],
    "no end of line": lambda _, t: t.rstrip("\n"),
    "cut in the middle": lambda rng, t: t[: t.index("\n", len(t) // 2) - rng.randrange(1, 8)],
    "empty": lambda _, t: "",
    "header alone": lambda _, t: t.splitlines()[0] + "\n",
    "no header": lambda _, t: t.partition("\n")[2],
    "header in capitals": lambda _, t: t.replace(_HEADER, "Image,LABEL,Split,Group"),
    "header twice": lambda _, t: t.splitlines()[0] + "\n" + t,
    "two label columns": lambda _, t: t.replace("group", "label", 1),
    "a null byte": lambda rng, t: t[: (at := rng.randrange(len(t)))] + "\0" + t[at:],
    "a comment": lambda _, t: "# made by hand\n" + t,
    "more columns": lambda _, t: t.replace("\n", ",x\n"),
    "a row too long": _line(lambda row: row + ",,,"),
    "a row too short": _line(lambda row: row.rpartition(",")[0]),
    "a row twice": _line(lambda row: row),
    "an image in two splits": _line(
        lambda row: row.replace(",train,", ",test,").replace(",val,", ",train,")),
    "an image with two labels": _line(lambda row: row.replace(
        ",dark,", ",@,").replace(",bright,", ",dark,").replace("@", "bright")),
    "an image that is not there": _line(lambda row: row.replace(".png", "0000.png")),
    "a folder as image": _cell(0, lambda _: "one"),
    "a path out of the folder": _cell(0, lambda v: f"../{'x' * 3}/{v}"),
    "a path in a roundabout way": _cell(0, lambda v: f"one/../{v}", every=True),
    "paths with dots": _cell(0, lambda v: f"./{v}", every=True),
    "paths with backslashes": _cell(0, lambda v: v.replace("/", "\\"), every=True),
    "paths with double slashes": _cell(0, lambda v: v.replace("/", "//"), every=True),
    "a path in capitals": _cell(0, lambda v: v.upper()),
    "a label in capitals": _cell(1, lambda v: v.title()),
    "a label with a blank": _cell(1, lambda v: v + " "),
    "a label with a no-break space": _cell(1, lambda v: v + "\u00a0"),
    "a label with a zero-width space": _cell(1, lambda v: v[:2] + "\u200b" + v[2:]),
    "a label in full width": _cell(1, lambda v: "".join(chr(ord(c) + 0xFEE0) for c in v)),
    "a label in two normal forms": lambda rng, t: _cell(
        1, lambda v: unicodedata.normalize("NFD", v))(rng, t.replace("dark", "d\xe4rk")),
    "numbers as labels in two ways": lambda rng, t: _cell(1, lambda v: v + ".0")(
        rng, t.replace("dark", "0").replace("bright", "1")),
    "a label that is missing": _missing(1),
    "a group that is missing": _missing(3),
    "a split that is missing": _missing(2),
    "a split spelled in another way": lambda rng, t: _cell(2, rng.choice(_SPELT))(rng, t),
    "a group in capitals": _cell(3, str.upper),
    "a group with a blank": _cell(3, lambda v: v + " "),
    "a group with zeros": _cell(3, lambda v: v.replace("p", "p0")),
    "a label with control characters": _cell(1, lambda v: v + "\x1b[31m"),
    "a label of 40,000 letters": _cell(1, lambda _: "x" * 40_000),
    "one class": _cell(1, lambda _: "dark", every=True),
    "each image its own class": lambda _, t: "\n".join(
        line.replace("dark", f"c{n}").replace("bright", f"c{n}")
        for n, line in enumerate(t.splitlines())),
    "no test images": lambda _, t: t.replace(",test,", ",train,"),
    "HTML": lambda _, t: f"<!DOCTYPE html><html><body><pre>{t}</pre></body></html>",
    "a pointer of Git LFS": lambda _, t: _POINTER,
    "bytes": lambda rng, _: rng.randbytes(500),
}  # fmt: skip

# ---- settings files ---------------------------------------------------------------------------


def protocol(rng: Random, folder: Path, clean: Worlds) -> Trial:
    """A protocol that cannot be meant, or means the same."""
    path = folder / "own.yaml"
    name = rng.choice(sorted(_YAML))
    key = rng.choice(("penalties", "neighbours", "standardize", "gradient"))
    path.write_bytes(_yaml(rng, name, path.read_text(), key))
    return Trial(f"own.yaml: {name} ({key})", OWN, "own", "own", numbers_only=True)


def training_config(rng: Random, folder: Path, clean: Worlds) -> Trial:
    """A training's configuration, likewise."""
    path = folder / "own.yaml"
    name = rng.choice(sorted(_YAML))
    key = rng.choice(("model", "predictor", "masks", "data", "train", "objective"))
    path.write_bytes(_yaml(rng, name, path.read_text(), key))
    if rng.random() < 0.5:
        shutil.rmtree(folder / "run")
    return Trial(f"own.yaml: {name} ({key})", worlds.TRAIN, "train", "run/encoder.safetensors")


def _yaml(rng: Random, name: str, text: str, key: str) -> bytes:
    made = _YAML[name](text, key)
    return made if isinstance(made, bytes) else made.encode()


def _value(value: str) -> Callable[[str, str], str]:
    def edit(text: str, key: str) -> str:
        lines, skipping = [], False
        for line in text.splitlines():
            if not line.startswith(" "):
                skipping = line.startswith(f"{key}:")
                line = f"{key}: {value}" if skipping else line
                lines.append(line)
            elif not skipping:
                lines.append(line)
        return "\n".join(lines) + "\n"

    return edit


_YAML: dict[str, Callable[[str, str], str | bytes]] = {
    "a key twice": lambda t, k: t + f"{k}: {{}}\n",
    "a key in capitals": lambda t, k: t.replace(f"{k}:", f"{k.title()}:"),
    "an unknown key": lambda t, _: t + "more: 1\n",
    "a date": _value("2024-01-01"),
    "a wrong date": _value("2024-13-45"),
    "infinite": _value("[.inf]"),
    "not a number": _value("[.nan]"),
    "infinite alone": _value(".inf"),
    "negative": _value("[-1]"),
    "null": _value("null"),
    "nothing": _value(""),
    "a switch": _value("[true]"),
    "a word": _value("[words]"),
    "an empty list": _value("[]"),
    "an empty mapping with a wrong key": _value("{a: 1}"),
    "a huge number": _value("[" + "9" * 400 + "]"),
    "a number of 5,000 digits": _value("9" * 5000),
    "deep": _value("[" * 3000 + "]" * 3000),
    "aliases that grow": lambda t, k: "\n".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9) if n else 'x'}]"
        for n in range(9)) + "\n" + t,
    "an alias to itself": _value("&a [*a]"),
    "an unknown alias": _value("*nowhere"),
    "a Python object": _value("!!python/object/apply:os.system ['exit 3']"),
    "a set": _value("!!set {1, 2}"),
    "binary": _value("!!binary aGVsbG8="),
    "tabs": lambda t, k: t.replace(f"{k}:", f"\t{k}:"),
    "an open bracket": lambda t, _: t + "x: [1, 2\n",
    "two documents": lambda t, _: t + "---\nname: x\n",
    "a list": lambda t, _: "- " + t.strip().replace("\n", "\n  ") + "\n",
    "a number": lambda t, _: "3\n",
    "empty": lambda t, _: "",
    "JSON": lambda t, _: json.dumps({"name": "x", "more": t}),
    "with a byte order mark": lambda t, _: b"\xef\xbb\xbf" + t.encode(),
    "UTF-16": lambda t, _: t.encode("utf-16"),
    "Latin-1": lambda t, _: (t + "# d\xe4rk\n").encode("latin-1"),
    "a null byte": lambda t, _: t + "\0",
    "carriage returns": lambda t, _: t.replace("\n", "\r\n"),
    "HTML": lambda t, _: f"<html><pre>{t}</pre></html>",
    "a merge key": lambda t, k: t + "<<: {more: 1}\n",
    "a key that is a list": lambda t, _: t + "? [1, 2]\n: 3\n",
    "a key that is a number": lambda t, _: t + "3: 4\n",
    "a key that is null": lambda t, _: t + "~: 4\n",
}  # fmt: skip

# ---- images -----------------------------------------------------------------------------------


def image(rng: Random, folder: Path, clean: Worlds) -> Trial:
    """Other files under an image's name: the same pixels in another way, or no still at all."""
    path = folder / rng.choice(("one", "two")) / f"{rng.randrange(32)}.png"
    pixels = np.asarray(PIL.Image.open(path))
    name = rng.choice(sorted(_IMAGES))
    path.unlink()
    _IMAGES[name](path, pixels, rng)
    # Features of fresh bytes are asked for, so old ones of the same pixels do not hide a fault.
    return Trial(f"{path.relative_to(folder)}: {name}", RUN, "bench", numbers_only=True)


def _saved(kind: str, mode: str | None = None, **how: object):
    def write(path: Path, pixels: np.ndarray, rng: Random) -> None:
        made = PIL.Image.fromarray(pixels)
        made = made if mode is None else made.convert(mode)
        made.save(path, format=kind, **how)

    return write


def _moving(kind: str):
    def write(path: Path, pixels: np.ndarray, rng: Random) -> None:
        first, second = PIL.Image.fromarray(pixels), PIL.Image.fromarray(255 - pixels)
        first.save(path, format=kind, save_all=True, append_images=[second], duration=100)

    return write


def _turned(path: Path, pixels: np.ndarray, rng: Random) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise
    PIL.Image.fromarray(np.rot90(pixels).copy()).save(path, format="PNG", exif=exif)


def _sixteen(kind: int):
    """PNG of 16 bits: grey (0), RGB (2), RGB with alpha (6); the scanner used 12 of them."""

    def write(path: Path, pixels: np.ndarray, rng: Random) -> None:
        channels = {0: 1, 2: 3, 6: 4}[kind]
        deep = np.repeat(pixels[..., None].astype(">u2") * 16, channels, axis=2)
        lines = b"".join(b"\0" + row.tobytes() for row in deep)
        size = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, kind, 0, 0, 0)
        path.write_bytes(_png(size, zlib.compress(lines)))

    return write


def _png(size: bytes, data: bytes) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def _huge(path: Path, pixels: np.ndarray, rng: Random) -> None:
    size = struct.pack(">IIBBBBB", 60_000, 60_000, 1, 0, 0, 0, 0)
    path.write_bytes(_png(size, zlib.compress(bytes(1000))))


def _wide(path: Path, pixels: np.ndarray, rng: Random) -> None:
    size = struct.pack(">IIBBBBB", 13_000, 13_000, 1, 0, 0, 0, 0)
    path.write_bytes(_png(size, zlib.compress(bytes(13_000 * 1626))))


def _bytes(data: bytes):
    return lambda path, pixels, rng: path.write_bytes(data)


def _part(path: Path, pixels: np.ndarray, rng: Random) -> None:
    PIL.Image.fromarray(pixels).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(1, len(data) - 20)])


def _flipped(path: Path, pixels: np.ndarray, rng: Random) -> None:
    PIL.Image.fromarray(pixels).save(path)
    data = bytearray(path.read_bytes())
    data[rng.randrange(60, len(data) - 20)] ^= 1 << rng.randrange(8)
    path.write_bytes(bytes(data))


def _eps(path: Path, pixels: np.ndarray, rng: Random) -> None:
    PIL.Image.fromarray(pixels).convert("RGB").save(path, format="EPS")


_IMAGES: dict[str, Callable[[Path, np.ndarray, Random], object]] = {
    "BMP": _saved("BMP"),
    "TIFF": _saved("TIFF"),
    "WebP without loss": _saved("WEBP", "RGB", lossless=True),
    "colour": _saved("PNG", "RGB"),
    "colour and opaque alpha": _saved("PNG", "RGBA"),
    "palette": _saved("PNG", "P"),
    "GIF": _saved("GIF"),
    "32-bit whole numbers": _saved("TIFF", "I"),
    "fractions": _saved("TIFF", "F"),
    "PCX": _saved("PCX"),
    "EPS": _eps,
    "PDF": _saved("PDF", "RGB"),
    "ICO": _saved("ICO"),
    "animated GIF": _moving("GIF"),
    "animated PNG": _moving("PNG"),
    "animated WebP": _moving("WEBP"),
    "TIFF of two pages": _moving("TIFF"),
    "orientation in EXIF": _turned,
    "16-bit grey": _sixteen(0),
    "16-bit colour": _sixteen(2),
    "16-bit colour and alpha": _sixteen(6),
    "a huge header": _huge,
    "169 million pixels in 20 KB": _wide,
    "DICOM": _bytes(bytes(128) + b"DICM" + bytes(200)),
    "NIfTI": _bytes(b"\x5c\x01\x00\x00" + bytes(340) + b"n+1\0"),
    "MHA": _bytes(b"ObjectType = Image\nNDims = 2\nDimSize = 4 4\nElementDataFile = LOCAL\n"),
    "HEIC": _bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)),
    "SVG": _bytes(b"<svg xmlns='http://www.w3.org/2000/svg' width='4' height='4'/>"),
    "HTML": _bytes(b"<!DOCTYPE html><html><body>Sign in</body></html>"),
    "a pointer of Git LFS": _bytes(_POINTER.encode()),
    "ZIP": _bytes(b"PK\x03\x04" + bytes(100)),
    "NumPy": _bytes(b"\x93NUMPY\x01\x00" + bytes(100)),
    "MP4": _bytes(b"\0\0\0\x18ftypisom\0\0\0\0" + bytes(100)),
    "empty": _bytes(b""),
    "zeros": _bytes(bytes(1000)),
    "one byte": _bytes(b"\x89"),
    "cut": _part,
    "a flipped bit": _flipped,
    "gone": lambda path, pixels, rng: None,
    "a folder": lambda path, pixels, rng: path.mkdir(),
    "a link to itself": lambda path, pixels, rng: path.symlink_to(path.name),
    "a link to nowhere": lambda path, pixels, rng: path.symlink_to("nowhere.png"),
    "a pipe": lambda path, pixels, rng: os.mkfifo(path),
}  # fmt: skip

# ---- plugins ----------------------------------------------------------------------------------


def plugin(rng: Random, folder: Path, clean: Worlds) -> Trial:
    """Code that leaves, moves, or is not the same twice; and an edited module."""
    name = rng.choice(sorted(_PLUGINS))
    text, net, right = _PLUGINS[name]
    (folder / "plugin.py").write_text(text)
    (folder / "plugin_net.py").write_text(net)
    if rng.random() < 0.5 and right != "bench-weights":
        shutil.rmtree(folder / "out")
        right = "fresh"
    return Trial(f"plugin: {name}", RUN, right, numbers_only=True)


_P, _N = worlds.PLUGIN, worlds.NET
_FORWARD = "        return self.network(x).flatten(1)\n"
_PREPARE = "    def _prepare(self, image):\n        {}\n        return super()._prepare(image)\n"


def _in_forward(line: str) -> str:
    return _P.replace(_FORWARD, f"        {line}\n{_FORWARD}")


def _returns(expression: str) -> str:
    return _P.replace("return self.network(x).flatten(1)", f"return {expression}")


def _in_build(line: str) -> str:
    return _P.replace("        return Net()", f"        {line}\n        return Net()")


def _network(expression: str) -> str:
    return _N.replace("return torch.nn.functional.avg_pool2d(x, 8)", f"return {expression}")


_POOLED = "torch.nn.functional.avg_pool2d(x, 8)"
_LEAVES = ("sys.exit()", "sys.exit(0)", "sys.exit(3)", "raise BaseException('x')",
           "raise GeneratorExit", "raise MemoryError", "raise RecursionError", "1 / 0",
           "raise OSError(28, 'No space left on device')",
           "raise UnicodeDecodeError('utf-8', b'x', 0, 1, 'x')")  # fmt: skip
_PLUGINS: dict[str, tuple[str, str, str]] = {
    **{f"{leave} at import": (f"{_P}\n{leave}\n", _N, "bench") for leave in _LEAVES},
    **{f"{leave} in build": (_in_build(leave), _N, "bench") for leave in _LEAVES},
    **{f"{leave} in forward": (_in_forward(leave), _N, "bench") for leave in _LEAVES},
    **{f"{leave} in prepare": (_P + _PREPARE.format(leave), _N, "bench") for leave in _LEAVES},
    "chdir at import": (f"{_P}\nimport os; os.chdir('/tmp')\n", _N, "bench"),
    "chdir in build": (_in_build("import os; os.chdir('/')"), _N, "bench"),
    "chdir in forward": (_in_forward("import os; os.chdir('/')"), _N, "bench"),
    "float64 by default": (_in_build("import torch; torch.set_default_dtype(torch.float64)"),
                           _N, "bench"),
    "a seed": (_in_forward("import torch; torch.manual_seed(0)"), _N, "bench"),
    "numpy's seed": (_in_forward("import numpy; numpy.random.seed(0)"), _N, "bench"),
    "one thread": (_in_forward("import torch; torch.set_num_threads(1)"), _N, "bench"),
    "warnings as errors": (f"{_P}\nimport warnings; warnings.simplefilter('error')\n", _N, "bench"),
    "no standard output": (f"{_P}\nsys.stdout = None\n", _N, "bench"),
    "edited second module": (_P, worlds.OTHER_NET, "bench-weights"),
    "edited file": (_P.replace("self.network(x)", "torch.nn.functional.max_pool2d(-x, 16)").replace(
        "import model_zoo", "import model_zoo, torch"), _N, "bench-weights"),
    "dropout": (_P, _network(f"torch.nn.functional.dropout({_POOLED}, 0.5, True)"), "bench"),
    "little noise": (_P, _network(f"{_POOLED} + 0.01 * torch.randn(())"), "bench"),
    "a mask at random": (_P, _network(f"{_POOLED} * (torch.rand(1, 1, 4, 4) > 0.5)"), "bench"),
    "the first call differs": (_in_forward(
        "self.calls = getattr(self, 'calls', 0) + 1; x = x * self.calls"), _N, "bench"),
    "depends on the batch": (_returns("(self.network(x) - self.network(x).mean(0)).flatten(1)"),
                             _N, "bench"),
    "NaN": (_returns("self.network(x).flatten(1) * float('nan')"), _N, "bench"),
    "NaN of one image": (_in_forward("x[0] = float('nan')"), _N, "bench"),
    "infinite": (_returns("self.network(x).flatten(1) / 0"), _N, "bench"),
    "three dimensions": (_returns("self.network(x).flatten(2)"), _N, "bench"),
    "no batch": (_returns("self.network(x)[0].flatten()"), _N, "bench"),
    "too few rows": (_returns("self.network(x).flatten(1)[:-1]"), _N, "bench"),
    "no columns": (_returns("self.network(x).flatten(1)[:, :0]"), _N, "bench"),
    "nothing": (_returns("None"), _N, "bench"),
    "a list": (_returns("self.network(x).flatten(1).tolist()"), _N, "bench"),
    "complex numbers": (_returns("self.network(x).flatten(1) * 1j"), _N, "bench"),
    "called ..": (_P.replace('"mine"', '".."'), _N, "bench"),
    "called .": (_P.replace('"mine"', '"."'), _N, "bench"),
    "called nothing": (_P.replace('"mine"', '""'), _N, "bench"),
    "called as a built-in one": (_P.replace('"mine"', '"pixels"'), _N, "bench"),
    "called with a slash": (_P.replace('"mine"', '"a/mine"'), _N, "bench"),
    "registers nothing": (_P.replace('@model_zoo.register("mine")', ""), _N, "bench"),
    "no such module": (_P.replace("plugin_net", "plugin_gone"), _N, "bench"),
    "a syntax error": (_P + "\ndef", _N, "bench"),
    "a syntax error in the second module": (_P, _N + "\ndef", "bench"),
    "UTF-16": (_P, "\0" + _N, "bench"),
}  # fmt: skip

# Weights add up to 100, so that 1,000 inputs have at least 300 that are valid but misplaced.
FAMILIES = {
    "cells damaged": Family("bench", cell, 11),
    "cells damaged, wide": Family("wide", wide_cell, 1),
    "cells misplaced": Family("bench", misplaced_cell, 17, misplaced=True),
    "cells misplaced, wide": Family("wide", misplaced_wide_cell, 1, misplaced=True),
    "tasks damaged": Family("bench", task, 6),
    "tasks misplaced": Family("bench", misplaced_task, 4, misplaced=True),
    "shards damaged": Family("bench", shard, 8),
    "shards misplaced": Family("bench", misplaced_shard, 8, misplaced=True),
    "checkpoints damaged": Family("train", checkpoint, 7),
    "checkpoints misplaced": Family("train", misplaced_checkpoint, 5, misplaced=True),
    "indexes damaged": Family("train", frames, 5),
    "indexes misplaced": Family("train", misplaced_frames, 4, misplaced=True),
    "manifests": Family("bench", manifest, 8),
    "protocols": Family("bench", protocol, 4),
    "training settings": Family("train", training_config, 3),
    "images": Family("bench", image, 4),
    "plugins": Family("bench", plugin, 4),
}
