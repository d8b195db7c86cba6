"""A small language for claims: quantities made of scores, and conditions on them.

Scores are macro F1 in percent by `ScorePlace`. A quantity of which a score is missing is None, and
a condition on it is not measured; nothing is guessed. Everything here is data: it can be compared,
printed, and tested against any table of scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["holds", "fails", "not measured"]
ROUNDING = 0.15
"""By how much a difference of two printed numbers may miss a third: half a digit each."""
_EPSILON = 1e-9  # 52.2 - 42.7 is not quite 9.5


@dataclass(frozen=True, order=True)
class ScorePlace:
    """Where a score stands."""

    model: str
    task: str
    fraction: int = 100
    corruption: str = "none"
    severity: int = 0

    def of(self, scores: Scores) -> float | None:
        """The score there, percent."""
        return scores.get(self)

    @property
    def condition(self) -> str:
        """What is not as usual there, after a space."""
        few = f" with {self.fraction} %" if self.fraction != 100 else ""
        return few + (f" at {self.corruption} {self.severity}" if self.severity else "")

    def __str__(self) -> str:
        return f"{self.model} on {self.task}{self.condition}"


Scores = Mapping[ScorePlace, float]

# ---- quantities ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Combined:
    """A number made of scores, or of other quantities."""

    how: Literal["mean", "best", "minus", "ratio"]
    """`minus` is first - second, in points; `ratio` is first / second, in percent."""
    parts: tuple[Quantity, ...]
    name: str = ""

    def of(self, scores: Scores) -> float | None:
        """Its value; None if any part is missing, for that could be the highest."""
        found = [part.of(scores) for part in self.parts]
        values = [value for value in found if value is not None]
        if len(values) < len(found):
            return None
        match self.how:
            case "mean":
                return sum(values) / len(values)
            case "best":
                return max(values)
            case "minus":
                return values[0] - values[1]
        return 100 * values[0] / values[1] if values[1] else None

    def __str__(self) -> str:
        return self.name or f" {'−' if self.how == 'minus' else '/'} ".join(map(str, self.parts))


Quantity = ScorePlace | Combined


def minus(first: Quantity, second: Quantity, name: str = "") -> Combined:
    """First - second, in points."""
    return Combined("minus", (first, second), name)


# ---- conditions ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bound:
    """A quantity is about what is stated, or above or below it."""

    quantity: Quantity
    sign: Literal["stated", ">", "<"]
    bound: float = 0.0
    within: float = 3.0
    """Percent or points that a run may miss what is stated by; printed tables: `ROUNDING`."""

    def test(self, scores: Scores, *, printed: bool = False) -> Verdict:
        """Whether it is so; `printed`: the scores are those of a printed table."""
        value = self.quantity.of(scores)
        if value is None:
            return "not measured"
        above, allowed = value - self.bound, ROUNDING if printed else self.within
        so = {
            "stated": abs(above) <= allowed + _EPSILON,
            ">": above > _EPSILON,
            "<": above < -_EPSILON,
        }
        return "holds" if so[self.sign] else "fails"

    def numbers(self, scores: Scores, *, printed: bool = False) -> str:
        """Its value beside the bound; "" if there is none."""
        value = self.quantity.of(scores)
        if value is None:
            return ""
        signed = isinstance(self.quantity, Combined) and self.quantity.how == "minus"
        asked = f", {'' if self.sign == 'stated' else 'asked '}{self.sign} {self.bound:g}"
        if self.sign == ">" and not self.bound:
            asked = ""
        return f"{self.quantity} {value:{'+.1f' if signed else '.1f'}}{asked}"


@dataclass(frozen=True)
class AtLeast:
    """At least so many of the conditions hold."""

    count: int
    conditions: tuple[Condition, ...]
    name: str = ""
    """With one, only the conditions that fail are listed one by one."""

    def test(self, scores: Scores, *, printed: bool = False) -> Verdict:
        """Decided as soon as what is missing cannot change it."""
        verdicts = self._verdicts(scores, printed)
        holding, missing = verdicts.count("holds"), verdicts.count("not measured")
        if holding >= self.count:
            return "holds"
        return "not measured" if holding + missing >= self.count else "fails"

    def numbers(self, scores: Scores, *, printed: bool = False) -> str:
        """The numbers of the conditions that are measured; "" if none is."""
        verdicts = self._verdicts(scores, printed)
        parts = [one.numbers(scores, printed=printed) for one in self.conditions]
        told = [
            part + (" (no)" if verdict == "fails" and not self.name else "")
            for part, verdict in zip(parts, verdicts, strict=True)
            if part and not (self.name and verdict == "holds")
        ]
        total, missing = len(parts), parts.count("")
        if missing == total:
            return ""
        if self.name:
            failing = f" ({'; '.join(told)})" if told else ""
            return f"{self.name} {verdicts.count('holds')} of {total - missing}{failing}"
        head = f"{total - missing} of {total} measured: " if missing else ""
        return head + "; ".join(told)

    def _verdicts(self, scores: Scores, printed: bool) -> list[Verdict]:
        return [one.test(scores, printed=printed) for one in self.conditions]


Condition = Bound | AtLeast


def every(conditions: Iterable[Condition]) -> AtLeast:
    """All conditions hold."""
    held = tuple(conditions)
    return AtLeast(len(held), held)
