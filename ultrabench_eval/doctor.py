"""Is this machine ready? Versions, device, weights, data, cache and disk, each with its cure.

No network is loaded and nothing is written but a temporary file in the cache folder.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, metadata, requires
from pathlib import Path
from typing import Any

import model_zoo
import tasks as task_zoo
from ultrabench_eval import remedies

PACKAGE = "ultrabench-eval"
ROOM = 1e9  # bytes of free disk that a run of small models wants
_PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    area: str
    """"versions", "device", "weights", "data" or "disk"."""
    name: str
    good: bool
    found: str
    """What was found, in words."""
    command: str = ""
    """That fixes it; of failed checks only."""
    essential: bool = False
    """Whether nothing can run as long as it fails."""

    def as_dict(self) -> dict[str, Any]:
        """As plain data for JSON."""
        return asdict(self)


def examine(data: Path | str | None = None, cache: Path | str | None = None) -> list[Check]:
    """All checks, in the order of their areas.

    Args:
        data: data root, or "phantom". Default: `$UBENCH_DATA`.
        cache: folder of the features. Default: as for `run`.
    """
    checks = [*_python(), *_libraries(), *_device()]
    if any(check.essential and not check.good for check in checks):
        return checks  # the rest would stumble over what is missing
    from ultrabench_eval.pipeline import default_cache

    place = data or os.environ.get("UBENCH_DATA")
    folder = Path(cache) if cache else default_cache()
    return [*checks, *_weights(), *_data(str(place) if place else None), *_disk(folder)]


def _check(
    area: str, name: str, good: bool, found: str, command: str = "", essential: bool = False
) -> Check:
    return Check(area, name, good, found, "" if good else command, essential)


def ready(checks: list[Check]) -> bool:
    """Whether nothing essential fails."""
    return all(check.good or not check.essential for check in checks)


def summary(checks: list[Check]) -> list[str]:
    """What it comes to, and what to do next, a sentence each."""
    failed = [check.name for check in checks if check.essential and not check.good]
    if failed:
        return [f"not ready: fix what FAILS ({', '.join(failed)}), then run this again"]
    told = ["ready"]
    for area, what in (("weights", "models"), ("data", "tasks")):
        mine = [check for check in checks if check.area == area and check.name != "data root"]
        lacking = [check.name for check in mine if not check.good]
        counted = f"{what}: {len(mine) - len(lacking)} of {len(mine)} can be used now"
        told += (
            [counted + (f"; without {area}: {', '.join(lacking)}" if lacking else "")]
            if mine
            else []
        )
    lacks_data = not any(c.good for c in checks if c.area == "data" and c.name != "data root")
    data = " --data phantom (SYNTHETIC images)" if lacks_data else ""
    told.append(f"next: ubench run --model usrc-jepa --task all{data}")
    return told


# ---- versions -----------------------------------------------------------------------------------


def bounds() -> dict[str, str]:
    """Least version of Python and of each library, as pyproject.toml has them.

    From the file beside the package where there is one: what was written down at the time of the
    installation may be older.
    """
    text = _PYPROJECT.read_text() if _PYPROJECT.is_file() else ""
    project = tomllib.loads(text).get("project", {})
    if project.get("name") == PACKAGE:
        python, wanted = project["requires-python"], project["dependencies"]
    else:
        try:
            python = metadata(PACKAGE)["Requires-Python"]
            wanted = [one for one in requires(PACKAGE) or () if "extra ==" not in one]
        except PackageNotFoundError:
            return {}
    found = {"python": python.removeprefix(">=")}
    for one in wanted:
        name, _, least = one.partition(">=")
        found[name.strip()] = least.strip()
    return found


def at_least(version: str, least: str) -> bool:
    """Whether a version is not below a bound; compared are the numbers in front."""

    def numbers(text: str) -> list[int]:
        front = re.match(r"\d+(\.\d+)*", text)
        parts = [int(part) for part in front[0].split(".")] if front else []
        while parts and parts[-1] == 0:  # 3.0 is 3
            parts.pop()
        return parts

    return numbers(version) >= numbers(least)


def _python() -> Iterator[Check]:
    least = bounds().get("python", "3.11")
    version = platform.python_version()
    yield _check(
        *("versions", "python", at_least(version, least), f"{version}, wanted >= {least}"),
        command=f"make a new environment with Python {least} or later: make PYTHON=python{least}",
        essential=True,
    )


def _libraries() -> Iterator[Check]:
    for name, least in bounds().items():
        if name == "python":
            continue
        version = remedies.installed(name)
        yield _check(
            *("versions", name, version is not None and at_least(version, least)),
            f"{version or 'not installed'}, wanted >= {least}",
            command=f"pip install '{name}>={least}'",
            essential=True,
        )


# ---- device -------------------------------------------------------------------------------------


def _device() -> Iterator[Check]:
    cores, memory = os.cpu_count() or 1, _memory()
    size = f", {memory / 2**30:.0f} GB of memory" if memory else ""
    yield _check("device", "cpu", True, f"{platform.machine()}, {cores} cores{size}")
    try:
        import torch

        from model_zoo.loading import resolve_device
        from ultrabench_eval import precision

        device = resolve_device("auto")
        fast = precision.fast(device)
    except Exception as error:  # a broken installation raises whatever comes
        yield _check(
            *("device", "torch", False, f"cannot be used ({type(error).__name__}: {error})"),
            command="pip install --force-reinstall torch torchvision",
            essential=True,
        )
        return
    found = str(device)
    if device.type == "cuda":
        known = torch.cuda.get_device_properties(device)
        found += f": {known.name}, {known.total_memory / 2**30:.0f} GB, CUDA {torch.version.cuda}"
    yield _check("device", "--device auto", True, found)
    words = "in hardware: --dtype auto tries it" if fast else "not in hardware: float32 is used"
    yield _check("device", "bfloat16", True, words)


def _memory() -> int | None:
    """Bytes of main memory, where the system tells."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


# ---- weights and data ---------------------------------------------------------------------------


def _weights() -> Iterator[Check]:
    """Whether each model of the zoo could be loaded now; families are as good as their names."""
    for name in model_zoo.names():
        if name.endswith("<name>") or model_zoo.describe(name).get("unavailable"):
            continue
        try:
            found = _weights_of(name)
            reason = "no weights here"
        except Exception as error:  # a model may be anyone's code
            found, reason = None, str(error)
        if not found and (other := model_zoo.STAND_INS.get(name)) in model_zoo.names():
            reason += f"; `ubench run` measures {other} in its place"
        if found:
            yield _check("weights", name, True, found)
        else:
            yield _check("weights", name, False, reason, command=remedies.for_weights(name))


def _weights_of(name: str) -> str | None:
    """Where a model's weights are, in words; None: nowhere here. No file is read.

    Raises:
        UserError: several files fit.
    """
    from model_zoo.checkpoints import exports, files, hub

    model = model_zoo.registry.get(name)
    card = model_zoo.card(name)
    if card.status == "control":
        return "needs none"
    source = files.find(name, None)
    if source is not None:
        return str(source)
    if card.packages and (version := remedies.installed(card.packages[-1])):
        return f"{card.packages[-1]} {version}"
    if card.hub and (cached := hub.cached(card.hub)):
        return f"{cached}, with --accept-license"
    shipped = getattr(model, "shipped", None)
    if shipped and (exports.SHIPPED / f"{shipped}.safetensors").is_file():
        return "comes with the package"
    if not model.__module__.startswith("model_zoo."):
        return "of a plugin or another package: it knows where its weights are"
    return None


def _data(root: str | None) -> Iterator[Check]:
    from tasks import prepare

    if root == "phantom":
        yield _check("data", "data root", True, "the synthetic suite, made when needed")
        return
    if root is None:
        yield _check(
            *("data", "data root", False, "not given (--data phantom works without)"),
            command="export UBENCH_DATA=FOLDER",
        )
    elif not Path(root).is_dir():
        yield _check(
            *("data", "data root", False, f"{root} is not a folder"),
            command=f"mkdir -p {root}, or export UBENCH_DATA=FOLDER",
            essential=True,
        )
    else:
        yield _check("data", "data root", True, root)
    folder = Path(root) if root and Path(root).is_dir() else None
    for one in prepare.overview(folder):
        there = one.name in task_zoo.BUILT_IN and one.state not in (
            prepare.NOTHING,
            prepare.NO_ROOT,
        )
        if not there and one.name not in task_zoo.OF_THE_PAPER:
            continue  # nobody expects to have all the others
        good = one.state == "there"
        if good:
            how = f"`ubench data prepare {one.name} --data {root}` checks every image"
            state = "there, prepared" if one.prepared else f"there, not prepared: {how}"
        else:
            state = one.state if one.state.startswith("packed") else "missing"
        yield _check("data", one.name, good, state, remedies.for_data(one.name, folder))


# ---- disk ---------------------------------------------------------------------------------------


def _disk(cache: Path) -> Iterator[Check]:
    there = next(place for place in (cache, *cache.absolute().parents) if place.exists())
    move = "export UBENCH_CACHE=FOLDER (one that is writable, on a disk with room)"
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
        words = f"{cache}, {_size(cache) / 1e6:.1f} MB" if cache.is_dir() else f"{cache}, new"
        yield _check("disk", "cache", True, words)
    except OSError as error:
        words = f"{cache} cannot be written ({error.strerror})"
        yield _check("disk", "cache", False, words, command=move, essential=True)
    free = shutil.disk_usage(there).free
    yield _check(
        *("disk", "free", free >= ROOM, f"{free / 1e9:.1f} GB where the cache is"),
        command=move,
        essential=True,
    )


def _size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    total = 0
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            total += _size(Path(entry.path))
        elif entry.is_file(follow_symlinks=False):
            total += entry.stat(follow_symlinks=False).st_size
    return total
