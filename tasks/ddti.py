"""DDTI: thyroid ultrasound from Colombia: TI-RADS of nodules, and their outlines drawn by hand."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from tasks import release, splits
from tasks.samples import polygons
from tasks.samples.images import Image
from tasks.samples.label_masks import PolygonMask, size_of
from tasks.task import Item, Rule, Task, TaskCard
from ultrabench_eval.core.errors import UserError

CARD = TaskCard(
    name="ddti",
    title="DDTI",
    organ="thyroid",
    target="TI-RADS of the nodule: 2, 3 (benign) or 4a, 4b, 4c, 5 (malignant)",
    classes=("benign", "malignant"),
    paper="Pedraza et al., Proc. SPIE 9287, 2015, doi 10.1117/12.2073532",
    source="http://cimalab.intec.co/applications/thyroid/",
    licence="not stated; the paper calls it an open access database",
    short_side=360,
    groups="case",
    defects=(
        "Not biopsy truth: benign and malignant are what a reader's TI-RADS category is usually "
        "taken for.",
        "75 of the 312 cases that were looked at have no TI-RADS category: their images are left "
        "out.",
        "Some files are equal but have different names and cases (1_1 and 1_2; 233_2, 323_1, 326_1 "
        "and 349_1; and others); they are kept in one split.",
        "Many images are two views side by side; text is burnt in, of some images the TI-RADS "
        "category itself.",
    ),
    rule=Rule("group", seed=42, validation=0.25, test=0.2),
    splits={
        "rule": "ours, because none is published: whole cases, 20 % for test and 20 % for "
        "validation, seed 42; cases that share an equal file count as one",
    },
)
_NODULES = dataclasses.replace(
    CARD,
    name="ddti-seg",
    title="DDTI nodules",
    target="nodule region",
    classes=("background", "nodule"),
    type="segmentation",
    dataset="ddti",
    defects=(
        "Some files are equal but have different names, cases and outlines (1_1 and 1_2; 233_2, "
        "323_1, 326_1 and 349_1; and others); they are kept in one split.",
        "The outlines of 6 images are cut off after 2500 characters, 4 images have none, and that "
        "of 338_2 reaches out of its image: these 11 are left out.",
        "Many images are two views side by side; text is burnt in, of some images the TI-RADS "
        "category.",
    ),
)
CARDS = {card.name: card for card in (CARD, _NODULES)}

_CODES = {"2": 0, "3": 0, "4a": 1, "4b": 1, "4c": 1, "5": 1}
"""The class of each TI-RADS category."""
OURS = (
    "no split is published: ours is over whole cases, 20 % for test and 20 % for validation, seed "
    "42; cases that share an equal file count as one"
)


_CUT_OFF = 2500  # characters of an outline that the release holds at most


class _Case(NamedTuple):
    """What an XML file tells."""

    path: Path
    category: str
    """TI-RADS, or ""."""
    outlines: dict[str, list[np.ndarray] | None]
    """The nodules of its images by their numbers; None where the release cuts them off."""


def read(folder: Path) -> Task:
    """Read DDTI's TI-RADS categories as two classes, in the splits of `read_nodules`.

    Raises:
        UserError: release not found, or a case's XML file is damaged.
    """
    cases = _cases(folder)
    parts = _drawn(cases, folder)[:3]
    categories = {item.image.name: cases[_case(item)].category for part in parts for item in part}
    without = [name for name, category in categories.items() if not category]
    train, validation, test = (
        [
            item._replace(target=_CODES[category])
            for item in part
            if (category := categories[item.image.name])
        ]
        for part in parts
    )
    left_out = f"left out: {len(without)} of {len(categories)} images, whose case has no TI-RADS"
    coded = "benign is TI-RADS 2 and 3, malignant 4a, 4b, 4c and 5; it is not biopsy truth"
    notes = [coded, *([left_out] if without else []), OURS]
    drawn = splits.Parts(train, validation, test, notes=notes)
    return splits.assemble(CARD, folder, **drawn._asdict())


def read_nodules(folder: Path) -> Task:
    """Read DDTI's outlines of nodules.

    Raises:
        UserError: release not found, or a case's XML file is damaged.
    """
    cases = _cases(folder)

    def mask_of(item: Item) -> PolygonMask | None:
        case = cases[_case(item)]
        points = case.outlines[_number(item)]
        size = size_of(item.image)
        if not points or not all(polygons.within(one, size) for one in points):
            return None
        return PolygonMask(item.image, points, case.path)

    return splits.assemble_masks(
        _NODULES,
        folder,
        mask_of,
        what="complete outline within the image",
        **_drawn(cases, folder)._asdict(),
    )


def _cases(folder: Path) -> dict[str, _Case]:
    """All cases of a release by their numbers."""
    paths = sorted(release.files_in(_find(folder), (".xml",)), key=_numbers)
    return {path.stem: _read(path) for path in paths}


def _drawn(cases: Mapping[str, _Case], folder: Path) -> splits.Parts:
    """All images of a release, of class 0, the group being the case or the first of joined ones."""
    images = release.Folder(_find(folder))
    names = [f"{case}_{number}.jpg" for case, one in cases.items() for number in one.outlines]
    files = [release.image(images / name, name) for name in sorted(names, key=_numbers)]
    items = [Item(image, 0) for image in files]
    groups = _joined({item.image: _case(item) for item in items if not splits.is_missing(item)})
    grouped = [item._replace(group=groups.get(_case(item), _case(item))) for item in items]
    return splits.Parts(*splits.draw(grouped, CARD.rule, folder), notes=[OURS])


def _case(item: Item) -> str:
    """12 of 12_3.jpg."""
    return item.image.name.rpartition("_")[0]


def _number(item: Item) -> str:
    """3 of 12_3.jpg."""
    return item.image.name.rpartition("_")[2].removesuffix(".jpg")


def _find(folder: Path) -> Path:
    """The directory at or below `folder` that holds XML files and images."""
    for place in release.candidates(folder, ()):
        if release.files_in(place, (".xml",)) and any(
            "_" in path.stem for path in release.files_in(place, (".jpg",))
        ):
            return place
    raise UserError(
        f"{folder} does not hold the release: no folder at or below it has <case>.xml and "
        f"<case>_<number>.jpg; {release.how_to_unpack(folder, 'DDTI')}"
    )


def _read(path: Path) -> _Case:
    """A case."""
    try:
        case = ElementTree.fromstring(release.read_text(path))
        marks = case.findall("mark")
        outlines = {m.findtext("image", ""): _nodules(m.findtext("svg", "")) for m in marks}
    except (ElementTree.ParseError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"cannot read the outlines in {path} ({error}); copy it again from the release"
        ) from error
    category = (case.findtext("tirads") or "").strip().lower()
    if category and category not in _CODES:
        raise UserError(
            f"{path} states the TI-RADS category '{category}', which is not one of "
            f"{', '.join(_CODES)}; copy it again from the release"
        )
    return _Case(path, category, outlines)


def _nodules(svg: str) -> list[np.ndarray] | None:
    """The polygons in the JSON of one image; arrows are none."""
    if not svg.strip():
        return []
    try:
        regions = json.loads(svg)
    except ValueError:
        if len(svg) == _CUT_OFF:
            return None
        raise
    return [
        polygons.of([[point["x"], point["y"]] for point in region["points"]])
        for region in regions
        if region["regionType"] != "arrow"
    ]


def _joined(cases: Mapping[Image, str]) -> dict[str, str]:
    """The first case of those that are joined by equal files, for each case."""
    group = {case: case for case in cases.values()}
    holder: dict[str, str] = {}
    for image, case in cases.items():
        one, other = group[case], group[holder.setdefault(image.digest(), case)]
        first = min(one, other, key=_numbers)
        group = {name: first if held in (one, other) else held for name, held in group.items()}
    return group


def _numbers(name: str | Path) -> tuple[list[int], str]:
    """Sorts names as the release counts them: 2_1.jpg before 10_1.jpg."""
    name = Path(name).name
    return [int(digits) for digits in re.findall(r"\d+", name)], name
