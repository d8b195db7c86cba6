"""The protocol: every setting that can change a number, in one validated object.

`PROTOCOLS` holds those that have a name; anyone's own is a YAML file of the same fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from ultrabench_eval import probes
from ultrabench_eval.core import hashing, yaml_file
from ultrabench_eval.core.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from ultrabench_eval.probes.probe import Probe

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
# Within these bounds a probe computes with finite numbers; the widest grids in use are far inside.
_NUMBER = BeforeValidator(yaml_file.not_a_switch)
Count = Annotated[int, _NUMBER, Field(ge=1, le=10**6)]
_Positive = Annotated[float, _NUMBER, Field(ge=1e-12, le=1e12)]
_NotNegative = Annotated[float, _NUMBER, Field(ge=0, le=1e12)]
Values = Annotated[tuple[_Positive, ...], Field(min_length=1, max_length=1000)]
Decays = Annotated[tuple[_NotNegative, ...], Field(min_length=1, max_length=1000)]


def _own(given: Any) -> Any:
    """Settings by probe, validated by what each probe declares."""
    pairs = given.items() if isinstance(given, Mapping) else given
    return tuple((name, _validated(name, value)) for name, value in pairs)


def _validated(probe: str, value: Any) -> Any:
    kind = probes.get(probe).settings
    if kind is None:
        raise ValueError(f"the probe {probe} has no settings of its own")
    if isinstance(value, kind):
        return value
    known = [field.name for field in fields(kind)]
    for key in value:
        if key not in known:
            near = did_you_mean(key, known)
            raise ValueError(f"{probe} has no setting '{key}'{near} it has {', '.join(known)}")
    return TypeAdapter(kind).validate_python(value)


@dataclass(frozen=True, config=STRICT)
class Gradient:
    """How a probe is trained step by step: `linear` and `attentive`.

    The defaults are the paper's (US-JEPA, Table 6). With more than one learning rate or weight
    decay every pair is tried, and each seed keeps the pair of the lowest validation loss.
    """

    optimizer: Literal["adamw"] = "adamw"
    learning_rates: Values = (1e-3,)
    weight_decays: Decays = (1e-4,)
    batch_size: Count = 32
    max_epochs: Count = 150
    """Also the length of the cosine annealing of the learning rate, which ends at 0."""
    patience: Count = 15
    """Training stops after so many epochs without a lower validation loss; the best epoch's
    weights are kept."""

    @property
    def settings(self) -> list[tuple[float, float]]:
        """The pairs (learning rate, weight decay) that are tried."""
        return [(rate, decay) for rate in self.learning_rates for decay in self.weight_decays]


@dataclass(frozen=True, config=STRICT)
class FineTuning(Gradient):
    """How a network is trained on, with a linear head of its own on its features.

    By AdamW; the learning rate rises over the warm-up and is annealed by a cosine once an epoch.
    Every pair of learning rate and weight decay is tried with seed 0, and all seeds are trained
    with the pair of the lowest validation loss, by the weights of their best epoch.
    """

    learning_rates: Annotated[tuple[_NotNegative, ...], Field(min_length=1, max_length=100)] = (
        *(2e-4, 1e-3),
    )
    """Of the network's last layers; 0 leaves the network as it is."""
    weight_decays: Annotated[tuple[_NotNegative, ...], Field(min_length=1, max_length=100)] = (
        0.05,
    )
    """Of the network's matrices and kernels."""
    max_epochs: Count = 8
    patience: Count = 4
    max_steps: Annotated[int, _NUMBER, Field(ge=0, le=10**9)] = 0
    """With a number, as many epochs as have so many steps; `max_epochs` is not looked at."""
    warmup_epochs: Annotated[int, _NUMBER, Field(ge=0, le=10**6)] = 1
    head_learning_rate: _NotNegative = 1e-3
    head_weight_decay: _NotNegative = 1e-4
    scope: Literal["whole", "last", "lora"] = "whole"
    """What of the network is trained: all of it; its last `blocks` blocks and what follows them; or
    low-rank additions to the attention's queries and values (LoRA, arXiv 2106.09685)."""
    blocks: Annotated[int, _NUMBER, Field(ge=0, le=10**6)] = 4
    """With 0 nothing but the head is trained."""
    rank: Count = 8
    """Of the additions."""
    layer_decay: Annotated[float, _NUMBER, Field(gt=0, le=1)] = 0.75
    """The learning rate of each block is so many times that of the block behind it (BEiT, arXiv
    2106.08254); what is before the blocks counts as one more."""
    freeze_norm: bool = True
    """Normalisation layers keep their statistics, scales and offsets."""
    dropout: bool = False
    """Whether the network's dropout and stochastic depth are at work."""
    augmentation: Literal["light", "none"] = "light"
    """Training images are flipped left to right half of the time and get up to 10 % more or less
    contrast and brightness; for classes, 85 to 100 % of each side is shown."""
    loss: Literal["cross-entropy", "focal"] = "cross-entropy"
    """Of classes; "focal" with gamma 2 (arXiv 1708.02002). The best epoch and setting are chosen by
    the cross-entropy either way."""
    accumulate: Annotated[int, _NUMBER, Field(ge=0, le=10**6)] = 0
    """In how many parts a batch goes through the network; their gradients add up to that of the
    batch. 0: four images at a time on a CPU, whose caches hold no more; all at once on a GPU."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the network's products; "auto" is bfloat16 on a GPU that has it, else float32."""
    input_size: Annotated[int, _NUMBER, Field(ge=8, le=8192)] | None = None
    """Side of the input in pixels, in place of the model's own."""
    decision: Literal["argmax", "threshold"] = "argmax"
    """How masks are made of logits, as for the dense probe."""


@dataclass(frozen=True, config=STRICT)
class Protocol:
    """How probes are trained and selected. The defaults are the paper's.

    The paper has only the linear probe, and classes; all else is ours, and the setting is always
    the one with the lowest validation loss. No probe is ever trained on validation images.
    The number of seeds is not part of a protocol: it says how often it is repeated.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")] = "paper"
    standardize: bool = False
    """Features are brought to mean 0 and deviation 1 by their training images; else they are used
    as the encoder gives them, and the result depends on their scale."""
    fewshot_validation: Literal["whole", "subset"] = "whole"
    """With a training subset, validation stays whole (as the paper has it) or is reduced to the
    same fraction."""
    gradient: Gradient = Gradient()
    costs: Values = tuple(10.0**power for power in range(-4, 5))
    """`logistic`: C, the weight of the data against the squared norm of all classes' weights: that
    of scikit-learn; with two classes, for which that keeps one vector, half of it."""
    penalties: Values = tuple(10.0**power for power in range(-6, 4))
    """`ridge`: weight of the squared norm, relative to the features' mean variance."""
    neighbours: Annotated[tuple[Count, ...], Field(min_length=1, max_length=1000)] = (
        *(1, 3, 5, 10, 20, 50, 100, 200),
    )
    """`knn`: numbers of neighbours."""

    predicts: Literal["classes", "masks", "numbers"] = "classes"
    """Which tasks it is for, by what is predicted of an image."""
    usual_probe: str | None = None
    """The probe where none is named; None: that of `USUAL`. Numbers do not depend on it."""
    own: Annotated[tuple[tuple[str, Any], ...], BeforeValidator(_own)] = ()
    """Settings of probes that bring some of their own (`probes.probe.Probe.settings`), by name."""
    finetune: FineTuning | None = None
    """With it, networks are fine-tuned, for tasks of every kind; without it they are frozen."""

    def of(self, probe: str) -> Any:
        """The settings of a probe that brings some of its own; None for others."""
        if probes.get(probe).reads == "images":
            return self.finetune
        kind = probes.get(probe).settings
        return dict(self.own).get(probe, kind()) if kind else None

    def settings(self, probe: str) -> dict[str, Any]:
        """What this probe's numbers depend on."""
        known, own = probes.get(probe), self.of(probe)
        code = _code(known, probe)
        return {
            "probe": probe,
            "standardize": self.standardize,
            "fewshot_validation": self.fewshot_validation,
            **known.uses(self),
            **(asdict(own) if own else {}),
            **({"code": code} if code else {}),
        }

    def id(self, probe: str) -> str:
        """Short name for tables and files: the name and 8 digits of the settings' SHA-256."""
        return f"{self.name}-{hashing.short(hashing.digest(self.settings(probe)), 8)}"


def _code(probe: Probe, name: str) -> str:
    """Digest of the code of anyone's probe; "" for ours, whose changes are new versions."""
    from model_zoo import code_identity, executed

    ours = executed.is_ours(probe.train.__module__)
    return "" if ours else code_identity.of([probe.train], f"probe '{name}'")


PAPER = Protocol()
TUNED = Protocol(
    name="tuned",
    standardize=True,
    gradient=Gradient(
        learning_rates=(1e-5, 1e-4, 1e-3, 1e-2), weight_decays=(1e-4, 0.1, 1.0, 10.0)
    ),
)
DENSE = Protocol(name="dense", standardize=True, predicts="masks")
CAMUS_VJEPA = Protocol(  # whose settings are the defaults of its probe
    name="camus_vjepa", standardize=True, predicts="masks", usual_probe="transposed"
)
REGRESSION = Protocol(name="regression", standardize=True, predicts="numbers")
FINETUNE = Protocol(name="finetune", standardize=True, finetune=FineTuning())
FINETUNE_ULTRASAM = Protocol(
    name="finetune_ultrasam",
    finetune=FineTuning(
        learning_rates=(1e-4,),
        weight_decays=(1e-4,),
        head_learning_rate=1e-4,
        batch_size=8,
        max_steps=2000,
        patience=2000,
        warmup_epochs=0,
        layer_decay=1.0,
        freeze_norm=False,
        loss="focal",
        input_size=1024,
    ),
)
"""INFERRED, not run here: the public recipe that the comparison in USF-MAE (arXiv 2510.22990)
probably follows. Known of it are 1024 pixels, AdamW at 1e-4, the focal loss and 2,000 iterations of
the whole network; batch size, weight decay and schedule are guesses."""
PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        *(PAPER, TUNED, DENSE, CAMUS_VJEPA, REGRESSION),
        *(FINETUNE, FINETUNE_ULTRASAM),
    )
}
USUAL = {
    "classes": ("linear", PAPER),
    "masks": ("dense", DENSE),
    "numbers": ("ridge_regression", REGRESSION),
}
"""The probe and the protocol where none is named, by what is predicted."""
FINE_TUNING = {"classes": "finetune", "masks": "finetune_masks", "numbers": "finetune_numbers"}
"""The probe that fine-tunes, by what is predicted."""


def load(name: str | Path) -> Protocol:
    """A protocol by name, or from a YAML file.

    Raises:
        UserError: unknown name, or a file with an unknown key or a value out of range.
    """
    if (known := str(name).replace("-", "_")) in PROTOCOLS:  # camus-vjepa, as tasks are written
        return PROTOCOLS[known]
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        raise UserError(
            f"there is no protocol '{name}'{did_you_mean(str(name), PROTOCOLS)} there are "
            f"{', '.join(PROTOCOLS)}, or a .yaml file"
        )
    content = yaml_file.read(path, "protocol")
    named = {field.name for field in fields(Protocol)}
    own = {key: content.pop(key) for key in probes.names() if key in content.keys() - named}
    try:
        protocol: Protocol = TypeAdapter(Protocol).validate_python(
            {"name": path.stem, **content, **({"own": own} if own else {})}
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        reason = first["msg"].removeprefix("Value error, ")
        raise UserError(
            f"protocol {path}: {where}: {reason[:1].lower()}{reason[1:]}; fix the file"
        ) from error
    usual = protocol.usual_probe
    if usual and probes.get(usual).predicts != protocol.predicts:
        raise UserError(
            f"protocol {path}: usual_probe: {usual} does not predict {protocol.predicts}; fix the "
            "file"
        )
    if protocol.name in PROTOCOLS and protocol != PROTOCOLS[protocol.name]:
        raise UserError(
            f"protocol {path} is called '{protocol.name}' as a built-in one; give it another name"
        )
    return protocol
