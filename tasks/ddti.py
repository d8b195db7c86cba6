"""DDTI: thyroid ultrasound from Colombia with outlines of nodules, drawn by hand."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from tasks import release, splits
from tasks.samples import polygons
from tasks.samples.images import ImageFile
from tasks.samples.label_masks import PolygonMask, size_of
from tasks.task import Item, Rule, Task, TaskCard
from ultrabench_eval.core.errors import UserError

CARD = TaskCard(
    name="ddti-seg",
    title="DDTI nodules",
    organ="thyroid",
    target="nodule region",
    classes=("background", "nodule"),
    type="segmentation",
    dataset="ddti",
    paper="Pedraza et al., Proc. SPIE 9287, 2015, doi 10.1117/12.2073532",
    source="http://cimalab.intec.co/applications/thyroid/",
    licence="not stated; the paper calls it an open access database",
    short_side=360,
    groups="case",
    defects=(
        "Some files are equal but have different names, cases and outlines (1_1 and 1_2; 233_2, "
        "323_1, 326_1 and 349_1; and others); they are kept in one split.",
        "The outlines of 6 images are cut off after 2500 characters, 4 images have none, and that "
        "of 338_2 reaches out of its image: these 11 are left out.",
        "Many images are two views side by side; text is burnt in, of some images the TI-RADS "
        "category.",
    ),
    rule=Rule("group", seed=42, validation=0.25, test=0.2),
    splits={
        "rule": "ours, because none is published: whole cases, 20 % for test and 20 % for "
        "validation, seed 42; cases that share an equal file count as one",
    },
)

OURS = (
    "no split is published: ours is over whole cases, 20 % for test and 20 % for validation, seed "
    "42; cases that share an equal file count as one"
)


_CUT_OFF = 2500  # characters of an outline that the release holds at most


def read(folder: Path) -> Task:
    """Read DDTI's outlines of nodules.

    Raises:
        UserError: release not found, or a case's XML file is damaged.
    """
    base = _find(folder)
    images = release.Folder(base)
    outlines: dict[str, list[np.ndarray] | None] = {}
    cases: dict[str, str] = {}
    files_of_cases = {path.stem: path for path in release.files_in(base, (".xml",))}
    for path in sorted(files_of_cases.values(), key=_numbers):
        for number, points in _outlines(path).items():
            name = f"{path.stem}_{number}.jpg"
            outlines[name], cases[name] = points, path.stem
    names = sorted(outlines, key=_numbers)
    files = [release.image(images / name, name) for name in names]
    groups = _joined({image: cases[image.name] for image in files if image.path.is_file()})
    items = [Item(image, 0, groups.get(cases[image.name], cases[image.name])) for image in files]

    def mask_of(item: Item) -> PolygonMask | None:
        points = outlines[item.image.name]
        size = size_of(item.image)
        if not points or not all(polygons.within(one, size) for one in points):
            return None
        return PolygonMask(item.image, points, files_of_cases[cases[item.image.name]])

    train, validation, test = splits.draw(items, CARD.rule, folder)
    return splits.assemble_masks(
        CARD,
        folder,
        mask_of,
        what="complete outline within the image",
        train=train,
        validation=validation,
        test=test,
        notes=[OURS],
    )


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


def _outlines(path: Path) -> dict[str, list[np.ndarray] | None]:
    """The nodules of a case's images by image number; None where the release cuts them off."""
    try:
        marks = ElementTree.fromstring(release.read_text(path)).findall("mark")
        return {mark.findtext("image", ""): _nodules(mark.findtext("svg", "")) for mark in marks}
    except (ElementTree.ParseError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"cannot read the outlines in {path} ({error}); copy it again from the release"
        ) from error


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


def _joined(cases: dict[ImageFile, str]) -> dict[str, str]:
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
