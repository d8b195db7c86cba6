"""What licences amount to, for those that go by a bare name; of others a card states it.

No legal advice: the words of a card are always shown beside it.
"""

from __future__ import annotations

import re
from typing import Literal

LicenceKind = Literal["non-commercial", "restricted", "unknown", "open"]

_OPEN = (
    "mit",
    "apache-2.0",
    "bsd-2-clause",
    "bsd-3-clause",
    "cc0-1.0",
    "cc-by-4.0",
    "cc-by-sa-4.0",
)
_NON_COMMERCIAL = ("cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-4.0")


def plain(name: str) -> str:
    """A licence's name as all spell it: "CC BY 4.0" is "cc-by-4.0"."""
    return re.sub(r"[\s_-]+", "-", name.strip().lower())


def of_name(licence: str) -> LicenceKind:
    """The kind of a licence by its name alone; "unknown" for any other words."""
    if plain(licence) in _OPEN:
        return "open"
    return "non-commercial" if plain(licence) in _NON_COMMERCIAL else "unknown"
