"""The phantom suite for all tests of tasks, made once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks import phantom
from tasks.phantom.plan import SIZES, Size


@pytest.fixture(scope="session")
def tiny() -> Iterator[Size]:
    """A size below those on offer, so that tests are quick."""
    size = Size("tiny", 0.3, 0.4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIZES, "tiny", size)
        yield size


@pytest.fixture(scope="session")
def phantom_root(tiny: Size, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole SYNTHETIC suite at `tiny`, seed 3; not to be written into."""
    return phantom.write(tmp_path_factory.mktemp("phantom"), size=tiny.name, seed=3)
