"""Words that people type: labels, groups and folder names, and when two of them are the same.

Nothing is changed or merged here. `key` tells which spellings stand for one thing, so that a reader
can refuse them and ask; `fault` says why a word cannot be taken as it is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from functools import lru_cache

# What pandas, R, numpy and spreadsheets write where a value is missing. "none" and "NA" may be
# meant as classes, so the user is asked for another word.
_MISSING = frozenset(
    (
        *("nan", "-nan", "+nan", "na", "<na>", "n/a", "n.a.", "n.a", "nat", "null", "nil", "none"),
        *("missing", "undefined", "(blank)", "(empty)", "(null)", "?", "-", "--", "---", "."),
        *("1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan"),
        *("#n/a", "#n/a n/a", "#na", "#null!", "#div/0!", "#value!", "#ref!", "#name?", "#num!"),
    )
)
_WHOLE = re.compile(r"([+-]?)(\d+)(?:[.,]0*)?")
_NUMBER = re.compile(r"([+-]?)(\d*)(?:[.,](\d*))?(?:e([+-]?\d{1,9}))?")
_COPY = re.compile(r"[\s_-]*(?:\(\d+\)|- copy|copy of|\bcopy)[\s_-]*")


def key(text: str) -> str:
    """What all spellings of one label have in common.

    Unicode forms (NFKC), letter case, blanks of all kinds, invisible characters and kinds of
    dashes do not count; numbers are compared by value ("1", "01", "+1.0" and "1e0"), of any length.
    """
    plain = _plain(text)
    match = _NUMBER.fullmatch(plain)
    if match is None or not (match[2] or match[3]):
        return plain
    fraction = match[3] or ""
    digits = (match[2] + fraction).lstrip("0")
    significant = digits.rstrip("0")
    if not significant:
        return "0"
    exponent = int(match[4] or 0) - len(fraction) + len(digits) - len(significant)
    return f"{match[1].replace('+', '')}{significant}e{exponent}"


def group_key(text: str) -> str:
    """`key` for groups, of which only whole numbers are compared by value.

    "1.10" and "1.1" may be two patients of a centre, and "12e3" a name.
    """
    plain = _plain(text)
    match = _WHOLE.fullmatch(plain)
    if match is None:
        return plain
    return f"{match[1].replace('+', '')}{match[2].lstrip('0') or '0'}"


@lru_cache(maxsize=10_000)  # each folder is compared with each task
def folder_key(text: str) -> str:
    """What all names of one release's folder have in common: its letters and digits.

    "BUSBRA", "BUS-BRA" and "BUSBRA (1)" are one, as are "fatty_liver" and "Fatty Liver - Copy".
    """
    return "".join(filter(str.isalnum, _COPY.sub("", _plain(text))))


def alike(words: Iterable[str], key: Callable[[str], str] = key) -> list[tuple[str, str]]:
    """Pairs of different words with one key, each word once and in the order of the words."""
    first: dict[str, str] = {}
    pairs = []
    for word in dict.fromkeys(words):
        other = first.setdefault(key(word), word)
        if other != word:
            pairs.append((other, word))
    return pairs


def is_missing(text: str) -> bool:
    """Whether a word is one that programs write where a value is missing."""
    plain = _plain(text)
    return not plain or plain in _MISSING


LONGEST = 10_000  # characters of a label or group


def fault(text: str) -> str | None:
    """Why a label or group cannot be taken as it is, as a part of a sentence; None if it can."""
    if any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in text):
        return "holds a line break or another control character"
    if len(text) > LONGEST:
        return f"has {len(text)} characters, which no name has"
    if is_missing(text):
        return "is what programs write for a missing value"
    return None


def printable(text: str) -> str:
    """The text as it can be written to any file or terminal in UTF-8.

    Bytes of a file name that are not UTF-8 become escapes like "\\xfc", and so do control
    characters other than line breaks and tabs.
    """
    if text.isprintable():
        return text
    try:
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # a lone surrogate that stands for no byte
        text = text.encode("utf-8", "backslashreplace").decode()
    return "".join(
        f"\\x{ord(letter):02x}"
        if unicodedata.category(letter) == "Cc" and letter not in "\n\t"
        else letter
        for letter in text
    )


def _plain(text: str) -> str:
    """One form for all spellings of a text that look alike."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    letters = []
    for letter in folded:
        kind = unicodedata.category(letter)
        if kind == "Nd":
            letters.append(str(unicodedata.decimal(letter)))
        elif kind == "Pd" or letter == "\N{MINUS SIGN}":
            letters.append("-")
        elif kind != "Cf":  # zero-width characters and byte order marks
            letters.append(letter)
    return " ".join("".join(letters).split())
