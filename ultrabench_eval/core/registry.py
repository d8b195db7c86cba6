"""One lazy registry for everything that has a name: decorator, "module:attr", entry points.

Nothing is imported until a name is asked for, so listing names is instant.
"""

from __future__ import annotations

import importlib
import warnings
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from ultrabench_eval.core.errors import UserError, did_you_mean
from ultrabench_eval.core.names import printable

T = TypeVar("T")


class Registry(Generic[T]):
    """Names of one kind of thing (models, tasks) and what stands behind them.

    Args:
        kind: what an entry is, in the singular, for messages ("model").
        group: entry-point group in which other packages announce theirs.
        listing: the command that lists all names, for messages.

    A name that ends in "/" stands for a family: `get("timm/vit_tiny")` finds "timm/".
    Clashes: registering a name twice is an error; a built-in wins over an entry point of the
    same name, with a warning; two entry points of the same name are an error when it is used.
    """

    def __init__(self, kind: str, group: str, listing: str) -> None:
        self.kind, self.group, self.listing = kind, group, listing
        self._targets: dict[str, Any] = {}  # name -> object, or "module:attr"
        self._plugins: dict[str, list[EntryPoint]] | None = None  # read when first needed

    def register(self, name: str, target: Any = None) -> Any:
        """Register `target` (an object or "module:attr") under `name`; a decorator without it.

        A class or function that is defined once more, as when a cell of a notebook is run again,
        takes the place of the one before.

        Raises:
            UserError: the name is taken by something else.
        """
        if target is None:
            return lambda decorated: self.register(name, decorated)
        if not name.strip("/ ") or not name.isprintable():
            raise UserError(f"a {self.kind} cannot be called '{printable(name)}'; give it a name")
        known = self._targets.get(name)
        if known is not None and known != target and not _is_redefined(known, target):
            raise UserError(
                f"the {self.kind} name '{name}' is already taken by {_describe(known)}; "
                "choose another name for yours"
            )
        self._targets[name] = target
        return target

    def registered(self) -> frozenset[str]:
        """Names registered in this process, without those of installed packages."""
        return frozenset(self._targets)

    def remove(self, name: str) -> None:
        """Take back a registration of this process, as when a plugin file fails half-way."""
        del self._targets[name]

    def names(self) -> list[str]:
        """All names, sorted; a family is listed as "timm/<name>"."""
        names = set(self._targets) | set(self._entry_points())
        return sorted(f"{name}<name>" if name.endswith("/") else name for name in names)

    def __contains__(self, name: str) -> bool:
        return self._key(name) is not None

    def get(self, name: str) -> T:
        """The object behind `name`, imported now.

        Raises:
            UserError: unknown name (with the nearest known ones), or its package is broken.
        """
        key = self._key(name)
        if key is None:
            raise UserError(self.unknown(name))
        target = self._targets.get(key)
        if target is None:
            target = self._load_entry_point(key)
        elif isinstance(target, str):
            module, _, attribute = target.partition(":")
            target = getattr(importlib.import_module(module), attribute)
        found: T = target
        return found

    def _key(self, name: str) -> str | None:
        """The registered name that answers to `name`: itself, or its family."""
        known = self._targets.keys() | self._entry_points().keys()
        if name in known and not name.endswith("/"):
            return name
        family = name.partition("/")[0] + "/"
        return family if family in known and len(name) > len(family) else None

    def _entry_points(self) -> dict[str, list[EntryPoint]]:
        if self._plugins is None:
            self._plugins = {}
            for point in entry_points(group=self.group):
                if point.name in self._targets:
                    warnings.warn(
                        f"the {self.kind} '{point.name}' of {_origin(point)} is ignored: "
                        "a built-in has this name; rename the entry point",
                        stacklevel=3,
                    )
                else:
                    self._plugins.setdefault(point.name, []).append(point)
        return self._plugins

    def _load_entry_point(self, name: str) -> Any:
        points = self._entry_points()[name]
        if len({point.value for point in points}) > 1:
            owners = " and ".join(_origin(point) for point in points)
            raise UserError(
                f"the {self.kind} name '{name}' is claimed by {owners}; uninstall one of them"
            )
        try:
            return points[0].load()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a package may even call sys.exit()
            raise UserError(
                f"the {self.kind} '{name}' of {_origin(points[0])} cannot be imported "
                f"({type(error).__name__}: {error}); repair or uninstall that package"
            ) from error

    def unknown(self, name: str) -> str:
        """The sentence for a name that is not registered, with the nearest ones that are."""
        hint = did_you_mean(name, self.names())
        return f"unknown {self.kind} '{name}'{hint} `{self.listing}` lists all"


def _is_redefined(known: Any, target: Any) -> bool:
    """Whether both have one name in one module."""
    module, name = getattr(target, "__module__", None), str(getattr(target, "__qualname__", "<"))
    same = (getattr(known, "__module__", None), getattr(known, "__qualname__", None))
    return same == (module, name) and "<" not in name


def _describe(target: Any) -> str:
    if isinstance(target, str):
        return target
    return f"{getattr(target, '__module__', '?')}:{getattr(target, '__qualname__', target)}"


def _origin(point: EntryPoint) -> str:
    return f"package '{point.dist.name}'" if point.dist else f"'{point.value}'"
