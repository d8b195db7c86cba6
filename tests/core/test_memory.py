"""Freed memory is used again without new pages, where that can be had."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

from ultrabench_eval.core import memory

GLIBC = sys.platform.startswith("linux") and hasattr(ctypes.CDLL(None), "gnu_get_libc_version")
PAGES = """
import resource, sys
import numpy as np
from ultrabench_eval.core import memory
kept = memory.keep_freed() if sys.argv[1] == "keep" else False
def batch():
    for _ in range(4):
        np.ones(48 << 20, np.uint8)  # larger than all that glibc keeps by itself
batch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
batch()
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str, **environment: str) -> tuple[bool, int]:
    own = {key: value for key, value in os.environ.items() if key not in memory._THEIR_OWN}
    words = [sys.executable, "-c", PAGES, how]
    done = subprocess.run(
        words, check=True, capture_output=True, text=True, env={**own, **environment}
    )
    kept, count = done.stdout.split()
    return kept == "True", int(count)


@pytest.mark.skipif(not GLIBC, reason="only glibc gives large blocks back at once")
def test_freed_blocks_are_used_again() -> None:
    kept, few = faults("keep")
    assert kept
    _, many = faults("as it is")
    assert few < many / 4


def test_the_users_own_settings_stay() -> None:
    kept, _ = faults("keep", MALLOC_TRIM_THRESHOLD_="1000000")
    assert not kept
