"""`--json`: one document on standard output, with the keys that the guide lists."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import make_manifest
from test_cli import ubench

from model_zoo.encoder import Encoder
from ultrabench_eval import throughput

PAGE = Path(__file__).parents[1] / "docs" / "output_for_programs.md"


def documented(command: str) -> list[str]:
    """The keys that the guide lists for a command."""
    section = PAGE.read_text().partition(f"## `ubench {command}`")[2].partition("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \|", section, re.M)


def fields(command: str, key: str) -> list[str]:
    """Of the objects under a key."""
    section = PAGE.read_text().partition(f"## `ubench {command}`")[2].partition("\n## ")[0]
    row = next(line for line in section.splitlines() if line.startswith(f"| `{key}` |"))
    return [name for name in re.findall(r"`(\w+)`", row)[1:] if name != "null"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a manifest and a finished run."""
    folder = tmp_path_factory.mktemp("json")
    make_manifest(folder / "mine.csv", count=180)
    return folder


def told(run: Path, *words: str, code: int = 0) -> Any:
    done = ubench(*words, "--json", UBENCH_CACHE=str(run / "cache"))
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout)  # nothing else is there


def words(run: Path, models: str = "pixels,image-stats") -> list[str]:
    out, task = str(run / "out"), str(run / "mine.csv")
    return ["run", "--model", models, "--task", task, "--seeds", "2", "--out", out]


def test_run_and_report(run: Path) -> None:
    found = told(run, *words(run))
    assert list(found) == documented("run")
    assert list(found["scores"][0]) == fields("run", "scores")
    assert list(found["significance"][0]) == fields("run", "significance")
    assert {one["model"] for one in found["significance"]} == {"pixels", "image-stats"}
    assert (found["encoded"], found["failed"], found["synthetic"]) == (360, 0, False)
    assert all(Path(file).exists() for file in found["files"])
    assert found["verdict"]
    again = told(run, "report", str(run / "out"))
    assert list(again) == documented("report")
    assert again["scores"] == found["scores"]
    alone = told(run, "report", "--published", "--out", str(run / "published"))
    assert list(alone) == ["out", "notes", "files"]


def test_a_failed_result_is_told_and_makes_exit_1(run: Path) -> None:
    manifest = make_manifest(run / "broken" / "mine.csv")
    victim = run / "broken" / "mine_images" / "4.png"
    victim.write_bytes(victim.read_bytes()[:80])
    out = str(run / "broken" / "out")
    asked = ["run", "--model", "pixels", "--task", str(manifest), "--seeds", "1", "--out", out]
    found = told(run, *asked, code=1)
    assert found["failed"] == 1
    assert "cannot read image" in found["errors"][0]
    assert found["scores"][0]["mean"] is None


def test_speed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Encoder, "batch_size", 4)
    monkeypatch.setattr(throughput, "SECONDS", 0.01)
    make_manifest(tmp_path / "mine.csv", count=30)
    ubench(*words(tmp_path, "pixels,random-vit-tiny"), UBENCH_CACHE=str(tmp_path / "cache"))
    found = told(tmp_path, "speed", str(tmp_path / "out"), "--rounds", "1", "--device", "cpu")
    assert list(found) == documented("speed")
    assert list(found["speeds"][0]) == fields("speed", "speeds")


def test_compare(tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.csv" for name in "ab"]
    for number, file in enumerate(files):
        rows = [f"{n},p{n},{0.5 + (n * (3 + number) % 7) / 20}" for n in range(12)]
        file.write_text("\n".join(["id,group,dice", *rows]))
    found = json.loads(ubench("compare", *map(str, files), "--json").stdout)
    assert list(found) == documented("compare")
    assert list(found["scores"][0]) == fields("compare", "scores")
    assert list(found["pairs"][0]) == fields("compare", "pairs")
    assert found["pairs"][0]["groups_for_effect"] is None


def test_audit(run: Path) -> None:
    found = told(run, "audit", "--task", str(run / "mine.csv"), "--out", str(run / "audit"))
    assert list(found) == documented("audit")


def test_data(run: Path, phantom_root: Path) -> None:
    (found,) = told(run, "data", "check", str(run / "mine.csv"), code=1)
    assert list(found) == documented("data check")
    assert found["problems"] == []
    assert set(found["worth"]) == {"few", "same", "scores"}  # brightness predicts the labels
    assert {"clue", "score", "low", "high", "chance"} == set(found["worth"]["scores"][0])
    lines = [line.split(",") for line in (run / "mine.csv").read_text().splitlines()]
    at = lines[0].index("split")
    unsplit = "\n".join(",".join([*line[:at], *line[at + 1 :]]) for line in lines)
    (run / "unsplit.csv").write_text(unsplit)
    drawn = told(run, "data", "split", str(run / "unsplit.csv"))
    assert list(drawn) == documented("data split")
    assert {"images", "patients"} == set(next(iter(drawn["counts"].values()))["train"])
    listed = told(run, "data", "list", "--data", str(phantom_root))
    assert set(listed[0]) == {"name", "state", "prepared", "how", "licence"}
    shown = told(run, "data", "splits", str(run / "mine.csv"))
    assert {"ways", "published", "files", "counts"} <= set(shown)


def test_what_is_refused_leaves_standard_output_empty(run: Path) -> None:
    done = ubench(*words(run, "pixel"), "--json")
    assert (done.returncode, done.stdout) == (2, "")
