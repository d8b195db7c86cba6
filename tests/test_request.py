"""All options of a run are fields of one class, and every way of asking reads it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml
from conftest import make_manifest
from hypothesis import given
from hypothesis import strategies as st
from test_cli import ubench

from ultrabench_eval import pipeline, protocol
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.request import Request

WORDS = st.text("abcdefgh/-_ äü", min_size=1, max_size=8)
SEVERAL = WORDS | st.lists(WORDS, min_size=1, max_size=3)


@given(
    st.fixed_dictionaries(
        {"models": SEVERAL},
        optional={
            "tasks": SEVERAL | WORDS.map(Path),
            "seeds": st.integers(1, 9),
            "plugin_files": st.lists(WORDS.map(Path), max_size=2),
            "weights": st.dictionaries(WORDS, WORDS | WORDS.map(Path)),
            "compile": st.booleans(),
            "protocol": st.sampled_from(["paper", protocol.TUNED, ["paper", protocol.TUNED]]),
            "fractions": st.sampled_from(["1,5", 5, [5, 100], (1, "5")]),
            "executor_options": st.dictionaries(WORDS, WORDS | st.integers(-9, 9)),
        },
    )
)
def test_what_is_written_is_read_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, asked: dict[str, object]
) -> None:
    request = Request.of(**asked)
    path = tmp_path_factory.mktemp("request") / "run.yaml"
    path.write_text(request.yaml(), encoding="utf-8")
    read = Request.read(path)
    assert read.yaml() == request.yaml()
    assert read.file == request.file
    assert dataclasses.replace(read, seeds=7) == Request.read(path, seeds=7)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"seed": 4}, "unknown option 'seed'; did you mean 'seeds'"),
        ({"seeds": "many"}, "--seeds is not valid: 'many'"),
        ({"seeds": True}, "must be a number, not true"),
        ({"weights": {"usfm": 3}}, "--weights is not valid"),
        ({"compile": "yes"}, "--compile is not valid"),
        ({"models": 3}, "--model is not valid"),
    ],
)
def test_what_is_not_understood_is_told(given: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Request.of(**given)


def test_a_configuration_is_read_and_each_run_writes_its_own(
    tmp_path: Path,
) -> None:
    manifest = make_manifest(tmp_path / "spots.csv")
    asked = {"models": ["pixels"], "tasks": [str(manifest)], "seeds": 2, "device": "cpu"}
    asked |= {"out": str(tmp_path / "out"), "cache": str(tmp_path / "cache")}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(asked))
    assert ubench("run", "--config", str(tmp_path / "run.yaml"), "--seeds", "1").returncode == 0
    (written,) = (tmp_path / "out" / "requests").iterdir()
    assert yaml.safe_load(written.read_text()) == {**asked, "seeds": 1}
    leaderboard = (tmp_path / "out" / "leaderboard.csv").read_bytes()
    again = ubench("run", "--config", str(written), "--out", str(tmp_path / "again"))
    assert again.returncode == 0
    assert (tmp_path / "again" / "leaderboard.csv").read_bytes() == leaderboard
    (tmp_path / "run.yaml").write_text("models: pixels\nseed: 3\n")
    wrong = ubench("run", "--config", str(tmp_path / "run.yaml"))
    assert wrong.returncode == 2
    assert "run.yaml: unknown option 'seed'; did you mean 'seeds'" in wrong.stderr


def test_words_for_own_data_reach_plan_run_and_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    manifest = make_manifest(tmp_path / "spots.csv")
    text = manifest.read_text().replace("image,label,split,group", "scan;finding;split;group", 1)
    (tmp_path / "theirs.csv").write_text(text.replace(",", ";"))
    said = ["--model", "pixels", "--task", "theirs.csv", "--seeds", "1", "--out", "out"]
    said += ["--columns", "image=scan,label=finding", "--cache", "cache", "--device", "cpu"]
    assert ubench("plan", *said, "--no-timing").returncode == 0
    done = ubench("run", *said)
    assert done.returncode == 0, done.stderr
    (written,) = (tmp_path / "out" / "requests").iterdir()
    request = Request.read(written)
    assert request.columns == {"image": "scan", "label": "finding"}
    ready = pipeline.prepare(request)
    assert pipeline._job(ready, ready.units[0], request).request.columns == request.columns
    again = ubench("run", "--config", str(written))
    assert again.returncode == 0
    assert "images encoded: 0" in again.stdout
    wrong = ubench("run", *said[:-6], "--columns", "image=scan,lable=finding")
    assert wrong.returncode == 2
    assert "did you mean 'label'" in wrong.stderr
