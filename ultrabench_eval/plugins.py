"""`--plugin my.py`: a user's Python file that registers models, tasks, probes and more of its own.

The file is run as it is, with the rights of whoever names it.
"""

from __future__ import annotations

import importlib.util
import re
import sys
import traceback
from pathlib import Path
from typing import Any

import model_zoo
import tasks
from model_zoo import executed, guests
from ultrabench_eval import corrupt, metrics, probes, task_types
from ultrabench_eval.core import hashing
from ultrabench_eval.core.errors import UserError, not_found
from ultrabench_eval.core.registry import Registry

_REGISTRIES: tuple[Registry[Any], ...] = (
    model_zoo.registry,
    tasks.registry,
    probes.registry,
    metrics.registry,
    corrupt.registry,
    task_types.registry,
)
_loaded: dict[Path, list[str]] = {}
_registered: dict[Path, list[frozenset[str]]] = {}  # by registry


def load_file(path: Path) -> list[str]:
    """Run a plugin file and return the names it registered, sorted.

    The module is called `ubench_plugin_<stem>_<digest of the full path>`: the same in every
    process, so that its classes pickle, and no two files share it. A file is run once a process;
    loading it again returns the same names, unless it or a module of the user's that it imports
    was edited since: then all of them are run again, and what they registered is replaced. The
    working directory and torch's defaults are put back afterwards.

    Args:
        path: a Python file that uses `@model_zoo.register("name")` on a `model_zoo.Encoder`
            subclass, `@tasks.register("name")` on a reader, or `register` of
            `ultrabench_eval.probes`, `.metrics`, `.corrupt` or `.task_types` with a name and an
            object.

    Raises:
        UserError: no such file, a syntax error, an exception or an exit while it runs, or it
            registers nothing. What a failed file had registered by then is taken back.
    """
    path = Path(path).expanduser().resolve()
    if path.suffix != ".py" or not path.is_file():
        raise not_found("plugin file", path, "--plugin takes the path of a Python file (.py)")
    if path in _loaded:
        if executed.is_current(module_name(path)):
            return list(_loaded[path])
        _take_back(path)
    before = [registry.registered() for registry in _REGISTRIES]
    try:
        _execute(path)
        added = _since(before)
        names = sorted(frozenset[str]().union(*added))
        if not names:
            raise UserError(
                f"the plugin {path} registers nothing; decorate its Encoder subclass with "
                '@model_zoo.register("its-name"), or its task reader with @tasks.register("...")'
            )
    except BaseException:
        _remove(path, _since(before))
        raise
    _loaded[path], _registered[path] = names, added
    return list(names)


def registered() -> str:
    """Which names the loaded plugin files gave, as an addition to an error; "" without any."""
    given = [f"{path} registers {', '.join(names)}" for path, names in _loaded.items()]
    return f"; the plugin {' and '.join(given)}: name one of these" if given else ""


def module_name(path: Path) -> str:
    """The name under which the file at `path` is imported."""
    stem = re.sub(r"\W", "_", path.stem)
    return f"ubench_plugin_{stem}_{hashing.short(hashing.digest(str(path.resolve())))}"


def _execute(path: Path) -> None:
    name = module_name(path)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"the plugin {path} cannot be imported; give a plain Python file (.py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: dataclasses and pickle look there
    try:
        with guests.contained(f"the plugin {path}"):
            spec.loader.exec_module(module)
    except UserError as error:  # a name that is taken, for instance
        told = str(error)
        raise UserError(told if str(path) in told else f"in the plugin {path}: {told}") from error
    except SyntaxError as error:
        raise UserError(
            f"the plugin has a syntax error at {error.filename}:{error.lineno} ({error.msg}); "
            "correct that line"
        ) from error
    except ImportError as error:
        raise UserError(
            f"the plugin cannot import what it needs at {_place(path, error)} ({error}); "
            "install that package into this environment, or correct the import"
        ) from error
    except Exception as error:
        raise UserError(
            f"the plugin fails at {_place(path, error)} ({type(error).__name__}: {error}); "
            "correct it: it must run without errors when imported"
        ) from error


def _place(path: Path, error: BaseException) -> str:
    """The last line of the plugin itself that led to the error, as FILE:LINE."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == str(path)
    ]
    return f"{path}:{lines[-1]}" if lines else str(path)


def _since(before: list[frozenset[str]]) -> list[frozenset[str]]:
    """Names that were registered since, by registry."""
    return [registry.registered() - old for registry, old in zip(_REGISTRIES, before, strict=True)]


def _take_back(path: Path) -> None:
    """Undo the loading of a file, so that it and its modules can be run again."""
    del _loaded[path]
    _remove(path, _registered.pop(path))


def _remove(path: Path, names: list[frozenset[str]]) -> None:
    for registry, added in zip(_REGISTRIES, names, strict=True):
        for name in added & registry.registered():
            registry.remove(name)
    executed.forget(module_name(path))
    sys.modules.pop(module_name(path), None)
