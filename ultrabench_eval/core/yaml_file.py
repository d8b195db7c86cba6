"""YAML that people write: plain text, numbers and keys, each key once.

YAML allows more than a settings file needs, and each addition is a way to be misunderstood: of a
key given twice the last one silently wins, and a few lines of aliases stand for gigabytes.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ultrabench_eval.core.errors import UserError, not_found

MOST_BYTES = 2**20
MOST_PARTS = 20_000  # keys and values of a file, those that aliases repeat included
DEEPEST = 20
_MERGE = "tag:yaml.org,2002:merge"


def read(path: Path, what: str) -> dict[str, Any]:
    """The keys and values of a file; an empty one has none.

    Args:
        path: of the file.
        what: what an error calls it, such as "protocol".

    Raises:
        UserError: the file is missing or unreadable, is not YAML, holds a key twice, or holds
            something else than keys with text, finite numbers, true, false, null and lists.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise not_found(what, path, "name an existing file") from error
    except OSError as error:
        raise UserError(
            f"cannot read {what} {path} ({error.strerror or error}); check the path and its "
            "permissions"
        ) from error
    try:
        if len(data) > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES} bytes")
        content = parse(data.decode("utf-8-sig"))
        if content is None:  # nothing but comments
            return {}
        if not isinstance(content, dict):
            raise ValueError("it does not consist of lines `key: value`")
    except ValueError as error:
        raise UserError(f"cannot read {what} {path} ({error}); fix the file") from error
    return content


def parse(text: str) -> Any:
    """The value that a text stands for.

    Raises:
        ValueError: see `read`; it says in which line.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _measure(node, {})
        content = loader.construct_document(node)
    except yaml.YAMLError as error:
        raise ValueError(f"it is not YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    _check(content, "")
    return content


def not_a_switch(value: Any) -> Any:
    """`value`, unless it is true or false, which Python counts as 1 and 0.

    Raises:
        ValueError: it is.
    """
    if isinstance(value, bool):
        raise ValueError(f"must be a number, not {str(value).lower()}")
    return value


class _Loader(yaml.SafeLoader):
    """Says in which line a value stands that cannot be built: 2024-13-45, or 5,000 digits."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, OverflowError) as error:
            if isinstance(error, _Placed):
                raise
            line = node.start_mark.line + 1
            raise _Placed(f"the value in line {line} is not valid: {error}") from error


class _Placed(ValueError):
    """An error that names its line."""


class _Size(NamedTuple):
    """What is in a node, aliases as often as they stand."""

    parts: int
    height: int


def _measure(node: yaml.Node, known: dict[int, _Size | None]) -> _Size:
    """Count the parts of a node, and see that none of its keys is given twice.

    Args:
        node: the node.
        known: sizes of nodes by their ids; None while a node is being counted.
    """
    line = node.start_mark.line + 1
    if id(node) in known:
        size = known[id(node)]
        if size is None:
            raise ValueError(f"the alias in line {line} holds itself")
        return size
    known[id(node)] = None
    inner: list[yaml.Node] = []
    if isinstance(node, yaml.SequenceNode):
        inner = node.value
    elif isinstance(node, yaml.MappingNode):
        _check_keys(node)
        inner = [part for pair in node.value for part in pair]
    sizes = [_measure(part, known) for part in inner]
    size = _Size(
        1 + sum(one.parts for one in sizes), 1 + max((one.height for one in sizes), default=0)
    )
    if size.parts > MOST_PARTS:
        raise ValueError(f"line {line} stands for more than {MOST_PARTS} values")
    if size.height > DEEPEST:
        raise ValueError(f"line {line} is nested more than {DEEPEST} deep")
    known[id(node)] = size
    return size


def _check_keys(node: yaml.MappingNode) -> None:
    first: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise ValueError(f"the key in line {line} is not a word")
        if key.value in first and key.tag != _MERGE:
            raise ValueError(
                f"the key '{key.value}' is given twice, in lines {first[key.value]} and {line}"
            )
        first[key.value] = line


def _check(value: Any, name: str) -> None:
    """See that a value is of the plain kinds, and each number finite."""
    where = f"'{name}' " if name else "it "
    if isinstance(value, dict):
        for key, part in value.items():
            if not isinstance(key, str):
                raise ValueError(f"the key {key!r} is not a word; put it in quotes")
            _check(part, f"{name}.{key}" if name else key)
    elif isinstance(value, list):
        for number, part in enumerate(value):
            _check(part, f"{name}.{number}" if name else str(number))
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where}is {value}, not a finite number")
    elif isinstance(value, int) and abs(value) >= 2**63:
        raise ValueError(f"{where}is a number of more than 63 bits")
    elif value is not None and not isinstance(value, str | int | float):
        raise ValueError(f"{where}is a {type(value).__name__}; put it in quotes if it is a text")
