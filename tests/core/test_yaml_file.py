"""Settings files: each key once, plain finite values, and a sentence for everything else."""

from __future__ import annotations

from pathlib import Path

import pytest

from ultrabench_eval.core import yaml_file
from ultrabench_eval.core.errors import UserError

BOMB = "a: &a [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 10)}]\n"
    for before, name in zip("abcdef", "bcdefg", strict=True)
)
MERGED = "a: &a {k: 1}\n" + "".join(
    f"{name}: &{name} {{'<<': [{', '.join(['*' + before] * 10)}]}}\n".replace("'<<'", "<<")
    for before, name in zip("abcdef", "bcdefg", strict=True)
)
CHAIN = "a0: &a0 [1]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 2000))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", "the key 'a' is given twice, in lines 1 and 3"),
        ("a: {b: 1, 'b': 2}\n", "the key 'b' is given twice, in lines 1 and 1"),
        ("a: {b: 1, c: {d: 1,\n d: 2}}\n", "the key 'd' is given twice, in lines 1 and 2"),
        ("a: [1\n", "not YAML"),
        ("a: 2024-13-45\n", "the value in line 1 is not valid: month must be in 1..12"),
        ("b: 1\na: 2024-02-01\n", "'a' is a date; put it in quotes"),
        ("a: .inf\n", "'a' is inf, not a finite number"),
        ("a: [1, -.inf]\n", "'a.1' is -inf, not a finite number"),
        ("a: {b: .nan}\n", "'a.b' is nan, not a finite number"),
        ("a: " + "9" * 5000, "the value in line 1 is not valid"),
        ("a: " + "9" * 100, "'a' is a number of more than 63 bits"),
        ("a: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        ("a: " + "[" * 50 + "]" * 50, "line 1 is nested more than 20 deep"),
        ("a: &a [*a]\n", "the alias in line 1 holds itself"),
        (BOMB, "stands for more than 20000 values"),
        (MERGED, "stands for more than 20000 values"),
        (CHAIN, "nested more than 20 deep"),
        ("1: a\n", "the key 1 is not a word"),
        ("on: a\n", "the key True is not a word"),
        ("[a, b]: 1\n", "the key in line 1 is not a word"),
        ("a: !!binary aGFsbG8=\n", "'a' is a bytes"),
        ("a: !!set {b, c}\n", "'a' is a set"),
        ("a: !!python/object/apply:os.system ['true']\n", "not YAML"),
        ("a: 1\n---\na: 2\n", "not YAML"),
        ("words\n", "key: value"),
        ("- a\n", "key: value"),
    ],
)
def test_what_is_wrong_is_told_with_the_file(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        yaml_file.read(path, "protocol")
    sentence = str(caught.value)
    assert said in sentence
    assert sentence.startswith(f"cannot read protocol {path} (")
    assert sentence.endswith("; fix the file")
    assert len(sentence) < 1000


def test_files_that_are_no_text_are_told(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"name: caf\xe9\n")
    with pytest.raises(UserError, match=r"mine\.yaml \('utf-8' codec.*fix the file"):
        yaml_file.read(path, "protocol")
    path.write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(UserError, match=r"mine\.yaml \(it has more than 1048576 bytes\)"):
        yaml_file.read(path, "protocol")
    with pytest.raises(UserError, match=r"protocol not found: .*none\.yaml"):
        yaml_file.read(tmp_path / "none.yaml", "protocol")
    with pytest.raises(UserError, match=r"cannot read protocol .*check the path"):
        yaml_file.read(tmp_path, "protocol")


def test_plain_values_come_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "\ufeffa: &a {x: 1, y: [0.5, 1.0e-3]}\nb: {<<: *a, x: 2}\nc: text\nd: null\ne: true\n"
    )
    assert yaml_file.read(path, "protocol") == {
        "a": {"x": 1, "y": [0.5, 1e-3]},
        "b": {"x": 2, "y": [0.5, 1e-3]},
        "c": "text",
        "d": None,
        "e": True,
    }
    path.write_text("# nothing\n")
    assert yaml_file.read(path, "protocol") == {}
    assert yaml_file.parse("[1, a]") == [1, "a"]
