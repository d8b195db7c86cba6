"""Probes: small classifiers on frozen features. Pure functions of arrays.

Each has a file of its own, which declares it as `PROBE` (`probe.Probe`). Anyone's is registered by
a plugin file: `ultrabench_eval.probes.register("its-name", Probe(...))`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ultrabench_eval.core.registry import Registry

if TYPE_CHECKING:
    from ultrabench_eval.probes.probe import Probe

registry = Registry("probe", group="ultrabench_eval.probes", listing="ubench run --help")
for _name in ("linear", "logistic", "ridge", "knn", "attentive"):
    registry.register(_name, f"{__name__}.{_name}:PROBE")


def names() -> list[str]:
    """Names of all probes."""
    return registry.names()


def register(name: str, probe: Probe) -> Any:
    """Make a probe known by a name."""
    return registry.register(name, probe)


def get(name: str) -> Probe:
    """The probe of that name.

    Raises:
        UserError: there is none.
    """
    found: Probe = registry.get(name)
    return found
