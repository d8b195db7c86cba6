"""A few inputs of each family of `benchmarks/fuzz.py`; it makes 1,000 itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).resolve().parents[1] / "benchmarks" / "fuzz.py"


@pytest.mark.slow
def test_no_input_is_silently_wrong_or_ends_in_a_traceback() -> None:
    # In a process of its own, because it forks: this one may have threads.
    words = [sys.executable, FUZZ, "--light", "--inputs", "8"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
