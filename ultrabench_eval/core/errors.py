"""The one exception that is meant for the user's eyes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

from ultrabench_eval.core.names import printable


class UserError(Exception):
    """Bad input, told in one sentence: what is wrong, in which file, how to fix it.

    The command line prints the sentence and leaves with exit code 2; inside a run it becomes
    the error row of the cells it spoils. Anything else that escapes is a bug of ours.

    Bytes of file names that are not UTF-8, and control characters, become escapes like "\\xfc", so
    that the sentence can be printed and stored anywhere.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(printable(sentence))


def not_found(what: str, path: Path | str, how: str) -> UserError:
    """The commonest sentence: `what` is not at `path`; do `how`."""
    return UserError(f"{what} not found: {path}; {how}")


class NotInstalled(UserError):
    """A file of a kind that only an extra can read, which is not installed."""


class NotInThisCopy(UserError):
    """What a task is about, which this copy of its release does not state."""


def not_installed(path: Path, what: str, package: str) -> NotInstalled:
    """The sentence for a file that needs a package of an extra."""
    return NotInstalled(
        f"{path} is {what}, for which {package} is needed; `pip install {package}`, or remove it"
    )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """What follows a wrong name in a sentence: "; did you mean 'a' or 'b'?", or ";"."""
    near = difflib.get_close_matches(name.lower(), list(known), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ";"
