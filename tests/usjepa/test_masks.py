"""Multi-block masks: the official sampler's figures, and what must hold for any grid and region."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from usjepa import config, masks
from usjepa.config import Blocks
from usjepa.masks import Masks, MultiBlock, RandomPatches

GRID = (14, 14)
PADDED = Blocks(targets="pad", context="pad")
quick = settings(max_examples=150)


def lists(index: Tensor, real: Tensor | None) -> list[list[int]]:
    """The numbers without padding, a list for each row."""
    index = index.flatten(0, -2)
    real = torch.ones_like(index, dtype=torch.bool) if real is None else real.flatten(0, -2)
    return [row[keep].tolist() for row, keep in zip(index, real, strict=True)]


def same(one: Masks, other: Masks) -> bool:
    return torch.equal(one.context, other.context) and torch.equal(one.targets, other.targets)


# ---- the official sampler ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stats(shared: Path) -> dict[str, Any]:
    text = (shared / "conformance" / "ijepa-masks" / "stats.json").read_text()
    content: dict[str, Any] = json.loads(text)
    return content


@pytest.mark.shared
def test_block_sizes_by_step_are_the_official_ones(stats: dict[str, Any]) -> None:
    sampler = MultiBlock(Blocks(), GRID, seed=5)
    for row in stats["block_sizes_by_step"]["first_64_steps"]:
        wanted = tuple(row["target_h_w"]), tuple(row["context_h_w"])
        assert sampler.block_sizes(row["step"]) == wanted


@pytest.mark.shared
@pytest.mark.parametrize(
    "setting", ["us_jepa_paper_settings", "ijepa_default_target_scale_for_comparison"]
)
def test_block_sizes_of_2000_steps_are_the_official_ones(
    stats: dict[str, Any], setting: str
) -> None:
    reference = stats[setting]
    scale = tuple(reference["settings"]["pred_mask_scale"])
    sampler = MultiBlock(Blocks(target_scale=scale), GRID, seed=0)
    found: dict[str, Counter[str]] = {"target": Counter(), "context": Counter()}
    for step in range(2000):
        for name, size in zip(found, sampler.block_sizes(step), strict=True):
            found[name]["{}x{}".format(*size)] += 1
    for name, sizes in found.items():
        assert sizes == reference["histograms"][f"{name}_block_size_h_x_w"]


@pytest.mark.shared
@pytest.mark.parametrize(
    ("setting", "batch", "steps"),
    [("us_jepa_paper_settings", 8, 2000), ("us_jepa_paper_settings_batch_128", 128, 300)],
)
def test_masks_have_the_official_distribution(
    stats: dict[str, Any], setting: str, batch: int, steps: int
) -> None:
    reference = stats[setting]
    # Padded, so that lengths before truncation show; the truncated list is its first part.
    sampler = MultiBlock(PADDED, GRID, seed=0)
    before, after, union, twice = [], [], [], []
    places = {"target_union": np.zeros(196), "context": np.zeros(196)}
    for step in range(steps):
        drawn = sampler.sample(batch, step)
        assert drawn.targets_real is None
        assert drawn.fallbacks == masks.Fallbacks()
        # In numpy, as in the sampler: see there.
        numbers = drawn.targets.numpy().reshape(batch, -1) + 196 * np.arange(batch)[:, None]
        hits = np.bincount(numbers.ravel(), minlength=196 * batch).reshape(batch, 196)
        lengths = np.full(batch, drawn.context.shape[1])
        if drawn.context_real is not None:
            lengths = drawn.context_real.numpy().sum(1)
        cut = drawn.context.numpy()[:, : lengths.min()]
        before.append(lengths.mean())
        after.append(float(cut.shape[1]))
        union.append((hits > 0).mean())
        twice.append(np.maximum(hits - 1, 0).mean())
        places["target_union"] += (hits > 0).mean(0)
        places["context"] += np.bincount(cut.ravel(), minlength=196) / batch

    figures = reference["per_image"]
    assert np.mean(before) == pytest.approx(
        figures["context_patches_before_truncation"]["mean"], abs=0.4
    )
    assert np.mean(after) == pytest.approx(
        figures["context_patches_after_truncation"]["mean"], abs=0.6
    )
    assert np.mean(union) == pytest.approx(
        figures["target_union_fraction_of_grid_after_truncation"]["mean"], abs=0.002
    )
    assert np.mean(twice) == pytest.approx(
        figures["target_self_overlap_fraction_of_grid"]["mean"], abs=0.002
    )
    for name, counted in places.items():
        frequency = counted.reshape(GRID) / steps
        wanted = np.array(reference["position_frequency"][name])
        assert np.abs(frequency - wanted).max() < 0.03
        assert frequency[-1].max() == frequency[:, -1].max() == 0


def test_mended_masks_cover_the_edges() -> None:
    sampler = MultiBlock(Blocks(cover_edges=True), GRID, seed=0)
    seen = {"context": set[int](), "targets": set[int]()}
    for step in range(60):
        drawn = sampler.sample(8, step)
        seen["context"] |= set(drawn.context.flatten().tolist())
        seen["targets"] |= set(drawn.targets.flatten().tolist())
    assert seen["context"] == seen["targets"] == set(range(196))


def test_the_official_context_is_cut_to_the_shortest_by_its_last_patches() -> None:
    whole = MultiBlock(PADDED, GRID, seed=1).sample(16, 3)
    cut = MultiBlock(Blocks(context="truncate"), GRID, seed=1).sample(16, 3)
    rows = lists(whole.context, whole.context_real)
    shortest = min(map(len, rows))
    assert cut.context_real is None
    assert cut.context.tolist() == [row[:shortest] for row in rows]


# ---- any grid, any region ------------------------------------------------------------------------

grids = st.tuples(st.integers(2, 16), st.integers(2, 16))


@st.composite
def cases(draw: st.DrawFn) -> tuple[MultiBlock, int, int, Tensor | None]:
    """Sampler, batch, step, and regions: none, scattered, rectangles, or empty ones among them."""
    grid = draw(grids)
    batch = draw(st.integers(1, 5))
    blocks = Blocks(
        target_count=draw(st.integers(1, 5)),
        target_scale=draw(st.sampled_from([(0.075, 0.125), (0.15, 0.2), (0.5, 1.0)])),
        min_keep=draw(st.sampled_from([0, 3, 10])),
        cover_edges=draw(st.booleans()),
        targets="pad",
        context="pad",
        redraws=draw(st.sampled_from([1, 4, 20])),
    )
    sampler = MultiBlock(blocks, grid, draw(st.integers(0, 5)))
    kind = draw(st.sampled_from(["none", "scattered", "rectangle"]))
    if kind == "none":
        return sampler, batch, draw(st.integers(0, 50)), None
    generator = np.random.default_rng(draw(st.integers(0, 1000)))
    region = np.zeros((batch, *grid), bool)
    for one in region:
        if kind == "scattered":
            one[:] = generator.random(grid) < generator.choice([0, 0.05, 0.5, 1])
        else:
            top, left = generator.integers(0, grid)
            one[top:, left:] = True
    return sampler, batch, draw(st.integers(0, 50)), torch.from_numpy(region)


def plainly(
    sampler: MultiBlock, batch: int, step: int, region: Tensor | None
) -> tuple[list[list[int]], list[list[list[int]]], masks.Fallbacks]:
    """The rules once more, image by image and draw by draw, on the sampler's own draws."""
    rows, columns = sampler.grid
    count, redraws = sampler.blocks.target_count, sampler.blocks.redraws
    sizes = sampler.block_sizes(step)
    corners = [
        sampler._corners(f"{what} places, step {step}, part 0", (batch, number), size)
        for what, number, size in zip(("target", "context"), (count, count + 1), sizes, strict=True)
    ]
    tau = sampler.blocks.min_keep + (region is None)
    tally: Counter[str] = Counter()

    def block(which: int, image: int, row: int, draw: int) -> set[int]:
        top, left = corners[which][:, image, row, draw].tolist()
        height, width = sizes[which]
        assert top + height <= rows
        assert left + width <= columns
        return {
            r * columns + c for r in range(top, top + height) for c in range(left, left + width)
        }

    def search(which: int, image: int, row: int, allowed: set[int]) -> tuple[set[int], bool]:
        best: set[int] = set()
        for draw in range(redraws):
            found = block(which, image, row, draw) & allowed
            if found and len(found) >= tau:
                return found, True
            if len(found) > len(best):
                best = found
        return best, False

    everything = set(range(rows * columns))
    contexts, targets = [], []
    for image in range(batch):
        valid = everything
        if region is not None:
            valid = {int(n) for n in region[image].flatten().nonzero()}
        mine = []
        for row in range(count):
            found, enough = search(0, image, row, valid)
            tally["small_targets"] += bool(found) and not enough
            tally["outside_targets"] += not found
            mine.append(found or block(0, image, row, 0))
        if region is None:
            for dropped in range(count + 1):
                taken = set().union(*mine[: count - dropped])
                context, enough = search(1, image, dropped, everything - taken)
                if enough:
                    break
                tally["overlapping_contexts"] += dropped == 0
            tally["small_contexts"] += not enough
        else:
            taken = set().union(*mine)
            context, enough = search(1, image, 0, valid - taken)
            tally["small_contexts"] += bool(context) and not enough
            if not context:
                tally["outside_contexts"] += 1
                context, _ = search(1, image, 0, everything - taken)
            if not context:
                tally["overlapping_contexts"] += 1
                context, _ = search(1, image, 0, everything)
        contexts.append(sorted(context))
        targets.append([sorted(one) for one in mine])
    return contexts, targets, masks.Fallbacks(**tally)


@quick
@given(cases())
def test_masks_follow_the_rules_draw_by_draw(
    case: tuple[MultiBlock, int, int, Tensor | None],
) -> None:
    sampler, batch, step, region = case
    drawn = sampler.sample(batch, step, region=region)
    contexts, targets, fallbacks = plainly(sampler, batch, step, region)
    assert lists(drawn.context, drawn.context_real) == contexts
    assert lists(drawn.targets, drawn.targets_real) == [row for one in targets for row in one]
    assert drawn.fallbacks == fallbacks


@quick
@given(cases())
def test_masks_keep_their_promises(case: tuple[MultiBlock, int, int, Tensor | None]) -> None:
    sampler, batch, step, region = case
    drawn = sampler.sample(batch, step, region=region)
    contexts = lists(drawn.context, drawn.context_real)
    targets = lists(drawn.targets, drawn.targets_real)
    fallbacks, tau = drawn.fallbacks, sampler.blocks.min_keep
    places = sampler.grid[0] * sampler.grid[1]
    for row in contexts + targets:
        assert row == sorted(set(row))
        assert row
        assert row[0] >= 0
        assert row[-1] < places
    count = sampler.blocks.target_count
    of_image = [set().union(*targets[i * count : (i + 1) * count]) for i in range(batch)]
    overlapping = sum(bool(set(row) & taken) for row, taken in zip(contexts, of_image, strict=True))
    assert overlapping <= fallbacks.overlapping_contexts
    if region is None:
        assert sum(len(row) <= tau for row in contexts) == fallbacks.small_contexts
        assert sum(len(row) <= tau for row in targets) == fallbacks.small_targets
        return
    valid = [{int(n) for n in one.flatten().nonzero()} for one in region]
    invalid = [bool(set(row) - valid[i // count]) for i, row in enumerate(targets)]
    assert sum(invalid) == fallbacks.outside_targets
    assert sum(len(row) < tau and not bad for row, bad in zip(targets, invalid, strict=True)) == (
        fallbacks.small_targets
    )
    beyond = [bool(set(row) - inside) for row, inside in zip(contexts, valid, strict=True)]
    assert sum(beyond) <= fallbacks.outside_contexts
    small = sum(len(row) < tau for row in contexts)
    assert small <= fallbacks.small_contexts + fallbacks.outside_contexts


@quick
@given(cases())
def test_images_do_not_depend_on_their_batch(
    case: tuple[MultiBlock, int, int, Tensor | None],
) -> None:
    sampler, batch, step, region = case
    drawn = sampler.sample(batch, step, region=region)
    for fewer in {1, batch // 2 or 1}:
        part = sampler.sample(fewer, step, region=None if region is None else region[:fewer])
        assert (
            lists(part.context, part.context_real)
            == (lists(drawn.context, drawn.context_real)[:fewer])
        )
        assert (
            lists(part.targets, part.targets_real)
            == (lists(drawn.targets, drawn.targets_real)[: fewer * sampler.blocks.target_count])
        )


@quick
@given(cases())
def test_the_neighbours_region_does_not_matter(
    case: tuple[MultiBlock, int, int, Tensor | None],
) -> None:
    sampler, batch, step, region = case
    if region is None:
        return
    other = region.clone()
    other[1:] = ~other[1:]
    one, two = (sampler.sample(batch, step, region=r) for r in (region, other))
    assert lists(one.context, one.context_real)[0] == lists(two.context, two.context_real)[0]


def test_a_region_of_everything_changes_nothing() -> None:
    sampler = MultiBlock(PADDED, GRID, seed=2)
    for step in range(20):
        free = sampler.sample(8, step)
        assert same(free, sampler.sample(8, step, region=torch.ones(8, *GRID, dtype=torch.bool)))


def test_masks_are_a_function_of_seed_step_and_part() -> None:
    torch.manual_seed(1)
    first = MultiBlock(PADDED, GRID, seed=0).sample(8, 4)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    again = MultiBlock(PADDED, GRID, seed=0)
    again.sample(8, 3)
    assert same(first, again.sample(8, 4))
    assert torch.equal(state, torch.get_rng_state())
    others = [
        MultiBlock(PADDED, GRID, seed=1).sample(8, 4),
        again.sample(8, 5),
        again.sample(8, 4, part=1),
    ]
    # Sizes of steps 0, 1, 4, 5 are the same here, so any difference is in the places.
    assert not any(same(first, other) for other in others)
    assert len({str(one.context.tolist()) for one in (first, *others)}) == 4
    assert len({str(row) for row in first.targets.tolist()}) == 8


def test_all_parts_have_the_same_block_sizes() -> None:
    for edges in (False, True):
        sampler = MultiBlock(Blocks(cover_edges=edges), GRID, seed=3)
        for step in range(10):
            lengths = {sampler.sample(2, step, part).targets.shape[-1] for part in range(3)}
            assert len(lengths) == 1


def test_mended_sizes_depend_on_the_seed() -> None:
    sizes = [
        [MultiBlock(Blocks(cover_edges=True), GRID, seed).block_sizes(step) for step in range(20)]
        for seed in (0, 1)
    ]
    assert sizes[0] != sizes[1]


def test_targets_are_padded_or_cut() -> None:
    region = torch.zeros(4, *GRID, dtype=torch.bool)
    region[:, :, :5] = True
    region[0] = True
    padded = MultiBlock(PADDED, GRID, 0).sample(4, 1, region=region)
    cut = MultiBlock(Blocks(targets="truncate"), GRID, 0).sample(4, 1, region=region)
    rows = lists(padded.targets, padded.targets_real)
    lengths = [len(row) for row in rows]
    assert min(lengths) < max(lengths) == padded.targets.shape[-1]
    assert cut.targets_real is None
    assert cut.targets.flatten(0, 1).tolist() == [row[: min(lengths)] for row in rows]


def test_a_region_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"region is \(2, 7, 7\)"):
        MultiBlock(Blocks(), GRID, 0).sample(2, 0, region=torch.ones(2, 7, 7, dtype=torch.bool))


# ---- MAE -----------------------------------------------------------------------------------------


def test_random_patches_split_the_image() -> None:
    sampler = RandomPatches(0.75, GRID, seed=0)
    drawn = sampler.sample(64, 7)
    assert drawn.context.shape == (64, 49)
    assert drawn.targets.shape == (64, 1, 147)
    whole = torch.cat([drawn.context, drawn.targets[:, 0]], dim=1)
    assert torch.equal(whole.sort(dim=1).values, torch.arange(196).expand(64, -1))
    for part in (drawn.context, drawn.targets[:, 0]):
        assert torch.equal(part, part.sort(dim=1).values)
    frequency = torch.bincount(drawn.context.flatten(), minlength=196) / 64
    assert frequency.max() < 0.6  # binomial(64, 1/4): 0.25 +- 0.054
    assert same(sampler.sample(3, 7), Masks(drawn.context[:3], drawn.targets[:3]))
    others = (sampler.sample(64, 8), sampler.sample(64, 7, part=1))
    assert not any(same(drawn, other) for other in others)


def test_the_objective_chooses_the_sampler() -> None:
    jepa = masks.build(config.load("us_jepa_nano"))
    assert isinstance(jepa, MultiBlock)
    assert jepa.blocks.cover_edges
    mae = masks.build(config.load("mae_nano", ["decoder.mask_share=0.5"]))
    assert mae.sample(2, 0).context.shape == (2, 98)


def test_masks_move_with_their_device() -> None:
    region = torch.zeros(2, *GRID, dtype=torch.bool)
    region[0] = True
    region[1, :, :6] = True
    moved = MultiBlock(PADDED, GRID, 0).sample(2, 0, region=region).to("meta")
    tensors = (moved.context, moved.targets, moved.context_real, moved.targets_real)
    assert all(one is not None and one.device.type == "meta" for one in tensors)


@settings(max_examples=40)
@given(limit=st.integers(1, 250), conditioned=st.booleans(), step=st.integers(0, 1000))
def test_a_limit_thins_contexts_at_random_and_no_further(
    limit: int, conditioned: bool, step: int
) -> None:
    blocks = Blocks(cover_edges=True, context="pad")
    region = None
    if conditioned:
        region = torch.zeros(6, 14, 14, dtype=torch.bool)
        region[:, 3:11, 2:12] = True
    whole = MultiBlock(blocks, (14, 14), 0).sample(6, step, 0, region)
    thin = MultiBlock(replace(blocks, context_limit=limit), (14, 14), 0).sample(6, step, 0, region)
    assert torch.equal(thin.targets, whole.targets)
    for few, many in zip(
        lists(thin.context, thin.context_real),
        lists(whole.context, whole.context_real),
        strict=True,
    ):
        assert set(few) <= set(many)
        assert len(few) == min(limit, len(many))


def test_every_context_patch_is_as_likely_to_be_kept_as_another() -> None:
    blocks = Blocks(context_scale=(1, 1), cover_edges=True, allow_overlap=True, context_limit=49)
    sampler = MultiBlock(blocks, (14, 14), 0)
    counts = torch.zeros(196)
    for step in range(60):
        counts += sampler.sample(64, step).context.flatten().bincount(minlength=196)
    expected = 60 * 64 / 4
    assert (counts - expected).abs().max() < 5 * (expected * 0.75) ** 0.5


def test_targets_may_stay_in_the_context() -> None:
    blocks = Blocks(context_scale=(1, 1), cover_edges=True, context="pad")
    region = torch.zeros(4, 14, 14, dtype=torch.bool)
    region[:, :8, :10] = True
    for seen in (None, region):
        apart = MultiBlock(blocks, (14, 14), 0).sample(4, 0, 0, seen)
        over = MultiBlock(replace(blocks, allow_overlap=True), (14, 14), 0).sample(4, 0, 0, seen)
        assert torch.equal(over.targets, apart.targets)
        for context, without, targets in zip(
            lists(over.context, over.context_real),
            lists(apart.context, apart.context_real),
            over.targets.flatten(1).tolist(),
            strict=True,
        ):
            assert set(context) >= set(without) | set(targets)
            assert len(context) == (196 if seen is None else 80)
