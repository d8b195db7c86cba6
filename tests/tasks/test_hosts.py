"""Listings of Zenodo, figshare and GitHub, as they document them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from fake_host import BYTES, COMMIT, Host, Served, content, fetch, refused, zenodo

from tasks.obtain.sources import FigshareArticle, GitHubFolder

pytestmark = pytest.mark.usefixtures("waits")


def test_zenodo(host: Host, tmp_path: Path) -> None:
    files = {"Benign.zip": BYTES, "Normal.zip": b"n", "empty.txt": b""}
    host.zenodo(7272660, files)
    told: list[tuple[str, int, int | None]] = []
    paths = fetch(host, zenodo(), tmp_path / "aul", progress=lambda *step: told.append(step))
    assert [path.name for path in paths] == list(files)
    assert content(tmp_path / "aul") == files
    assert told[-1] == ("Normal.zip", 1, 1)
    assert ("Benign.zip", len(BYTES), len(BYTES)) in told
    assert all(headers["User-Agent"].startswith("ultrabench_eval/") for _, headers in host.log)

    before = len(host.log)
    fetch(host, zenodo(), tmp_path / "aul")
    assert len(host.log) == before + 1  # the listing only


def test_zenodo_names_the_files_to_take(host: Host, tmp_path: Path) -> None:
    host.zenodo(7272660, {"a.mat": b"a", "b.mat": b"b"})
    fetch(host, zenodo("b.mat"), tmp_path)
    assert content(tmp_path) == {"b.mat": b"b"}
    refused(host, zenodo("c.mat"), tmp_path, "has no file c.mat, only a.mat, b.mat")


def test_zenodo_takes_a_record_for_one_version(host: Host, tmp_path: Path) -> None:
    host.zenodo(7272660, {"a": b"a"})
    host.paths["/api/records/7272659"] = Served(
        b"", answers=[(302, {"Location": "/api/records/7272660"})] * 2
    )
    message = "answers with record 7272660 for 7272659, which so stands for the newest version"
    refused(host, zenodo(record=7272659), tmp_path, message)


def test_figshare(host: Host, tmp_path: Path) -> None:
    files = {f"part{i:02d}.zip": bytes([i]) * 10 for i in range(12)}
    host.figshare(28455641, files)
    source = FigshareArticle(page="figshare page", licence="CC BY 4.0", article=28455641)
    fetch(host, source, tmp_path)
    assert content(tmp_path) == files  # also those that the article itself does not list


def test_figshare_that_wants_to_see_a_browser(host: Host, tmp_path: Path) -> None:
    host.figshare(28455641, {"TN5000.zip": BYTES})
    source = FigshareArticle(page="figshare page", licence="CC BY 4.0", article=28455641)
    challenge = (202, {"x-amzn-waf-action": "challenge"})
    host.paths["/v2/file/download/52597376"].answers = [challenge] * 2
    second = host.paths["/ndownloader/files/52597376"] = Served(BYTES, answers=[challenge])
    message = "wants to see a browser .* download it by hand from figshare page into"
    refused(host, source, tmp_path, message)
    assert not second.answers
    fetch(host, source, tmp_path)  # now the second address has it
    assert content(tmp_path) == {"TN5000.zip": BYTES}


def test_figshare_file_kept_elsewhere(host: Host, tmp_path: Path) -> None:
    host.figshare(1, {"a.zip": b"a"})
    host.change("/v2/articles/1/files?page_size=1000", lambda a: a[0].update(is_link_only=True))
    source = FigshareArticle(page="figshare page", licence="CC BY 4.0", article=1)
    refused(host, source, tmp_path, "lists no files that can be downloaded")


def github(*paths: str, strip: str = "") -> GitHubFolder:
    return GitHubFolder(
        page="https://github.com/a/b",
        licence="MIT",
        repository="a/b",
        commit=COMMIT,
        paths=paths,
        strip=strip,
    )


def test_github(host: Host, tmp_path: Path) -> None:
    files = {
        "data/videos/Cov-Atlas+(44) a#b?.gif": BYTES,
        "data/videos/ü/x.json": b"{}",
        "data/videos2/y.json": b"other folder",
        "data/table.csv": b"a,b",
        "setup.py": b"code",
    }
    host.github("a/b", files)
    fetch(host, github("data/videos", "data/table.csv"), tmp_path / "plain")
    wanted = {n: c for n, c in files.items() if n.startswith(("data/videos/", "data/table"))}
    assert content(tmp_path / "plain") == wanted
    fetch(host, github("data", strip="data/"), tmp_path / "stripped")
    assert sorted(content(tmp_path / "stripped")) == sorted(
        name.removeprefix("data/") for name in files if name.startswith("data/")
    )
    refused(host, github("data/vid"), tmp_path, f"a/b has no data/vid at commit {COMMIT}")


def test_github_that_does_not_list_all(host: Host, tmp_path: Path) -> None:
    host.github("a/b", {"data/x": b"x"}, truncated=True)
    refused(host, github("data"), tmp_path / "new", "does not list all files of a/b")
    assert not (tmp_path / "new").exists()


def test_github_with_another_file_behind_the_hash(host: Host, tmp_path: Path) -> None:
    host.github("a/b", {"data/x": b"right"})
    host.paths[f"/raw/a/b/{COMMIT}/data/x"].content = b"wrong"
    refused(host, github("data"), tmp_path, r"data/x has git [0-9a-f]{40}, not [0-9a-f]{40}")
    assert content(tmp_path) == {}


def test_github_after_too_many_questions(host: Host, tmp_path: Path) -> None:
    host.github("a/b", {"data/x": b"x"})
    in_an_hour = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(time.time()) + 3600)}
    host.paths[f"/repos/a/b/git/trees/{COMMIT}?recursive=1"].answers = [(403, in_an_hour)]
    refused(host, github("data"), tmp_path, r"is asked too often .* to wait 3[56]\d\d seconds")


@pytest.mark.parametrize(
    "name",
    ["../evil", "/evil", "a/../../evil", "C:/evil", "..\\evil"],
)
def test_names_that_lead_elsewhere(host: Host, tmp_path: Path, name: str) -> None:
    host.zenodo(7272660, {"a": b"a"})
    host.change("/api/records/7272660", lambda record: record["files"][0].update(key=name))
    refused(host, zenodo(), tmp_path / "deep/folder", "the host lists a file")
    assert content(tmp_path) == {}


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("/api/records/7272660", lambda record: record.pop("files")),
        ("/api/records/7272660", lambda record: record["files"][0].pop("links")),
        ("/api/records/7272660", lambda record: record["files"][0].update(size="many")),
        ("/api/records/7272660", lambda record: record["files"][0].update(checksum="crc:1")),
        ("/api/records/7272660", lambda record: record.update(files=None)),
    ],
)
def test_an_interface_that_has_changed(host: Host, tmp_path: Path, path: str, change: Any) -> None:
    host.zenodo(7272660, {"a": b"a"})
    host.change(path, change)
    refused(host, zenodo(), tmp_path, "is not as documented .*changed its interface.*by hand")
    host.paths[path].content = b"<html>"
    refused(host, zenodo(), tmp_path, "cannot be fetched")
