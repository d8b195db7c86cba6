"""Distances between outlines, beside medpy's values and a plain computation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from ultrabench_eval.task_types import surfaces
from ultrabench_eval.task_types.surfaces import Outline, compared


@given(st.integers(0, 10_000), st.sampled_from([(1.0, 1.0), (0.5, 0.25)]))
def test_against_distance_transforms(seed: int, spacing: tuple[float, float]) -> None:
    rng = np.random.default_rng(seed)
    masks = [rng.random((rng.integers(1, 12), 9)) < rng.uniform(0.1, 0.9)]
    masks.append(rng.random(masks[0].shape) < rng.uniform(0.1, 0.9))
    if not all(mask.any() for mask in masks):
        return
    edges = [mask & ~ndimage.binary_erosion(mask) for mask in masks]
    there, back = (
        ndimage.distance_transform_edt(~edges[other], sampling=spacing)[edges[own]]
        for own, other in ((0, 1), (1, 0))
    )
    both = np.concatenate([there, back])
    precision, recall = (there < 0.9).mean(), (back < 0.9).mean()
    f = 2 * precision * recall / (precision + recall) if precision + recall else 0
    found = compared(*(Outline(mask, spacing) for mask in masks), 0.9)
    assert found == pytest.approx((f, np.percentile(both, 95), both.mean()), abs=1e-9)


def test_the_percentile_is_numpys_to_the_bit() -> None:
    rng = np.random.default_rng(0)
    for count in (*range(1, 45), 1234):
        values = rng.random(count) * 100
        assert surfaces._percentile(values, 0.95) == np.percentile(values, 95)


@pytest.mark.shared
def test_against_medpy(shared: Path) -> None:
    folder = shared / "conformance" / "segmentation-metrics"
    expected = json.loads((folder / "expected.json").read_text())
    shape = tuple(expected["shape"])
    seen = 0
    with np.load(folder / "masks.npz") as stored:
        for name, case in expected["cases"].items():
            called, truth = (
                np.unpackbits(stored[f"{kind}_{name}"])[: np.prod(shape)]
                .reshape(shape)
                .astype(bool)
                for kind in "pg"
            )
            if not (called.any() and truth.any()):
                continue
            for unit, spacing in (("pixel", (1.0, 1.0)), ("mm_0.5_x_0.25", (0.5, 0.25))):
                _, hd95, assd = compared(Outline(called, spacing), Outline(truth, spacing), 1.0)
                medpy = case[unit]["medpy"]
                assert (hd95, assd) == pytest.approx((medpy["hd95"], medpy["assd"]), abs=1e-8)
                seen += 1
    assert seen == 28
