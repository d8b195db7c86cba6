"""Freed memory stays with the process, so that batches of the same size use the same pages.

glibc gives large blocks back to the system as soon as they are freed. A network's layers free and
ask for the same large blocks in every batch, and each time the kernel clears the pages again: up to
half of the time of a small convolutional network on a CPU (`benchmarks/memory.py`).
"""

from __future__ import annotations

import ctypes
import os
import sys

# Of mallopt, in glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST = 1 << 30  # bytes of a block that is kept; larger ones go back
_NEVER = (1 << 31) - 1  # bytes at the end of the heap that are not given back
_THEIR_OWN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed() -> bool:
    """Keep what is freed from now on; no number changes.

    Returns:
        Whether this was done: not without glibc (macOS, Windows, musl), and not if the user's
        environment says how malloc is to behave.
    """
    if not sys.platform.startswith("linux") or any(name in os.environ for name in _THEIR_OWN):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return all([mallopt(_MMAP_THRESHOLD, _LARGEST), mallopt(_TRIM_THRESHOLD, _NEVER)])
