"""Spellings of one word, words for missing values, and text that any file can hold."""

from __future__ import annotations

import os

import pytest

from ultrabench_eval.core import names
from ultrabench_eval.core.errors import UserError


@pytest.mark.parametrize(
    "same",
    [
        ["1", "01", "1.0", "+1", "1e0", "1.", " 1", "10e-1", "0.1e1", "1,0"],
        ["0", "-0", "0.0", "00", ".0", "0e5"],
        ["-1.5", "-01.50", "-15e-1"],
        ["Benign", "benign", "BENIGN ", "be\u200bnign"],
        ["BI-RADS 3", "bi-rads\u00a03", "BI\u2011RADS  3"],
        ["b\u00e9nin", "be\u0301nin"],
        ["\ufb01ne", "fine"],
    ],
)
def test_spellings_of_one_word(same: list[str]) -> None:
    assert len({names.key(word) for word in same}) == 1
    assert names.alike(same) == [(same[0], other) for other in same[1:]]


@pytest.mark.parametrize(
    "apart", [["1", "2"], ["1", "10", "0.1", "-1"], ["a", "b"], ["T1", "T 1"], ["1e", "1"], ["e1"]]
)
def test_other_words_stay_apart(apart: list[str]) -> None:
    assert names.alike(apart) == []


def test_long_numbers_are_compared_exactly() -> None:
    long = "1" * 6000
    assert names.key(long) != names.key(long[:-1] + "2")
    assert names.key(long) == names.key("0" + long)
    assert names.key("1e999999999") != names.key("1e999999998")
    assert names.key("1e" + "9" * 30) == "1e" + "9" * 30


def test_groups_are_compared_by_value_only_as_whole_numbers() -> None:
    assert names.group_key("007") == names.group_key("7.0") == names.group_key("7")
    assert names.group_key("1.1") != names.group_key("1.10")
    assert names.group_key("1e3") != names.group_key("1000")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("busbra", "BUSBRA"),
        ("busbra", "BUS-BRA"),
        ("busbra", "BUSBRA (1)"),
        ("busbra", "busbra - Copy"),
        ("busbra", "Copy of BUSBRA"),
        ("fatty_liver", "Fatty Liver"),
        ("gbcu", "G\u200bbcu"),
        ("tn5000", "TN-5000"),
    ],
)
def test_folders_of_one_release(one: str, other: str) -> None:
    assert names.folder_key(one) == names.folder_key(other)


def test_folders_that_are_others() -> None:
    keys = [names.folder_key(name) for name in ("tn5000", "tn500", "aul", "aula", "busbra2023")]
    assert len(set(keys)) == len(keys)


def test_faults() -> None:
    assert "missing value" in str(names.fault("NaN"))
    assert "missing value" in str(names.fault("\u00a0"))
    assert "control character" in str(names.fault("a\nb"))
    assert "control character" in str(names.fault("a\u2028b"))
    assert names.fault("benign, grade 2 (\u00e9)") is None


def test_printable() -> None:
    assert names.printable("M\u00fcller\u00a01") == "M\u00fcller\u00a01"
    assert names.printable(os.fsdecode(b"M\xfcller")) == "M\\xfcller"
    assert names.printable("\ud800x") == "\\ud800x"
    assert names.printable("a\x1b[31mb\nc") == "a\\x1b[31mb\nc"
    assert str(UserError(os.fsdecode(b"\xff.png is missing"))) == "\\xff.png is missing"
