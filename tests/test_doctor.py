"""`ubench doctor`: every failed check has its cure, and only the essential ones count."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from test_cli import ubench

import model_zoo
from model_zoo.encoder import Encoder
from ultrabench_eval import doctor, remedies
from ultrabench_eval.doctor import Check


@pytest.fixture(autouse=True)
def _no_network_is_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise AssertionError("the doctor loads a network")

    monkeypatch.setattr(Encoder, "__init__", fail)
    monkeypatch.setattr(model_zoo, "load", fail)
    for name in ("UBENCH_DATA", "UBENCH_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("UBENCH_CACHE", str(tmp_path / "cache"))


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {f"{check.area} {check.name}": check for check in checks}


def test_this_machine_is_ready_and_failed_checks_have_cures() -> None:
    checks = doctor.examine()
    assert doctor.ready(checks)
    found = by_name(checks)
    assert len(found) == len(checks)
    for check in checks:
        assert check.found
        assert bool(check.command) == (not check.good), check
    for name in ("python", "torch", "timm", "numpy", "pillow"):
        assert found[f"versions {name}"].good
    assert "cores" in found["device cpu"].found
    assert "hardware" in found["device bfloat16"].found
    assert found["weights pixels"].found == "needs none"
    assert found["weights efficientnet-lite0"].good
    assert "--accept-license" in found["weights dinov3"].command
    assert found["weights usfm"].command.startswith("ubench run --model usfm --weights usfm=PATH")
    assert not found["data data root"].good
    assert found["data aul"].command == "ubench data download aul --data FOLDER"


@pytest.mark.parametrize(
    ("version", "least", "enough"),
    [
        ("2.6.0+cu124", "2.6", True),
        ("2.10", "2.6", True),
        ("2.5.1", "2.6", False),
        ("1.0", "1.0.20", False),
        ("3", "3.0", True),
        ("1.0.20.dev1", "1.0.20", True),
        ("unknown", "1", False),
    ],
)
def test_versions_are_compared_by_their_numbers(version: str, least: str, enough: bool) -> None:
    assert doctor.at_least(version, least) is enough


def test_bounds_are_those_of_pyproject(monkeypatch: pytest.MonkeyPatch) -> None:
    bounds = doctor.bounds()
    assert bounds["python"] == "3.11"
    assert bounds["open_clip_torch"] == "3.0"
    monkeypatch.setattr(doctor, "_PYPROJECT", Path("nowhere"))
    assert doctor.bounds()["python"] == "3.11"  # of the installed package
    assert "pytest" not in doctor.bounds()


def test_an_old_or_missing_library_is_essential(monkeypatch: pytest.MonkeyPatch) -> None:
    real = remedies.installed
    versions = {"timm": None, "numpy": "1.26.4"}
    monkeypatch.setattr(remedies, "installed", lambda n: versions[n] if n in versions else real(n))
    checks = doctor.examine()
    assert not doctor.ready(checks)
    failed = {check.name: check for check in checks if not check.good}
    assert failed["timm"].found.startswith("not installed")
    assert failed["timm"].command == "pip install 'timm>=1.0.20'"
    assert failed["numpy"].found.startswith("1.26.4, wanted >= 2.0")


def test_weights_in_the_folder_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UBENCH_WEIGHTS", str(tmp_path))
    (tmp_path / "usfm_latest.pth").write_bytes(b"not looked into")
    for name in ("urfm.pth", "urfm-2.pth"):
        (tmp_path / name).write_bytes(b"")
    found = by_name(doctor.examine())
    assert found["weights usfm"].found == str(tmp_path / "usfm_latest.pth")
    assert "several weights fit" in found["weights urfm"].found
    assert not found["weights usf-mae"].good


def test_data_by_their_state(tmp_path: Path) -> None:
    for name, file in (("aul", "Benign.zip"), ("busbra", "one.png"), ("prepared/busbra", "x")):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / file).write_bytes(b"")
    (tmp_path / "prepared" / "busbra" / "splits.csv").write_bytes(b"")
    (tmp_path / "mmotu").mkdir()
    (tmp_path / "mmotu" / "one.png").write_bytes(b"")
    checks = doctor.examine(tmp_path)
    found = by_name(checks)
    assert found["data busbra"].found == "there, prepared"
    assert found["data mmotu"].found.startswith("there, not prepared: `ubench data prepare mmotu")
    assert found["data aul"].found == "packed: Benign.zip"
    assert found["data aul"].command == f"ubench data prepare aul --data {tmp_path}"
    assert doctor.ready(checks)
    wrong = by_name(doctor.examine(tmp_path / "none"))["data data root"]
    assert wrong.essential
    assert not wrong.good
    assert [c.name for c in doctor.examine("phantom") if c.area == "data"] == ["data root"]


def test_a_cache_that_cannot_be_written_and_its_size(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    (cache / "features").mkdir(parents=True)
    (cache / "features" / "x").write_bytes(bytes(2_500_000))
    assert by_name(doctor.examine())["disk cache"].found == f"{cache}, 2.5 MB"
    file = tmp_path / "file"
    file.write_bytes(b"")
    check = by_name(doctor.examine(cache=file / "below"))["disk cache"]
    assert check.essential
    assert not check.good
    assert check.command.startswith("export UBENCH_CACHE=")


def test_the_command_prints_or_gives_data(tmp_path: Path) -> None:
    done = ubench("doctor", UBENCH_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    assert "> ubench data download aul --data FOLDER" in done.stdout
    assert "\nready\nmodels: " in done.stdout
    assert re.search(r"\ntasks: 0 of 8 can be used now; without data: aul, .*tn5000\n", done.stdout)
    assert done.stdout.endswith("--task all --data phantom (SYNTHETIC images)\n")
    done = ubench("doctor", "--json", "--data", str(tmp_path / "none"))
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert found["ready"] is False
    assert found["summary"][0].startswith("not ready: fix what FAILS (data root)")
    assert [c["name"] for c in found["checks"] if c["essential"] and not c["good"]] == ["data root"]
    assert not (tmp_path / "cache").exists()
