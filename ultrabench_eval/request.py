"""Request: all that a run can be asked for, each thing in one place.

The command line (`ubench run`, `ubench plan`), the Python call, configuration files and workers all
read the fields of `Request`. A new option is a new field here, and a line where it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import Field, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import yaml
from pydantic import BeforeValidator, ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from ultrabench_eval.core import hashing, yaml_file
from ultrabench_eval.core.errors import UserError, did_you_mean
from ultrabench_eval.protocol import Protocol

if TYPE_CHECKING:
    from tasks.own_data.reading import Reading

FOLDER = "requests"
"""In a results folder: what was asked for, a file each that `--config` reads."""


def _asked(
    default: Any,
    flag: str,
    help: str,
    *,
    kind: Any = str | None,
    variable: str | None = None,
    parse: Callable[[Any], Any] | None = None,
    group: str = "How it is measured",
) -> Any:
    """A field, and how the command line asks for it.

    Args:
        default: of the field.
        flag: of the option.
        help: one line.
        kind: what the command line hands over.
        variable: of the environment, which stands for it.
        parse: makes of that what the field takes; None if it is the same.
        group: of options, under whose title `--help` lists it.
    """
    said = {"flag": flag, "help": help, "kind": kind, "variable": variable, "parse": parse}
    said["group"] = group
    return field(default=default, metadata=said)


def _tuple(value: object) -> object:
    if isinstance(value, str | Path | Protocol | Mapping) or not isinstance(value, Iterable):
        return value
    return tuple(value)


def _of_pairs(option: str, form: str) -> Callable[[Iterable[str]], dict[str, str]]:
    def mapping(pairs: Iterable[str]) -> dict[str, str]:
        found = {}
        for pair in pairs:
            key, equals, value = pair.partition("=")
            if not (key and equals and value):
                raise UserError(f"{option} {pair} is not valid; write {form}")
            found[key] = value
        return found

    return mapping


def weights_of(pairs: Iterable[str]) -> dict[str, str]:
    """MODEL=PATH options as a mapping; "random" alone is for all models."""
    pairs = ["all=random" if pair == "random" else pair for pair in pairs]
    return _of_pairs("--weights", "MODEL=PATH or MODEL=random")(pairs)


def seen_of(pairs: Iterable[str]) -> dict[str, str]:
    """MODEL=FILE options of --seen as a mapping."""
    return _of_pairs("--seen", "MODEL=FILE")(pairs)


def columns_of(pairs: Iterable[str]) -> dict[str, str]:
    """--columns options as a mapping from roles to names."""
    from tasks.own_data import reading

    return reading.columns_of(pairs)


def classes_of(pairs: Iterable[str]) -> dict[str, str]:
    """--classes options as a mapping from values of masks to names."""
    from tasks.own_data import reading

    return reading.classes_of(pairs)


_Several = BeforeValidator(_tuple)
_Names = Annotated[str | Path | tuple[str | Path, ...], _Several]
_Words = Annotated[str | tuple[str, ...], _Several]
_Protocols = Annotated[str | Path | Protocol | tuple[str | Path | Protocol, ...], _Several]
_Percents = Annotated[str | int | tuple[str | int, ...], _Several]
_Seeds = Annotated[int, BeforeValidator(yaml_file.not_a_switch)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class Request:
    """What a run is asked for; see `pipeline.run`.

    Made by `Request.of` or `Request.read`, which tell in a sentence what is wrong.
    """

    models: _Words = _asked(
        (), "--model", "Models, comma-separated, or 'all'.", group="What is measured"
    )
    """Names of `model_zoo.names()`, a list or comma-separated; "all" for all of them. "usfm/cls" is
    the model usfm with the pooling cls."""
    tasks: _Names = _asked(
        "all",
        "--task",
        "Tasks, tables of your own images or folders of classes, or 'all'.",
        kind=str,
        group="What is measured",
    )
    """Names of `tasks.names()`, "all", or own data: tables of images (CSV, Excel, Parquet) and
    folders with a sub-folder per class (see `tasks.own_data.manifest`). "aul@rule" and
    "aul@mine.csv" are the task aul with other splits (see `tasks.load`)."""
    transfer: _Words | None = _asked(
        None,
        "--transfer",
        "Train on one task, test on another: busbra:busi; each task alone is measured as well.",
        group="What is measured",
    )
    """Pairs of tasks, a list or comma-separated: "busbra:busi" trains and tunes on busbra and tests
    on busi (see `tasks.derived`). Measured along: each of the two by itself, with the classes that
    they share. Where `tasks` is "all", nothing else is measured."""
    labels: Path | str | None = _asked(
        None,
        "--labels",
        "File that maps classes of the tested set to those of the trained one (.yaml, .csv).",
        kind=Path | None,
        group="What is measured",
    )
    """For `transfer` between tasks whose classes have different names: YAML with a line `class of
    the tested set: class of the trained one` for each, or a CSV file of two such columns."""
    seeds: _Seeds = _asked(
        5,
        "--seeds",
        "Number of probe seeds per result: 0 to n-1.",
        kind=int,
        group="What is measured",
    )
    """Number of probe seeds per result (seeds 0 to n-1)."""
    data: Path | str | None = _asked(
        None,
        "--data",
        "Folder with one sub-folder per task, or 'phantom' for the built-in SYNTHETIC suite; "
        "default: ./data, if it has any.",
        variable="UBENCH_DATA",
        group="Where things are",
    )
    """Data root with one sub-folder per task; "phantom" for the synthetic suite, made when needed.
    Default: `$UBENCH_DATA`, else ./data if the data of a task are in it."""
    columns: dict[str, str] | None = _asked(
        None,
        "--columns",
        "What your own table calls its columns: image=file,label=diagnosis,group=PatientID.",
        kind=list[str] | None,
        parse=columns_of,
        group="Your own data",
    )
    """For tables of the user's own: what they call the columns image, label (or mask, or target),
    split, group, frame; each is by default called so."""
    sheet: str | None = _asked(
        None, "--sheet", "Sheet of your own workbook (.xlsx).", group="Your own data"
    )
    """Of a workbook; None for the only one that has the columns."""
    images: Path | str | None = _asked(
        None,
        "--images",
        "Folder that paths in your own table are relative to; default: the table's.",
        group="Your own data",
    )
    """Folder that paths of images start at; None for that of their table."""
    groups: str | None = _asked(
        None,
        "--groups",
        "How to group your own images by patient without a column: image, folder, dicom, or a "
        "regular expression with one pair of brackets.",
        group="Your own data",
    )
    """The rule for own data without a column of groups. "image": each is a patient's only one;
    "folder": the folder it is in; "dicom": the PatientID in the file; or a regular expression,
    whose one pair of brackets is around the patient in the image's path."""
    frames: int | str | None = _asked(
        None,
        "--frames",
        "Frames to take from your own files with several: all, first, middle, last, or a number.",
        group="Your own data",
    )
    """Of own files with several frames: "all", "first", "middle", "last", or a number from 1."""
    window: str | None = _asked(
        None,
        "--window",
        "How your own images with more than 8 bits become grey levels: CENTRE/WIDTH, or range; "
        "default: the window in the file.",
        group="Your own data",
    )
    """How own values of more than 8 bits become grey levels: "CENTRE/WIDTH", "range" (of each image
    from smallest to largest), or None for the window that a DICOM file states."""
    classes: dict[str, str] | None = _asked(
        None,
        "--classes",
        "Meaning of the values or colours in your own masks: 0=background,1=cyst or "
        "#000000=background,#ff0000=cyst.",
        kind=list[str] | None,
        parse=classes_of,
        group="Your own data",
    )
    """Of own masks: names of values (0 to 255) or colours (#ff0000), the background first. Default:
    masks hold the codes 0, 1, 2 ..., or 0 and 255."""
    subgroups: _Words | None = _asked(
        None,
        "--subgroups",
        "Columns of your own table by which scores are also broken down: device,sex.",
        group="Your own data",
    )
    """Columns of own tables: the section on subgroups shows scores by their values."""
    out: Path | str = _asked(
        Path("runs/latest"), "--out", "Results folder.", kind=Path, group="Where things are"
    )
    """Results folder. Tables show all cells it holds, of earlier runs too."""
    cache: Path | str | None = _asked(
        None,
        "--cache",
        "Folder for features.",
        kind=Path | None,
        variable="UBENCH_CACHE",
        group="Where things are",
    )
    """For features and the phantom suite. Default: `$UBENCH_CACHE`, else the user's cache."""
    plugin_files: _Names = _asked(
        (),
        "--plugin",
        "Python file that registers models, tasks, probes, corruptions ...; may be repeated.",
        kind=list[Path] | None,
        group="Where things are",
    )
    """Python files that register models, tasks and more; see `plugins.load_file`."""
    weights: dict[str, Path | str] | None = _asked(
        None,
        "--weights",
        "MODEL=PATH of a checkpoint, MODEL=random, or random for all; may be repeated.",
        kind=list[str] | None,
        parse=weights_of,
        group="Where things are",
    )
    """Checkpoint by model name; "random" for an untrained network. The name "all" stands for every
    model."""
    seen: dict[str, Path | str] | None = _asked(
        None,
        "--seen",
        "MODEL=FILE, what it was trained on: a folder of images, or a list of hashes, files or "
        "data sets; may be repeated.",
        kind=list[str] | None,
        parse=seen_of,
        group="What is measured",
    )
    """By model name, what it was trained on (see `seen`): test images among it are counted."""
    device: str = _asked(
        "auto", "--device", "auto, cpu, cuda, cuda:1, mps.", kind=str, group="How models run"
    )
    """"auto", "cpu", "cuda", ..."""
    dtype: str = _asked(
        "auto", "--dtype", "auto, float32, bfloat16, float16.", kind=str, group="How models run"
    )
    """"float32", "bfloat16", "float16", or "auto": bfloat16 where the processor has it and the
    first images' features agree with float32 (see `precision`)."""
    pooling: str | None = _asked(
        None,
        "--pooling",
        "Pooling for all models; MODEL/POOLING sets it for one.",
        group="How models run",
    )
    """For all models that name none themselves; None for each model's default."""
    accept_license: bool = _asked(
        False,
        "--accept-license",
        "Fetch weights from the hub, on their terms.",
        kind=bool,
        group="How models run",
    )
    """Consent to the licences of weights that are fetched from the hub."""
    compile: bool = _asked(
        False, "--compile", "Use torch.compile.", kind=bool, group="How models run"
    )
    """Run the networks through `torch.compile`."""
    splits: Path | str | None = _asked(
        None,
        "--splits",
        "Splits for all tasks: 'rule' or a split file; TASK@HOW sets them for one.",
        group="What is measured",
    )
    """For all tasks that name none themselves: "rule", or a split file; None for each task's
    default."""
    probe: _Words | None = _asked(
        None,
        "--probe",
        "linear, logistic, ridge, knn, attentive; for masks dense, decoder, transposed; for "
        "numbers ridge_regression, linear_regression; or a plugin's; default: linear, dense, "
        "ridge_regression.",
    )
    """Names of `probes.names()`, a list or comma-separated; None for what is usual for a task
    (`protocol.USUAL`)."""
    protocol: _Protocols | None = _asked(
        None,
        "--protocol",
        "paper, tuned; for masks dense, camus-vjepa; for numbers regression; or a YAML file; "
        "default: paper, dense, regression.",
    )
    """How probes are trained: "paper", "tuned", "dense", "camus-vjepa", "regression", YAML files,
    or `Protocol` objects; None for what is usual for a task."""
    fractions: _Percents = _asked(
        (100,),
        "--fractions",
        "Percentages of the training images, e.g. 1,5,10,50,100.",
        kind=str,
        group="What is measured",
    )
    """Percent of the training images to train on; see `fewshot`."""
    corruptions: _Words | None = _asked(
        None,
        "--corruptions",
        "Corruptions of test images: paper, physics, all, or names (blur, shadow ...); temporal of "
        "videos.",
        group="What is measured",
    )
    """"paper", "physics", "all", or names, to test on corrupted images at severities 1 to 3, with
    probes trained on all images as they are; "temporal" is of videos alone; "none". None: none of
    images, and the temporal controls of videos. See `corrupt`."""
    fewshot_validation: str | None = _asked(
        None,
        "--fewshot-validation",
        "whole, or subset: reduce validation to the same percentage.",
    )
    """"subset" cuts the validation images to the same part; None leaves what the protocols say,
    which is "whole" as in the paper."""
    partial: bool = _asked(
        False,
        "--partial",
        "Measure copies of releases that lack more than half of the images.",
        kind=bool,
        group="What is measured",
    )
    """Measure copies of releases that lack more than half of the images; else they are refused."""
    shard: str | None = _asked(
        None,
        "--shard",
        "I/N: this job's share of models x tasks, e.g. 2/4 for the second of four.",
        group="Several processes and machines",
    )
    """"2/4" is the second of four shares of the run, which together do every cell once. Only the
    models and tasks of that share are loaded."""
    executor: str | None = _asked(
        None,
        "--executor",
        "Backend that runs the jobs, one per model and task: local, slurm or ray.",
        group="Several processes and machines",
    )
    """"local", "slurm" or "ray", by whose workers the units, (model, task) pairs, are measured;
    None for this process, or local ones if `workers` is given."""
    workers: int | None = _asked(
        None,
        "--workers",
        "Number of jobs at a time; without --executor on this machine.",
        kind=int | None,
        group="Several processes and machines",
    )
    """Units that are under way at a time."""
    executor_options: dict[str, Any] | None = _asked(
        None,
        "--executor-option",
        "KEY=VALUE, such as gpus_per_worker=1, cpus_per_worker=8, timeout_min=600, "
        "slurm_partition=gpu, address=HOST:PORT; may be repeated.",
        kind=list[str] | None,
        parse=_of_pairs("--executor-option", "KEY=VALUE"),
        group="Several processes and machines",
    )
    """gpus_per_worker, cpus_per_worker, and more by executor; see `executors`."""
    keep_probes: bool = _asked(
        False,
        "--keep-probes",
        "Keep the trained probes in the results folder, for `ubench predict`.",
        kind=bool,
        group="Where things are",
    )
    """Keep the trained probes in the results folder (see `probe_files`), for `ubench predict`."""
    identifiers: bool = _asked(
        False,
        "--identifiers",
        "Keep the names of your own images and patients in the results; else they are numbered.",
        kind=bool,
        group="Your own data",
    )
    """Whether results of own data hold names of test images and of groups. Without it they are
    numbered, groups in the order of their names; no score or interval depends on it."""
    keep_going: bool = _asked(
        False,
        "--keep-going",
        "Run everything that can be run; problems become error rows.",
        kind=bool,
        group="Several processes and machines",
    )
    """Turn problems that are seen before the start into error rows too."""

    @classmethod
    def of(cls, where: str = "", **given: Any) -> Request:
        """The request of these fields.

        Args:
            where: they come from, for errors.
            given: fields by name.

        Raises:
            UserError: an unknown name, or a value of another kind.
        """
        for name in given:
            if name not in OPTIONS:
                near = did_you_mean(name, OPTIONS)
                raise UserError(f"{where}unknown option '{name}'{near} there are {_LISTED}")
        try:
            return cls(**given)
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0])
            reason = first["msg"].removeprefix("Value error, ")
            called = name if where else OPTIONS[name].metadata["flag"]
            raise UserError(
                f"{where}{called} is not valid: {given[name]!r} "
                f"({reason[:1].lower()}{reason[1:]}); correct it"
            ) from error

    @classmethod
    def read(cls, path: Path, **given: Any) -> Request:
        """The request of a YAML file of the fields' names.

        Args:
            path: of the file. Paths in it are meant from the working folder, as on the command
                line.
            given: fields that replace those of the file.

        Raises:
            UserError: the file cannot be read, or holds what `of` refuses.
        """
        return cls.of(
            f"configuration {path}: ", **{**yaml_file.read(path, "configuration"), **given}
        )

    def yaml(self) -> str:
        """What differs from the defaults, as `read` takes it."""
        every = _ADAPTER.dump_python(self, mode="json")
        nothing = _ADAPTER.dump_python(Request(), mode="json")
        asked = {name: value for name, value in every.items() if value != nothing[name]}
        return yaml.safe_dump(asked, sort_keys=False, allow_unicode=True)

    @property
    def reading(self) -> Reading:
        """How own data are read.

        Raises:
            UserError: a word is not valid.
        """
        from tasks.own_data.reading import Reading

        return Reading.of(**{name: getattr(self, name) for name in OWN_DATA})

    @property
    def file(self) -> Path:
        """Where a run writes it, in its results folder."""
        return Path(FOLDER) / f"{hashing.short(hashing.digest_bytes(self.yaml().encode()), 8)}.yaml"


OWN_DATA = ("columns", "sheet", "images", "groups", "frames", "window", "classes", "subgroups")
"""Fields that say how own data are read."""
OPTIONS: dict[str, Field[Any]] = {one.name: one for one in fields(Request)}  # type: ignore[arg-type]
_LISTED = ", ".join(OPTIONS)
_ADAPTER = TypeAdapter(Request)
