"""What a results folder keeps of a task's test images, beside their labels: names and classes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Stored:
    """OUT/tasks/<fingerprint>.json, of N images in C classes."""

    classes: tuple[str, ...]
    names: tuple[str, ...]

    @classmethod
    def read(cls, out: Path, fingerprint: str) -> Stored:
        """That of a task.

        Args:
            out: the results folder.
            fingerprint: of the task; `Evidence` has read and checked this file before.
        """
        known = json.loads((out / "tasks" / f"{fingerprint}.json").read_bytes())
        return cls(tuple(known["classes"]), tuple(known["names"]))
