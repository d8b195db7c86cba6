"""The task contract: what a reader hands over, and what the harness may rely on.

N is the number of images of a split, C the number of classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple, Protocol

import numpy as np

from tasks import targets
from tasks.samples.clips import content, is_clip
from tasks.samples.images import Image, verifiable
from tasks.scan.scan_mask import CineMask, EstimatedMask
from tasks.targets import Kind, LabelMask, Target, Targets
from ultrabench_eval.core import hashing, names
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.core.grouping import by_key
from ultrabench_eval.core.licence_kind import LicenceKind

SPLITS = ("train", "validation", "test")


class ScanMask(Protocol):
    """The ultrasound region of one image; `tasks.scan.scan_mask` has the kinds there are."""

    @property
    def name(self) -> str:
        """Says which image or clip it is of."""

    def read(self) -> np.ndarray:
        """The mask, bool [H, W], of the size of its image.

        Raises:
            UserError: a file is damaged.
        """

    def digest(self) -> str:
        """SHA-256 of all that the mask is made from."""


DOWNSCALED = "downscaled copies"
"""How the note begins that the images of a task are smaller than those of its release."""


class Rule(NamedTuple):
    """How UltraBench 1.0.1 draws the splits of a task."""

    by: Literal["class", "group", "image"]
    """Stratified by class, whole groups, or each image by itself."""
    seed: int
    validation: float
    """Part of what is not test."""
    test: float | None = None
    """Part of all images; None where the release gives the test set."""


@dataclass(frozen=True)
class TaskCard:
    """What is known of a task, independent of where its files lie."""

    name: str
    """Name on the command line and in tables, e.g. "fatty_liver"."""
    title: str
    """Name in print, e.g. "FATTY LIVER"."""
    organ: str
    target: str
    """What is predicted for an image, e.g. "mass malignancy"."""
    classes: tuple[str, ...]
    """Class names; the position is UltraBench's integer code. Of masks, the first is the
    background. None where the target is a number."""
    type: str = "classification"
    """What kind of task it is: how its answers are scored (`ultrabench_eval.task_types`)."""
    samples: Literal["image", "clip"] = "image"
    """What one sample is: an image, or a video (`tasks.samples.clips.Clip`)."""
    folds: int = 0
    """Of a task that is judged by cross-validation, how many parts its samples are in; see
    `Task.folds`."""
    dataset: str = ""
    """The task whose folder of a data root it is read from; "" is its own."""
    unit: str = ""
    """Of a target that is a number, e.g. "mm"."""
    paper: str = "not stated"
    source: str = "not stated"
    """Where the original release is available."""
    licence: str = "not stated"
    licence_kind: LicenceKind | None = None
    """What it amounts to; None: what its bare name tells, e.g. "CC BY 4.0"."""
    groups: str = "none"
    """What `Split.groups` stands for: "patient", "video", or "none"."""
    defects: tuple[str, ...] = ()
    """Known defects of the release, one sentence each."""
    images: int | None = None
    """Images of the whole release, used or not."""
    patients: int | None = None
    """People in the release, if it says so."""
    short_side: int | None = None
    """Pixels of the short side of the release's smallest image; smaller ones are not originals."""
    paper_counts: tuple[int, int, int] | None = None
    """Images of train, validation and test that the US-JEPA paper states (its Table 4)."""
    ultrabench_counts: tuple[int, int, int] | None = None
    """The same by the code of UltraBench 1.0.1, run or documented; None where it has no such
    task."""
    rule: Rule | None = None
    """How splits that the release does not give are drawn."""
    differs: str = ""
    """Why the counts of a whole copy are not the paper's; "" if they are."""
    splits: Mapping[str, str] = field(default_factory=dict)
    """Ways to split, besides an own file, and what each is; the first is the default. Without
    any, "published" and "rule" are the same."""
    transfer: tuple[str, str] | None = None
    """Where training and test images are of two sets (`tasks.derived`): the tasks that it is
    compared with, trained and tested on the first of them, and on the second."""


class Item(NamedTuple):
    """One row of a release while a reader sorts it into splits."""

    image: Image
    target: Target
    group: str | None = None
    scan_mask: ScanMask | None = None
    """The release's own; None: it is estimated from the image."""
    factor: float = 1.0
    """Of a number: what a prediction is multiplied by, because the image does not show it. A length
    in mm is predicted in parts of the image's width, whose mm this is."""
    subgroups: tuple[tuple[str, str], ...] = ()
    """What else the release says of it, by which scores are also shown: ("sex", "F") ..."""

    @property
    def number(self) -> int | float | None:
        """Its target, if that is a class code or a number."""
        return self.target if isinstance(self.target, int | float) else None

    @property
    def label(self) -> int:
        """Its class code.

        Raises:
            TypeError: the target is none.
        """
        if not isinstance(self.target, int):
            raise TypeError(f"the target of {self.image.name} is not a class")
        return self.target


@dataclass(frozen=True, eq=False)
class Split:
    """Images of one split with what is right for each.

    Args:
        images: N images, or N videos where the card says so (`TaskCard.samples`). A mask is that of
            the frame `at` of its video; several labelled frames of a video are several samples.
        targets: class codes int64 [N], numbers float64 [N], or N masks.
        groups: N patient or video ids, or None where the release has none.
        scan_masks: N masks of the ultrasound region (bool [H, W] when read); not part of the
            fingerprint, because encoders do not see them.
        factors: float64 [N], see `Item.factor`; None is all 1.
        subgroups: N values of each thing that the release says ("device", "sex"), "" where it does
            not; scores are also shown by these. Not part of the fingerprint.
    """

    images: Sequence[Image]
    targets: Targets
    groups: tuple[str, ...] | None = None
    scan_masks: Sequence[ScanMask] | None = None
    factors: np.ndarray | None = None
    subgroups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, items: Sequence[Item]) -> Split:
        """The split that holds `items`; it has groups if every item has one."""
        groups = tuple(names.printable(item.group) for item in items if item.group is not None)
        return cls(
            images=tuple(item.image for item in items),
            targets=targets.of([item.target for item in items]),
            groups=groups if len(groups) == len(items) > 0 else None,
            scan_masks=tuple(item.scan_mask or _estimated(item.image) for item in items),
            factors=_factors(items),
            subgroups=_subgroups(items),
        )

    def __post_init__(self) -> None:
        # Readers of others may hand over images whose `read` takes no digest.
        object.__setattr__(self, "images", tuple(map(verifiable, self.images)))

    def __len__(self) -> int:
        return len(self.images)

    @property
    def labels(self) -> np.ndarray:
        """Class codes, int64 [N].

        Raises:
            TypeError: the targets are none.
        """
        if isinstance(self.targets, tuple) or self.targets.dtype != np.int64:
            raise TypeError("the targets of this split are not classes")
        return self.targets

    @property
    def items(self) -> list[Item]:
        """The N rows that the split was made `of`."""
        every: Sequence[Target] = self.masks or np.asarray(self.targets).tolist()
        groups = self.groups or (None,) * len(self)
        masks = self.scan_masks or (None,) * len(self)
        factors = [1.0] * len(self) if self.factors is None else self.factors.tolist()
        known = [
            tuple((name, every[row]) for name, every in self.subgroups.items() if every[row])
            for row in range(len(self))
        ]
        rows = zip(self.images, every, groups, masks, factors, known, strict=True)
        return [Item(*row) for row in rows]

    @property
    def masks(self) -> tuple[LabelMask, ...]:
        """The N targets where they are masks, else ()."""
        return self.targets if isinstance(self.targets, tuple) else ()

    @cached_property
    def digests(self) -> tuple[str, ...]:
        """SHA-256 of each of the N images; reads every file once."""
        return tuple(image.digest() for image in self.images)

    @cached_property
    def contents(self) -> tuple[str, ...]:
        """As `digests`, but the same for all frames of a video that have masks."""
        return tuple(
            content(image) if is_clip(image) else digest
            for image, digest in zip(self.images, self.digests, strict=True)
        )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over image content, targets and groups, in order; names of files don't count."""
        return hashing.digest(
            {
                "images": self.digests,
                "labels": targets.identity(self.targets),
                "groups": self.groups,
                **({} if self.factors is None else {"factors": self.factors.tolist()}),
            }
        )

    @cached_property
    def mask_digests(self) -> tuple[str, ...]:
        """SHA-256 of what each of the scan masks is made from; () without masks."""
        return tuple(mask.digest() for mask in self.scan_masks or ())

    @property
    def mask_fingerprint(self) -> str:
        """SHA-256 over what the scan masks are made from, in order."""
        return hashing.digest(list(self.mask_digests))


@dataclass(frozen=True, eq=False)
class Task:
    """A task: three splits and what to know of them.

    Of cross-validation (`folds`), `test` holds all samples and `train` and `validation` are empty:
    code that knows nothing of folds then has nothing to learn from, rather than learning from what
    it is tested on. `of_folds` makes such a task.

    Raises:
        UserError: on construction, if a split is empty, a label is out of range or a number not
            finite, a class has no training image, or a group is in two splits.
    """

    card: TaskCard
    train: Split
    validation: Split
    test: Split
    notes: tuple[str, ...] = ()
    """What differs from the release or from what was published: missing files, other counts."""
    unused: tuple[Item, ...] = ()
    """Labelled images of the release that are in no split; a split file may use them."""
    missing: tuple[str, ...] = ()
    """Names of images that the release lists and this copy lacks."""
    synthetic: bool = False
    """True for simulated images; tables say so wherever their numbers show."""
    folds: tuple[Task, ...] = ()
    """Tasks with three splits each, whose test parts one after the other are `test`: each sample is
    tested once, by what was learnt without it."""
    origin: str = field(default="", compare=False)
    """Folder or file the task was read from, for messages; not part of its identity."""

    @classmethod
    def of_folds(
        cls,
        card: TaskCard,
        folds: Sequence[Task],
        *,
        notes: tuple[str, ...] = (),
        unused: tuple[Item, ...] = (),
        missing: tuple[str, ...] = (),
        origin: str = "",
    ) -> Task:
        """The task of cross-validation over these folds.

        Raises:
            ValueError: a sample is tested twice, or in no fold.
        """
        test = Split.of([item for fold in folds for item in fold.test.items])
        none = Split((), test.targets[:0])
        return cls(
            dataclasses.replace(card, folds=len(folds)),
            train=none,
            validation=none,
            test=test,
            notes=notes,
            unused=unused,
            missing=missing,
            folds=tuple(folds),
            origin=origin,
        )

    def __post_init__(self) -> None:
        if self.card.folds != len(self.folds):
            raise ValueError(f"{self.name} has {len(self.folds)} folds, not {self.card.folds}")
        if self.folds:
            self._check_split("test", self.test)
            self._check_folds()
            return
        for name, split in self.splits.items():
            self._check_split(name, split)
        if self.targets == "class":
            self._check_classes()
        self._check_groups()

    @property
    def name(self) -> str:
        """Name on the command line and in tables."""
        return self.card.name

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; the position is the integer code of the labels."""
        return self.card.classes

    @property
    def targets(self) -> Kind:
        """What is predicted for an image."""
        return targets.kind((self.test if self.folds else self.train).targets)

    @property
    def splits(self) -> dict[str, Split]:
        """The three splits by name, in the order train, validation, test."""
        return {name: getattr(self, name) for name in SPLITS}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over classes, kind and the three splits: equal exactly for equal data."""
        parts: dict[str, object] = {
            "classes": self.classes,
            **{name: split.fingerprint for name, split in self.splits.items()},
        }
        if self.card.type != "classification":  # whose fingerprints are older than other kinds
            parts["type"] = self.card.type
        if self.folds:
            parts["folds"] = [fold.fingerprint for fold in self.folds]
        return hashing.digest(parts)

    def told(self, item: Item) -> str:
        """What is right for an image, in words: its class, or number and unit; "" of a mask."""
        if self.targets == "class":
            return self.classes[item.label]
        return f"{item.target:g} {self.card.unit}".strip() if item.number is not None else ""

    def seen_in_training(self) -> dict[str, tuple[str, ...]]:
        """Names of the validation and test images whose content is that of a training image too.

        Of files with the same bytes only, of a video whichever frame has a mask; `ubench audit`
        finds near-duplicates.
        """
        known = set(self.train.contents)
        return {
            name: tuple(
                image.name
                for image, shown in zip(split.images, split.contents, strict=True)
                if shown in known
            )
            for name, split in self.splits.items()
            if name != "train"
        }

    def counts(self) -> dict[str, list[int]]:
        """Images per class (a list of C) for each split; of all images where no image is of one
        class."""
        if self.targets != "class":
            return {name: [len(split)] for name, split in self.splits.items()}
        return {
            name: np.bincount(split.labels, minlength=len(self.classes)).tolist()
            for name, split in self.splits.items()
        }

    def _check_split(self, name: str, split: Split) -> None:
        if len(split) == 0:
            raise UserError(f"task '{self.name}' has no {name} images in {self.origin}; add some")
        lists = (split.targets, split.groups, split.scan_masks, split.factors)
        for what in (*lists, *split.subgroups.values()):
            if what is not None and len(what) != len(split):
                raise ValueError(
                    f"{self.name}/{name}: targets, groups or scan masks differ in length from "
                    "images"
                )
        if self.card.type == "classification" and self.targets != "class":
            raise ValueError(
                f"{self.name}/{name}: targets of a classification task are class codes"
            )
        if targets.kind(split.targets) != self.targets:
            raise ValueError(f"{self.name}/{name}: its targets are another kind than in training")
        if self.targets == "number" and not np.isfinite(np.asarray(split.targets)).all():
            raise UserError(
                f"task '{self.name}' has {name} targets that are not finite in {self.origin}; "
                "correct them, or leave those images out"
            )
        if self.targets != "class":
            return
        wrong = set(split.labels.tolist()) - set(range(len(self.classes)))
        if wrong:
            raise UserError(
                f"task '{self.name}' has {name} labels {sorted(wrong)} in {self.origin}, but its "
                f"{len(self.classes)} classes are numbered from 0; correct the labels"
            )

    def _check_folds(self) -> None:
        """See that each sample is tested once."""
        tested = [image.name for fold in self.folds for image in fold.test.images]
        if tested != [image.name for image in self.test.images] or len(self.train):
            raise ValueError(f"the test parts of the folds of {self.name} are not its test part")
        every = {image.name for split in self.folds[0].splits.values() for image in split.images}
        if len({*tested}) < len(tested) or every != {*tested}:
            raise ValueError(f"the folds of {self.name} do not test each sample once")
        same = (dataclasses.replace(fold, synthetic=self.synthetic) for fold in self.folds)
        object.__setattr__(self, "folds", tuple(same))

    def _check_classes(self) -> None:
        absent = set(range(len(self.classes))) - set(self.train.labels.tolist())
        for code in sorted(absent):
            held = [name for name in SPLITS[1:] if code in self.splits[name].labels]
            has = "have" if len(held) > 1 else "has"
            where = f" although {' and '.join(held)} {has} some" if held else ""
            raise UserError(
                f"class '{self.classes[code]}' of task '{self.name}' has no training image in "
                f"{self.origin}{where}; a probe cannot learn it: add one or drop the class"
            )

    def _check_groups(self) -> None:
        places = by_key(
            (group, name)
            for name, split in self.splits.items()
            for group in set(split.groups or ())
        )
        shared = sorted(group for group, where in places.items() if len(where) > 1)
        if shared:
            raise UserError(
                f"task '{self.name}': {len(shared)} of its groups ({self.card.groups}) are in "
                f"more than one split of {self.origin} (first: '{shared[0]}' in "
                f"{' and '.join(places[shared[0]])}), so the test is not independent; "
                "keep each group within one split"
            )


def _estimated(image: Image) -> ScanMask:
    return CineMask(image) if is_clip(image) else EstimatedMask(image)


def _subgroups(items: Sequence[Item]) -> Mapping[str, tuple[str, ...]]:
    """What items say of themselves, by what it is."""
    known = [dict(item.subgroups) for item in items]
    every = dict.fromkeys(name for one in known for name in one)
    return {name: tuple(names.printable(one.get(name, "")) for one in known) for name in every}


def _factors(items: Sequence[Item]) -> np.ndarray | None:
    """Those of items that have any."""
    found = np.array([item.factor for item in items], dtype=np.float64)
    return None if (found == 1).all() else found
