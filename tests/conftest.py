"""Fixtures that several test files use, and the rule for tests that need ../shared."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Fast tests first, so that a slip shows at once.
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)
    if not SHARED.is_dir():
        skip = pytest.mark.skip(
            reason="needs ../shared (real data), which is not beside this checkout"
        )
        for item in items:
            if item.get_closest_marker("shared"):
                item.add_marker(skip)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder ../shared; only for tests marked `shared`."""
    return SHARED


@pytest.fixture(scope="session")
def real_data(shared: Path) -> Path:
    """A data root with the real AUL, MMOTU, BUSBRA and POCUS."""
    return shared / "data"
