"""Probes: small classifiers on frozen features. Pure functions of arrays.

Each module has one public function, `fit`, of the same arguments (see `linear.fit`), and returns
`heads.Probes`. The modules are the names of `protocol.PROBES`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ultrabench_eval.probes.heads import Probes


def fit(probe: str, *arrays: Any, **options: Any) -> Probes:
    """Train the probe of that name; arguments as `linear.fit`."""
    probes: Probes = import_module(f"{__name__}.{probe}").fit(*arrays, **options)
    return probes
