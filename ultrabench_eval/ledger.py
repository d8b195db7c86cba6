"""The ledger of a results folder: which cells were written there, and with which content, in order.

A line is added for each cell or error that is written. With it a reader tells a whole and valid
file that was not written there (copied from another run, or put back from an older one), and misses
one that is gone. It does not decide whether a cell is measured again: that follows from the cell's
own identity and digest.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ultrabench_eval.core import files


@dataclass
class Ledger:
    """A file of JSON lines, to which several processes may add.

    Args:
        path: of the file; need not exist yet.
    """

    path: Path
    _known: dict[str, dict[str, Any]] = field(default_factory=dict, init=False)
    _read_to: int = field(default=0, init=False)
    _marked: int = field(default=-1, init=False)

    def write(self, place: str, digest: str, at: dict[str, Any]) -> None:
        """Note that a file was written; nothing if its last line says so.

        Args:
            place: of the cell.
            digest: of its file.
            at: the place in words, for a reader that cannot open the file.
        """
        if self.last(place) == digest:
            return
        line = json.dumps({"place": place, "sha256": digest, "at": at}, ensure_ascii=False)
        data = line.encode(errors="backslashreplace") + b"\n"
        with files.locked(self.path, files.PATIENCE), self.path.open("ab+") as file:
            if file.tell() and not _ends_a_line(self.path):  # a process was killed in mid-line
                data = b"\n" + data
            file.write(data)

    def last(self, place: str) -> str | None:
        """The digest of what was last written to a place; None if nothing was."""
        known = self._lines().get(place)
        return None if known is None else str(known["sha256"])

    def at(self, place: str) -> dict[str, Any] | None:
        """A place in words; None if nothing was written there."""
        known = self._lines().get(place)
        return None if known is None else known["at"]

    def places(self) -> list[str]:
        """All that was written to."""
        return list(self._lines())

    def mark(self) -> None:
        """Remember how far it goes now."""
        self._marked = self._size()

    def as_marked(self) -> bool:
        """Whether nothing was added since."""
        return self._size() == self._marked

    def _size(self) -> int:
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def _lines(self) -> dict[str, dict[str, Any]]:
        """The last line of each place; only what was added since the last look is read."""
        size = self._size()
        if size < self._read_to:
            self._known, self._read_to = {}, 0
        if size > self._read_to:
            with self.path.open("rb") as file:
                file.seek(self._read_to)
                whole, _, _ = file.read().rpartition(b"\n")
            for line in whole.splitlines():
                self._take(line)
            self._read_to += len(whole) + 1 if whole else 0
        return self._known

    def _take(self, line: bytes) -> None:
        """A line that is cut off or damaged says nothing, so that its cell is not verified."""
        try:
            known = json.loads(line)
            if isinstance(known["sha256"], str) and isinstance(known["at"], dict):
                self._known[str(known["place"])] = known
        except (ValueError, TypeError, KeyError, RecursionError):
            return


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1) == b"\n"
