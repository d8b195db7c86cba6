"""What a release promises: one version, types, a citation, and only names that can be installed."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

import model_zoo
import tasks
import ultrabench_eval
import usjepa

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = (ultrabench_eval, model_zoo, tasks, usjepa)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_version_is_in_one_place_and_the_citations_are_of_it() -> None:
    version = ultrabench_eval.__version__
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert PROJECT["tool"]["hatch"]["version"]["path"] == "ultrabench_eval/__init__.py"
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == version
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()


def test_every_package_brings_its_types() -> None:
    names = [package.__name__ for package in PACKAGES]
    assert PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == names
    for package in PACKAGES:
        assert Path(str(package.__file__)).with_name("py.typed").is_file()


def test_users_install_no_tools_of_developers() -> None:
    project = PROJECT["project"]
    extras = project["optional-dependencies"]
    tools = ("pytest", "hypothesis", "ruff", "mypy", "playwright", "pdoc")
    for extra in {*extras} - {"test", "dev", "docs", "browser"}:
        for line in [*project["dependencies"], *extras[extra]]:
            assert not line.startswith(tools), f"{extra or 'everyone'} installs {line}"


def test_no_sentence_names_this_project_on_an_index() -> None:
    files = [
        path
        for package in PACKAGES
        for path in Path(str(package.__file__)).parent.rglob("*")
        if path.suffix in (".py", ".yaml", ".json", ".j2")
    ]
    files += [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    assert len(files) > 300
    wrong = [
        f"{path}: {found}"
        for path in files
        for found in re.findall(r"install[^\n]*ultrabench-eval\b[^\n]*", path.read_text("utf-8"))
    ]
    assert not wrong, "it is on no index; name the package that is needed, or the wheel"


@pytest.mark.skipif(not (ROOT / ".github").is_dir(), reason="not a checkout")
def test_the_workflow_runs_the_versions_that_are_promised() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text())
    wanted = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["project"]["classifiers"]))
    matrix = workflow["jobs"]["tests"]["strategy"]["matrix"]["python"]
    assert matrix == wanted
    for job in workflow["jobs"].values():
        for step in job["steps"]:
            for script in re.findall(r"\.ci/\w+", step.get("run", "")):
                assert (ROOT / script).is_file()
