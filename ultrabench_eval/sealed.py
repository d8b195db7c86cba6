"""JSON files that prove themselves: their fields, and a digest of all of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)
from safetensors import SafetensorError

from ultrabench_eval.core import files, hashing
from ultrabench_eval.core.errors import UserError

AGAIN = "run the same `ubench run` command again, which measures it again"
EARLIER = "written by an earlier version, without a digest"


class Sealed(BaseModel):
    """What is kept in such a file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    later: ClassVar[frozenset[str]] = frozenset()
    """Fields that earlier versions did not have: left out of a file where they are the default, so
    that an earlier version can read it, and equal results are equal files."""

    @model_serializer(mode="wrap")
    def _without_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        known: dict[str, Any] = dump(self)
        fields = type(self).model_fields
        for name in self.later:
            if getattr(self, name) == fields[name].get_default(call_default_factory=True):
                known.pop(name, None)
        return known


T = TypeVar("T", bound=Sealed)


def content(sealed: Sealed) -> bytes:
    """Of the file."""
    fields = hashing.seal(sealed.model_dump(mode="json"))
    return (json.dumps(fields, indent=1, ensure_ascii=False) + "\n").encode()


def write(path: Path, sealed: Sealed) -> str:
    """Write a file; returns its digest."""
    data = content(sealed)
    files.write_bytes(path, data)
    digest: str = json.loads(data)["sha256"]
    return digest


def read(path: Path, kind: type[T], defaults: dict[str, Any] | None = None) -> tuple[T, str] | None:
    """A file's content and its digest; None if there is no such file.

    The digest is "" for a file of an earlier version, which held none.

    Args:
        path: of the file.
        kind: what it should hold.
        defaults: of fields that earlier versions did not write.

    Raises:
        UserError: it is damaged.
    """
    with telling(path):
        try:
            fields = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        if not isinstance(fields, dict):
            raise ValueError("it holds no fields")
        digest = fields.get("sha256", "")
        if digest == "" and "sha256" not in fields:
            known = {name: part for name, part in fields.items() if name in kind.model_fields}
            return kind.model_validate({**(defaults or {}), **known}), ""
        if not hashing.sealed(fields):
            raise ValueError("its digest is not that of its content")
        del fields["sha256"]
        return kind.model_validate(fields), str(digest)


@contextmanager
def telling(path: Path) -> Iterator[None]:
    """Whatever is wrong inside becomes a sentence about the file."""
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; {AGAIN}") from error
    except PermissionError as error:
        raise UserError(f"{path} may not be read; ask its owner for permission") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        where = f"field {place}" if place else first["msg"]
        raise UserError(
            f"{path} is damaged or was written by another version ({where}); {AGAIN}"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError) as error:
        raise UserError(f"{path} is damaged ({error}); {AGAIN}") from error
