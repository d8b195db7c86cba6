"""The identity of classes and functions by their code, and by the code of all that they use.

What is in a file counts with that whole file, as it was executed (`executed`); what was made in
a notebook or at a prompt counts by what it is made of. An identity depends on code alone: not on
paths, nor on what else is imported, nor on the order.
"""

from __future__ import annotations

import dis
import functools
import types
from collections.abc import Iterable, Mapping
from typing import Any

from model_zoo import executed
from ultrabench_eval.core import hashing

_BUILT_IN = (
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
)
_NO_CODE = (
    *("__module__", "__dict__", "__weakref__", "__firstlineno__", "__static_attributes__"),
    *("_abc_impl", "__abstractmethods__", "executed_from"),
)


def of(roots: Iterable[Any], what: str) -> str:
    """SHA-256 over the code of classes and functions, and of all that it imports.

    Args:
        roots: a user's classes and functions; the module of the first one goes without its name,
            which tells where it lies.
        what: what an error calls them.

    Raises:
        UserError: a file changed while it was in use, so that it is not known what ran.
    """
    live = _Live()
    roots = list(roots)
    in_files = [root for root in roots if executed.is_in_file(root)]
    parts = [root.__qualname__ if root in in_files else live.digest(root) for root in roots]
    own = {root.__module__ for root in in_files}
    sources = executed.closure(own | live.modules, what)
    first = roots[0].__module__
    named = {("" if name == first else name): one.digest for name, one in sources.items()}
    packages = {name.partition(".")[0] for name in own if not executed.is_users(name)}
    return hashing.digest([parts, named, {name: _package(name) for name in sorted(packages)}])


@functools.lru_cache
def _package(name: str) -> str:
    """SHA-256 over all code of an installed package, or of a single module."""
    path = executed.file_of(name)
    if path is None or path.name != "__init__.py":
        return hashing.digest_file(path) if path else ""
    files = sorted(path.parent.rglob("*.py"))
    return hashing.digest(
        {file.relative_to(path.parent).as_posix(): hashing.digest_file(file) for file in files}
    )


class _Live:
    """Classes and functions of a notebook or prompt, by what they are made of."""

    def __init__(self) -> None:
        self.modules: set[str] = set()
        """Modules that they use and that are in files."""
        self._met: dict[int, int] = {}
        self._alive: list[Any] = []  # so that no two objects share an id

    def digest(self, root: Any) -> str:
        """SHA-256 over a class or function, and over all of the same kind that it uses."""
        return hashing.digest(self._of(root))

    def _of(self, value: Any) -> Any:
        if value is None or isinstance(value, (bool, int, str)):
            return value
        if isinstance(value, (float, complex, bytes)) or value is Ellipsis:
            return repr(value)
        if isinstance(value, types.ModuleType):
            self.modules.add(value.__name__)
            return f"module {value.__name__}"
        walked = isinstance(value, (type, types.FunctionType))
        if walked and self._stands_elsewhere(value):
            return f"{value.__module__}:{value.__qualname__}"
        if not walked and isinstance(value, _BUILT_IN):
            return value.__qualname__
        if isinstance(value, types.CodeType):
            return self._code(value)
        if isinstance(value, tuple):
            return [self._of(one) for one in value]
        if isinstance(value, frozenset):
            return sorted((self._of(one) for one in value), key=repr)
        if id(value) in self._met:  # what can hold itself
            return f"met {self._met[id(value)]}"
        self._met[id(value)] = len(self._met)
        self._alive.append(value)
        return self._parts(value)

    def _stands_elsewhere(self, value: Any) -> bool:
        """Whether a class or function is of a library, or in a file, which is hashed whole."""
        name = value.__module__ or ""
        if not executed.is_users(name):
            return True
        if name == "__main__" or not executed.is_in_file(value):
            return False
        self.modules.add(name)
        return True

    def _parts(self, value: Any) -> Any:
        if isinstance(value, type):
            members = {k: v for k, v in vars(value).items() if k not in _NO_CODE}
            return [value.__qualname__, self._of(value.__bases__), self._mapping(members)]
        if isinstance(value, types.FunctionType):
            return self._function(value)
        if isinstance(value, (staticmethod, classmethod, types.MethodType)):
            return [type(value).__name__, self._of(value.__func__)]
        if isinstance(value, property):
            return [self._of(one) for one in (value.fget, value.fset, value.fdel)]
        if isinstance(value, functools.partial):
            return [self._of(value.func), self._of(value.args), self._of(value.keywords)]
        if isinstance(value, Mapping):
            return self._mapping(value)
        if isinstance(value, list):
            return [self._of(one) for one in value]
        if isinstance(value, set):
            return sorted((self._of(one) for one in value), key=repr)
        return self._instance(value)

    def _mapping(self, value: Mapping[Any, Any]) -> Any:
        pairs = [(str(key), key) for key in value]
        return [[name, self._of(value[key])] for name, key in sorted(pairs, key=lambda p: p[0])]

    def _function(self, value: types.FunctionType) -> Any:
        cells = [self._cell(cell) for cell in value.__closure__ or ()]
        used = sorted(name for name in _globals(value.__code__) if name in value.__globals__)
        return [
            self._of(value.__code__),
            self._of(value.__defaults__),
            self._of(value.__kwdefaults__),
            cells,
            [[name, self._of(value.__globals__[name])] for name in used],
        ]

    def _cell(self, cell: types.CellType) -> Any:
        try:
            return self._of(cell.cell_contents)
        except ValueError:  # not filled yet
            return "empty"

    def _code(self, code: types.CodeType) -> Any:
        counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
        names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        steps = code.co_code + getattr(code, "co_exceptiontable", b"")
        return [steps.hex(), counts, names, self._of(code.co_consts)]

    def _instance(self, value: Any) -> Any:
        kind = self._of(type(value))
        if hasattr(value, "detach") and hasattr(value, "cpu"):  # a tensor
            return [kind, hashing.digest_tensors({"": value})]
        if hasattr(value, "tobytes") and hasattr(value, "dtype"):  # an array
            whole = hashing.digest_bytes(value.tobytes())
            return [kind, str(value.dtype), list(value.shape), whole]
        if hasattr(value, "__dict__"):
            return [kind, self._mapping(vars(value))]
        text = str(value)
        return [kind, "" if " at 0x" in text else text]


def _globals(code: types.CodeType) -> set[str]:
    """Global names that a function reads, those inside of it included."""
    return {
        instruction.argval
        for one in executed.codes(code)
        for instruction in dis.get_instructions(one)
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    }
