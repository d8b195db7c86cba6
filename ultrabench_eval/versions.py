"""What a number was made with."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import version

_LIBRARIES = ("torch", "torchvision", "timm", "numpy", "scikit-learn", "pillow")


@cache
def _versions() -> dict[str, str]:
    from ultrabench_eval import __version__

    return {
        "ultrabench_eval": __version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        **{name: version(name) for name in _LIBRARIES},
    }


def versions() -> dict[str, str]:
    """Versions of this harness and of the libraries that take part in a number."""
    return dict(_versions())
