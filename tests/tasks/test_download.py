"""Downloads: terms and consent, and the sources of the tasks."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from fake_host import COMMIT, Host, content, fetch, refused, zenodo

import tasks
from tasks.obtain.sources import SOURCES, FigshareArticle, GitHubFolder, Manual

pytestmark = pytest.mark.usefixtures("waits")


def test_terms_that_need_consent(host: Host, tmp_path: Path) -> None:
    host.zenodo(7272660, {"a": b"a"})
    source = zenodo(consent="Only on Sundays.")
    refused(host, source, tmp_path / "x", "need your consent: Only on Sundays. Pass --accept-l")
    assert not host.log
    assert not (tmp_path / "x").exists()
    fetch(host, source, tmp_path / "x", accept=True)
    assert content(tmp_path / "x") == {"a": b"a"}


def test_another_licence_than_known(host: Host, tmp_path: Path) -> None:
    host.zenodo(7272660, {"a": b"a"}, licence="cc-by-nc-4.0")
    message = "states the licence 'cc-by-nc-4.0', not 'CC BY 4.0' as was known"
    refused(host, zenodo(), tmp_path, message)
    host.figshare(1, {"b": b"b"}, licence="CC0")
    source = FigshareArticle(page="figshare page", licence="CC BY 4.0", article=1)
    refused(host, source, tmp_path, "states the licence 'CC0', not 'CC BY 4.0'")
    host.change("/api/records/7272660", lambda record: record["metadata"].pop("license"))
    refused(host, zenodo(), tmp_path, "states the licence 'none'")
    assert content(tmp_path) == {}
    fetch(host, zenodo(), tmp_path, accept=True)
    fetch(host, source, tmp_path, accept=True)
    assert content(tmp_path) == {"a": b"a", "b": b"b"}


def test_by_hand_only(host: Host, tmp_path: Path) -> None:
    source = Manual(page="the page", licence="none", consent="A form.", steps=("Sign.", "Wait."))
    for accept in (False, True):
        message = rf"by a program: \(1\) Sign. \(2\) Wait. Put it into {tmp_path}. Terms: A form."
        refused(host, source, tmp_path, message, accept=accept)


def test_every_task_has_a_source() -> None:
    assert set(SOURCES) == {*map(tasks.home, tasks.RELEASED), "ultrabench_splits"}
    for name, sources in SOURCES.items():
        for source in sources:
            assert source.page, name
            assert source.licence, name
            assert source.verified or source.unverified, name
            if isinstance(source, GitHubFolder):
                assert re.fullmatch("[0-9a-f]{40}", source.commit), name
                assert all(f"{path}/".startswith(source.strip) for path in source.paths), name
            if isinstance(source, Manual):
                assert source.consent, name


def test_ultrabench_splits_land_where_the_reader_looks(host: Host, tmp_path: Path) -> None:
    (source,) = SOURCES["ultrabench_splits"]
    assert isinstance(source, GitHubFolder)
    here = {"data/splits/aul_mass/test.json": b"[]", "data/splits/aul_mass/train_val.json": b"[1]"}
    host.github(source.repository, {**here, "README.md": b"x"})
    listing = f"/repos/{source.repository}/git/trees/"
    host.paths[f"{listing}{source.commit}?recursive=1"] = host.paths.pop(
        f"{listing}{COMMIT}?recursive=1"
    )
    for path in [path for path in host.paths if COMMIT in path]:
        host.paths[path.replace(COMMIT, source.commit)] = host.paths.pop(path)
    fetch(host, source, tmp_path / "ultrabench_splits")
    assert sorted(content(tmp_path)) == [
        "ultrabench_splits/aul_mass/test.json",
        "ultrabench_splits/aul_mass/train_val.json",
    ]


def test_nothing_heavy_is_imported_with_it() -> None:
    code = "from tasks.obtain import download; import sys; print('requests' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
