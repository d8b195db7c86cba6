"""Changes of files: bytes, JSON values, safetensors, and files that are put elsewhere.

Each takes a generator and gives back what it did, in words.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

# ---- bytes --------------------------------------------------------------------------------------


def damage(rng: Random, path: Path) -> str:
    """Damage the bytes of a file as disks, copies and editors do."""
    data = bytearray(path.read_bytes())
    kind = rng.choice(("flip", "flip", "flip", "cut", "zero", "append", "empty", "double", "swap"))
    at = rng.randrange(max(len(data), 1))
    if kind == "flip" and data:
        data[at] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del data[at:]
    elif kind == "zero":
        data[at : at + 64] = bytes(len(data[at : at + 64]))
    elif kind == "append":
        data += rng.randbytes(rng.choice((1, 100)))
    elif kind == "empty":
        data.clear()
    elif kind == "double":
        data *= 2
    elif kind == "swap":
        data = data[at:] + data[:at]
    path.write_bytes(bytes(data))
    return f"{kind} at byte {at}"


# ---- JSON ---------------------------------------------------------------------------------------

_NEW: tuple[Any, ...] = (
    *(None, [], {}, "", "x", 0, -1, 1.5, 10**40, True, float("nan"), float("inf")),
    *([[[]]], ["a", 1], {"a": None}, "é\u202e\x00", "../../x"),
)


def json_value(rng: Random, path: Path) -> str:
    """Change one value, key or digit in a JSON file and write it in the same layout."""
    text = path.read_text()
    kind = rng.choice(("digit", "digit", "digit", "value", "value", "gone", "more", "swap", "deep"))
    if kind == "digit":
        places = [match.start() for match in re.finditer(r"\d", text)]
        if places:
            at = rng.choice(places)
            digit = rng.choice([one for one in "0123456789" if one != text[at]])
            path.write_text(text[:at] + digit + text[at + 1 :])
            return f"digit at {at}: {text[at]} to {digit}"
    if kind == "deep":
        path.write_text("[" * 30_000 + "]" * 30_000)
        return "30,000 nested lists"
    content = json.loads(text)
    holders = list(_holders(content))
    if not holders:
        path.write_text("null")
        return "null"
    holder = rng.choice(holders)
    keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
    key = rng.choice(keys)
    if kind == "gone":
        del holder[key]
    elif kind == "more":
        if isinstance(holder, dict):
            holder["more"] = rng.choice(_NEW)
        else:
            holder.append(rng.choice(_NEW))
    elif kind == "swap":
        other = rng.choice(keys)
        holder[key], holder[other] = holder[other], holder[key]
    else:
        holder[key] = rng.choice(_NEW)
    path.write_text(json.dumps(content))
    return f"{kind} of {key!r}"


def _holders(value: Any) -> Any:
    """All dicts and lists in a value that hold something."""
    if isinstance(value, dict | list) and value:
        yield value
        for one in value.values() if isinstance(value, dict) else value:
            yield from _holders(one)


def lines(rng: Random, path: Path) -> str:
    """Take out, double, or put in another order lines of a file."""
    content = path.read_bytes().splitlines(keepends=True)
    kind = rng.choice(("first half", "last gone", "one gone", "shuffled", "reversed", "doubled"))
    if kind == "first half":
        content = content[: len(content) // 2]
    elif kind == "last gone":
        content = content[:-1]
    elif kind == "one gone":
        del content[rng.randrange(len(content))]
    elif kind == "shuffled":
        rng.shuffle(content)
    elif kind == "reversed":
        content.reverse()
    else:
        content *= 2
    path.write_bytes(b"".join(content))
    return f"lines {kind}"


# ---- safetensors --------------------------------------------------------------------------------


def header(rng: Random, path: Path) -> str:
    """Change the header of a safetensors file, whose numbers stay."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    content = json.loads(data[8 : 8 + size])
    tensors = [name for name in content if name != "__metadata__"]
    name = rng.choice(tensors)
    kind = rng.choice(("dtype", "shape", "metadata", "name", "no metadata"))
    if kind == "dtype":
        content[name]["dtype"] = {"F32": "I32"}.get(content[name]["dtype"], "F32")
    elif kind == "shape":
        content[name]["shape"].reverse()
    elif kind == "name":
        content[name + "x"] = content.pop(name)
    elif kind == "no metadata":
        content.pop("__metadata__", None)
    else:
        metadata = content.setdefault("__metadata__", {})
        key = rng.choice([*metadata, "more"])
        metadata[key] = rng.choice(("", "x", str(metadata.get(key, "")) + "0", "null", "[]"))
    return _put_header(path, content, data[8 + size :], f"header: {kind} of {name}")


def numbers(rng: Random, path: Path) -> str:
    """Change numbers of a safetensors file to other finite or to NaN ones."""
    data = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    count = (len(data) - start) // 4
    what = rng.choice((b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f", b"\x00\x00\x80\x3f", b"\0\0\0\0"))
    for _ in range(rng.choice((1, 20))):
        at = start + 4 * rng.randrange(max(count, 1))
        data[at : at + 4] = what
    path.write_bytes(bytes(data))
    return f"numbers to {what.hex()}"


def _put_header(path: Path, content: Any, rest: bytes, words: str) -> str:
    head = json.dumps(content).encode()
    head += b" " * (-len(head) % 8)
    path.write_bytes(len(head).to_bytes(8, "little") + head + rest)
    return words


# ---- place and time -----------------------------------------------------------------------------


def misplace(rng: Random, root: Path, paths: list[Path], donors: dict[str, Path]) -> str:
    """Put whole and valid files where, or when, they do not belong.

    Args:
        rng: draws.
        root: folder of the input.
        paths: files of one kind in it.
        donors: other folders of the same layout, by name.
    """
    path = rng.choice(paths)
    kinds: list[Callable[[], str]] = [
        lambda: _from_donor(rng, root, path, donors),
        lambda: _from_donor(rng, root, path, donors),
        lambda: _from_donor(rng, root, path, donors),
        lambda: _swap(path, rng.choice(paths)),
        lambda: _copy(path, rng.choice(paths)),
        lambda: _copy(path, path.with_name("copy of " + path.name)),
        lambda: _delete(path),
    ]
    return rng.choice(kinds)()


def _from_donor(rng: Random, root: Path, path: Path, donors: dict[str, Path]) -> str:
    """A file of another run: of the same name if it has one, else one of its kind."""
    name = rng.choice(sorted(donors))
    same = donors[name] / path.relative_to(root)
    if same.is_file() and same.read_bytes() != path.read_bytes():
        shutil.copyfile(same, path)
        return f"{path.relative_to(root)} of {name}"
    # Names that are digests differ: any file of the same kind takes its place.
    top = path.relative_to(root).parts[0]
    others = sorted(p for p in (donors[name] / top).rglob(f"*{path.suffix}") if p.is_file())
    if not others:
        return _delete(path)
    other = rng.choice(others)
    if rng.random() < 0.5:  # under its own name
        new = root / other.relative_to(donors[name])
        new.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(other, new)
        return f"{new.relative_to(root)} of {name} added"
    shutil.copyfile(other, path)
    return f"{other.relative_to(donors[name])} of {name} as {path.relative_to(root)}"


def _swap(one: Path, other: Path) -> str:
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    return f"{one.name} and {other.name} swapped"


def _copy(one: Path, other: Path) -> str:
    if one != other:
        shutil.copyfile(one, other)
    return f"{one.parent.name}/{one.name} copied to {other.parent.name}/{other.name}"


def _delete(path: Path) -> str:
    path.unlink()
    return f"{path.parent.name}/{path.name} deleted"
