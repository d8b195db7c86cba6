"""An imported file on a task: verified, scored as any other, and marked. Read it from the top."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

import model_zoo
import tasks as task_zoo
from model_zoo import Card, Encoder
from tasks.samples.label_masks import BINARY, CodeImage, Codes
from tasks.targets import LabelMask
from tasks.task import Task
from ultrabench_eval import loading, metrics, pipeline, plugins, probes, seen, task_types
from ultrabench_eval.cells import IMPORTED, Cell, Cells, Coordinates, MetricFacts, identity
from ultrabench_eval.core import files, hashing
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.core.names import printable
from ultrabench_eval.features import Store, key
from ultrabench_eval.grid import Grid
from ultrabench_eval.imports import given, joined, rows
from ultrabench_eval.imports.given import Given
from ultrabench_eval.imports.joined import FeatureTable, Images
from ultrabench_eval.loading import Model, Problems
from ultrabench_eval.measure import Setting, Stage, measure, predicts_of, scoring
from ultrabench_eval.pipeline import Step
from ultrabench_eval.report import write
from ultrabench_eval.report.results.entries import ROWS_NOT_VERIFIED
from ultrabench_eval.request import Request
from ultrabench_eval.task_types import masks_as_given
from ultrabench_eval.task_types.segmentation import GridMasks
from ultrabench_eval.task_types.task_type import Scored
from ultrabench_eval.test_set import TestSet
from ultrabench_eval.units import Unit, in_turn
from ultrabench_eval.versions import versions

AS_GIVEN = "as given"
"""In place of a dtype: what rounded the rows is not known."""
_HOLDS: dict[str, given.Held] = {
    "classes": "probabilities",
    "numbers": "numbers",
    "masks": "masks",
}
"""What predictions are, by what a kind of task predicts."""


@dataclass
class Imported:
    """What became of a file."""

    name: str
    """Of the entry in tables."""
    held: str
    count: int
    """Images that it has rows of."""
    rows: str
    """Whether they are known to be the rows of those images, in words."""
    synthetic: bool
    stages: list[Stage] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def import_file(
    path: Path | str, request: Request, *, report: Callable[[Step], None] = lambda step: None
) -> Imported:
    """Score features or predictions of a file, as cells of a results folder.

    Args:
        path: of the file, see `given.read`.
        request: as of a run: one model (the name of the entry), one task, and how to measure.
        report: see `pipeline.run`.

    Raises:
        Problems: the task cannot be loaded, or the model with the weights that are named.
        UserError: the file is refused, or an option does not go with it. Nothing is written then.
    """
    path = Path(path)
    for file in _listed(request.plugin_files):
        plugins.load_file(Path(file))
    models, named = _listed(request.models), loading.resolve_names(request.tasks, ())
    if len(models) != 1 or len(named) != 1:
        raise UserError("a file holds rows of one model for one task; name one of each")
    if request.seeds < 1:
        raise UserError(f"--seeds must be at least 1, not {request.seeds}")
    name = entry_name(str(models[0]))
    model = name.removeprefix(f"{IMPORTED}/")
    out = Path(request.out).absolute()
    cache = (Path(request.cache) if request.cache else pipeline.default_cache()).absolute()
    asked = request.probe, request.protocol, request.fractions, (), request.fewshot_validation
    grid = Grid.parse(*asked)
    task = _task(named[0], request, cache, report)
    held = given.read(path, sum(map(len, task.splits.values())))
    lists = seen.read_all(
        request.seen, [model], cache, lambda *at: report(Step("audit", at[0], "", *at[1:]))
    )
    setting = Setting(
        *(Cells(out), cache, request.seeds, grid),
        lambda *at: report(Step("encode", *at)),
        lambda *at: report(Step("probe", *at)),
        identifiers=request.identifiers,
        seen={name: lists[model]} if lists else {},
    )
    if held.held == "features":
        job: FeatureEntry | PredictionEntry = FeatureEntry.of(
            name, held, task, setting, lambda: at_hand(model, request), report
        )
    else:
        job = PredictionEntry.of(name, held, task, request, setting)
    files.check_writable(out, "the results folder (--out)")
    files.check_writable(cache, "the cache (--cache or UBENCH_CACHE)")
    report(Step("begin"))
    for _ in in_turn([Unit(name, task.name)], out):
        job.done.stages = job.measure()
    report(Step("report"))
    with files.locked(out / "leaderboard"):
        write.write(setting.cells)
    return job.done


def entry_name(model: str) -> str:
    """How an entry is called wherever it stands; no model that is loaded is called so.

    Raises:
        UserError: the name is empty, or taken.
    """
    model = model.strip().removeprefix(f"{IMPORTED}/")
    if not model or printable(model) != model:
        raise UserError("--model is the name of the entry in tables; give one of printable letters")
    name = f"{IMPORTED}/{model}"
    if name in model_zoo.registry:
        raise UserError(f"a plugin registers a model called '{name}'; give another --model")
    return name


def _listed(asked: Any) -> list[Any]:
    if isinstance(asked, str | Path):
        return [asked] if str(asked) else []
    return [*asked]


def _task(name: str, request: Request, cache: Path, report: Callable[[Step], None]) -> Task:
    if request.splits:
        name = task_zoo.with_splits(name, str(request.splits))
    if wrong := task_zoo.problem(name):
        raise UserError(wrong)
    base = task_zoo.split_name(name)[0]
    data = pipeline.chosen_data(request.data, base)
    if data != pipeline.PHANTOM:
        root = pipeline.data_root(data)
    elif base in task_zoo.BUILT_IN:
        root = pipeline.phantom_root(cache, [task_zoo.home(base)], report)
    else:
        root = None
    planned = loading.make(
        [], [name], data=root, reading=request.reading, weights={}, device="cpu", dtype="float32",
        partial=request.partial,
    )  # fmt: skip
    task = planned.tasks[task_zoo.label(name)]
    if isinstance(task, str):
        raise Problems(planned.problems)
    return task


# ---- features ------------------------------------------------------------------------------------


class ImportedModel(Model):
    """What stands for the model of imported features: it has all that is known, and no network.

    Args:
        name: of the entry.
        fingerprint: of the rows.
        known: the model that was at hand, or None.
        said: by the file, of what made them.
        info: more facts for `Model.info`.
    """

    def __init__(
        self,
        name: str,
        fingerprint: str,
        known: Model | None,
        said: dict[str, Any],
        info: dict[str, str | int | None],
    ) -> None:
        self.name, self.fingerprint = name, fingerprint
        self.weights, self.device, self.dtype = None, "cpu", AS_GIVEN
        self.compile, self.behaviour, self.has_maps = False, None, False
        self.takes, self.clip_rule = "image", None
        self.batch_size = 1
        self.processor = torch.device("cpu")
        self.card = known.card if known else Card(name)
        self.random_weights = known.random_weights if known else bool(said.get("random_weights"))
        facts: dict[str, str | int | None] = {
            "title": name.removeprefix(f"{IMPORTED}/"),
            **{"pooling": "not known", "input_size": None, "parameters": None},
            "status": "not known",
            "saw": "not known",
        }
        self.info = {**facts, **(known.info if known else {}), **info}

    def encoder(self) -> Encoder:
        """There is none.

        Raises:
            UserError: always.
        """
        raise UserError(
            f"the features of {self.name} were imported, without a model to encode an image "
            "again; import the file again if the cache was emptied"
        )


@dataclass
class FeatureEntry:
    """Features of a file, on their way to the usual probes."""

    done: Imported
    model: ImportedModel
    table: FeatureTable
    task: Task
    setting: Setting

    @classmethod
    def of(
        cls,
        name: str,
        held: Given,
        task: Task,
        setting: Setting,
        load: Callable[[], tuple[Model | None, list[str]]],
        report: Callable[[Step], None] = lambda step: None,
    ) -> FeatureEntry:
        """What the file holds, once it is known to be right; nothing but the cache is written.

        Args:
            name: of the entry.
            held: by the file.
            task: whose images the rows are of.
            setting: of the run.
            load: the model that is said to have made them, see `at_hand`.
            report: see `import_file`.

        Raises:
            UserError: it is refused.
        """
        grid, model = setting.grid, name.removeprefix(f"{IMPORTED}/")
        if task.card.samples == "clip":
            raise UserError(
                f"task '{task.name}' holds videos, whose features are not imported; import "
                "predictions (docs/import.md)"
            )
        predicts = predicts_of(task.name, task)
        if predicts == "masks":
            raise UserError(
                f"task '{task.name}' asks for masks, which features of whole images do not give; "
                "import masks (docs/import.md)"
            )
        if why := grid.lacks(predicts):
            raise UserError(f"task '{task.name}' is {task.card.type}, and {why}")
        for _, probe in grid.ways(predicts):
            if probes.get(probe).reads != "pooled":
                raise UserError(
                    f"the probe {probe} reads {probes.get(probe).reads}, and a file has one vector "
                    "per image; leave it out"
                )
        images = Images(task)
        joined.check_maker(held, model, task)
        table = joined.features_of(held, images)
        report(Step("audit", "verifying rows"))
        known, notes = load()
        if known is not None:
            count = rows.of_model(table, images.images, known, held.path)
            words = f"rows verified by {count} images that were encoded again"
        elif table.odd:
            raise UserError(table.oddity)
        else:
            words = ROWS_NOT_VERIFIED
            p = rows.like_control(table, images.images, held.path, setting.cache)
            notes.append(
                f"{ROWS_NOT_VERIFIED}: "
                + (
                    "there are too few images to look at"
                    if p is None
                    else "images that look alike have rows that are alike, more than by chance "
                    f"(p = {p:.3f}), which a file with some wrong rows passes as well"
                )
            )
        data = np.ascontiguousarray(table.rows).data.cast("B")
        parts: list[bytes | memoryview] = [hashing.canonical_json([IMPORTED, table.digests]), data]
        info: dict[str, str | int | None] = {
            "rows": words,
            "weights_file": held.path.name,
            "weights_sha256": hashing.digest_file(held.path),
        }
        made = ImportedModel(name, hashing.digest_parts(parts), known, held.made_by, info)
        done = Imported(name, held.held, len(table.digests), words, task.synthetic, notes=notes)
        return cls(done, made, table, task, setting)

    def measure(self) -> list[Stage]:
        """Put the rows where features are looked for, and train probes as for any model."""
        named = key(self.model.fingerprint, self.model.numerics, self.model.batch_size)
        store = Store(self.setting.cache / "features" / named)
        rows = torch.from_numpy(self.table.rows)
        store.put(self.table.digests, rows, "imported: not known")
        return list(measure(self.model.name, self.model, self.task.name, self.task, self.setting))


def at_hand(model: str, request: Request) -> tuple[Model | None, list[str]]:
    """The model of this name if it can be loaded, else None and why not.

    Raises:
        Problems: it cannot, although its weights were named.
    """
    weights = {name: str(path) for name, path in (request.weights or {}).items()}
    if wrong := model_zoo.problem(model):
        if weights:
            raise UserError(f"--weights are given for a model that cannot be loaded: {wrong}")
        return None, [f"no model '{model}' is known here to encode some images again"]
    planned = loading.make(
        [model],
        [],
        data=None,
        weights=weights,
        device=request.device,
        dtype="float32",
        accept_license=request.accept_license,
    )
    found = planned.models[model]
    if isinstance(found, Model):
        return found, []
    if loading.weights_of(model, weights):
        raise Problems(planned.problems)
    return None, [f"the model is not at hand to encode some images again: {found}"]


# ---- predictions ---------------------------------------------------------------------------------


@dataclass
class PredictionEntry:
    """Predictions of a file, on their way to their score."""

    done: Imported
    held: Given
    order: list[list[int]]
    """Of each seed the rows of the test images."""
    task: Task
    setting: Setting
    test: TestSet = field(init=False)
    scored: Scored = field(init=False)

    def __post_init__(self) -> None:
        self.test, self.scored = self._scored()

    @classmethod
    def of(
        cls, name: str, held: Given, task: Task, request: Request, setting: Setting
    ) -> PredictionEntry:
        """What the file holds and what it is worth; nothing is written.

        Raises:
            UserError: it is refused.
        """
        predicts = predicts_of(task.name, task)
        if held.held != _HOLDS[predicts]:
            raise UserError(
                f"{held.path} holds {held.held}, and task '{task.name}' asks for {predicts}; write "
                f"{_HOLDS[predicts]}, or features"
            )
        asked = (request.probe, request.protocol, request.fewshot_validation)
        if any(one is not None for one in asked) or tuple(setting.grid.fractions) != (100,):
            raise UserError(
                f"{held.path} holds predictions, for which no probe is trained; leave out --probe, "
                "--protocol, --fractions and --fewshot-validation"
            )
        order = joined.predictions_of(held, Images(task, ("test",)))
        done = Imported(name, held.held, len(task.test), ROWS_NOT_VERIFIED, task.synthetic)
        return cls(done, held, order, task, setting)

    def measure(self) -> list[Stage]:
        """Write the cell."""
        kind, task, cells = task_types.get(self.task.card.type), self.task, self.setting.cells
        at = Coordinates(self.done.name, task.name, IMPORTED, IMPORTED)
        file = hashing.digest_file(self.held.path)
        if self.held.held == "masks":
            file = hashing.digest([file, [[m.digest() for m in one] for one in self._masks]])
        facts = seen.facts(self.setting.seen.get(self.done.name), task)
        made = identity(
            at=at,
            model=hashing.digest([IMPORTED, file]),
            task=task.fingerprint,
            protocol=IMPORTED,
            dtype=AS_GIVEN,
            seeds=len(self.order),
            fewshot=0,
            corruption="none",
            masks="none",
            scoring=scoring(kind),
            seen=seen.identity(facts),
        )
        if cells.get(at, made) is not None:
            return ["kept"]
        test, scored = self.test, self.scored
        cells.put_task(task, identifiers=self.setting.identifiers)
        cell = Cell(
            coordinates=at,
            identity=made,
            scores={
                name: [None if np.isnan(value) else float(value) for value in values]
                for name, values in scored.scores.items()
                if not np.isnan(values).all()  # calibrated on validation samples, of which are none
            },
            intervals=kind.intervals(kind.answers(scored.stored), test),
            images={"train": 0, "validation": 0, "test": len(test)},
            classes=list(task.classes),
            heads=[],
            sweep=[],
            warnings=[seen.sentence(facts)] if facts.get("seen_images") else [],
            synthetic=task.synthetic,
            random_weights=False,
            model={
                "title": self.done.name.removeprefix(f"{IMPORTED}/"),
                **{"pooling": "none: predictions", "input_size": None, "parameters": None},
                **{"dim": None, "status": "not known", "saw": "not known"},
                "rows": ROWS_NOT_VERIFIED,
                "weights_file": self.held.path.name,
                "weights_sha256": file,
                **facts,
            },
            task={
                "title": task.card.title,
                "groups": task.card.groups,
                **({"unit": task.card.unit} if task.card.unit else {}),
            },
            type=task.card.type,
            main=kind.main.name,
            described={
                metric.name: MetricFacts.of(metric)
                for metric in metrics.added(kind.name)
                if metric.name in scored.scores
            },
            remarks=kind.remarks(test),
            notes=list(task.notes),
            protocol={"probe": IMPORTED, "predictions": "as given, nothing was trained here"},
            features_made_by=[],
            versions=versions(),
            seconds={},
            predictions="",
        )
        cells.put(cell, scored.stored)
        return ["done"]

    def _scored(self) -> tuple[TestSet, Scored]:
        """The test samples, and what their predictions are worth."""
        task, kind, split = self.task, task_types.get(self.task.card.type), self.task.test
        if self.held.held == "masks":
            masks = GridMasks(split.masks, np.ones((len(split), 2)))
            test = TestSet.of(task, masks)
            return test, masks_as_given.score(self._masks, test, masks)
        test = TestSet.of(task, kind.truth(split))
        if self.held.held == "numbers":
            predicted = joined.numbers(self.held, self.order, task)
            predicted = predicted / (1 if split.factors is None else split.factors)
        else:
            predicted = joined.probabilities(self.held, self.order, task)
        return test, kind.measure(predicted, test)

    @property
    def _masks(self) -> list[list[LabelMask]]:
        """Of each seed and test image."""
        codes = BINARY if len(self.task.classes) == 2 else _CODES
        images, values, folder = self.task.test.images, self.held.values, self.held.path.parent
        if isinstance(values, np.ndarray):
            return [[_ArrayMask(i.name, values[r]) for i, r in zip(images, order, strict=True)]
                    for order in self.order]  # fmt: skip
        return [[CodeImage(i, (folder / values[r],), codes=codes)
                 for i, r in zip(images, order, strict=True)] for order in self.order]  # fmt: skip


_CODES: Codes = {code: code for code in range(255)}


@dataclass(frozen=True, eq=False)
class _ArrayMask:
    """A predicted mask in memory; see `tasks.targets.LabelMask`."""

    name: str
    codes: np.ndarray
    spacing: tuple[float, float] | None = None

    def read(self) -> np.ndarray:
        """The codes, uint8 [H, W]."""
        return self.codes

    def digest(self) -> str:
        """SHA-256 of the codes."""
        return hashing.digest_parts([np.ascontiguousarray(self.codes).data.cast("B")])
