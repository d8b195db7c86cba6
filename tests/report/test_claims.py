"""The ledger: every claim's verdict follows from its numbers, and nothing is guessed."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pandas as pd
import pytest
from test_against import ours
from test_cli import ubench

from ultrabench_eval.report.paper import claims, published
from ultrabench_eval.report.paper.claims import Judged, judge, judge_all
from ultrabench_eval.report.paper.quantities import (
    AtLeast,
    Bound,
    Combined,
    ScorePlace,
    every,
    minus,
)
from ultrabench_eval.report.paper.us_jepa_claims import BASELINES, CLAIMS, OURS, TASKS, about, below
from ultrabench_eval.report.results.entries import Entry

PAPER = published.load()
BY_ID = {claim.id: claim for claim in CLAIMS}
A, B, MISSING = (ScorePlace(model, "t") for model in "abc")
SCORES = {A: 60.0, B: 50.0}


def judged(*entries: Entry) -> dict[str, Judged]:
    return {one.claim.id: one for one in judge_all(list(entries), PAPER)}


def test_quantities() -> None:
    assert minus(A, B).of(SCORES) == 10
    assert str(minus(A, B)) == "a on t − b on t"
    assert Combined("mean", (A, B)).of(SCORES) == 55
    assert Combined("best", (A, B)).of(SCORES) == 60
    assert Combined("ratio", (B, A)).of(SCORES) == pytest.approx(83.333, abs=1e-3)
    assert MISSING.of(SCORES) is None
    for how in ("mean", "best", "minus", "ratio"):
        assert Combined(how, (A, MISSING)).of(SCORES) is None  # type: ignore[arg-type]
    assert Combined("ratio", (A, B)).of({**SCORES, B: 0.0}) is None


def test_conditions() -> None:
    assert about(A, 62.9).test(SCORES) == "holds"
    assert about(A, 63.1).test(SCORES) == "fails"
    assert about(A, 60.1).test(SCORES, printed=True) == "holds"
    assert about(A, 60.2).test(SCORES, printed=True) == "fails"
    assert Bound(minus(A, B), ">", 10).test(SCORES) == "fails"
    assert Bound(minus(B, A), ">", -11).test(SCORES) == "holds"
    assert below(A, 60.1).test(SCORES) == "holds"
    assert below(A, 60).test(SCORES) == "fails"
    assert about(MISSING, 60).test(SCORES) == "not measured"
    assert about(MISSING, 60).numbers(SCORES) == ""


def test_what_is_missing_decides_only_if_it_could() -> None:
    true, false, unknown = Bound(A, ">"), below(A, 0), Bound(MISSING, ">")
    assert AtLeast(1, (true, unknown)).test(SCORES) == "holds"
    assert AtLeast(2, (true, unknown)).test(SCORES) == "not measured"
    assert AtLeast(2, (false, unknown)).test(SCORES) == "fails"
    assert every([true, unknown]).test(SCORES) == "not measured"
    assert every([false, unknown]).numbers(SCORES) == "1 of 2 measured: a on t 60.0, asked < 0 (no)"


def test_ids_are_unique_and_places_are_of_known_models_and_tasks() -> None:
    assert len(BY_ID) == len(CLAIMS)
    assert all(claim.text.endswith(".") for claim in CLAIMS)
    source = PAPER.source
    assert set(OURS + BASELINES) == set(source.models)
    asked: set[ScorePlace] = set()

    class Spy(dict[ScorePlace, float]):
        def get(self, place: ScorePlace, default: object = None) -> float:  # type: ignore[override]
            asked.add(place)
            return 50.0

    for claim in CLAIMS:
        claim.test.test(Spy())
    assert {place.model for place in asked} <= set(source.models)
    assert {place.task for place in asked} == set(source.tasks)
    assert {place.fraction for place in asked} == {1, 5, 10, 100}
    assert {(p.corruption, p.severity) for p in asked} == {
        *(("none", 0), ("blur", 3), ("contrast", 3), ("speckle", 3)),
    }


def test_the_papers_own_table_by_hand() -> None:
    found = judged()
    verdicts = {name: one.tables.verdict for name, one in found.items()}
    assert {name for name, verdict in verdicts.items() if verdict == "fails"} == {"A2", "P9", "P10"}
    assert {name for name, verdict in verdicts.items() if verdict == "holds"} == {
        *("A1", "P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8", "F4"),
    }
    # (37.2 + 35.3 + 39.7 + 20.4 + 21.1 + 28.7 + 33.8 + 42.7) / 8 = 32.4
    assert found["P5"].tables.numbers == "mean of the baselines 32.4, asked < 40"
    # 52.2 - 42.7; URFM 42.7 - UltraSAM 39.7
    assert found["P7"].tables.numbers == "us-jepa − urfm +9.5, stated 9.5; mmotu, ahead by +3.0"
    # USFM 92.4 - US-JEPA 90.8, - USrc-JEPA 91.5
    assert re.findall(r"[+-]\d+\.\d", found["P4"].tables.numbers) == ["+1.6", "+0.9"]
    # BUTTERFLY: USrc-JEPA 91.5 - DINOv3 91.7
    assert "butterfly, ahead by -0.2 (no)" in found["P9"].tables.numbers
    # means of tasks: US-JEPA 75.26, USrc-JEPA 75.575, URFM 73.325
    assert re.findall(r"[+-]\d+\.\d", found["A1"].tables.numbers) == ["+1.9", "+2.2"]
    assert all(one.run.verdict == "not measured" for one in found.values())


def blurred(model: str, clean: float, blur: float) -> list[Entry]:
    at = {"corruption": "blur", "severity": 3}
    return [
        ours(model, "pocus", clean, 0, 100),
        ours(model, "pocus", blur, 0, 100, at),
    ]


def test_corruptions_of_a_run() -> None:
    found = judged(*blurred("urfm", 91.0, 47.0))
    assert found["R1"].run.verdict == "holds"
    # 47 / 91 = 51.6 %
    assert found["R1"].run.numbers == (
        "urfm on pocus 91.0, stated 91.7; urfm on pocus at blur 3 47.0, stated 46.8; "
        "urfm on pocus keeps at blur 3, % 51.6, asked < 55"
    )
    assert judged(*blurred("urfm", 91.0, 60.0))["R1"].run.verdict == "fails"
    assert found["R2"].run.verdict == "not measured"
    assert found["R2"].run.numbers == ""


def speckled(task: str, **lost: float) -> list[Entry]:
    at = {"corruption": "speckle", "severity": 3}
    found: list[Entry] = []
    for model, points in lost.items():
        name = model.replace("_", "-")
        found.append(ours(name, task, 90, 0, 100))
        found.append(ours(name, task, 90 - points, 0, 100, at))
    return found


def test_drops_are_points() -> None:
    entries = speckled("butterfly", us_jepa=1.0, usrc_jepa=9.0, usfm=25.0, urfm=44.0)
    found = judged(*entries)
    assert found["R11"].run.verdict == "holds"
    assert "us-jepa on butterfly loses at speckle 3 +1.0, stated 0.6" in found["R11"].run.numbers
    worse = judged(*speckled("butterfly", us_jepa=20.0))
    assert worse["R11"].run.verdict == "fails"  # one false number is enough
    assert "1 of 4 measured" in worse["R11"].run.numbers


def test_few_labels() -> None:
    entries = [
        ours(model, "fatty_liver", score + fraction, 0, 100, {"fraction": fraction})
        for model, score in {"us-jepa": 70, "usrc-jepa": 74, "usfm": 50, "urfm": 58}.items()
        for fraction in (1, 5)
    ]
    found = judged(*entries)
    # (71 + 75 + 75 + 79) / 4 - (51 + 55 + 59 + 63) / 4 = 75 - 57 = 18
    assert found["F1"].run.verdict == "holds"
    assert "+18.0, stated 18" in found["F1"].run.numbers


def test_a_run_that_repeats_the_table_gets_the_verdicts_of_the_table() -> None:
    entries = [ours(score.model, score.task, score.macro_f1_mean, 0, 100) for score in PAPER.scores]
    for one in judged(*entries).values():
        assert one.run.verdict == one.tables.verdict


@pytest.mark.parametrize(
    ("at", "changes"),
    [
        ({}, {"synthetic": True}),
        ({}, {"random_weights": True}),
        ({"protocol": "tuned-1"}, {}),
        ({"probe": "knn"}, {}),
    ],
)
def test_no_claim_is_tested_on_what_is_not_comparable(
    at: dict[str, object], changes: dict[str, object]
) -> None:
    entries: list[Entry] = [ours("us-jepa", "mmotu", 52.2, 0, 100, at, **changes)]
    found = judge_all(entries, PAPER)
    assert all(one.run.verdict == "not measured" for one in found)
    page = claims.markdown(found, entries, PAPER)
    assert "Cells that no claim is tested on" in page
    assert ("SYNTHETIC: some results" in page) == bool(changes.get("synthetic"))


def test_another_pooling_is_another_model() -> None:
    assert judged(ours("us-jepa/cls", "mmotu", 52.2, 0, 100))["P6"].run.verdict == "not measured"


def test_pages(tmp_path: Path) -> None:
    entries: list[Entry] = [ours("us-jepa", "mmotu", 40.0, 0, 100)]
    found = judge_all(entries, PAPER)
    page = claims.markdown(found, entries, PAPER)
    assert "by this run: 0 of 31 claims hold, 1 fail, 30 are not measured" in page
    assert "by this run: fails: us-jepa on mmotu 40.0, stated 52.2" in page
    for words in ("P9 (section 5.2)", "4.73 million", "42.1 ± 0.0", "1.0 %"):
        assert words in page.split("disagrees with itself")[1]
    again = pd.read_csv(io.StringIO(claims.csv(found)), keep_default_na=False)
    assert list(again.id) == list(BY_ID)
    row = again.set_index("id").loc["P6"]
    assert (row.tables, row.run) == ("holds", "fails")

    done = ubench("report", "--published", "--claims", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "by Table 2 itself: 10 of 31 claims hold, 3 fail" in done.stdout
    assert "by this run" not in (tmp_path / "claims.md").read_text()


def test_judging_one_claim_on_a_table_of_ones_own() -> None:
    scores = {ScorePlace("us-jepa", "mmotu"): 53.0}
    assert judge(BY_ID["P6"], scores).verdict == "holds"
    assert judge(BY_ID["P6"], scores, printed=True).verdict == "fails"
    assert len(TASKS) == 8
