"""Copies are met, however changed; other scans are not, however alike their fans."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from changes import CHANGES, cropped, stored
from scenes import scene

import tasks
from tasks.near_duplicates import duplicates, search, signatures
from tasks.near_duplicates.duplicates import DuplicatePair, Reference, find, near_duplicates
from tasks.near_duplicates.signatures import Signature, Signatures, signature
from tasks.samples.images import ImageArray, ImageFile
from ultrabench_eval.audit import collection
from ultrabench_eval.core.errors import UserError

SCENES = 8


@pytest.fixture(scope="module")
def originals() -> list[np.ndarray]:
    return [scene(seed) for seed in range(SCENES)]


@pytest.mark.parametrize("change", CHANGES)
def test_every_changed_copy_is_met_and_no_other(change: str, originals: list[np.ndarray]) -> None:
    generator = np.random.default_rng(0)
    copies = [
        np.asarray(CHANGES[change](PIL.Image.fromarray(image), generator)) for image in originals
    ]
    signed = Signatures.of([signature(image) for image in [*originals, *copies]])
    pairs = find(signed)
    met = {(p.first, p.second) for p in pairs}
    assert met <= {(i, i + SCENES) for i in range(SCENES)}
    assert len(met) >= SCENES - (change == "turned 10 degrees")  # of which some are missed
    same = all(np.array_equal(a, b) for a, b in zip(originals, copies, strict=True))
    assert {p.grade == "identical" for p in pairs} == {same}
    flip = {"flipped horizontally": "horizontal", "flipped vertically": "vertical"}
    flip |= {f"turned {angle} degrees": f"turned {360 - angle}" for angle in (90, 180, 270)}
    if change in flip:
        assert {p.flip for p in pairs} == {flip[change]}


@pytest.mark.parametrize("sides", [(0.05,) * 4, (0, 0.06, 0, 0), (0.025, 0.05, 0.05, 0)])
def test_cropped_copies_without_a_border_to_go_by(
    sides: tuple[float, ...], originals: list[np.ndarray]
) -> None:
    """The texture fills the frame: only the inner view and the fit can tell."""
    inside = [image[60:130, 60:140] for image in originals]
    copies = [
        np.asarray(cropped(*sides)(PIL.Image.fromarray(image), np.random.default_rng(0)))
        for image in inside
    ]
    pairs = find(Signatures.of([signature(image) for image in [*inside, *copies]]))
    assert [(p.first, p.second) for p in pairs] == [(i, i + SCENES) for i in range(SCENES)]


def test_the_order_of_images_does_not_matter(originals: list[np.ndarray]) -> None:
    images = [*originals, originals[0], originals[1][::-1], originals[2][5:-5, 5:-5]]
    signed = Signatures.of([signature(np.ascontiguousarray(image)) for image in images])

    def found(order: np.ndarray) -> set[tuple[object, ...]]:
        return {
            (frozenset((int(order[p.first]), int(order[p.second]))), *p[2:])
            for p in find(signed.take(order))
        }

    first = found(np.arange(len(images)))
    assert len(first) == 3
    for seed in range(5):
        assert found(np.random.default_rng(seed).permutation(len(images))) == first


def test_a_verdict_does_not_depend_on_the_company(originals: list[np.ndarray]) -> None:
    pair = [originals[0], originals[0][8:-8, 8:-8]]
    alone = near_duplicates([ImageArray(image, "") for image in pair])
    among = near_duplicates([ImageArray(image, "") for image in [*pair, *originals[1:]]])
    assert alone == among
    assert len(alone) == 1


def test_many_images_are_searched_by_an_index(
    originals: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    images = originals + [
        np.asarray(change(PIL.Image.fromarray(image), generator))
        for image, change in zip(originals * 3, [*CHANGES.values()] * 3, strict=False)
    ]
    signed = Signatures.of([signature(image) for image in images])
    exact, told = find(signed), []
    monkeypatch.setattr(search, "ALL_PAIRS", 10)
    by_index = find(signed, advance=lambda done, total: told.append((done, total)))
    assert set(by_index) <= set(exact)
    assert len(by_index) >= len(exact) - 1 > 20
    assert told[-1][0] == told[-1][1] > 10


def test_across_two_sequences(originals: list[np.ndarray]) -> None:
    a = [ImageArray(originals[k], f"a{k}") for k in (0, 1, 1)]
    b = [ImageArray(originals[k], f"b{k}") for k in (2, 1, 2)]
    expected = [(1, 1, "identical"), (2, 1, "identical")]
    assert [p[:3] for p in near_duplicates(a, b)] == expected
    assert near_duplicates(a, []) == near_duplicates([], b) == near_duplicates([]) == []


def test_a_reference_gives_the_verdicts_of_all_together(
    originals: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    turned = CHANGES["turned 90 degrees"]
    changes = (stored("PNG"), stored("JPEG", quality=50), turned, cropped(*[0.025] * 4))

    def signed(seeds: list[int]) -> list[Signature]:
        images = [
            np.asarray(change(PIL.Image.fromarray(originals[seed]), generator))
            for seed in seeds
            for change in changes
        ]
        return [signature(images[i]) for i in generator.permutation(len(images))]

    ours, others = signed([0, 1, 2, 2, 3]), signed([1, 2, 1, 4])
    n = len(others)
    together = find(Signatures.of([*others, *ours]), together=np.repeat([0, 1], [n, len(ours)]))
    expected = [p._replace(second=p.second - n) for p in together if p.first < n <= p.second]
    assert {p.grade for p in expected} == {"identical", "near duplicate"}
    for rows in (1, 5, 64):
        monkeypatch.setattr(duplicates, "_ROWS", rows)
        assert Reference(Signatures.of(ours)).find(Signatures.of(others)) == expected


def test_a_store_gives_the_same(originals: list[np.ndarray], tmp_path: Path) -> None:
    images = [ImageArray(image, "") for image in (*originals, originals[3][:, ::-1])]
    store = signatures.store(tmp_path)
    assert near_duplicates(images, store=store) == near_duplicates(images)
    gone = ImageFile(tmp_path / "gone.png", "gone.png")
    for kept in (store, None):
        with pytest.raises(UserError, match=r"gone\.png"):
            near_duplicates([gone], images, kept)


def test_images_that_belong_together_are_a_pair_only_if_equal(
    originals: list[np.ndarray],
) -> None:
    images = [originals[0], originals[0][8:-8, 8:-8], originals[0]]
    signed = Signatures.of([signature(image) for image in images])
    assert [p[:2] for p in find(signed, together=np.array([0, 0, 0]))] == [(0, 2)]
    assert [p[:2] for p in find(signed, together=np.array([0, 0, 1]))] == [(0, 2), (1, 2)]


def test_flat_images_are_equal_or_nothing() -> None:
    flat = [ImageArray(np.full((40, 50), level, np.uint8), "") for level in (0, 0, 90)]
    assert [p[:3] for p in near_duplicates(flat)] == [(0, 1, "identical")]


def test_groups_by_content() -> None:
    pairs = [
        DuplicatePair(0, 3, "identical", 0, 1, ""),
        DuplicatePair(3, 4, "same scene", 5, 0.8, ""),
    ]
    groups = duplicates.components(pairs, 6)
    assert groups[0] == groups[3] == groups[4]
    assert len(set(groups.tolist())) == 4
    assert len(set(duplicates.components([], 3).tolist())) == 3


# ---- images of others ---------------------------------------------------------------------------


@pytest.mark.slow
def test_simulated_patients_are_not_taken_for_each_other(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most 1 in 10,000 pairs of different simulated patients, as many as of size `small`."""
    from tasks import phantom
    from tasks.phantom.plan import SIZES, Size

    monkeypatch.setitem(SIZES, "many", Size("many", 1.0, 0.4))
    names = ("aul", "butterfly", "fatty_liver", "mmotu")
    root = phantom.write(tmp_path_factory.mktemp("phantom"), size="many", tasks=names)
    for name in names:
        entries = collection.of_task(tasks.load(name, root))
        signed = Signatures.of([signature(entry.image.read()) for entry in entries])
        wrong = [p for p in find(signed) if not entries[p.first].same_group(entries[p.second])]
        assert len(wrong) <= 1e-4 * len(entries) * (len(entries) - 1) / 2, name


@pytest.fixture(scope="module")
def ddti(shared: Path) -> list[ImageFile]:
    return [ImageFile(path, path.stem) for path in sorted((shared / "data/ddti").glob("*.jpg"))]


@pytest.mark.shared
def test_known_duplicates_of_ddti(ddti: list[ImageFile]) -> None:
    pairs = near_duplicates(ddti)
    identical = {(ddti[p.first].name, ddti[p.second].name) for p in pairs if p.grade == "identical"}
    four = ("233_2", "323_1", "326_1", "349_1")
    known = {(a, b) for a in four for b in four if a < b}
    assert identical == {
        *known,
        ("1_1", "1_2"),
        ("213_1", "213_2"),
        ("353_2", "396_1"),
        ("92_3", "92_4"),
    }
    others = [(ddti[p.first].name, ddti[p.second].name) for p in pairs if p.grade != "identical"]
    assert all(a.split("_")[0] == b.split("_")[0] for a, b in others)


@pytest.mark.shared
def test_no_image_of_busbra_shows_another_patient_again(real_data: Path) -> None:
    folder = real_data / "busbra/BUSBRA"
    with (folder / "bus_data.csv").open() as file:
        case = {row["ID"]: row["Case"] for row in csv.DictReader(file)}
    images = [ImageFile(path, path.stem) for path in sorted((folder / "Images").glob("*.png"))]
    assert len(images) == 1136
    pairs = near_duplicates(images)
    assert [p for p in pairs if case[images[p.first].name] != case[images[p.second].name]] == []
