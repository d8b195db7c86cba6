"""The command `usjepa`."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point. The trainer is not part of this version, and says so."""
    print(
        "usjepa: the trainer is not part of this version; released US-JEPA weights can be measured "
        "with `ubench run --model us-jepa --weights us-jepa=PATH`",
        file=sys.stderr,
    )
    sys.exit(2)
