"""`ubench plan` tells what `ubench run` then does."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import forget_plugins, make_manifest
from test_cli import ubench

import model_zoo
import ultrabench_eval
from ultrabench_eval import licences, remedies
from ultrabench_eval.core import licence_kind
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.pipeline import Step
from ultrabench_eval.plan import Forecast, forecast

BOTH = {"fractions": "50,100", "corruptions": "blur", "probe": "linear,ridge", "seeds": 1}


@pytest.fixture(autouse=True)
def _each_test_has_plugins_of_its_own() -> Iterator[None]:
    yield
    forget_plugins()


def plan(out: Path, tasks: Path | str, models: str = "pixels", **more: object) -> Forecast:
    more = {"cache": out.parent / "cache", "timing": False, **more}
    return forecast(models, str(tasks), out=out, device="cpu", **more)


def run(out: Path, tasks: Path | str, models: str = "pixels", **more: object) -> list[Step]:
    steps: list[Step] = []
    more = {"cache": out.parent / "cache", "report": steps.append, **more}
    ultrabench_eval.run(models, str(tasks), out=out, device="cpu", **more)
    return steps


def content(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_planned_is_what_is_run(tmp_path: Path, manifest: Path) -> None:
    # A second task that shares all its images with the first, and a third that was measured.
    second = manifest.with_name("shades2.csv")
    rows = list(csv.reader(manifest.open()))
    second.write_text("\n".join(",".join(row) for row in [rows[0], *rows[:0:-1]]) + "\n")
    out, tasks = tmp_path / "out", f"{manifest},{second}"
    run(out, manifest, "image-stats", **BOTH)
    before = content(out)
    planned = plan(out, tasks, "pixels,image-stats", **BOTH)
    assert content(out) == before  # to plan is to leave everything as it is
    assert (planned.total("cells"), planned.total("there")) == (2 * 2 * 10, 10)
    shares = {(share.model, share.task): share for share in planned.shares}
    assert shares["pixels", "shades"].images == 60 + 3 * 12
    assert shares["pixels", "shades2"].images == 0  # the same images, encoded by then
    assert shares["image-stats", "shades2"].to_do == 10
    steps = run(out, tasks, "pixels,image-stats", **BOTH)
    assert sum(step.new for step in steps) == planned.total("images")
    assert sum(step.stage == "done" for step in steps) == planned.total("to_do")
    after = plan(out, tasks, "pixels,image-stats", **BOTH)
    assert (after.total("to_do"), after.total("images"), after.seconds) == (0, 0, 0)
    more = plan(out, tasks, "pixels,image-stats", **{**BOTH, "seeds": 2})
    assert (more.total("to_do"), more.total("images")) == (40, 0)  # probes only
    assert more.seconds is not None


def test_tokens_are_encoded_beside_pooled_features(tmp_path: Path, manifest: Path) -> None:
    planned = plan(tmp_path / "out", manifest, "random-vit-tiny", probe="ridge,attentive")
    assert planned.total("images") == 2 * 60


def test_a_failed_cell_is_tried_again(tmp_path: Path, manifest: Path) -> None:
    victim = tmp_path / "shades_images" / "3.png"
    whole = victim.read_bytes()
    victim.write_bytes(whole[:60])
    run(tmp_path / "out", manifest, "image-stats,pixels", seeds=1)
    victim.write_bytes(whole)
    planned = plan(tmp_path / "out", manifest, seeds=1)
    assert (planned.total("failed"), planned.total("to_do")) == (1, 1)
    assert planned.total("images") == 1


def test_encoders_are_timed_on_some_of_the_images(
    tmp_path: Path, manifest: Path, counting: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COUNTING_SLEEP", "0.2")
    options = {"plugin_files": [counting], "timing": True}
    planned = plan(tmp_path / "out", manifest, "counting,pixels", **options)
    assert planned.speeds["counting"].encoding >= 0.05  # four images in a fifth of a second
    assert planned.seconds is not None
    assert planned.seconds > 64 * 0.05  # two batches of 32
    assert not (tmp_path / "out").exists()
    untimed = plan(tmp_path / "out", manifest, "counting,pixels", plugin_files=[counting])
    assert untimed.seconds is None
    assert untimed.speeds == {}


def test_what_cannot_be_timed_is_noted(tmp_path: Path, manifest: Path) -> None:
    for path in (tmp_path / "shades_images").iterdir():
        path.write_bytes(path.read_bytes()[:60])
    planned = plan(tmp_path / "out", manifest, timing=True)
    (note,) = planned.notes
    assert "pixels could not be timed: cannot read image" in note
    assert planned.seconds is None


def test_what_is_missing_is_told_with_the_command_that_mends_it(
    tmp_path: Path, manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UBENCH_WEIGHTS", raising=False)
    (tmp_path / "data").mkdir()
    tasks = f"aul,pocus,{manifest}"
    planned = plan(tmp_path / "out", tasks, "usfm,dinov3,pixels", data=tmp_path / "data")
    commands = {one.name: one.command for one in planned.missing}
    at = f"--data {tmp_path / 'data'}"
    assert commands["usfm"].startswith("ubench run --model usfm --weights usfm=PATH")
    assert "ubench run --model dinov3 --accept-license" in commands["dinov3"]
    assert commands["aul"] == f"ubench data download aul {at}"
    assert commands["pocus"] == f"ubench data download pocus {at} --accept-license"
    shares = {(share.model, share.task): share for share in planned.shares}
    assert shares["pixels", "shades"].problem is None
    assert shares["pixels", "aul"].problem
    matter = {one.name: one.kind for one in planned.licences}
    assert matter == {
        **{"usfm": "non-commercial", "dinov3": "restricted"},
        **{"aul": "unknown", "pocus": "non-commercial", "shades": "unknown"},
    }


def test_data_that_are_there_in_part_are_mended_otherwise(tmp_path: Path) -> None:
    for name, file in (("aul", "Benign.zip"), ("busbra", "one.png")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_bytes(b"")
    assert remedies.for_data("aul@rule", tmp_path) == f"ubench data prepare aul --data {tmp_path}"
    assert remedies.for_data("busbra", tmp_path) == f"ubench data check busbra --data {tmp_path}"
    assert remedies.for_data("gbcu", None) == "ubench data download gbcu --data FOLDER"
    assert remedies.for_data("hc18-hc", None) == "ubench data download hc18-hc --data FOLDER"
    assert remedies.for_data("theirs", None) == ""


def test_where_only_the_published_split_lacks_it_is_what_is_fetched(
    tmp_path: Path, phantom_root: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "aul").symlink_to(phantom_root / "aul")
    (lacking,) = plan(tmp_path / "out", "aul", data=tmp_path / "data").missing
    assert "published split of aul not found" in lacking.reason
    assert lacking.command == f"ubench data download ultrabench_splits --data {tmp_path / 'data'}"


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("CC BY-NC 4.0", "non-commercial"),
        ("CC BY-NC-SA 4.0", "non-commercial"),
        ("cc-by-nc-nd-4.0", "non-commercial"),
        ("not stated; training began from weights under CC BY-NC 4.0", "unknown"),
        ("MIT, as stated by a mirror", "unknown"),
        ("not stated", "unknown"),
        ("dinov3-license", "unknown"),
        ("Apache-2.0", "open"),
        ("MIT", "open"),
        ("CC BY 4.0", "open"),
    ],
)
def test_licences_are_sorted_by_their_names(words: str, kind: str) -> None:
    assert licence_kind.of_name(words) == kind


def test_where_words_do_not_sort_a_licence_the_card_does() -> None:
    kinds = {name: licences.of_weights(name).kind for name in ("usfm", "dinov3", "pixels", "sam")}
    assert kinds == {
        "usfm": "non-commercial",
        "dinov3": "restricted",
        "pixels": "open",
        "sam": "open",
    }
    assert licences.of_weights("samus").kind == "unknown"
    kinds = {name: licences.of_data(name).kind for name in ("pocus", "gbcu", "busbra@rule")}
    assert kinds == {"pocus": "non-commercial", "gbcu": "restricted", "busbra@rule": "open"}
    assert licences.of_data("theirs").kind == "unknown"
    stated = model_zoo.Card("mine", weights_licence="by letter", licence_kind="restricted")
    assert licences.of_weights("mine", stated).kind == "restricted"


def test_wrong_words_are_told_as_by_run(tmp_path: Path, manifest: Path) -> None:
    for more, said in (({"models": "pixel"}, "did you mean"), ({"seeds": 0}, "--seeds")):
        with pytest.raises(UserError, match=said):
            plan(tmp_path / "out", manifest, **more)


def test_the_command_prints_and_gives_data(tmp_path: Path, manifest: Path) -> None:
    words = ["plan", "--task", str(manifest), "--out", str(tmp_path / "out"), "--device", "cpu"]
    words += ["--cache", str(tmp_path / "cache"), "--seeds", "2", "--shard", "1/2"]
    done = ubench(*words, "--model", "pixels,image-stats")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("results: 1 in all, 0 there, 1 to do")
    assert "estimated at" in done.stdout
    done = ubench(*words, "--model", "usfm,pixels", "--json", "--no-timing")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert found["missing"][0]["command"].startswith("ubench run --model usfm --weights")
    assert found["seconds"] is not None  # nothing that can run is to be encoded
    assert (found["cells"], found["images"]) == (1, 0)
    assert ubench(*words, "--model", "pixel").returncode == 2
    assert not (tmp_path / "out").exists()


def test_a_share_is_planned_as_it_is_run(tmp_path: Path, manifest: Path) -> None:
    other = make_manifest(tmp_path / "other.csv", count=30)
    tasks = f"{manifest},{other}"
    shares = [plan(tmp_path / "out", tasks, shard=f"{n}/2").shares for n in (1, 2)]
    assert [[(s.task, s.images) for s in one] for one in shares] == [
        [("shades", 60)],
        [("other", 30)],
    ]
