"""Which licences matter: those that rule something out, and those that nobody has stated.

A reading of the cards' words to sort them, no legal advice: the words themselves are always shown.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

import model_zoo
import tasks as task_zoo
from model_zoo import Card
from tasks.obtain.sources import SOURCES

Kind = Literal["non-commercial", "restricted", "unknown", "open"]

# The first that is found decides.
_SIGNS: tuple[tuple[Kind, str], ...] = (
    ("non-commercial", r"non-?commercial|\bNC\b|commercial use is excluded"),
    ("restricted", r"solely|agreement|not redistributable|gated|barred|not open"),
    ("unknown", r"not (stated|seen|verified|known)|^see |^that of|^per file"),
)


class Terms(NamedTuple):
    """The licence of a model's weights or of a task's images."""

    what: Literal["weights", "data"]
    name: str
    kind: Kind
    words: str
    """As the card has them."""


def kind(words: str) -> Kind:
    """What the words of a card amount to."""
    for one, pattern in _SIGNS:
        if re.search(pattern, words, re.IGNORECASE):
            return one
    return "open"


def of_weights(name: str, card: Card | None = None) -> Terms:
    """Of a model's weights.

    Args:
        name: the model's name.
        card: that of the loaded model, which may know more than its family's; None: the family's.
    """
    words = (card or model_zoo.card(name)).weights_licence
    return Terms("weights", name, kind(words), words)


def of_data(name: str) -> Terms:
    """Of a task's images; a manifest's are its owner's to know."""
    base = task_zoo.split_name(name)[0]
    if base not in task_zoo.registry:
        return Terms("data", name, "unknown", "your own: not stated")
    consent = (source.consent for source in SOURCES.get(base, ()) if source.consent)
    words = "; ".join([task_zoo.card(base).licence, *consent])
    return Terms("data", name, kind(words), words)
