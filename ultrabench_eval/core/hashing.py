"""Canonical JSON and SHA-256: the names of everything that is cached or reported.

Two things get the same name only if they are the same thing, on every machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def canonical_json(value: Any) -> bytes:
    """`value` as UTF-8 JSON with sorted keys and no spaces; NaN and unknown types are errors."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def digest(value: Any) -> str:
    """SHA-256 (64 hexadecimal digits) of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def seal(value: Mapping[str, Any]) -> dict[str, Any]:
    """`value` with a field "sha256", the digest of all its other fields; see `sealed`."""
    content = {key: part for key, part in value.items() if key != "sha256"}
    return {**content, "sha256": digest(content)}


def sealed(value: Mapping[str, Any]) -> bool:
    """Whether the field "sha256" is that of the other fields, so that none was changed."""
    content = {key: part for key, part in value.items() if key != "sha256"}
    try:
        return "sha256" in value and value["sha256"] == digest(content)
    except (TypeError, ValueError, RecursionError):  # NaN, or nested beyond all use
        return False


def digest_bytes(data: bytes) -> str:
    """SHA-256 (64 hexadecimal digits) of raw bytes."""
    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 (64 hexadecimal digits) of a file's content, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_parts(parts: Iterable[bytes | memoryview]) -> str:
    """SHA-256 over length-prefixed parts, so that ("ab", "c") and ("a", "bc") differ."""
    total = hashlib.sha256()
    for part in parts:
        total.update(len(part).to_bytes(8, "little"))
        total.update(part)
    return total.hexdigest()


def digest_tensors(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over names, dtypes, shapes and raw bytes of tensors, in the order of their names."""
    import torch

    def parts() -> Iterable[bytes | memoryview]:
        for name in sorted(tensors):
            tensor = tensors[name].detach().cpu().contiguous()
            yield name.encode()
            yield f"{tensor.dtype}{tuple(tensor.shape)}".encode()
            # The array itself, not a copy of its bytes: weights can be gigabytes.
            yield tensor.reshape(-1).view(torch.uint8).numpy().data

    return digest_parts(parts())


def short(digest: str, length: int = 12) -> str:
    """The first `length` digits of a digest, for file names and tables."""
    return digest[:length]


def seed_for(seed: int, purpose: str) -> int:
    """A 63-bit generator seed for one use of a run's seed.

    Every random draw names what it is for, so that adding one draw never shifts another.
    """
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:8], "little") >> 1
