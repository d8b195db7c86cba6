"""Schedules: the official code's figures, and their shape at any length."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usjepa import config, schedules
from usjepa.config import Train


@pytest.mark.shared
@pytest.mark.parametrize(
    ("folder", "run"),
    [
        ("ijepa-masks", "us_jepa_paper"),
        ("ijepa-masks", "us_jepa_paper_ipe_scale_1_25"),
        ("ijepa-masks", "ijepa_vith14"),
        ("vjepa-masks", "vjepa_vitl16"),
        ("vjepa-masks", "vjepa2_vitl_pretrain"),
        ("vjepa-masks", "vjepa2_vitl_cooldown"),
        ("vjepa-masks", "small_for_tests"),
    ],
)
def test_values_are_the_official_ones(shared: Path, folder: str, run: str) -> None:
    text = (shared / "conformance" / folder / "schedules.json").read_text()
    reference = json.loads(text)[run]
    train = Train(
        epochs=reference["epochs"],
        warmup_epochs=reference["warmup_epochs"],
        start_learning_rate=reference["start_lr"],
        learning_rate=reference["ref_lr" if "ref_lr" in reference else "lr"],
        schedule="linear" if "linear" in reference.get("kind", "") else "cosine",
        final_learning_rate=reference["final_lr"],
        weight_decay=reference["weight_decay"],
        final_weight_decay=reference["final_weight_decay"],
        ema=tuple(reference["ema"]),
        stretch=reference["ipe_scale"],
    )
    assert len(reference["values"]) >= 5
    for row in reference["values"]:
        found = schedules.at(row["step"], train, reference["iterations_per_epoch"])
        wanted = (row["lr"], row["weight_decay"], row["ema_momentum"])
        assert found == pytest.approx(wanted, rel=1e-9, abs=0)


def test_the_papers_run_ends_where_table_5_says() -> None:
    train = config.load("us_jepa_vitb16").train
    steps = 37  # an epoch
    values = [schedules.at(step, train, steps) for step in range(1, 100 * steps + 1)]
    rates = [one.learning_rate for one in values]
    assert rates[0] == pytest.approx(5e-6 + 4.5e-5 / 370)
    assert max(rates) == rates[10 * steps - 1] == 5e-5
    assert rates[-1] == pytest.approx(5e-7)
    assert values[-1].weight_decay == pytest.approx(0.4)
    assert values[0].momentum == 0.996
    assert values[-1].momentum < 1 == schedules.at(100 * steps + 1, train, steps).momentum


def test_every_step_of_a_short_run() -> None:
    # 1.5 epochs of 3 steps are 4 whole steps of warm-up, as in the official code.
    train = Train(
        epochs=4,
        warmup_epochs=1.5,
        start_learning_rate=1.0,
        learning_rate=5.0,
        final_learning_rate=1.0,
        weight_decay=0.0,
        final_weight_decay=12.0,
        ema=(0.4, 1.0),
    )
    values = [schedules.at(step, train, 3) for step in range(1, 15)]
    down = [3 + 2 * math.cos(math.pi * part / 8) for part in range(1, 9)]
    assert [one.learning_rate for one in values] == pytest.approx([2, 3, 4, 5, *down, 1, 1])
    decay = [6 - 6 * math.cos(math.pi * part / 12) for part in range(1, 13)]
    assert [one.weight_decay for one in values] == pytest.approx([*decay, 12, 12])
    momenta = [0.4 + 0.05 * part for part in range(13)]
    assert [one.momentum for one in values] == pytest.approx([*momenta, 1.0])


@given(st.integers(1, 60), st.floats(0, 40), st.integers(1, 30))
def test_values_stay_in_their_ranges(epochs: int, warmup: float, steps: int) -> None:
    train = Train(epochs=epochs, warmup_epochs=warmup)
    values = [schedules.at(step, train, steps) for step in range(1, epochs * steps + 20)]
    for one in values:
        assert 5e-7 <= one.learning_rate <= 5e-5
        assert 0.04 <= one.weight_decay <= 0.4
        assert 0.996 <= one.momentum <= 1
    rates = [one.learning_rate for one in values]
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    decays = [one.weight_decay for one in values]
    assert decays == sorted(decays)
    if warmup <= epochs:
        assert values[-1].learning_rate == pytest.approx(5e-7)
