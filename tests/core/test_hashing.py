"""Names of things: equal for equal content, on every machine, and for nothing else."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ultrabench_eval.core import hashing

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc", max_size=2), inner),
    max_leaves=8,
)  # fmt: skip


def test_digests_are_pinned() -> None:
    # A change of these renames every cached feature and every cell.
    assert hashing.digest({"b": [1, 2.5], "a": None}) == (
        hashlib.sha256(b'{"a":null,"b":[1,2.5]}').hexdigest()
    )
    assert hashing.seed_for(0, "subset") == 777158813184230745
    by_hand = hashlib.sha256()
    for part in (b"b", b"torch.int64()", b"\1" + bytes(7), b"w", b"torch.float32(1,)", bytes(4)):
        by_hand.update(len(part).to_bytes(8, "little") + part)
    tensors = {"w": torch.zeros(1), "b": torch.tensor(1)}
    assert hashing.digest_tensors(tensors) == by_hand.hexdigest()


def test_digest_does_not_hang_on_the_process() -> None:
    code = (
        "from ultrabench_eval.core import hashing; print(hashing.digest({'x': 'é', 'y': [1, 0.1]}))"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert runs == {hashing.digest({"y": [1, 0.1], "x": "é"}) + "\n"}


@given(st.dictionaries(st.text("abc", max_size=2), JSON))
def test_digest_does_not_depend_on_the_order_of_keys(value: dict[str, object]) -> None:
    assert hashing.digest(dict(reversed(value.items()))) == hashing.digest(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, Path("x"), torch.tensor(1)])
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        hashing.canonical_json(value)


@given(st.lists(st.binary(max_size=4), max_size=4), st.lists(st.binary(max_size=4), max_size=4))
def test_parts_are_told_apart(left: list[bytes], right: list[bytes]) -> None:
    assert (hashing.digest_parts(left) == hashing.digest_parts(right)) == (left == right)


@pytest.mark.parametrize(
    "other",
    [
        {"w": torch.tensor([1.0, 3.0])},
        {"v": torch.tensor([1.0, 2.0])},
        {"w": torch.tensor([[1.0, 2.0]])},
        {"w": torch.tensor([1.0, 2.0], dtype=torch.float64)},
        {"w": torch.tensor([1.0, 2.0]), "v": torch.empty(0)},
    ],
)
def test_tensor_digest_sees_values_names_shapes_and_types(other: dict[str, torch.Tensor]) -> None:
    assert hashing.digest_tensors(other) != hashing.digest_tensors({"w": torch.tensor([1.0, 2.0])})


def test_tensor_digest_does_not_see_memory_layout_or_order() -> None:
    w = torch.randn(2, 3, 4, 4)
    b = torch.randn(3).bfloat16()
    apart = {"b": b, "w": w.contiguous(memory_format=torch.channels_last)}
    assert hashing.digest_tensors({"w": w, "b": b}) == hashing.digest_tensors(apart)


def test_file_digest_is_sha256_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert hashing.digest_file(tmp_path / "x") == hashlib.sha256(b"abc").hexdigest()
