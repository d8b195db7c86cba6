"""Properties of the split rules."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import splits
from tasks.samples.images import ImageArray, ImageFile
from tasks.task import SPLITS, Item, Rule, TaskCard
from ultrabench_eval.core.errors import UserError

fractions = st.sampled_from([0.1, 0.2, 0.3])
seeds = st.integers(0, 2**31)


@st.composite
def label_arrays(draw: st.DrawFn) -> np.ndarray:
    counts = draw(st.lists(st.integers(10, 60), min_size=2, max_size=5))
    labels = np.repeat(np.arange(len(counts)), counts)
    return np.random.default_rng(draw(seeds)).permutation(labels)


@given(label_arrays(), fractions, seeds)
def test_stratified_is_a_partition_with_the_classes_in_proportion(
    labels: np.ndarray, fraction: float, seed: int
) -> None:
    rest, held_out = splits.stratified(labels, fraction, seed)
    assert sorted([*rest, *held_out]) == list(range(len(labels)))
    assert len(held_out) == int(np.ceil(fraction * len(labels)))
    # The held-out part, rounded up, is shared out among the classes: each gets its share, rounded.
    wanted = np.bincount(labels) * len(held_out) / len(labels)
    got = np.bincount(labels[held_out], minlength=len(wanted))
    assert np.abs(got - wanted).max() < 1
    again = splits.stratified(labels, fraction, seed)
    assert (rest == again[0]).all()
    assert (held_out == again[1]).all()


@given(st.lists(st.integers(0, 30), min_size=2, max_size=200), fractions, seeds, seeds)
def test_grouped_keeps_groups_whole_and_depends_only_on_which_there_are(
    groups: list[int], fraction: float, seed: int, shuffle: int
) -> None:
    if len(set(groups)) < 2:
        return
    rest, held_out = splits.grouped(groups, fraction, seed)
    assert sorted([*rest, *held_out]) == list(range(len(groups)))
    held_groups = {groups[i] for i in held_out}
    assert not held_groups & {groups[i] for i in rest}
    assert len(held_groups) == int(np.ceil(fraction * len(set(groups))))

    mixed = np.random.default_rng(shuffle).permutation(groups + groups[:1]).tolist()
    assert {mixed[i] for i in splits.grouped(mixed, fraction, seed)[1]} == held_groups


def items(labels: list[int], groups: list[str] | None = None, prefix: str = "") -> list[Item]:
    pixels = np.zeros((2, 2), np.uint8)
    return [
        Item(ImageArray(pixels, f"{prefix}{i}"), label, groups[i] if groups else None)
        for i, label in enumerate(labels)
    ]


def test_numeric_groups_are_drawn_as_the_integers_they_are() -> None:
    # UltraBench's patients are integers; as text, "10" would sort before "2".
    rows = items([0] * 12, [str(n) for n in range(1, 13)])
    _, held_out = splits.draw_validation(rows, Rule("group", 0, 0.3), Path("x"))
    wanted = splits.grouped(list(range(1, 13)), 0.3, seed=0)[1]
    assert [item.group for item in held_out] == [str(i + 1) for i in wanted]
    as_text = splits.grouped([str(n) for n in range(1, 13)], 0.3, seed=0)[1]
    assert set(as_text) != set(wanted)  # else this test shows nothing


@given(st.sets(st.text(min_size=1, max_size=5), min_size=5, max_size=40), seeds)
def test_sides_of_groups_are_those_of_a_draw_over_their_images(groups: set[str], seed: int) -> None:
    rule = Rule("group", seed % 1000, validation=0.2, test=0.3)
    side = splits.sides(groups, rule, Path("x"))
    assert set(side) == groups
    rng = np.random.default_rng(seed)
    many = [group for group in groups for _ in range(rng.integers(1, 4))]
    rows = items([0] * len(many), [many[i] for i in rng.permutation(len(many))])
    for name, part in zip(SPLITS, splits.draw(rows, rule, Path("x")), strict=True):
        assert {item.group for item in part} == {g for g in groups if side[g] == name}


def test_a_rule_must_draw_what_is_asked_of_it() -> None:
    rows = items([0, 1] * 10)
    with pytest.raises(ValueError, match="draws a test set"):
        splits.draw(rows, Rule("class", 0, 0.2), Path("x"))
    with pytest.raises(ValueError, match="draws groups"):
        splits.sides({"a", "b"}, Rule("class", 0, 0.2, 0.2), Path("x"))
    with pytest.raises(ValueError, match="needed"):
        splits.draw_validation(rows, None, Path("x"))


def test_too_few_of_a_class_is_a_user_error() -> None:
    with pytest.raises(UserError, match=r"in release by class: the rarest class has 1"):
        splits.draw_validation(items([0, 0, 0, 1]), Rule("class", 42, 0.2), Path("release"))


def test_one_group_is_a_user_error() -> None:
    with pytest.raises(UserError, match="by group: they are of 1 groups"):
        splits.draw_validation(items([0, 1], ["p", "p"]), Rule("group", 42, 0.2), Path("r"))


def test_nothing_to_draw_from_is_a_user_error() -> None:
    with pytest.raises(UserError, match="of the 0 images"):
        splits.draw_validation([], Rule("class", 42, 0.2), Path("r"))


def test_missing_files_are_left_out_and_counted(tmp_path: Path) -> None:
    card = TaskCard("toy", "TOY", "o", "t", ("a", "b"), paper_counts=(3, 2, 2))
    gone = Item(ImageFile(tmp_path / "gone.png", "gone.png"), 0)
    task = splits.assemble(
        card,
        tmp_path,
        train=[*items([0, 1]), gone],
        validation=items([0, 1], prefix="v"),
        test=items([0, 1, 1], prefix="e"),
        notes=("last",),
    )
    assert [len(split) for split in task.splits.values()] == [2, 2, 3]
    assert task.notes == (
        "1 of 8 images of the splits have no image file (first: gone.png)",
        "train/validation/test have 2/2/3 images here, 3/2/2 in the paper",
        "last",
    )


def test_an_image_in_two_lists_is_refused(tmp_path: Path) -> None:
    card = TaskCard("toy", "TOY", "o", "t", ("a", "b"))
    rows = items([0, 1])
    with pytest.raises(UserError, match=r"1 image\(s\) of .* listed more than once \(first: 0\)"):
        splits.assemble(
            card, tmp_path, train=rows, validation=items([0, 1], prefix="v"), test=rows[:1]
        )


def test_published_is_found_beside_or_in_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "aul"
    for base, label in ((folder, 0), (tmp_path, 1)):
        path = base / splits.PUBLISHED / "aul_mass" / "test.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps([{"image": "x", "label": label}]))
        assert splits.published(folder, "aul_mass", "test") == [{"image": "x", "label": label}]


@pytest.mark.parametrize("content", ["{", '{"image": 1}', '[{"image": "x"}]', "[1]", "\xff"])
def test_a_damaged_published_file_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / splits.PUBLISHED / "aul_mass" / "test.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=r"test\.json is damaged"):
        splits.published(tmp_path / "aul", "aul_mass", "test")


def test_an_absent_published_file_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="adamtupper/ultrabench"):
        splits.published(tmp_path / "aul", "aul_mass", "test")
