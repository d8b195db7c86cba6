"""claims.md and .csv: a paper's statements, tested on its own tables and on a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ultrabench_eval.report.paper.published import Published
from ultrabench_eval.report.paper.quantities import ScorePlace, Scores, Verdict
from ultrabench_eval.report.paper.us_jepa_claims import CLAIMS, DISAGREEMENTS, Claim
from ultrabench_eval.report.results.comparable import left_out, why_not
from ultrabench_eval.report.results.entries import (
    Entry,
    applicable,
    bullets,
    cells_of,
    listed,
    main_score,
    synthetic_words,
)
from ultrabench_eval.report.tables.table import Table


@dataclass(frozen=True)
class ClaimOutcome:
    """How a claim fares on one table of scores."""

    verdict: Verdict
    numbers: str

    def __str__(self) -> str:
        return f"{self.verdict}: {self.numbers}" if self.numbers else self.verdict


@dataclass(frozen=True)
class Judged:
    """A claim with its outcomes."""

    claim: Claim
    tables: ClaimOutcome
    """On the paper's own printed tables."""
    run: ClaimOutcome


def printed_scores(published: Published) -> dict[ScorePlace, float]:
    """Scores of the published table."""
    return {ScorePlace(s.model, s.task): s.macro_f1_mean for s in published.scores}


def run_scores(entries: Sequence[Entry], published: Published) -> dict[ScorePlace, float]:
    """Scores of a results folder that are comparable with published ones, in every condition.

    Only of models by their plain names: another pooling is another model here.
    """
    return {
        ScorePlace(at.model, at.task, at.fraction, at.corruption, at.severity): main_score(cell)[0]
        for cell in cells_of(entries)
        for at in [cell.coordinates]
        if not why_not(cell, published)
    }


def judge(claim: Claim, scores: Scores, *, printed: bool = False) -> ClaimOutcome:
    """Test a claim on scores; `printed`: they are those of a printed table."""
    return ClaimOutcome(
        claim.test.test(scores, printed=printed), claim.test.numbers(scores, printed=printed)
    )


def judge_all(entries: Sequence[Entry], published: Published) -> list[Judged]:
    """Test all claims on the published table and on a results folder (empty: on none)."""
    printed, measured = printed_scores(published), run_scores(entries, published)
    return [
        Judged(claim, judge(claim, printed, printed=True), judge(claim, measured))
        for claim in CLAIMS
    ]


# ---- as files -----------------------------------------------------------------------------------


def pages(
    tested: Sequence[Judged], entries: Sequence[Entry], published: Published
) -> dict[str, bytes]:
    """claims.md and claims.csv, by file name."""
    return {
        "claims.md": markdown(tested, entries, published).encode(),
        "claims.csv": csv(tested).encode(),
    }


def summary(tested: Sequence[Judged], published: Published, *, run: bool) -> list[str]:
    """How many hold by the printed table and, if there is one, by the run; a sentence each."""
    counted = {
        f"by {published.source.scores_table} itself": Counter(t.tables.verdict for t in tested)
    }
    if run:
        counted["by this run"] = Counter(t.run.verdict for t in tested)
    return [
        f"{where}: {counts['holds']} of {len(tested)} claims hold, {counts['fails']} fail, "
        f"{counts['not measured']} are not measured"
        for where, counts in counted.items()
    ]


def markdown(tested: Sequence[Judged], entries: Sequence[Entry], published: Published) -> str:
    """claims.md; without a run (no entries), by the printed table alone."""
    source, simulated = published.source, any(entry.synthetic for entry in entries)
    header = ["id", "section", "claim", f"by {source.scores_table} itself", "by this run"]
    rows = [
        [t.claim.id, t.claim.section, t.claim.text, t.tables.verdict, t.run.verdict] for t in tested
    ]
    columns = len(header) - (not entries)
    then = "\nNo claim is tested on them.\n"
    parts = [
        f"# What the paper claims: {source.title}\n",
        *synthetic_words(simulated, "some results of this run", then),
        bullets(summary(tested, published, run=bool(entries))),
        Table(header[:columns], [row[:columns] for row in rows]).markdown(),
        "By the linear probe and the paper's protocol, macro F1 in percent, means over seeds. "
        "A number of a run agrees with a stated one within 3 points, or as the claim says; one of "
        f"{source.scores_table} within rounding. A claim is not measured as soon as a score it "
        "needs is missing and could decide it. That a claim holds of means does not make it "
        "significant: see statistics.md.\n",
        "## The numbers\n",
    ]
    for one in tested:
        lines = applicable(
            (True, f"by {source.scores_table} itself: {one.tables}"),
            (entries, f"by this run: {one.run}"),
            (one.claim.how, f"tested as: {one.claim.how}"),
            (one.claim.note, f"note: {one.claim.note}"),
        )
        parts.append(f"**{one.claim.id}** ({one.claim.section}) {one.claim.text}\n")
        parts.append(bullets(lines))
    parts += listed("Where the paper disagrees with itself", disagreements(tested))
    parts += listed("Cells that no claim is tested on", left_out(entries, published, main=False))
    return "\n".join(parts)


def disagreements(tested: Sequence[Judged]) -> list[str]:
    """Claims that the paper's own tables contradict, then what no score decides."""
    failing = [
        f"{one.claim.id} (section {one.claim.section}): {one.claim.text} Its tables: "
        f"{one.claim.note or one.tables.numbers}"
        for one in tested
        if one.tables.verdict == "fails"
    ]
    return [*failing, *DISAGREEMENTS]


def csv(tested: Sequence[Judged]) -> str:
    """claims.csv, a row a claim."""
    rows = [
        {
            "id": one.claim.id,
            "section": one.claim.section,
            "claim": one.claim.text,
            "tested_as": one.claim.how,
            "tables": one.tables.verdict,
            "tables_numbers": one.tables.numbers,
            "run": one.run.verdict,
            "run_numbers": one.run.numbers,
            "note": one.claim.note,
        }
        for one in tested
    ]
    return Table(list(rows[0]), [list(row.values()) for row in rows]).csv()
