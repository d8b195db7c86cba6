"""The code that ran: which source a class and all that it imports were executed from.

A file may be edited after it was imported, so what lies on the disk later says nothing. From the
import of this module on, source files outside of installed packages are read once: the bytes that
are compiled are the bytes that are hashed here, and no compiled copy (`.pyc`) is taken in their
place. Modules that were imported before are hashed when this module is.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import site
import sys
import sysconfig
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

from ultrabench_eval.core import hashing
from ultrabench_eval.core.errors import UserError

_ROOT = Path(__file__).resolve().parents[1]
_OURS = tuple(_ROOT / name for name in ("model_zoo", "ultrabench_eval", "tasks", "usjepa"))
_PATHS = sysconfig.get_paths()
_LIBRARIES = tuple(
    {
        *(Path(_PATHS[name]).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        *(Path(folder).resolve() for folder in site.getsitepackages()),
        Path(site.getusersitepackages()).resolve(),
    }
)
_CALLS = ("import_module", "__import__", "spec_from_file_location", "reload")


@dataclass
class RanFrom:
    """What a module was executed from."""

    path: Path
    data: bytes = field(repr=False)
    exact: bool
    """Whether `data` is what was compiled; else it was read later."""
    seen: dict[str, str] = field(default_factory=dict)
    """Digests of the modules that it imports, when it had been executed."""

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the source."""
        return hashing.digest_bytes(self.data)

    @functools.cached_property
    def imports(self) -> tuple[tuple[str, int, str], ...]:
        """Module, level (dots) and name of each import statement, wherever it stands."""
        return tuple(_imports(self.data))

    @property
    def unchanged(self) -> bool:
        """Whether the file still holds this."""
        try:
            return self.path.read_bytes() == self.data
        except OSError:
            return False


_sources: dict[str, RanFrom] = {}
_plain_get_code = SourceFileLoader.get_code
_plain_exec_module = SourceFileLoader.exec_module


def _get_code(self: SourceFileLoader, fullname: str) -> types.CodeType | None:
    """Compile a user's source file from the bytes that are remembered."""
    path = Path(self.path)
    if not is_foreign(path):
        return _plain_get_code(self, fullname)
    data = self.get_data(self.path)
    _sources[fullname] = RanFrom(path, data, exact=True)
    code: types.CodeType = self.source_to_code(data, self.path)  # type: ignore[assignment]
    return code


def _exec_module(self: SourceFileLoader, module: types.ModuleType) -> None:
    _plain_exec_module(self, module)
    if (source := _sources.get(module.__name__)) is not None:
        source.seen.update(_direct(module.__name__, source))


def _direct(name: str, source: RanFrom) -> dict[str, str]:
    """Digests of the user's modules that a module names in its imports."""
    found = {other: _source(other) for other in _named(name, source)}
    return {other: one.digest for other, one in found.items() if one is not None}


def record() -> None:
    """Begin to remember what is executed; called when the model zoo is imported."""
    if SourceFileLoader.get_code is _get_code:
        return
    SourceFileLoader.get_code = _get_code  # type: ignore[method-assign, assignment]
    SourceFileLoader.exec_module = _exec_module  # type: ignore[method-assign, assignment]
    for name in list(sys.modules):
        _source(name)


def is_foreign(path: Path) -> bool:
    """Whether a file is a user's own: neither ours, nor Python's, nor of an installed package."""
    return _is_foreign_folder(path.parent)


@functools.lru_cache(4096)
def _is_foreign_folder(folder: Path) -> bool:
    folder = folder.resolve()
    installed = {"site-packages", "dist-packages"} & set(folder.parts)
    return not installed and not any(folder.is_relative_to(root) for root in (*_OURS, *_LIBRARIES))


def is_ours(name: str) -> bool:
    """Whether the module of this name is one of this project, by its file."""
    path = file_of(name)
    return path is not None and any(path.resolve().is_relative_to(root) for root in _OURS)


def is_users(name: str) -> bool:
    """Whether the module of this name is a user's, a notebook or prompt included."""
    if name.partition(".")[0] in (*sys.stdlib_module_names, "builtins") and name != "__main__":
        return False
    path = file_of(name)
    return path is None or is_foreign(path)


def file_of(name: str) -> Path | None:
    """The file of an imported module; of one in a zip archive, that."""
    module = sys.modules.get(name)
    if module is None:
        return None
    file = vars(module).get("__file__")  # not by getattr: some modules import others at that
    archive = getattr(vars(module).get("__loader__"), "archive", None)
    return Path(archive or file) if isinstance(file, str) else None


def _source(name: str) -> RanFrom | None:
    """What a user's module was executed from; None if it has no file, or is not a user's."""
    if (known := _sources.get(name)) is not None:
        return known
    path = file_of(name)
    if path is None or not is_foreign(path) or not path.is_file():
        return None
    return _sources.setdefault(name, RanFrom(path, path.read_bytes(), exact=False))


# ---- closure -----------------------------------------------------------------------------------


def digest(name: str) -> str | None:
    """SHA-256 of what a user's module was executed from; None if that is in no file."""
    source = _source(name)
    return source.digest if source else None


def closure(names: Iterable[str], what: str = "it") -> dict[str, RanFrom]:
    """The user's modules among `names` and all that they import, with their sources.

    Raises:
        UserError: one of them was edited and imported again, or edited before it was hashed, so
            that it is not known what ran.
    """
    found: dict[str, RanFrom] = {}
    waiting = sorted(names)
    while waiting:
        name = waiting.pop()
        source = _source(name)
        if name in found or source is None:
            continue
        found[name] = source
        waiting += _named(name, source)
    for name, source in found.items():
        _check(name, source, what)
        for other, digest in source.seen.items():
            if other in found and found[other].digest != digest:
                raise UserError(
                    f"{found[other].path} was imported again after an edit, but {source.path} "
                    f"still uses what it was before, so that it is not known which code {what} "
                    "runs; load the plugin again, or restart Python"
                )
    return found


def _check(name: str, source: RanFrom, what: str) -> None:
    """See that a source which was read after its import is what was imported."""
    module = sys.modules.get(name)
    loader = getattr(module, "__loader__", None)
    if source.exact or module is None or type(loader) is not SourceFileLoader:
        return  # some loaders, pytest's for one, compile something else than the file
    try:
        whole = compile(source.data, str(source.path), "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        whole = None
    written = set(codes(whole)) if whole else set()
    for ran in _functions(module):
        if ran.__code__ not in written:
            raise UserError(
                f"{source.path} changed after it was imported, so that it is not known which code "
                f"{what} runs; restart Python, and import model_zoo before it"
            )


def codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """A code object and all inside of it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes(constant)


def _functions(module: types.ModuleType) -> Iterator[types.FunctionType]:
    """Functions and methods of a module that are in its file."""
    for value in list(vars(module).values()):
        members = vars(value).values() if isinstance(value, type) else (value,)
        for member in members:
            inner = getattr(member, "__func__", getattr(member, "fget", member))
            if (
                isinstance(inner, types.FunctionType)
                and inner.__module__ == module.__name__
                and inner.__code__.co_filename == getattr(module, "__file__", None)
            ):
                yield inner


def _named(name: str, source: RanFrom) -> list[str]:
    """Modules that a module names in its imports, as far as they are there or can be found."""
    module = sys.modules.get(name)
    package = getattr(module, "__package__", None)
    if package is None:
        package = name.rpartition(".")[0]
    found: dict[str, None] = {}
    for start, level, end in source.imports:
        base = start
        if level:
            parents = package.split(".")[: len(package.split(".")) - level + 1]
            base = ".".join([*parents, *([start] if start else [])])
        names = base.split(".")
        found |= dict.fromkeys(".".join(names[: k + 1]) for k in range(len(names)) if base)
        if end:
            found[f"{base}.{end}"] = None
    return [one for one in found if one != name and (one in sys.modules or _look(one))]


def _look(name: str) -> bool:
    """Find a user's module that is not imported yet, as one inside a function, and hash it."""
    parent = name.rpartition(".")[0]
    if name in _sources:
        return True
    top = name.partition(".")[0]
    if (parent and parent not in sys.modules) or top in sys.stdlib_module_names:
        return False
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return False
    path = Path(spec.origin) if spec and spec.has_location and spec.origin else None
    if path is None or not is_foreign(path) or not path.is_file():
        return False
    _sources[name] = RanFrom(path, path.read_bytes(), exact=False)
    return True


def _imports(data: bytes) -> Iterator[tuple[str, int, str]]:
    try:
        tree = ast.parse(data)
    except (SyntaxError, ValueError):  # not Python: a compiled extension
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, 0, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", node.level, alias.name) for alias in node.names)
        elif isinstance(node, ast.Call):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            first = node.args[0] if node.args else None
            if (
                called in _CALLS
                and isinstance(first, ast.Constant)
                and isinstance(first.value, str)
            ):
                level = len(first.value) - len(first.value.lstrip("."))
                yield first.value[level:], level, ""


def is_in_file(root: Any) -> bool:
    """Whether a class or function was executed as part of a file that is known."""
    name = root.__module__
    path = file_of(name)
    if path is None or not (name in _sources or path.is_file()):
        return False
    if name != "__main__":
        return True
    # What is defined at a prompt is in __main__ too, beside a script's.
    functions = [x for x in [root, *vars(root).values()] if isinstance(x, types.FunctionType)]
    return all(Path(x.__code__.co_filename).name == path.name for x in functions)


# ---- loading again ------------------------------------------------------------------------------


def is_current(name: str) -> bool:
    """Whether a user's module and all that it imports are as they are on the disk."""
    try:
        return all(source.unchanged for source in closure([name]).values())
    except UserError:
        return False


def forget(name: str) -> None:
    """Have a user's module, and all of the user's that it imports, executed again when imported."""
    waiting, met = [name], set[str]()
    while waiting:
        one = waiting.pop()
        source = _source(one)
        if one in met or source is None or one == "__main__":
            continue
        met.add(one)
        waiting += _named(one, source)
    for one in met:
        sys.modules.pop(one, None)
        _sources.pop(one, None)
    importlib.invalidate_caches()
