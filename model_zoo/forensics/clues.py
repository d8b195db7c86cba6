"""What an examination finds, in words that an author can act on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Sure = Literal["certain", "likely", "unsure"]

# Of several alarms the first is the likeliest cause: what stands higher also brings about what
# stands lower.
ORDER = (
    *("two-passes", "size-brightness", "initial-values", "pooling", "one-token", "value-range"),
    *("heads", "channel-order", "normalisation-double", "normalisation-missing"),
    *("normalisation-other", "crop", "resize-rule", "interpolation", "dimensions"),
)


@dataclass(frozen=True)
class Clue:
    """One thing that was seen."""

    family: str
    """What is likely wrong, one of `ORDER`."""
    saw: str
    """What was seen, with numbers."""
    sure: Sure
    """"certain": it contradicts what the wrapper states, or is wrong in any network. "likely": the
    network's own numbers speak against it. "unsure": it cannot be told without labels."""
    change: str
    """What to do."""

    @property
    def alarm(self) -> bool:
        """Whether it should be acted on before any number is believed."""
        return self.sure != "unsure"


@dataclass(frozen=True)
class Examination:
    """What was found of an encoder, and what was looked at."""

    name: str
    clues: tuple[Clue, ...]
    """The likeliest cause first."""
    looked_at: tuple[str, ...]
    """One sentence for each part."""

    @property
    def alarms(self) -> tuple[Clue, ...]:
        """Clues that should be acted on."""
        return tuple(clue for clue in self.clues if clue.alarm)


def ordered(clues: list[Clue]) -> tuple[Clue, ...]:
    """By how sure, then by `ORDER`; of a family the surest only."""
    rank = ("certain", "likely", "unsure")
    sure = sorted(clues, key=lambda clue: (rank.index(clue.sure), ORDER.index(clue.family)))
    return tuple({clue.family: clue for clue in reversed(sure)}[f] for f in _once(sure))


def _once(clues: list[Clue]) -> list[str]:
    return list(dict.fromkeys(clue.family for clue in clues))
