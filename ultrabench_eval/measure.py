"""One model on one task: features, probes, scores, for all conditions that are not measured yet.

Features of a split are read once, probes of all fractions trained together, and each corrupted
test set is encoded once for all probes. A failure spoils the cells that depend on it and no other.
"""

from __future__ import annotations

import re
import shutil
import socket
import time
import traceback
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

import tasks as task_zoo
from model_zoo import behaviour, code_identity, executed
from tasks.samples.clips import Clip, still
from tasks.samples.images import Image
from tasks.samples.label_masks import size_of
from tasks.task import Split, Task
from ultrabench_eval import (
    corrupt,
    data_warnings,
    features,
    fewshot,
    finetune,
    folds,
    loading,
    metrics,
    precision,
    probes,
    seen,
    shown,
    task_types,
)
from ultrabench_eval.cells import (
    FRAMES_POOLED,
    TRANSFER,
    Cell,
    Cells,
    Coordinates,
    CorruptionFacts,
    Failure,
    MetricFacts,
    identity,
)
from ultrabench_eval.core import hashing
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.core.grouping import by_key
from ultrabench_eval.corrupt import CorruptedClip, CorruptedImage
from ultrabench_eval.feature_rows import Features, InMemory
from ultrabench_eval.features import Kind, Store
from ultrabench_eval.finetune import PreparedImages, Tunable
from ultrabench_eval.grid import Grid
from ultrabench_eval.loading import Model
from ultrabench_eval.metrics import Metric
from ultrabench_eval.probe_files import Inputs, ProbeFiles
from ultrabench_eval.probes.finetune_network import precision_of
from ultrabench_eval.probes.finetune_training import FineTuned
from ultrabench_eval.probes.heads import DataOf, Head, Probes, at_an_edge, streams
from ultrabench_eval.protocol import Protocol
from ultrabench_eval.seen import TrainedOn
from ultrabench_eval.shown import Sample
from ultrabench_eval.task_types.calibration import temperature
from ultrabench_eval.task_types.task_type import FoldPredictions, Predicts, TaskType
from ultrabench_eval.test_set import TestSet
from ultrabench_eval.versions import versions

Stage = Literal["done", "kept", "failed"]
Reads = Kind | Literal["images"]
Read = Tensor | Features
"""What a probe reads of N images: pooled features [N, D], tokens [N, T, D], maps [N, D, h, w], or
prepared images [N, 3, S, S]."""
CORRUPTION_SEED = 0  # there is one corrupted test set, the same for all seeds of the probe


@dataclass(frozen=True)
class Setting:
    """What all cells of a run share.

    Args:
        cells: where they are written.
        cache: folder of the features.
        seeds: number of probes per cell.
        grid: the conditions.
        encoding: called with (model, task, images done, of how many, new) while images are encoded.
        probing: called with (model, task) when probes are trained.
        tuning: called with (model, task, images done, of how many at most) while networks are
            fine-tuned, of all trainings of a protocol.
        identifiers: whether names of images and groups of people's own data are kept.
        given_up: cells that failed in another process and are not tried again in this run.
        keep_probes: whether trained probes are kept (`probe_files`).
        seen: what models were trained on, by their names.
    """

    cells: Cells
    cache: Path
    seeds: int
    grid: Grid
    encoding: Callable[[str, str, int, int, int], None]
    probing: Callable[[str, str], None]
    given_up: Container[Coordinates] = ()
    identifiers: bool = True
    tuning: Callable[[str, str, int, int], None] = lambda *at: None
    keep_probes: bool = False
    seen: Mapping[str, TrainedOn] = field(default_factory=dict)


def measure(
    model_name: str, model: Model | str, task_name: str, task: Task | str, setting: Setting
) -> Iterator[Stage]:
    """Leave every cell of the grid on disk, finished or failed; yields what became of each.

    Args:
        model_name: as asked for.
        model: or why it cannot be had.
        task_name: the task's label.
        task: or why it cannot be had.
        setting: of the run.
    """
    places = places_of(model_name, task_name, task, setting.grid)
    guard = _FailureGuard(setting.cells, task if isinstance(task, Task) else None)
    with guard(places):
        if isinstance(task, str):
            raise UserError(task)
        if isinstance(model, str):
            raise UserError(model)
        precision.settle(model, task.test.images, setting.cache)
        recognise(model, setting.cache, setting.cells.out)
        setting.cells.put_task(task, identifiers=setting.identifiers)
        bench = Bench(model, task, setting)
        for place in places:
            with guard([place]):
                found = setting.cells.get(place.at, bench.identity(place))
                if bench.is_whole(found):
                    guard.kept.add(place)
                elif place.at in setting.given_up:
                    guard.failed.add(place)
        _measure(bench, [place for place in places if guard.is_open(place)], guard)
    for place in places:
        yield guard.stage(place)


def tune(
    model_name: str, model: Model, task_name: str, task: Task, setting: Setting, seed: int
) -> None:
    """Fine-tune the networks of one seed, which wait on disk for `measure`; arguments as its.

    The first seed's come first, because they choose the setting; what is on disk is not done again.
    """
    precision.settle(model, task.test.images, setting.cache)
    recognise(model, setting.cache, setting.cells.out)
    bench = Bench(model, task, setting)
    places = places_of(model_name, task_name, task, setting.grid)
    tuned = [
        place
        for place in places
        if place.kind == "images"
        and not bench.is_whole(setting.cells.finished(place.at, bench.identity(place)))
    ]
    bench.tunable.seed = seed
    for (probe, protocol), members in by_key(((p.at.probe, p.protocol), p) for p in tuned).items():
        fractions = sorted({place.at.fraction for place in members})
        bench.train(probe, protocol, fractions, bench.features("images"))


def is_finished(
    model_name: str, model: Model | str, task_name: str, task: Task | str, setting: Setting
) -> bool:
    """Whether every cell of the grid is on disk, with what it depends on; arguments as `measure`'s.

    Nothing is written, as long as the model's dtype is known.
    """
    if isinstance(model, str) or isinstance(task, str):
        return False
    try:
        precision.settle(model, task.test.images, setting.cache)
    except (UserError, OSError):
        return False
    bench = Bench(model, task, setting)
    return all(
        bench.is_whole(setting.cells.finished(place.at, bench.identity(place)))
        for place in places_of(model_name, task_name, task, setting.grid)
    )


def recognise(model: Model, cache: Path, out: Path) -> None:
    """See that a model does what it did when the cache and the results folder were filled.

    Its fingerprint cannot see everything: a library that was updated, a file that a plugin reads.

    Raises:
        UserError: it does not, and its numbers must not be mixed with the ones that are there.
    """
    if model.behaviour is not None:
        _recognise(model, model.behaviour, [], cache, out)


def _recognise(
    model: Model, now: behaviour.Behaviour, of: list[str], cache: Path, out: Path
) -> None:
    """`recognise` by what is observed now: of pooled features ([]), "tokens" or "maps"."""
    name = hashing.short(hashing.digest([model.fingerprint, model.numerics, *of]), 32)
    made_by = {"host": socket.gethostname(), **versions()}
    for folder, option in ((cache, "--cache"), (out, "--out")):
        path = folder / "behaviour" / f"{name}.safetensors"
        if difference := behaviour.remember(path, now, made_by):
            raise UserError(
                f"model '{model.name}' is not the one that {folder} remembers ({path.name}): "
                f"{difference}; bring back what changed, or give another {option}"
            )


@dataclass(frozen=True)
class Place:
    """A cell that is asked for."""

    at: Coordinates
    protocol: Protocol

    @property
    def condition(self) -> tuple[str, int]:
        """Corruption and severity."""
        return self.at.corruption, self.at.severity

    @property
    def kind(self) -> Reads:
        """What its probe is trained on."""
        return probes.get(self.at.probe).reads


def places_of(model: str, task_name: str, task: Task | str, grid: Grid) -> list[Place]:
    """The cells that are asked for of a model and a task.

    Args:
        model: its name.
        task_name: the task's label.
        task: or why it cannot be had.
        grid: the conditions.
    """
    kind = predicts_of(task_name, task), cines_of(task_name, task)
    return [Place(at, one) for one, at in grid.cells(model, task_name, *kind)]


def predicts_of(task_name: str, task: Task | str) -> Predicts:
    """What is to be predicted for a task; of one that cannot be had, what its card says."""
    if isinstance(task, Task):
        return task_types.predicts(task.card.type)
    base = task_zoo.split_name(task_zoo.parts(task_name)[0])[0]
    return task_types.predicts(task_zoo.card(base).type if base in task_zoo.registry else "")


def cines_of(task_name: str, task: Task | str) -> bool:
    """Whether a task's samples are videos; of one that cannot be had, what its card says."""
    if isinstance(task, Task):
        return task.card.samples == "clip"
    base = task_zoo.split_name(task_zoo.parts(task_name)[0])[0]
    return base in task_zoo.registry and task_zoo.card(base).samples == "clip"


class _FailureGuard:
    """Turns what goes wrong into failed cells; the other cells go on."""

    def __init__(self, cells: Cells, task: Task | None) -> None:
        self.cells = cells
        self.task = task
        self.kept: set[Place] = set()
        self.failed: set[Place] = set()
        self.done: set[Place] = set()

    def is_open(self, place: Place) -> bool:
        """Neither there nor given up."""
        return place not in self.kept | self.failed | self.done

    def stage(self, place: Place) -> Stage:
        """What became of it."""
        if place in self.kept:
            return "kept"
        return "done" if place in self.done else "failed"

    @contextmanager
    def __call__(self, places: Iterable[Place]) -> Iterator[None]:
        """Whatever is raised inside fails those of the places that are open."""
        try:
            yield
        except UserError as error:
            self._fail(places, str(error))
        except loading.FOREIGN as error:  # a model may be anyone's code
            self._fail(places, loading.reason(error), traceback.format_exc())

    def _fail(self, places: Iterable[Place], reason: str, trace: str = "") -> None:
        for place in filter(self.is_open, places):
            failure = Failure(coordinates=place.at, reason=reason, traceback=trace)
            if self.task:
                known = {"synthetic": self.task.synthetic, "type": self.task.card.type}
                failure = failure.model_copy(update=known)
            self.cells.fail(failure)
            self.failed.add(place)


def _measure(bench: Bench, places: Sequence[Place], guard: _FailureGuard) -> None:
    """Probes on pooled features, then those on tokens; networks that are fine-tuned last."""
    for kind, members in by_key((p.kind, p) for p in places).items():
        with guard(members):
            _measure_kind(bench, kind, members, guard)
        if kind == "images" and not any(place in guard.failed for place in members):
            for folder in {bench.trainings(p.at.probe, p.protocol) for p in members}:
                shutil.rmtree(folder, ignore_errors=True)  # their cells are written


def _measure_kind(bench: Bench, kind: Reads, places: Sequence[Place], guard: _FailureGuard) -> None:
    """Features, then probes, then one test set after the other; in each fold, if there are any."""
    if kind == "tokens" or kind == "maps":
        with suppress(NotImplementedError):  # `features` says it better
            now = bench.model.behaviour_at(kind)
            _recognise(bench.model, now, [kind], bench.setting.cache, bench.setting.cells.out)
    x = [part.features(kind) for part in bench.folds]
    trained: dict[tuple[str, Protocol, int], list[_Trained]] = {}
    for (probe, protocol), members in by_key(((p.at.probe, p.protocol), p) for p in places).items():
        with guard(members):
            fractions = sorted({place.at.fraction for place in members})
            found = [
                part.train(probe, protocol, fractions, own)
                for part, own in zip(bench.folds, x, strict=True)
            ]
            for fraction in fractions:
                trained[probe, protocol, fraction] = [one[fraction] for one in found]
    still_open = filter(guard.is_open, places)
    for condition, members in by_key((p.condition, p) for p in still_open).items():
        with guard(members):
            test_x = [
                own["test"] if condition[0] == "none" else part.corrupted(*condition, kind)
                for part, own in zip(bench.folds, x, strict=True)
            ]
            for place in members:
                with guard([place]):
                    one = trained[place.at.probe, place.protocol, place.at.fraction]
                    bench.write(place, one, test_x, [own["validation"] for own in x])
                    guard.done.add(place)


@dataclass
class _Trained:
    """The probes of one fraction, one a seed, and how they were found."""

    stack: Probes
    """Those of all fractions and settings."""
    subset: int
    """Which of its subsets this fraction is."""
    rows: list[Tensor]
    """Training images in use, one tensor a seed."""
    validation_rows: list[Tensor]
    seconds: float
    """Of training the stack."""
    _of_validation: np.ndarray | None = None

    def of_validation(self, x: Read) -> np.ndarray:
        """What the chosen ones say of the validation images."""
        if self._of_validation is None:
            self._of_validation = self.chosen.predict(x).numpy()
        return self._of_validation

    @property
    def tried(self) -> tuple[Head, ...]:
        """All settings."""
        return tuple(head for head in self.stack.heads if head.subset == self.subset)

    @cached_property
    def chosen(self) -> Probes:
        """One head per seed."""
        return self.stack.of_subset(self.subset).chosen()


class Bench:
    """A model and a task, with what is computed once for all conditions."""

    def __init__(self, model: Model, task: Task, setting: Setting, name: str = "") -> None:
        self.model, self.task, self.setting = model, task, setting
        self.name = name or task.name  # a fold is reported as its task
        self.type = task_types.get(task.card.type)
        self.scoring = scoring(self.type)
        self._truths: dict[str, Any] = {}
        self.seconds = 0.0
        self.made_by: list[dict[str, str]] = []

    @cached_property
    def folds(self) -> list[Bench]:
        """One for each fold of the task, in which probes are trained and chosen; of a task without
        folds itself."""
        parts = [Bench(self.model, fold, self.setting, self.name) for fold in self.task.folds]
        return parts or [self]

    @property
    def cines(self) -> bool:
        """Whether samples are videos."""
        return cines_of(self.task.name, self.task)

    # ---- features -------------------------------------------------------------------------------

    def features(self, kind: Reads) -> dict[str, Read]:
        """Of the three splits as they are."""
        start = time.perf_counter()
        if kind == "images":
            self.seconds = 0.0
            splits = self.task.splits.items()
            return {name: self._images(split.images, split.digests) for name, split in splits}
        samples = {name: self._shown(split, kind) for name, split in self.task.splits.items()}
        images = {digest: one for split in samples.values() for digest, one in split}
        store = self.store("none", 0, kind)
        x = {
            name: self._obtained(store, images, [digest for digest, _ in split])
            for name, split in samples.items()
        }
        self.made_by = store.made_by(list(images))
        self.seconds = time.perf_counter() - start
        return x

    def corrupted(self, name: str, severity: int, kind: Reads) -> Read:
        """Of the corrupted test images."""
        if kind == "images":
            images = self._corrupted(name, severity)
            return self._images(images, [image.digest() for image in images])
        shown = self._shown(self.task.test, kind, name, severity)
        digests = [digest for digest, _ in shown]
        if kind == "maps":  # large, and read once
            with TemporaryDirectory(prefix="ubench-") as folder:
                read = self._obtained(Store(Path(folder), kind), dict(shown), digests)
                return InMemory(read.whole()) if isinstance(read, Features) else read
        return self._obtained(self.store(name, severity, kind), dict(shown), digests)

    def _shown(
        self, split: Split, kind: Kind, corruption: str = "none", severity: int = 0
    ) -> list[tuple[str, Sample]]:
        """What the model is shown of a split's samples, with digests; of the test split, if a
        corruption is named."""
        temporal = corruption != "none" and corrupt.find(corruption).temporal
        worse = corruption != "none" and not temporal
        images = self._corrupted(corruption, severity) if worse else split.images
        if not self.cines:
            return list(zip(split.digests if not worse else _digests(images), images, strict=True))
        time = (corruption, severity, CORRUPTION_SEED) if temporal else ()
        samples = [self.model.shown(image, kind, *time) for image in images]
        return list(zip(_digests(samples), samples, strict=True))

    def _images(self, images: Sequence[Image], digests: Sequence[str]) -> PreparedImages:
        return PreparedImages(images, digests, self.tunable)

    @cached_property
    def tunable(self) -> Tunable:
        """The model, for fine-tuning on this task."""
        folder = self.setting.cells.out / finetune.FOLDER
        report = self.setting.tuning
        return Tunable(
            self.model, folder, advance=lambda *at: report(self.model.name, self.task.name, *at)
        )

    def trainings(self, probe: str, protocol: Protocol) -> Path:
        """Where networks that are fine-tuned are kept until their cells are written."""
        settings = protocol.settings(probe)
        key = finetune.key(self.model, self.task.fingerprint, settings)
        return self.setting.cells.out / finetune.FOLDER / key

    def images(self, corruption: str, severity: int, kind: Kind = "pooled") -> dict[str, Sample]:
        """What a condition's features are made of, by digest: the corrupted test images, or those
        of all splits as they are."""
        if corruption != "none":
            parts = [self._shown(part.task.test, kind, corruption, severity) for part in self.folds]
        else:
            splits = [split for part in self.folds for split in part.task.splits.values()]
            parts = [self._shown(split, kind) for split in splits]
        return {digest: sample for part in parts for digest, sample in part}

    def store(self, corruption: str, severity: int, kind: Kind) -> Store:
        """Where the features of a condition are kept.

        Videos by their frames: those that a temporal corruption shows may be what is shown anyway.
        """
        if corruption != "none" and corrupt.find(corruption).temporal:
            corruption, severity = "none", 0
        key = features.key(
            *(self.model.fingerprint, self.model.numerics, self.model.batch_size),
            *(_versioned(corruption), severity, kind),
        )
        return Store(self.setting.cache / "features" / key, kind)

    def _corrupted(self, name: str, severity: int) -> list[Image]:
        test = self.task.test
        masks = test.scan_masks or (None,) * len(test)
        known = test.mask_digests or (None,) * len(test)
        corrupted: Any = CorruptedClip if self.cines else CorruptedImage
        return [
            corrupted(image, mask, name, severity, CORRUPTION_SEED, *digests)
            for image, mask, *digests in zip(test.images, masks, test.digests, known, strict=True)
        ]

    def _obtained(self, store: Store, images: Mapping[str, Sample], digests: Sequence[str]) -> Read:
        """Features of N images of a condition.

        Args:
            store: of the condition.
            images: all of the condition by digest; what is missing is encoded.
            digests: of the N images.
        """
        missing = len(store.missing(list(images)))
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            self.setting.encoding(self.model.name, self.name, done, max(missing, done), count)

        if missing:
            advance(0)
        found = store.obtain(self.model.encoder, images, digests, advance)
        return found.whole() if store.kind == "pooled" else found

    # ---- probes ---------------------------------------------------------------------------------

    def train(
        self, probe: str, protocol: Protocol, fractions: Sequence[int], x: Mapping[str, Read]
    ) -> dict[int, _Trained]:
        """Probes of all fractions and seeds at once, by fraction."""
        self.setting.probing(self.model.name, self.name)
        start = time.perf_counter()
        train, validation = self.task.train, self.task.validation
        rows = [self._rows(train, "train", fraction) for fraction in fractions]
        known = probes.get(probe)
        if protocol.finetune is not None and known.reads == "images":
            size = protocol.finetune.input_size
            x = {n: one.at(size) for n, one in x.items() if isinstance(one, PreparedImages)}
            self.tunable.folder = self.trainings(probe, protocol)
        finer = known.finer * getattr(protocol.of(probe), "finer", 1)
        cut = protocol.fewshot_validation == "subset"
        validation_rows = [
            self._rows(validation, "validation", fraction if cut else 100) for fraction in fractions
        ]
        data: DataOf[Any] = DataOf(
            x["train"],
            self._taught("train", x["train"], finer),
            x["validation"],
            self._taught("validation", x["validation"], finer),
            len(self.task.classes),
        )
        seeds = range(self.setting.seeds)
        draws = streams(len(train), len(validation), seeds, rows, validation_rows)
        stack = known.train(data, draws, protocol)
        seconds = time.perf_counter() - start
        return {
            fraction: _Trained(stack, place, rows[place], validation_rows[place], seconds)
            for place, fraction in enumerate(fractions)
        }

    def _rows(self, split: Split, purpose: str, percent: int) -> list[Tensor]:
        """Images in use, one tensor a seed."""
        if percent == 100:
            return [torch.arange(len(split))] * self.setting.seeds
        strata = self.type.strata(split.targets)
        return [
            torch.from_numpy(fewshot.subset(strata, split.groups, percent, seed, purpose))
            for seed in range(self.setting.seeds)
        ]

    def _taught(self, split: str, x: Read, finer: int) -> Tensor:
        """What is right for the images of a split, as probes are trained on it."""
        sides = x.shape[2:]
        if isinstance(x, PreparedImages):
            sides = x.places if self.type.predicts == "masks" else ()
        shape = (len(self.task.classes), *(finer * side for side in sides))
        return torch.from_numpy(self.type.taught(self._truth(split), shape))

    def _truth(self, name: str) -> Any:
        """What is right for the images of a split."""
        if name not in self._truths:
            split = self.task.splits[name]
            extents = None
            if split.masks:
                # Which are those of the masks.
                sizes = [size_of(still(image)) for image in split.images]
                found = [self.model.extent(*size) for size in sizes]
                most = max(map(len, found), default=2)  # 4 if any begins elsewhere than at the top
                extents = np.array([(*one, 0.0, 0.0)[:most] for one in found])
            self._truths[name] = self.type.truth(split, extents)
        return self._truths[name]

    # ---- cells ----------------------------------------------------------------------------------

    def identity(self, place: Place) -> dict[str, str | int]:
        """What the numbers of a cell depend on."""
        at = place.at
        clean = at.corruption == "none"
        masked = not clean and corrupt.find(at.corruption).needs_mask
        return identity(
            at=at,
            model=self.model.fingerprint,
            task=self.task.fingerprint,
            protocol=hashing.digest(place.protocol.settings(at.probe)),
            dtype=self._dtype(place),
            seeds=self.setting.seeds,
            fewshot=0 if at.fraction == 100 else fewshot.VERSION,
            corruption=_versioned(at.corruption),
            masks=self.task.test.mask_fingerprint if masked else "none",
            scoring=self.scoring,
            seen=seen.identity(self._seen),
            pooled=hashing.digest(asdict(shown.POOLED)) if self._told == FRAMES_POOLED else "",
        )

    def _dtype(self, place: Place) -> str:
        """How numbers are rounded; a network that is fine-tuned has its own way."""
        if place.protocol.finetune is None:
            return self.model.numerics
        return precision_of(place.protocol.finetune, self.model.processor)

    @property
    def _notes(self) -> list[str]:
        """Of the task; without names of files where those are not kept."""
        bases = [task_zoo.split_name(part)[0] for part in task_zoo.parts(self.task.name)]
        if self.setting.identifiers or {*bases} <= {*task_zoo.BUILT_IN}:
            return list(self.task.notes)
        return [re.sub(r" \(first: [^)]*\)", "", note) for note in self.task.notes]

    def is_whole(self, cell: Cell | None) -> bool:
        """Whether a cell is there, with its probes if they are asked for."""
        kept = self.setting.keep_probes and not self.task.folds
        if cell is None or not kept or cell.coordinates.corruption != "none":
            return cell is not None
        return ProbeFiles(self.setting.cells.out).has(cell)

    def write(
        self,
        place: Place,
        trained: Sequence[_Trained],
        test_x: Sequence[Read],
        validation_x: Sequence[Read],
    ) -> None:
        """Score the probes on a test set and write the cell; arguments are one for each fold."""
        start = time.perf_counter()
        parts = [
            part.answered(one, x, other)
            for part, one, x, other in zip(self.folds, trained, test_x, validation_x, strict=True)
        ]
        chosen = [one.chosen for one in trained]
        at = place.at
        clean = at.corruption == "none"
        how = {
            "settings": place.protocol.of(at.probe),
            "thorough": clean and at.fraction == 100,
        }
        if self.task.folds:
            scored = self.type.measure_folds(parts, self.test, **how)
        else:
            scored = self.type.measure(*parts[0], **how)
        cell = Cell(
            coordinates=at,
            identity=self.identity(place),
            scores={
                name: [None if np.isnan(value) else float(value) for value in of_seeds]
                for name, of_seeds in scored.scores.items()
            },
            intervals=self.type.intervals(self.type.answers(scored.stored), self.test),
            images={
                "train": min(len(one.rows[0]) for one in trained),
                "validation": min(len(one.validation_rows[0]) for one in trained),
                "test": len(self.test),
            },
            classes=list(self.task.classes),
            heads=folds.heads([one.heads for one in chosen]),
            sweep=folds.sweep([one.tried for one in trained]) if clean else [],
            warnings=self._warnings(trained, at.fraction) if clean else [],
            synthetic=self.task.synthetic,
            random_weights=self.model.random_weights,
            model={
                **{**self.model.info, "dim": _width(test_x[0]), **self._seen},
                **({"shown": self._told} if self._told else {}),
            },
            task={
                "title": self.task.card.title,
                "groups": self.task.card.groups,
                **({"unit": self.task.card.unit} if self.task.card.unit else {}),
                **({"samples": "clip"} if self.cines else {}),
                **dict(zip(TRANSFER, self.task.card.transfer or (), strict=False)),
            },
            remarks=(
                *self.type.remarks(self.test),
                *_remarks(chosen[0]),
                *folds.remarks(self.task),
            ),
            type=self.task.card.type,
            main=self.type.main.name,
            corrupted_by=_not_ours(at.corruption),
            described={
                metric.name: MetricFacts.of(metric)
                for metric in _not_built_in(self.type)
                if metric.name in scored.scores
            },
            notes=self._notes,
            protocol=place.protocol.settings(at.probe),
            features_made_by=_makers(chosen[0]) or self._makers,
            versions=versions(),
            seconds={
                "features": round(sum(part.seconds for part in self.folds), 3),
                "probes": round(sum(one.seconds for one in trained), 3),
                "scores": round(time.perf_counter() - start, 3),
            },
            predictions="",
        )
        written = self.setting.cells.put(cell, scored.stored)
        if self.setting.keep_probes and clean and not self.task.folds:
            calibrated = parts[0].validation if self.type.predicts == "classes" else []
            temperatures = [temperature(*of_seed) for of_seed in calibrated]
            kept = ProbeFiles(self.setting.cells.out)
            kept.put(written, chosen[0], temperatures, self._inputs)

    def answered(self, trained: _Trained, test_x: Read, validation_x: Read) -> FoldPredictions:
        """What trained probes say of the test samples, and of the validation samples in use."""
        of_validation = trained.of_validation(validation_x)
        truth = self._truth("validation")
        used = [rows.numpy() for rows in trained.validation_rows]
        validation = [(of_validation[seed][r], truth[r]) for seed, r in enumerate(used)]
        return FoldPredictions(trained.chosen.predict(test_x).numpy(), self.test, validation)

    @cached_property
    def test(self) -> TestSet:
        """What predictions are scored against."""
        return TestSet.of(self.task, self._truth("test"))

    def _warnings(self, trained: Sequence[_Trained], fraction: int) -> list[str]:
        bent = ""
        if self.task.targets == "class" and fraction < 100:
            bent = fewshot.bent(self.task.train.labels, self.task.classes, fraction)
        chosen = trained[0].chosen
        if isinstance(chosen, FineTuned):  # which tries two settings, of which each is an edge
            of_probe = list(dict.fromkeys(word for told in chosen.told for word in told))
        else:
            tried = [head for one in trained for head in one.tried]
            of_probe = at_an_edge(tried, [head for one in trained for head in one.chosen.heads])
        of_seen = [seen.sentence(self._seen)] if self._seen.get("seen_images") else []
        return [*([bent] if bent else []), *of_probe, *of_seen, *self._of_data]

    @property
    def _told(self) -> str:
        """How samples are shown, where the model takes others."""
        return shown.told(self.model.takes, self.cines)

    @property
    def _makers(self) -> list[dict[str, str]]:
        """Devices and versions that made the features, each once."""
        found: list[dict[str, str]] = []
        for part in self.folds:
            found += [one for one in part.made_by if one not in found]
        return found

    @cached_property
    def _seen(self) -> dict[str, str | int]:
        return seen.facts(self.setting.seen.get(self.model.name), self.task)

    @cached_property
    def _inputs(self) -> Inputs:
        return Inputs.of(self.task)

    @cached_property
    def _of_data(self) -> list[str]:
        parts = [data_warnings.of_task(part.task) for part in self.folds]
        return list(dict.fromkeys(sentence for part in parts for sentence in part))


def scoring(task_type: TaskType) -> str:
    """Digest of the code of a plugin's task type and metrics; "" where all is ours, whose changes
    are new versions."""
    functions = [one for m in task_type.every for one in (m.of, m.of_rows) if one is not None]
    theirs = [one for one in (type(task_type), *functions) if not executed.is_ours(one.__module__)]
    return code_identity.of(theirs, f"task type '{task_type.name}'") if theirs else ""


def _digests(samples: Iterable[Sample | Clip]) -> list[str]:
    return [sample.digest() for sample in samples]


def _width(x: Read) -> int:
    """D of what a probe reads."""
    if isinstance(x, PreparedImages):
        return x.width
    return x.shape[1 if len(x.shape) == 4 else -1]


def _remarks(chosen: Probes) -> list[str]:
    """How networks were trained, in words."""
    if not isinstance(chosen, FineTuned):
        return []
    rates = {f"{head.setting['learning_rate']:g}" for head in chosen.heads}
    return [f"{one}; learning rate {', '.join(sorted(rates))}" for one in {*chosen.remarks}]


def _makers(chosen: Probes) -> list[dict[str, str]]:
    """Devices and versions that trained networks, each once."""
    made_by = chosen.made_by if isinstance(chosen, FineTuned) else ()
    return [dict(pairs) for pairs in sorted({tuple(sorted(one.items())) for one in made_by})]


def _not_built_in(task_type: TaskType) -> tuple[Metric, ...]:
    """Those of a type's metrics that pages cannot know without a plugin."""
    ours = executed.is_ours(type(task_type).__module__)
    return metrics.added(task_type.name) if ours else task_type.every


def _not_ours(corruption: str) -> CorruptionFacts | None:
    """What pages cannot know of a corruption without its plugin."""
    if corruption == "none" or (one := corrupt.find(corruption)).function is None:
        return None
    mild, middle, hard = one.levels
    return CorruptionFacts(unit=one.unit, levels=(mild, middle, hard), summary=one.summary)


def _versioned(corruption: str) -> str:
    """A corruption as keys name it."""
    return "none" if corruption == "none" else corrupt.condition(corruption)
