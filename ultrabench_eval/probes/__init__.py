"""Probes: small classifiers on frozen features. Pure functions of arrays.

Each has a file of its own, which declares it as `PROBE` (`probe.Probe`). Anyone's is registered by
a plugin file: `ultrabench_eval.probes.register("its-name", Probe(...))`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ultrabench_eval.core.registry import Registry

if TYPE_CHECKING:
    from ultrabench_eval.probes.probe import Probe

registry: Registry[Probe] = Registry(
    "probe", group="ultrabench_eval.probes", listing="ubench run --help"
)
for _name in (
    *("linear", "logistic", "ridge", "knn", "attentive", "attentive_block"),
    *("dense", "decoder", "transposed"),
    *("ridge_regression", "linear_regression"),
    *("finetune", "finetune_masks", "finetune_numbers"),
):
    registry.register(_name, f"{__name__}.{_name}:PROBE")

names, register, get = registry.names, registry.register, registry.get
