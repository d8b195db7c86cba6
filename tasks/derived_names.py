"""Names of tasks that are made of others: "busbra:busi", "busi[benign+malignant]".

The first is trained and tuned on one task and tested on another; the second is a task with some of
its classes, in this order, each of one class or of several ("malignant=4a|4b") of it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple
from urllib.parse import quote, unquote

_SELECTION = re.compile(r"(?P<task>[^\[\]]+)\[(?P<classes>[^\[\]]+)\]")
_SIGNS = "+=|[]%:@,"  # of class names: written as %2B and the like


class SetPair(NamedTuple):
    """Two tasks by name."""

    trained: str
    """Whose training and validation images are used."""
    tested: str
    """Whose test images are used."""

    def __str__(self) -> str:
        return f"{self.trained}:{self.tested}"


class Selection(NamedTuple):
    """A task with some of its classes."""

    task: str
    classes: tuple[tuple[str, tuple[str, ...]], ...]
    """Names of classes, each with those of the task that count as it."""

    def __str__(self) -> str:
        return f"{self.task}[{'+'.join(_text(*one) for one in self.classes)}]"


def selection(task: str, classes: Mapping[str, Iterable[str]]) -> str:
    """The name of a task with these classes, each of some of its own."""
    return str(Selection(task, tuple((name, tuple(some)) for name, some in classes.items())))


def pair(name: str) -> SetPair | None:
    """The two tasks of "A:B"; None for what is one task, or a file or folder that is there."""
    import tasks

    if ":" not in name or name in tasks.registry or os.path.exists(name):
        return None
    cuts = [match.start() for match in re.finditer(":", name)]
    known = (cut for cut in cuts if tasks.problem(name[:cut]) is None)
    cut = next(known, cuts[0])
    return SetPair(name[:cut], name[cut + 1 :])


def selected(name: str) -> Selection | None:
    """The task and classes of "A[x+y=z]"; None for what is not of this form, or is there."""
    import tasks

    found = _SELECTION.fullmatch(name)
    if found is None or name in tasks.registry or os.path.exists(name) or pair(name):
        return None
    return Selection(found["task"], tuple(map(_class, found["classes"].split("+"))))


def parts(name: str) -> tuple[str, ...]:
    """The tasks that one is made of; of another one itself."""
    if both := pair(name):
        return (*parts(both.trained), *parts(both.tested))
    if some := selected(name):
        return (some.task,)
    return (name,)


def is_derived(name: str) -> bool:
    """Whether a name (or label) is of a task that is made of others."""
    return parts(name) != (name,)


def _text(name: str, some: tuple[str, ...]) -> str:
    written = _quoted(name)
    return written if some == (name,) else f"{written}={'|'.join(map(_quoted, some))}"


def _quoted(name: str) -> str:
    return "".join(quote(sign, safe="") if sign in _SIGNS else sign for sign in name)


def _class(text: str) -> tuple[str, tuple[str, ...]]:
    name, _, some = text.partition("=")
    return unquote(name), tuple(map(unquote, (some or name).split("|")))
