"""Masks of clips against the figures of V-JEPA's own sampler."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ultrabench_eval.core.errors import UserError
from usjepa import config
from usjepa.config import LONG_RANGE, SHORT_RANGE, MaskKind
from usjepa.masks import Masks
from usjepa.masks3d import MultiBlock3D, Tubes, _truncated

KINDS = {"short": SHORT_RANGE, "long": LONG_RANGE}
GRID = (8, 14, 14)


@pytest.fixture(scope="module")
def stats(shared: Path) -> dict[str, Any]:
    return dict(json.loads((shared / "conformance/vjepa-masks/stats_v1.json").read_text()))


@pytest.mark.shared
def test_sizes_of_blocks_are_the_official_ones(stats: dict[str, Any]) -> None:
    grids = {"112": (8, 7, 7), "224": GRID, "256": (8, 16, 16)}
    for row in stats["block_sizes_by_step"]:
        for key in (key for key in row if "_" in key and key[0] in "12"):
            side, kind = key.split("_")
            sampler = MultiBlock3D([], grids[side], 0)
            assert list(sampler.block_size(KINDS[kind], row["step"])) == row[key]


@pytest.mark.shared
def test_the_same_numbers_give_the_official_lists(stats: dict[str, Any]) -> None:
    exact = stats["exact_masks_8_frames_64px_batch_2"]
    sampler = MultiBlock3D([], tuple(exact["grid_t_h_w"]), 0)
    generator = torch.Generator().manual_seed(exact["torch_manual_seed_before_first_batch"])
    for row in exact["steps"]:
        for name, kind in KINDS.items():
            hidden = sampler.hidden(kind, 2, row["step"], generator)
            assert _truncated(~hidden, None).tolist() == row[f"{name}_context"]
            assert _truncated(hidden, None).tolist() == row[f"{name}_target"]


@pytest.mark.shared
def test_masks_have_the_official_distribution(stats: dict[str, Any]) -> None:
    sampler = MultiBlock3D(list(KINDS.values()), GRID, seed=5)
    steps = 120
    found: dict[str, list[tuple[int, int, float, float]]] = {name: [] for name in KINDS}
    for step in range(steps):
        for name, one in zip(KINDS, sampler.sample(8, step).kinds, strict=True):
            times = [
                np.bincount(place.flatten() // 196, minlength=8)
                for place in (one.context, one.targets)
            ]
            last = [float(time[-1] / 8 / 196) for time in times]
            found[name].append((one.context.shape[1], one.targets.shape[2], *last))
    for name, rows in found.items():
        known = stats["settings"][f"16f_224px_{name}_range_batch_8"]
        expected = [
            *(known[f"{what}_tokens_after_truncation"]["mean"] for what in ("context", "target")),
            *(known[f"{what}_frequency_by_time_step"][-1] for what in ("context", "target")),
        ]
        mean, error = np.mean(rows, axis=0), np.std(rows, axis=0) / steps**0.5
        assert (abs(mean - expected) < 4 * error).all(), (name, mean, expected, error)


# Of the authors' generator (facebookresearch/jepa 51c59d5, torch.manual_seed(7)), 6 frames of 48
# pixels, `max_temporal_keep` 0.5: two batches of two clips for each kind; what clips see, and which
# of the 27 places are not among what they predict.
FIRST_TIME_ALONE = {
    "short": [
        ([[2, 4], [0, 6]], [{2, 4, 26}, {0, 6, 8}]),
        ([[1, 2, 6], [2, 5, 6]], [{1, 2, 6}, {2, 5, 6}]),
    ],
    "long": [
        ([[0, 1, 2], [6, 7, 8]], [{0, 1, 2}, {6, 7, 8}]),
        ([[2, 5, 8], [0, 3, 6]], [{2, 5, 8}, {0, 3, 6}]),
    ],
}


def test_late_times_are_never_seen_if_so_wanted() -> None:
    sampler, generator = MultiBlock3D([], (3, 3, 3), 0), torch.Generator().manual_seed(7)
    for name, rows in FIRST_TIME_ALONE.items():
        kind = dataclasses.replace(KINDS[name], max_temporal_keep=0.5)
        for step, (context, lacking) in enumerate(rows):
            hidden = sampler.hidden(kind, 2, step, generator)
            assert _truncated(~hidden, None).tolist() == context
            assert [{*range(27)} - {*row} for row in _truncated(hidden, None).tolist()] == lacking
    # Blocks as large as the grid leave a square of the first time to see.
    whole = MaskKind(spatial_scale=(1, 1), aspect_ratio=(1, 1), max_temporal_keep=0.1)
    (one,) = MultiBlock3D([whole], (3, 3, 3), 0).sample(1, 0).kinds
    assert one.context.tolist() == [[0]]


def test_the_official_value_leaves_a_run_as_it_was() -> None:
    kinds = "video.kinds=[{max_temporal_keep: %s}]"
    plain, same, other = (
        config.load("vjepa_nano", [kinds % value]) for value in ("1", "1.0", "0.5")
    )
    assert plain.id == same.id != other.id
    assert "max_temporal_keep" not in plain.plain()["video"]["kinds"][0]
    assert config.validate(other.plain()) == other
    with pytest.raises(UserError, match=r"video.kinds.0.max_temporal_keep: .* less than or equal"):
        config.load("vjepa_nano", [kinds % 1.5])


def test_columns_are_left_out_whole_so_that_all_times_stay() -> None:
    official = MultiBlock3D(list(KINDS.values()), GRID, 0).sample(8, 3)
    corrected = MultiBlock3D(list(KINDS.values()), GRID, 0, columns=True).sample(8, 3)
    for one, other in zip(official.kinds, corrected.kinds, strict=True):
        for was, now in ((one.context, other.context), (one.targets[:, 0], other.targets[:, 0])):
            assert was.shape == now.shape
            for early, even in zip(was, now, strict=True):
                assert even.tolist() == sorted(set(even.tolist()))
                assert set(np.bincount(even // 196, minlength=8)) == {len(even) // 8}
                assert len(np.bincount(early // 196, minlength=8)) == 8
        # The same blocks: what differs is only which of their places are left out.
        assert not any(
            set(a.tolist()) & set(b.tolist())
            for a, b in zip(other.context, other.targets[:, 0], strict=True)
        )
    assert any(
        not torch.equal(a.targets, b.targets)
        for a, b in zip(official.kinds, corrected.kinds, strict=True)
    )


def test_masks_follow_from_seed_step_and_part() -> None:
    sampler = MultiBlock3D(list(KINDS.values()), GRID, 1)
    first = _lists(sampler.sample(4, 2, 1).kinds)
    assert first == _lists(MultiBlock3D(list(KINDS.values()), GRID, 1).sample(4, 2, 1).kinds)
    assert first != _lists(sampler.sample(4, 2, 0).kinds)
    assert first != _lists(MultiBlock3D(list(KINDS.values()), GRID, 2).sample(4, 2, 1).kinds)


def test_what_is_outside_a_region_is_neither_seen_nor_asked_for() -> None:
    region = torch.zeros(3, 14, 14, dtype=torch.bool)
    region[:2, :, 2:12] = True
    region[2, 0, 0] = True  # one square cannot be both
    drawn = MultiBlock3D([LONG_RANGE], GRID, 0).sample(3, 0, region=region)
    (one,) = drawn.kinds
    for clip in range(2):
        places = torch.cat([one.context[clip], one.targets[clip, 0]]) % 196
        assert region[clip].flatten()[places].all()
    fallbacks = drawn.fallbacks
    assert fallbacks.outside_targets + fallbacks.outside_contexts == 1


def test_tubes_hide_the_same_squares_at_all_times() -> None:
    (one,) = Tubes(12, (4, 4, 4), 0).sample(2, 0).kinds
    for seen, hidden in zip(one.context, one.targets[:, 0], strict=True):
        assert sorted([*seen.tolist(), *hidden.tolist()]) == list(range(64))
        assert hidden.reshape(4, 12).remainder(16).unique(dim=0).shape[0] == 1
        assert len(seen) == 4 * 4
    assert not torch.equal(one.targets[0], one.targets[1])


def _lists(kinds: tuple[Masks, ...]) -> list[list[list[int]]]:
    return [[one.context.tolist(), one.targets.tolist()] for one in kinds]
