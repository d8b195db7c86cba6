"""Wrapper forensics: does a wrapper do to images and weights what it should? Without any label.

`examine(encoder)` looks at what the first layer is given, at the weights, and at what comes out for
a fixed SYNTHETIC panel. It reads the encoder's `input_rule`, for that is what a wrapper claims, and
neither its card nor a fixture.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from model_zoo import behaviour
from model_zoo.encoder import Encoder
from model_zoo.forensics import features, given, learnt, panel
from model_zoo.forensics.clues import Clue, Examination, ordered

__all__ = ["Clue", "Examination", "examine", "quick"]


SLOW = 1.0
"""Seconds for an image, from which on fewer images are taken."""


def examine(encoder: Encoder) -> Examination:
    """All that can be told of a wrapper without labels; under two minutes on two cores.

    Args:
        encoder: loaded; it comes back as it was.
    """
    leaves, scans = panel.leaves(), panel.scans()
    began = time.monotonic()
    features.encode(encoder, scans[:1])
    few = time.monotonic() - began > SLOW
    ran: set[str] = set()
    with _noted(encoder, ran):
        found = features.outputs(encoder, [leaves[0], *scans[:7]] if few else [*leaves[:4], *scans])
    clues = features.repeated(encoder, scans[:2])
    if clues:  # nothing else can be measured
        return Examination(encoder.name, ordered(clues), _LOOKED_AT)
    clues += given.look(encoder, leaves[:4])
    clues += learnt.untrained(encoder, ran)
    clues += learnt.heads(encoder)
    families = {clue.family for clue in clues if clue.alarm}
    if not families:
        clues += learnt.remembered(encoder, (leaves, scans))
    clues += features.content(encoder, few)
    clues += features.pooling(found)
    clues += features.one_token(found.tokens)
    clues += features.dimensions(found.features)
    clues += _unsure(encoder)
    return Examination(encoder.name, ordered(clues), _LOOKED_AT)


def quick(encoder: Encoder) -> list[Clue]:
    """The cheap part, for every run: alarms that need no pass through the whole network.

    Args:
        encoder: as `model_zoo.load` gives it; what it gave for the probe images is looked at.
    """
    has_weights = next(encoder.parameters(), None) is not None  # a control may see nothing
    if encoder.compiled or not has_weights:  # cannot be looked into, or has nothing to look at
        return []
    try:
        clues = given.look(encoder, behaviour.images())
        if not clues:
            clues += learnt.remembered(encoder, (panel.leaves()[:3], panel.scans()[:3]))
    except Exception:  # of a network that takes no single image, say: no reason to stop a run
        clues = []
    if encoder.behaviour is not None:
        clues += features.constant(torch.from_numpy(encoder.behaviour.features).double())
    return [clue for clue in ordered(clues) if clue.alarm]


_LOOKED_AT = (
    "looked at: what arrives at the first layer beside what input_rule says; matrices, norms and "
    "heads; the input that batch norms remember; features and tokens of SYNTHETIC images, by "
    "content, brightness and size, and again",
    "cannot be told without labels: whether the rule itself (its resize, interpolation, and "
    "without batch norm its normalisation) is that of training; class token or mean",
)


def _unsure(encoder: Encoder) -> list[Clue]:
    """What a rule says that is rare, though some networks are trained so."""
    rule = encoder.input_rule
    clues = []
    if rule is None:
        return []
    norms = any(isinstance(module, nn.BatchNorm2d) for module in encoder.modules())
    if not any(rule.mean) and set(rule.std) == {1.0} and not norms:
        saw = "the rule says no normalisation, and no batch norm can tell whether that is right"
        clues.append(Clue("normalisation-missing", saw, "unsure", "look up how it was trained"))
    if rule.interpolation == "nearest" and rule.resizer == "pillow":
        saw = "the rule takes the nearest pixel where others average"
        clues.append(Clue("interpolation", saw, "unsure", "look up how it was trained"))
    return clues


@contextmanager
def _noted(encoder: Encoder, ran: set[str]) -> Iterator[None]:
    """Inside, the names of modules that run are put into `ran`."""
    watched = [
        module.register_forward_pre_hook(lambda m, given, name=name: ran.add(name))
        for name, module in encoder.named_modules()
    ]
    try:
        yield
    finally:
        for hook in watched:
            hook.remove()
