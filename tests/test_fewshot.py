"""Few-shot draws: nested, stratified, group after group, the same for everyone."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ultrabench_eval import fewshot

SETS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), min_size=1, max_size=120)
"""(label, group) of each image."""


def arrays(rows: list[tuple[int, int]]) -> tuple[np.ndarray, list[str]]:
    return np.array([label for label, _ in rows]), [f"p{group}" for _, group in rows]


@given(SETS, st.booleans(), st.integers(0, 4), st.integers(1, 100), st.integers(1, 100))
def test_parts_are_nested(rows, grouped: bool, seed: int, a: int, b: int) -> None:
    labels, groups = arrays(rows)
    small, large = (
        set(fewshot.subset(labels, groups if grouped else None, percent, seed, "train"))
        for percent in sorted((a, b))
    )
    assert small <= large


@given(SETS, st.booleans(), st.integers(0, 4), st.integers(1, 100))
def test_each_class_keeps_its_share_within_one_image_and_has_one(
    rows, grouped: bool, seed: int, percent: int
) -> None:
    labels, groups = arrays(rows)
    part = fewshot.subset(labels, groups if grouped else None, percent, seed, "train")
    assert (np.diff(part) > 0).all()
    for label in np.unique(labels):
        wanted = percent / 100 * (labels == label).sum()
        kept = (labels[part] == label).sum()
        assert kept >= 1
        assert abs(kept - wanted) <= 0.5 or (kept == 1 and wanted < 0.5)


@given(SETS, st.integers(0, 4), st.integers(1, 100))
def test_of_a_class_all_groups_but_one_are_in_or_out_whole(rows, seed: int, percent: int) -> None:
    labels, groups = arrays(rows)
    part = fewshot.subset(labels, groups, percent, seed, "train")
    inside = np.isin(np.arange(len(labels)), part)
    for label in np.unique(labels):
        shares = [
            inside[(labels == label) & (np.array(groups) == group)].mean()
            for group in {g for g, of in zip(groups, labels, strict=True) if of == label}
        ]
        assert sum(0 < share < 1 for share in shares) <= 1


def test_few_images_of_videos_come_from_few_of_them() -> None:
    labels = np.repeat([0, 1], 500)
    groups = [f"{i // 25}" for i in range(1000)]  # 20 videos a class
    by_video = fewshot.subset(labels, groups, 10, 0, "train")
    by_image = fewshot.subset(labels, None, 10, 0, "train")
    assert len(by_video) == len(by_image) == 100
    assert len({groups[row] for row in by_video}) == 4
    assert len({groups[row] for row in by_image}) > 20


def test_seeds_and_purposes_draw_apart_and_all_is_all() -> None:
    labels = np.arange(200) % 3
    parts = [
        tuple(fewshot.subset(labels, None, 20, seed, purpose))
        for seed in range(3)
        for purpose in ("train", "validation")
    ]
    assert len(set(parts)) == 6
    assert fewshot.subset(labels, None, 100, 1, "train").tolist() == list(range(200))


def test_groups_are_drawn_alike_whatever_the_order_of_their_names() -> None:
    labels = np.arange(60) % 2
    groups = [f"p{i // 6}" for i in range(60)]
    first = fewshot.subset(labels, groups, 30, 0, "train")
    renamed = fewshot.subset(labels, [g.replace("p", "q") for g in groups], 30, 0, "train")
    assert first.tolist() == renamed.tolist()


def test_what_the_least_image_does_to_the_percentage_is_told() -> None:
    labels = np.array([0] * 96 + [1] * 4)
    assert fewshot.bent(labels, ("many", "few"), 50) == ""
    sentence = fewshot.bent(labels, ("many", "few"), 5)
    assert "few" in sentence
    assert "6 of 100 images, 6.0 %" in sentence
    assert len(fewshot.subset(labels, None, 5, 0, "train")) == 6
