"""The time that a run still takes, and what is reported without a terminal."""

from __future__ import annotations

import io
import sys
import time

import pytest

from ultrabench_eval import progress
from ultrabench_eval.pipeline import Step
from ultrabench_eval.progress import Progress, TimeLeft, in_words
from ultrabench_eval.workload import UnitForecast


def share(model: str, task: str, images: int, rough: float, probes: float = 0.0) -> UnitForecast:
    return UnitForecast(
        model, task, cells=1, images=images, encode_seconds=images * rough, probe_seconds=probes
    )


def encode(left: TimeLeft, model: str, task: str, images: int, speed: float, now: float) -> float:
    """Encode in batches of 10, at `speed` seconds per image; the time afterwards."""
    left.step(Step("encode", model, task, 0, images), now)
    for done in range(10, images + 1, 10):
        now += 10 * speed
        left.step(Step("encode", model, task, done, images, new=10), now)
    return now


def test_what_was_not_begun_counts_at_the_speed_that_was_measured() -> None:
    """A bar of the current work alone once said "0:00:01 left" for twelve minutes."""
    work = [share("a", "x", 100, 1.0), share("a", "y", 300, 1.0), share("b", "x", 100, 4.0)]
    left = TimeLeft(work, now=0)
    assert left.seconds(5) is None  # nothing is measured
    now = encode(left, "a", "x", 100, 0.5, 5)
    # 300 images at half a second, and 100 of a model that is taken for four times as slow.
    assert left.seconds(now) == pytest.approx(150 + 200)
    left.step(Step("done", "a", "x"), now)
    now = encode(left, "a", "y", 300, 0.5, now)
    left.step(Step("done", "a", "y"), now)
    left.step(Step("encode", "b", "x", 0, 100), now)
    left.step(Step("encode", "b", "x", 20, 100, new=20), now + 20)
    assert left.seconds(now + 20) == pytest.approx(80)  # by now it is known: one second per image
    assert left.seconds(now + 23) == pytest.approx(77)
    now = encode(left, "b", "x", 80, 1.0, now + 20)
    left.step(Step("done", "b", "x"), now)
    assert left.seconds(now) == 0


def test_probes_count_at_the_plans_rate_until_some_were_trained() -> None:
    left = TimeLeft([share("a", "x", 0, 0, 10), share("a", "y", 0, 0, 20)], now=0)
    assert left.seconds(0) == pytest.approx(30)
    left.step(Step("probe", "a", "x"), 0)
    left.step(Step("done", "a", "x"), 30)  # thrice as long as planned
    assert left.seconds(30) == pytest.approx(60)


def test_more_images_than_planned_count_as_well() -> None:
    left = TimeLeft([share("a", "x", 10, 1.0)], now=0)
    now = encode(left, "a", "x", 20, 1.0, 0)
    left.step(Step("encode", "a", "x", 20, 200, new=0), now)
    assert left.seconds(now) == pytest.approx(180)


def test_workers_tell_only_which_units_have_ended() -> None:
    left = TimeLeft([share("a", "x", 100, 1.0), share("a", "y", 300, 1.0)], now=0)
    left.step(Step("units", "2 at a time"), 1)
    assert left.seconds(10) is None
    left.step(Step("done", "a", "x", new=100), 20)
    assert left.seconds(20) == pytest.approx(60)


def test_kept_results_take_no_time() -> None:
    left = TimeLeft([share("a", "x", 0, 0), share("a", "y", 0, 0)], now=0)
    left.step(Step("kept", "a", "x"), 0.1)
    assert left.seconds(1) == 0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, ""),
        (2, "< 1 min left"),
        (45, "about 1 min left"),
        (700, "about 12 min left"),
        (9000, "about 2.5 h left"),
    ],
)
def test_the_time_in_words(seconds: float | None, words: str) -> None:
    assert in_words(seconds) == words


def test_a_line_now_and_then_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    monkeypatch.setattr(progress, "EVERY", 0.05)
    with Progress() as told:
        told(Step("begin", total=2, work=[share("a", "x", 10, 1.0, 100), share("a", "y", 0, 0)]))
        told(Step("encode", "a", "x", 0, 10))
        told(Step("encode", "a", "x", 4, 10, new=4))
        while "encoding" not in said.getvalue():
            time.sleep(0.01)
    lines = said.getvalue().splitlines()
    assert lines[-1] == "0 of 2 results; a: encoding x (4 of 10); about 2 min left"
    assert not any("\x1b" in line for line in lines)
    time.sleep(0.12)
    assert said.getvalue().splitlines() == lines  # it ends with the work


def test_short_work_is_silent_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress() as told:
        told(Step("plan"))
        told(Step("note", "mind the [gap]"))
    assert capsys.readouterr().err == "note: mind the [gap]\n"
