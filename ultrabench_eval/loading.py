"""The plan of a run: what is asked for, what is there, what is missing, before anything is made."""

from __future__ import annotations

import dataclasses
import functools
import os
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch

import model_zoo
import tasks as task_zoo
from model_zoo import Card, Encoder, forensics, guests
from model_zoo.behaviour import Behaviour, observe_places
from model_zoo.checkpoints import files as checkpoints
from model_zoo.clip_rule import ClipRule
from tasks import derived, prepare
from tasks.near_duplicates import signatures
from tasks.own_data.reading import Reading
from tasks.samples.clips import Clip
from tasks.samples.images import Image
from tasks.task import Task
from ultrabench_eval import data_warnings, shown, task_types
from ultrabench_eval.core import command
from ultrabench_eval.core.errors import NotInThisCopy, UserError
from ultrabench_eval.shown import Sample, Takes

T = TypeVar("T")

_COMPILED = " compiled"
WORKS_NOW = (
    "this works now, without data or weights of your own: "
    "ubench run --model usrc-jepa-nano,random-vit-tiny,pixels --task all --data phantom"
)


class Problems(UserError):
    """Everything that keeps a run from starting, one sentence each.

    Args:
        problems: the sentences.
        hint: what to do instead, or "".
    """

    def __init__(self, problems: Sequence[str], hint: str = "") -> None:
        super().__init__("\n".join([*problems, *([hint] if hint else [])]))
        self.problems = list(problems)


class NoData(UserError):
    """All tasks are asked for, no folder of data is named, and none of their images is found."""


@dataclass
class Model:
    """A model that is asked for; its network is in memory only while it is needed."""

    name: str
    weights: str | None
    device: str
    dtype: str
    """As asked for; "auto" until `precision.settle` has decided."""
    accept_license: bool = False
    compile: bool = False
    fingerprint: str = field(default="", init=False)
    behaviour: Behaviour | None = field(init=False)
    """What it gives for a few fixed images; observed when it is loaded."""
    info: dict[str, str | int | None] = field(init=False)
    card: Card = field(init=False)
    random_weights: bool = field(init=False)
    batch_size: int = field(init=False)
    processor: torch.device = field(init=False)
    has_maps: bool = field(init=False)
    takes: Takes = field(init=False)
    """What the network is given: an image, or a clip of the frames that `clip_rule` names."""
    clip_rule: ClipRule | None = field(init=False)
    alarms: list[str] = field(init=False)
    """What a short look at its wrapper found wrong, a sentence each."""
    _encoder: Encoder | None = field(default=None, init=False)
    _at_places: dict[tuple[str, str], Behaviour] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        encoder = self.encoder()
        self.fingerprint = encoder.fingerprint
        self.behaviour = encoder.behaviour
        self.card = encoder.card
        self.random_weights = encoder.random_weights
        self.batch_size = encoder.batch_size
        self.processor = encoder.device
        self.has_maps = encoder.has_maps
        self.takes, self.clip_rule = encoder.takes, encoder.clip_rule
        self.alarms = [
            f"model '{self.name}' is probably wrapped wrongly ({clue.family}): {clue.saw}; "
            f"{clue.change}. All that can be told: ubench models {self.name} --check"
            for clue in forensics.quick(encoder)
        ]
        if not (encoder.reduced and self.dtype == "auto"):
            self.dtype = str(encoder.dtype).removeprefix("torch.")
        self.info = {
            "title": encoder.card.title,
            "pooling": encoder.pooling,
            "input_size": encoder.input_size,
            "parameters": encoder.parameter_count,
            "status": encoder.card.status,
            **_confirmed(encoder),
            "saw": encoder.card.contamination,
            **_weights_info(encoder),
        }

    def behaviour_at(self, kind: Literal["tokens", "maps"]) -> Behaviour:
        """What it gives for places of a few fixed images (`observe_places`), in the dtype of now.

        Raises:
            NotImplementedError: the model has none.
            UserError: as `encoder`.
        """
        found = self._at_places.get((kind, self.numerics))
        if found is None:
            found = self._at_places[kind, self.numerics] = observe_places(self.encoder(), kind)
        return found

    @property
    def numerics(self) -> str:
        """What rounds the features besides the weights: dtype, and whether it is compiled."""
        return f"{self.dtype}{_COMPILED}" if self.compile else self.dtype

    def encoder(self) -> Encoder:
        """The network, loaded if it is not in memory.

        Raises:
            UserError: it cannot be loaded, or is not what it was when the run was planned.
        """
        if self._encoder is None:
            self._encoder = model_zoo.load(
                self.name,
                self.weights,
                self.device,
                self.dtype,
                accept_license=self.accept_license,
                compile=self.compile,
            )
        if self.fingerprint not in ("", self._encoder.fingerprint):
            self.release()
            raise UserError(
                f"model '{self.name}' changed during the run (its weights or its code); run again"
            )
        return self._encoder

    def exact(self) -> Encoder:
        """The network in float32 and not compiled, for fine-tuning.

        Raises:
            UserError: see `encoder`.
        """
        if self.encoder().dtype == torch.float32 and not self.compile:
            return self.encoder()
        found = model_zoo.load(
            *(self.name, self.weights, self.device, "float32"), accept_license=self.accept_license
        )
        if found.fingerprint != self.fingerprint:
            raise UserError(f"model '{self.name}' changed during the run; run again")
        return found

    def shown(
        self,
        sample: Image | Clip,
        kind: str = "pooled",
        corruption: str = "none",
        severity: int = 0,
        seed: int = 0,
    ) -> Sample:
        """What it is shown of a sample; see `shown.of`."""
        return shown.of(sample, self.takes, self.clip_rule, kind, corruption, severity, seed)

    def extent(self, height: int, width: int) -> tuple[float, ...]:
        """See `Encoder.extent`."""
        return self.encoder().extent(height, width)

    def settle(self, dtype: str) -> None:
        """Fix what "auto" means; a network in memory follows."""
        self.dtype = dtype
        if self._encoder is None or str(self._encoder.dtype) == f"torch.{dtype}":
            return
        if self._encoder.dtype == torch.float32:
            self._encoder.to(getattr(torch, dtype))
        else:  # its weights are rounded
            self.release()

    def release(self) -> None:
        """Free the network's memory; `encoder()` loads it again."""
        self._encoder = None


def same_model(
    name: str,
    weights: Mapping[str, str],
    device: str,
    *,
    numerics: str,
    fingerprint: str,
    random_weights: bool,
) -> Model:
    """The model of a result, which must be the very one.

    Args:
        name: with its pooling, if it has one.
        weights: see `make`; a model that was measured with random weights gets them again.
        device: see `model_zoo.load`.
        numerics: of the result, see `Model.numerics`.
        fingerprint: of the result's model.
        random_weights: whether the result says that they were random.

    Raises:
        UserError: it cannot be loaded, or is another one.
    """
    model = Model(
        name,
        weights_of(name, weights) or ("random" if random_weights else None),
        device,
        numerics.removesuffix(_COMPILED),
        compile=numerics.endswith(_COMPILED),
    )
    if model.fingerprint != fingerprint:
        raise UserError(
            f"this is not the model of the run, its fingerprint differs; pass the run's own "
            f"--weights {name}=PATH"
        )
    return model


@dataclass(frozen=True)
class Plan:
    """Models x tasks, each ready or with the reason why it is not, in the order asked for."""

    models: dict[str, Model | str]
    tasks: dict[str, Task | str]

    @property
    def problems(self) -> list[str]:
        """The reasons, each once."""
        reasons = [x for x in [*self.tasks.values(), *self.models.values()] if isinstance(x, str)]
        return list(dict.fromkeys(reasons))


def make(
    models: Sequence[str],
    tasks: Sequence[str],
    *,
    data: Path | None,
    reading: Reading | None = None,
    weights: Mapping[str, str],
    device: str,
    dtype: str,
    accept_license: bool = False,
    compile: bool = False,
    partial: bool = False,
    labels: Path | None = None,
    cache: Path | None = None,
) -> Plan:
    """Load and check every model and every task once.

    A model's network is let go of again when there are several: it is loaded a second time if
    there is something to encode, and memory never holds two.

    Args:
        models: names.
        tasks: names or paths of own data.
        data: data root, or None.
        reading: how own data are read.
        weights: checkpoint by model name, with or without pooling; "all" stands for every model.
        device: see `model_zoo.load`.
        dtype: see `model_zoo.load`.
        accept_license: see `model_zoo.load`.
        compile: see `model_zoo.load`.
        partial: whether a task may lack more than half of its release's images.
        labels: see `tasks.derived.load`.
        cache: where signatures of images are kept, which tell those that two sets have in common.
    """
    alone = len(models) == 1
    store = signatures.store(cache) if cache else None

    @functools.cache  # a task may be asked for by itself and as a part of others
    def read(name: str) -> Task:
        if task_zoo.is_derived(name):
            return _checked(derived.load(name, read, labels, store))
        return _load_task(name, data, reading, partial)

    return Plan(
        models={
            name: _attempt(
                f"model '{name}'",
                _load_model,
                alone,
                name,
                weights_of(name, weights),
                device,
                dtype,
                accept_license,
                compile,
            )
            for name in models
        },
        tasks={task_zoo.label(name): _attempt(f"task '{name}'", read, name) for name in tasks},
    )


def with_stand_ins(
    models: Sequence[str], weights: Mapping[str, str]
) -> tuple[list[str], list[str]]:
    """Models, some of them replaced by those of this project, and a sentence if there are any.

    Args:
        models: names, with pooling or without.
        weights: checkpoint by model name; a model with weights of the user's own stays.
    """
    taken: dict[str, str] = {}
    for name in models:
        base, pooling = model_zoo.split(name)
        other = model_zoo.STAND_INS.get(base, "")
        if other in model_zoo.registry and not _has_weights(name, base, weights):
            taken[name] = f"{other}/{pooling}" if pooling else other
    names = list(dict.fromkeys(taken.get(name, name) for name in models))
    if not taken:
        return names, []
    first = model_zoo.split(next(iter(taken)))[0]
    return names, [
        f"the US-JEPA paper's ViT-B weights are not public, so {' and '.join(taken.values())}, "
        f"trained by this project, {'is' if len(taken) == 1 else 'are'} measured in place of "
        f"{' and '.join(taken)}; to use weights of your own: --weights {first}=PATH"
    ]


def _has_weights(name: str, base: str, weights: Mapping[str, str]) -> bool:
    try:
        named = weights_of(name, weights)
        return named is not None or checkpoints.find(base, None) is not None
    except UserError:  # several files fit, reported when one is loaded
        return True


def weights_of(name: str, weights: Mapping[str, str]) -> str | None:
    """The checkpoint that is meant for a model: by its name, that without pooling, or "all"."""
    found = (weights.get(key) for key in (name, model_zoo.split(name)[0], "all"))
    return next((path for path in found if path), None)


def _weights_info(encoder: Encoder) -> dict[str, str | int | None]:
    """File, part of it and checksum, by which a reader finds the same weights again."""
    if encoder.weights_file is None:
        return {}
    entry, layout = getattr(encoder, "filled", None) or (None, None)
    return {
        "weights_file": encoder.weights_file.name,
        "weights_sha256": encoder.weights_sha256,
        "weights_entry": entry,
        "weights_layout": layout,
        **({"dropped": ", ".join(encoder.dropped)} if encoder.dropped else {}),
        **({"used": encoder.used} if encoder.used else {}),
        **({"assumed": "; ".join(encoder.assumed)} if encoder.assumed else {}),
    }


def _confirmed(encoder: Encoder) -> dict[str, str]:
    """Who confirmed what the wrapper gives; of a control there is nothing to confirm."""
    control = encoder.card.status == "control"
    return {} if control else {"verified": encoder.card.verified}


def _load_model(keep: bool, name: str, *options: Any) -> Model:
    model = Model(name, *options)
    if not keep:
        model.release()
    return model


def _load_task(name: str, data: Path | None, reading: Reading | None, partial: bool) -> Task:
    if data is None and not task_zoo.is_manifest(name):
        raise UserError(
            "no data folder: pass --data ROOT or set UBENCH_DATA, where ROOT/aul, ROOT/busbra "
            "... hold the unzipped releases (`ubench tasks` says where to get each)"
        )
    task = task_zoo.load(name, data, reading)
    if task.card.type not in task_types.registry:
        raise UserError(f"task '{task.name}': {task_types.registry.unknown(task.card.type)}")
    there = sum(map(len, task.splits.values())) + len(task.unused)
    if not partial and not task.synthetic and 2 * there < (task.card.images or 0):
        raise UserError(
            f"{task.origin} has {there} of the {task.card.images:,} images of task '{task.name}', "
            "less than half; get the others, or measure what is there with --partial"
        )
    _checked(task)
    changed = prepare.differences(task, data) if data is not None else []
    notes = (*task.notes, *data_warnings.changed(changed), *changed)
    return dataclasses.replace(task, notes=notes) if changed else task


def _checked(task: Task) -> Task:
    _ = task_types.get(task.card.type).every  # or two metrics have one name
    _ = task.fingerprint  # reads every file once, so an unreadable one shows now
    return task


def resolve_names(asked: str | Path | Iterable[str | Path], known: Iterable[str]) -> list[str]:
    """Names from a comma-separated string or a list, each once; "all" stands for all known ones.

    A comma inside the path of a file that is there does not split it. Families ("timm/<name>") are
    not part of "all".
    """
    if isinstance(asked, Path):
        asked = [asked]
    parts = _split(asked) if isinstance(asked, str) else list(map(str, asked))
    names: list[str] = []
    for part in (p.strip() for p in parts):
        names += [n for n in known if not n.endswith("<name>")] if part == "all" else [part]
    return [name for name in dict.fromkeys(names) if name]


def _split(asked: str) -> list[str]:
    """The parts of a comma-separated list; the longest run of them that names a file is one."""
    pieces = asked.split(",")
    parts: list[str] = []
    while pieces:
        ends = range(len(pieces), 1, -1)
        joined = (",".join(pieces[:end]).strip() for end in ends)
        whole = next((one for one in joined if _is_file(one)), pieces[0])
        parts.append(whole)
        pieces = pieces[whole.count(",") + 1 :]
    return parts


def _is_file(name: str) -> bool:
    """Whether it is a table, a folder of classes, or a task with a split file."""
    task, _, splits = name.partition("@")
    folder = task_zoo.is_folder(name) and os.path.isdir(name)
    return folder or os.path.isfile(name) or ("," not in task and os.path.isfile(splits))


def check_labels(tasks: Sequence[str]) -> list[str]:
    """Problems of task names as such: two that would share a row, a manifest named as a task."""
    problems = []
    seen: dict[str, str] = {}
    for task in tasks:
        label = task_zoo.label(task)
        for part in task_zoo.parts(task):
            if task_zoo.is_manifest(part) and (called := task_zoo.label(part)) in task_zoo.registry:
                problems.append(
                    f"manifest {part} has the name of the built-in task '{called}'; rename the file"
                )
        if label in seen:
            problems.append(f"{seen[label]} and {task} are both called '{label}'; rename one file")
        seen[label] = task
    return list(dict.fromkeys(problems))


# What somebody's code may raise. A `KeyboardInterrupt` is the user's own.
FOREIGN = (Exception, SystemExit, GeneratorExit)


def reason(error: BaseException) -> str:
    """One line on what went wrong: the sentence of a UserError, else type, message and place."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, SystemExit):
        return f"its code ended the program (exit code {error.code}); remove its call of sys.exit()"
    if isinstance(error, OSError) and error.filename is not None:
        return command.sentence(error)
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return "out of memory; use fewer --workers, or another --device"
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    message = " ".join(str(error).split())
    return f"{type(error).__name__}{where}: {message}"


class Lacking(str):
    """Why a task cannot be measured: this copy of its release does not state its targets."""


def _attempt(what: str, load: Callable[..., T], *args: object) -> T | str:
    """What `load` gives, or why it cannot: the code behind a name may be a plugin's."""
    try:
        with guests.settings_kept():
            return load(*args)
    except NotInThisCopy as error:
        return Lacking(error)
    except UserError as error:
        return str(error)
    except FOREIGN as error:
        return f"{what} cannot be loaded ({reason(error)}); fix it and run again"
