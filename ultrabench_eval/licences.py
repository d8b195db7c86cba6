"""Which licences matter: those that rule something out, and those that nobody has stated."""

from __future__ import annotations

from typing import Literal, NamedTuple

import model_zoo
import tasks as task_zoo
from model_zoo import Card
from tasks.obtain.sources import SOURCES
from ultrabench_eval.core import licence_kind
from ultrabench_eval.core.licence_kind import LicenceKind


class Terms(NamedTuple):
    """The licence of a model's weights or of a task's images."""

    what: Literal["weights", "data"]
    name: str
    kind: LicenceKind
    words: str
    """As the card has them."""


def of_weights(name: str, card: Card | None = None) -> Terms:
    """Of a model's weights.

    Args:
        name: the model's name.
        card: that of the loaded model, which may know more than its family's; None: the family's.
    """
    card = card or model_zoo.card(name)
    words = card.weights_licence
    return Terms("weights", name, card.licence_kind or licence_kind.of_name(words), words)


def of_data(name: str) -> Terms:
    """Of a task's images; a manifest's are its owner's to know."""
    base = task_zoo.split_name(name)[0]
    if base not in task_zoo.registry:
        return Terms("data", name, "unknown", "your own: not stated")
    card = task_zoo.card(base)
    consent = (source.consent for source in SOURCES.get(task_zoo.home(base), ()) if source.consent)
    kind = card.licence_kind or licence_kind.of_name(card.licence)
    return Terms("data", name, kind, "; ".join([card.licence, *consent]))
