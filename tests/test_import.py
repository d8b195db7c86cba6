"""Features and predictions that were made elsewhere: the same numbers, or one sentence."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import PIL.Image
import pytest
from conftest import make_manifest

import tasks as task_zoo
import ultrabench_eval
from tasks.task import Task
from ultrabench_eval import embed as embedding
from ultrabench_eval.cells import Cell, Cells
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.imports import rows as row_check
from ultrabench_eval.imports.entry import Imported, import_file
from ultrabench_eval.request import Request

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
import import_faults


class World:
    """A task of 60 images, features of it, and a run by the model itself."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.cache = folder, folder / "cache"
        self.manifest = make_manifest(folder / "shades.csv")
        self.task: Task = task_zoo.load(str(self.manifest))
        self.made = embedding.embed("pixels", self.manifest, device="cpu", cache=self.cache)
        self.features = self.made.features
        self.digests = self.made.columns["sha256"]
        self.names = self.made.columns["id"]

    def run(self, out: Path, **options: object) -> pd.DataFrame:
        return ultrabench_eval.run(
            "pixels", self.manifest, out=out, cache=self.cache, device="cpu", seeds=2, **options
        )

    def add(self, file: Path, out: Path, model: str = "pixels", **options: object) -> Imported:
        request = Request.of(
            models=(model,), tasks=(str(self.manifest),), out=out, cache=self.cache,
            device="cpu", **{"seeds": 2, **options},
        )  # fmt: skip
        return import_file(file, request)

    def write(self, name: str = "given.npz", **arrays: object) -> Path:
        path = self.folder / name
        np.savez(path, **arrays)
        return path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("imports"))


def only_cell(out: Path, model: str) -> Cell:
    (found,) = [one for one in Cells(out).gather() if one.coordinates.model == model]
    assert isinstance(found, Cell)
    return found


# ---- features ------------------------------------------------------------------------------------


def test_embed_and_import_give_the_table_of_the_run_to_the_byte(
    world: World, tmp_path: Path
) -> None:
    file = tmp_path / "features.parquet"
    embedding.write(world.made, file)
    options = {"probe": "linear,ridge", "fractions": "50,100"}
    world.run(tmp_path / "run", **options)
    done = world.add(file, tmp_path / "imported", **options)
    assert done.rows.startswith("rows verified by 24 images")
    own, theirs = (tmp_path / name / "leaderboard.csv" for name in ("run", "imported"))
    assert theirs.read_bytes().replace(b"imported/pixels", b"pixels") == own.read_bytes()
    own, theirs = (tmp_path / name / "fewshot.md" for name in ("run", "imported"))
    assert "imported/pixels" in theirs.read_text()
    # The same command again changes nothing, and beside each other neither replaces the other.
    before = theirs.read_bytes()
    assert set(world.add(file, tmp_path / "imported", **options).stages) == {"kept"}
    assert theirs.read_bytes() == before
    world.run(tmp_path / "imported", **options)
    models = {one.coordinates.model for one in Cells(tmp_path / "imported").gather()}
    assert models == {"pixels", "imported/pixels"}


def test_an_entry_without_its_model_is_marked_wherever_its_number_is(
    world: World, tmp_path: Path
) -> None:
    file = world.write(features=world.features, id=np.array(world.names))
    done = world.add(file, tmp_path, model="closed", probe="ridge")
    assert done.rows == "rows not verified"
    assert "(p = 0.001)" in done.notes[-1]
    for name in ("leaderboard.md", "leaderboard.html"):
        text = (tmp_path / name).read_text()
        assert "imported/closed" in text
        assert "rows not verified" in text
    frame = pd.read_csv(tmp_path / "leaderboard.csv")
    assert {*frame.status} == {"ok (rows not verified)"}
    assert {*frame.seen} == {"not known"}


def test_the_name_of_a_loaded_model_is_never_taken(world: World, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name of the entry"):
        world.add(tmp_path / "x.npz", tmp_path, model=" ")
    file = world.write(features=world.features * 2 + 1, sha256=np.array(world.digests))
    with pytest.raises(UserError, match=r"gives other features .*another --model name"):
        world.add(file, tmp_path)
    assert not (tmp_path / "cells").exists()
    assert world.add(file, tmp_path, model="mine", probe="ridge").stages == ["done"]


def test_options_that_do_not_go_with_a_file_are_told(world: World, tmp_path: Path) -> None:
    file = world.write(features=world.features, sha256=np.array(world.digests))
    with pytest.raises(UserError, match="attentive reads tokens"):
        world.add(file, tmp_path, probe="attentive")
    with pytest.raises(UserError, match="cannot be loaded: unknown model 'mine'"):
        world.add(file, tmp_path, model="mine", weights={"mine": "x.pt"})
    embedding.write(world.made, tmp_path / "f.parquet")
    with pytest.raises(UserError, match="says that it holds features of 'pixels', not 'mine'"):
        world.add(tmp_path / "f.parquet", tmp_path, model="mine")
    assert not (tmp_path / "cells").exists()


# ---- faults --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def faulty(world: World) -> list[import_faults.World]:
    return [
        import_faults.World.of(world.task, name, world.cache) for name in ("pixels", "image-stats")
    ]


@pytest.mark.parametrize("at_hand", [True, False])
def test_structural_faults_are_refused_and_sound_files_are_not(
    faulty: list[import_faults.World], tmp_path: Path, at_hand: bool
) -> None:
    families = import_faults.STRUCTURAL
    tried = import_faults.drawn(faulty, families, len(families), tmp_path, at_hand=at_hand)
    assert [one.family for one in tried if not one.refused] == []
    assert not any("\n" in one.refused for one in tried)
    sound = import_faults.SOUND
    tried = import_faults.drawn(faulty, sound, len(sound), tmp_path, at_hand=at_hand)
    assert [one for one in tried if one.refused] == []


def test_wrong_rows_under_right_keys_are_found_with_the_model(
    faulty: list[import_faults.World], tmp_path: Path
) -> None:
    tried = import_faults.drawn(faulty, import_faults.WRONG_ROWS, 12, tmp_path)
    assert [one for one in tried if not one.refused] == []
    assert min(one.affected for one in tried) >= import_faults.LEAST
    assert all("the rows belong to other images" in one.refused for one in tried)


def test_canaries_miss_less_than_one_in_ten_thousand() -> None:
    part, hidden = 0.4, 0.2
    assert (1 - part * (1 - hidden)) ** row_check.CANARIES < 1e-4 < (1 - part) ** 8


def test_a_file_is_never_unpickled(tmp_path: Path, world: World) -> None:
    class Boom:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (Path(tmp_path / "opened"),))  # type: ignore[return-value]

    for name in ("features", "sha256"):
        arrays = {"features": world.features, "sha256": np.array(world.digests)}
        arrays[name] = np.array([Boom()] * len(world.digests), dtype=object)
        with pytest.raises(UserError, match="is pickled, and nothing is unpickled here"):
            world.add(world.write(**arrays), tmp_path / "out")
    assert not (tmp_path / "opened").exists()
    assert not (tmp_path / "out").exists()


def test_ambiguous_names_are_refused_and_unambiguous_ends_are_not(
    world: World, tmp_path: Path
) -> None:
    bare = [name.rpartition("/")[2] for name in world.names]
    file = world.write(features=world.features, image=np.array(bare))
    assert world.add(file, tmp_path / "a", probe="ridge").stages == ["done"]
    other = tmp_path / "other"
    other.mkdir()
    lines = world.manifest.read_text().splitlines()
    image = world.manifest.parent / lines[1].partition(",")[0]
    PIL.Image.open(image).rotate(90).save(other / "1.png")  # another image of the same name
    manifest = world.folder / "twins.csv"
    manifest.write_text("\n".join([*lines, f"{other}/1.png,dark,train,patient 99"]) + "\n")
    request = Request.of(models=("x",), tasks=(str(manifest),), out=tmp_path / "b")
    with pytest.raises(UserError, match=r"file name is ambiguous: '1.png' may be"):
        import_file(file, request)


# ---- predictions ---------------------------------------------------------------------------------


def test_predictions_of_a_run_get_its_score_whatever_their_order(
    world: World, tmp_path: Path
) -> None:
    world.run(tmp_path, probe="ridge")
    own = only_cell(tmp_path, "pixels")
    found = Cells(tmp_path).predictions(own)["probabilities"]  # [2, 12, 2]
    order = np.random.default_rng(0).permutation(found.shape[1])
    file = world.write(
        probabilities=found[:, order, ::-1],
        classes=np.array(world.task.classes[::-1]),
        sha256=np.array(world.task.test.digests)[order],
    )
    assert world.add(file, tmp_path, model="closed").rows == "rows not verified"
    made = only_cell(tmp_path, "imported/closed")
    assert made.scores["macro_f1"] == own.scores["macro_f1"]
    assert made.intervals["macro_f1"] == own.intervals["macro_f1"]
    assert world.add(file, tmp_path, model="closed").stages == ["kept"]


def test_wrong_predictions_are_refused_by_name(world: World, tmp_path: Path) -> None:
    test = world.task.test
    right = np.random.default_rng(1).dirichlet([1, 1], len(test))
    keys = {"sha256": np.array(test.digests), "classes": np.array(world.task.classes)}
    train = np.array([*test.digests[1:], world.task.train.digests[0]])
    for sentence, changes in {
        "1 row is of train images": {"sha256": train},
        "1 image has no row": {"sha256": keys["sha256"][1:], "probabilities": right[1:]},
        "doubled": {"sha256": np.array([*test.digests[1:], test.digests[1]])},
        "has the classes 'bright', 'dark'": {"classes": np.array(["benign", "dark"])},
        "not logits": {"probabilities": right * 5},
        "sum to": {"probabilities": right / 2},
        "not finite": {"probabilities": np.where(right > right.max() - 1e-9, np.nan, right)},
        "constant": {"probabilities": np.full_like(right, 0.5)},
        "holds features and probabilities": {"features": right},
        "holds numbers, and task 'shades' asks for classes": {"numbers": right[:, 0]},
    }.items():
        arrays = {"probabilities": right, **keys, **changes}
        if "numbers" in changes:
            del arrays["probabilities"]
        with pytest.raises(UserError, match=sentence) as told:
            world.add(world.write(**arrays), tmp_path / "out", model="closed")
        assert "\n" not in str(told.value)
    file = world.write(probabilities=right, **keys)
    with pytest.raises(UserError, match="leave out --probe"):
        world.add(file, tmp_path / "out", model="closed", probe="ridge")
    assert not (tmp_path / "out").exists()


def test_masks_are_scored_at_their_own_size(phantom_root: Path, tmp_path: Path) -> None:
    task = task_zoo.load("busi-seg", phantom_root)
    lines = ["image,mask"]
    for number, (image, mask) in enumerate(zip(task.test.images, task.test.masks, strict=True)):
        PIL.Image.fromarray(np.minimum(mask.read(), 1)).save(tmp_path / f"{number}.png")
        lines.append(f"{image.name},{number}.png")
    file = tmp_path / "masks.csv"

    def scores() -> dict[str, list[float | None]]:
        file.write_text("\n".join(lines) + "\n")
        request = Request.of(models=("c",), tasks=("busi-seg",), data=phantom_root,
                             out=tmp_path / "out", cache=tmp_path / "cache")  # fmt: skip
        import_file(file, request)
        return only_cell(tmp_path / "out", "imported/c").scores

    found = scores()
    assert found["dice"] == found["iou"] == [1.0]
    assert "ceiling" not in found
    assert "dice_14" not in found
    codes = np.asarray(PIL.Image.open(tmp_path / "0.png"))
    PIL.Image.fromarray(np.zeros_like(codes)).save(tmp_path / "0.png")
    expected = 1 - float(codes.any()) / len(task.test)
    assert scores()["dice"] == [pytest.approx(expected)]
    PIL.Image.fromarray(codes[:-1]).save(tmp_path / "0.png")
    with pytest.raises(UserError, match="give the mask of this very image"):
        scores()


# ---- seen ----------------------------------------------------------------------------------------


def test_test_images_that_a_model_has_seen_are_counted_and_marked(
    world: World, tmp_path: Path
) -> None:
    training = tmp_path / "training"
    training.mkdir()
    images = world.task.test.images
    for number, image in enumerate(images[:3]):
        (training / f"{number}.png").write_bytes(image.path.read_bytes())  # type: ignore[attr-defined]
    frame = world.run(tmp_path, probe="ridge", seen={"pixels": training})
    assert {*frame.seen} == {"yes (3 of 12 test images)"}
    text = (tmp_path / "leaderboard.md").read_text()
    assert "3 of 12 test images were seen by the model in training, by --seen (3 equal)" in text
    assert "†" in text

    hashes = tmp_path / "list.txt"
    hashes.write_text("\n".join(world.task.test.digests[:2]) + "\nbusbra\n")
    frame = world.run(tmp_path, probe="ridge", seen={"pixels": hashes})
    assert {*frame.seen} == {"yes (2 of 12 test images)"}
    hashes.write_text(world.task.train.digests[0])
    assert {*world.run(tmp_path, probe="ridge", seen={"pixels": hashes}).seen} == {
        "no (0 of 12 test images)"
    }
    hashes.write_text("busbar\n")
    with pytest.raises(UserError, match=r"line 1: 'busbar' is not a SHA-256.*'busbra'"):
        world.run(tmp_path, seen={"pixels": hashes})
    with pytest.raises(UserError, match="which is not among the models of this run"):
        world.run(tmp_path, seen={"pixel": training})


def test_near_duplicates_are_seen(phantom_root: Path, tmp_path: Path) -> None:
    test = task_zoo.load("aul", phantom_root).test
    training = tmp_path / "training"
    training.mkdir()
    picture = PIL.Image.fromarray(test.images[0].read())
    smaller = picture.resize([round(side * 0.8) for side in picture.size])
    smaller.save(training / "a.jpg", quality=70)
    frame = ultrabench_eval.run(
        "pixels", "aul", data=phantom_root, out=tmp_path, cache=tmp_path / "cache", seeds=1,
        probe="ridge", device="cpu", seen={"pixels": training},
    )  # fmt: skip
    counts = {*frame.seen}
    assert len(counts) == 1
    assert counts.pop().startswith("yes (1 of ")
    cells = [json.loads(path.read_text()) for path in tmp_path.glob("cells/*/*/*.json")]
    assert "1 near duplicates" in cells[0]["model"]["seen_how"]
