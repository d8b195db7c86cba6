"""Names from archives and hosts, which must not lead out of the folder they are meant for."""

from __future__ import annotations

import re
import unicodedata


class Refused(ValueError):
    """Why a name, or what bears it, cannot be taken: the rest of a sentence that begins with it."""


def safe_parts(name: str) -> list[str]:
    """The components of a `/`-separated name from elsewhere, if it stays within its folder.

    Raises:
        Refused: it is absolute, leads upwards, would be another place on another system, or is
            not valid text. The message is the rest of a sentence that begins with the name.
    """
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise Refused("has a name that is not UTF-8") from error
    if "\0" in name or "\\" in name:
        raise Refused("has a NUL or a backslash in its name")
    if name.startswith("/"):
        raise Refused("has an absolute name")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Refused("leads out of the folder")
    if any(re.match("[A-Za-z]:", part) for part in parts):
        raise Refused("names a Windows drive")
    return parts


def is_leftover(part: str) -> bool:
    """Whether a file or folder is one that a system adds to archives on its own."""
    return part == "__MACOSX" or part.startswith("._") or part in (".DS_Store", "Thumbs.db")


def folded(path: str) -> str:
    """Equal for two paths that macOS or Windows could take for one (Unicode standard, D145)."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", path).casefold())
