"""Is my ultrasound encoder better, and can I prove it?

`run(models=[...], tasks=[...], seeds=5, data=..., out=...)` is the whole harness in one call;
the command `ubench` says the same words. Importing this package imports nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ultrabench_eval.pipeline import run

__version__ = "0.1.0"
__all__ = ["__version__", "run"]


def __getattr__(name: str) -> Any:
    if name == "run":  # lazily: the pipeline imports torch
        from ultrabench_eval.core import siblings

        if found := siblings.problem():
            raise ImportError(found)
        from ultrabench_eval.pipeline import run

        return run
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
