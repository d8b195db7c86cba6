"""A small language for claims: quantities made of scores, and conditions on them.

Scores are macro F1 in percent by `ScorePlace`. A quantity of which a score is missing is None, and
a condition on it is not measured; nothing is guessed. Everything here is data: it can be compared,
printed, and tested against any table of scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["holds", "fails", "not measured"]
ROUNDING = 0.15
"""By how much a difference of two printed numbers may miss a third: half a digit each."""


@dataclass(frozen=True, order=True)
class ScorePlace:
    """Where a score stands."""

    model: str
    task: str
    fraction: int = 100
    corruption: str = "none"
    severity: int = 0

    def __str__(self) -> str:
        text = f"{self.model} on {self.task}"
        text += f" with {self.fraction} %" if self.fraction != 100 else ""
        return text + (f" at {self.corruption} {self.severity}" if self.severity else "")


Scores = Mapping[ScorePlace, float]

# ---- quantities ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class ScoreQuantity:
    """One score, percent."""

    place: ScorePlace

    def of(self, scores: Scores) -> float | None:
        """Its value."""
        return scores.get(self.place)

    def __str__(self) -> str:
        return str(self.place)


@dataclass(frozen=True)
class Mean:
    """Mean of quantities."""

    parts: tuple[Quantity, ...]
    name: str

    def of(self, scores: Scores) -> float | None:
        """Its value; None if any part is missing."""
        values = _all(self.parts, scores)
        return sum(values) / len(values) if values else None

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Best:
    """Highest of quantities."""

    parts: tuple[Quantity, ...]
    name: str

    def of(self, scores: Scores) -> float | None:
        """Its value; None if any part is missing, for that could be the highest."""
        values = _all(self.parts, scores)
        return max(values) if values else None

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Minus:
    """First - second, in points."""

    first: Quantity
    second: Quantity
    name: str = ""

    def of(self, scores: Scores) -> float | None:
        """Its value."""
        first, second = self.first.of(scores), self.second.of(scores)
        return None if first is None or second is None else first - second

    def __str__(self) -> str:
        return self.name or f"{self.first} − {self.second}"


@dataclass(frozen=True)
class Ratio:
    """First / second, in percent."""

    first: Quantity
    second: Quantity
    name: str = ""

    def of(self, scores: Scores) -> float | None:
        """Its value."""
        first, second = self.first.of(scores), self.second.of(scores)
        return None if first is None or not second else 100 * first / second

    def __str__(self) -> str:
        return self.name or f"{self.first} / {self.second}"


Quantity = ScoreQuantity | Mean | Best | Minus | Ratio


def _all(parts: Iterable[Quantity], scores: Scores) -> list[float]:
    """Values of all parts; empty if one is missing."""
    values = [part.of(scores) for part in parts]
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) else []


# ---- conditions ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class About:
    """A quantity is what is stated, give or take."""

    quantity: Quantity
    stated: float
    within: float = 3.0
    """Percent or points that a run may differ; printed tables may by `ROUNDING`."""

    def test(self, scores: Scores, *, printed: bool = False) -> Verdict:
        """Whether it is so; `printed`: the scores are those of a printed table."""
        allowed = (ROUNDING if printed else self.within) + _EPSILON
        return _verdict(self.quantity, scores, lambda value: abs(value - self.stated) <= allowed)

    def numbers(self, scores: Scores, *, printed: bool = False) -> str:
        """Its value beside what is stated; "" if there is none."""
        return _number(self.quantity, scores, f", stated {self.stated:g}")


@dataclass(frozen=True)
class Above:
    """A quantity is greater than a bound."""

    quantity: Quantity
    bound: float = 0.0

    def test(self, scores: Scores, *, printed: bool = False) -> Verdict:
        """Whether it is so."""
        return _verdict(self.quantity, scores, lambda value: value > self.bound + _EPSILON)

    def numbers(self, scores: Scores, *, printed: bool = False) -> str:
        """Its value; "" if there is none."""
        return _number(self.quantity, scores, f", asked > {self.bound:g}" if self.bound else "")


@dataclass(frozen=True)
class Below:
    """A quantity is less than a bound."""

    quantity: Quantity
    bound: float

    def test(self, scores: Scores, *, printed: bool = False) -> Verdict:
        """Whether it is so."""
        return _verdict(self.quantity, scores, lambda value: value < self.bound - _EPSILON)

    def numbers(self, scores: Scores, *, printed: bool = False) -> str:
        """Its value; "" if there is none."""
        return _number(self.quantity, scores, f", asked < {self.bound:g}")


@dataclass(frozen=True)
class AtLeast:
    """At least so many of the conditions hold."""

    count: int
    conditions: tuple[Condition, ...]
    name: str = ""
    """With one, only the conditions that fail are told one by one."""

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


Condition = About | Above | Below | AtLeast

_EPSILON = 1e-9  # 52.2 - 42.7 is not quite 9.5


def _verdict(quantity: Quantity, scores: Scores, so: Callable[[float], bool]) -> Verdict:
    value = quantity.of(scores)
    if value is None:
        return "not measured"
    return "holds" if so(value) else "fails"


def _number(quantity: Quantity, scores: Scores, asked: str) -> str:
    value = quantity.of(scores)
    if value is None:
        return ""
    return f"{quantity} {value:{'+.1f' if isinstance(quantity, Minus) else '.1f'}}{asked}"


def every(*conditions: Condition) -> AtLeast:
    """All conditions hold."""
    return AtLeast(len(conditions), conditions)
