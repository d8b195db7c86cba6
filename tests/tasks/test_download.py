"""Downloads from a local server that speaks as Zenodo, figshare and GitHub document it."""

from __future__ import annotations

import errno
import hashlib
import json
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

import tasks
from tasks import download
from tasks.sources import (
    SOURCES,
    FigshareArticle,
    GitHubFolder,
    Manual,
    Source,
    Url,
    ZenodoRecord,
)
from ultrabench_eval.core.errors import UserError

BYTES = bytes(range(256)) * 4000  # some blocks of 65536 bytes, and a part of one
BLOCK = 65536
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Served:
    """How the server answers requests for one path."""

    content: bytes
    ranges: bool = True
    tag: str = '"v1"'
    length: bool = True
    cuts: list[int] = field(default_factory=list)
    """After how many bytes of content to cut the connection, one for each request to come."""
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """Status and headers to give instead, one for each request to come."""
    heeds_if_range: bool = True
    claims: int | None = None
    """Total length that partial answers claim."""
    shift: int = 0
    """How far before the wanted byte partial answers begin."""


class Host:
    """The server; `paths` is what it has, `log` what it was asked for."""

    def __init__(self) -> None:
        self.paths: dict[str, Served] = {}
        self.log: list[tuple[str, dict[str, str]]] = []
        self.at_once = self.most_at_once = 0
        host = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                host.at_once += 1
                host.most_at_once = max(host.most_at_once, host.at_once)
                try:
                    host.answer(self)
                finally:
                    host.at_once -= 1

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        headers = dict(request.headers)
        self.log.append((request.path, headers))
        served = self.paths.get(request.path)
        if served is None or served.answers:
            status, extra = served.answers.pop(0) if served else (404, {})
            request.send_response(status)
            for name, value in {**extra, "Content-Length": "0"}.items():
                request.send_header(name, value)
            request.end_headers()
            return
        start = 0
        if served.ranges and (match := re.fullmatch(r"bytes=(\d+)-", headers.get("Range", ""))):
            same = headers.get("If-Range", served.tag) == served.tag
            start = int(match[1]) if same or not served.heeds_if_range else 0
        if start >= len(served.content) > 0 and start:
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{len(served.content)}")
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        start -= served.shift if start else 0
        body = served.content[start:]
        request.send_response(206 if start else 200)
        if start:
            total = served.claims or len(served.content)
            end = len(served.content) - 1
            request.send_header("Content-Range", f"bytes {start}-{end}/{total}")
        if served.tag:
            request.send_header("ETag", served.tag)
        if served.length:
            request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if served.cuts:
            request.wfile.write(body[: served.cuts.pop(0)])
            request.wfile.flush()
            request.connection.shutdown(socket.SHUT_RDWR)
            request.close_connection = True
            return
        request.wfile.write(body)
        request.close_connection = not served.length

    def asked(self, path: str) -> list[str]:
        """The ranges of the requests for a path, "" for the whole."""
        return [headers.get("Range", "") for asked, headers in self.log if asked == path]

    # The three interfaces, in the form of their documentation.

    def zenodo(self, record: int, files: dict[str, bytes], licence: str = "cc-by-4.0") -> None:
        entries = []
        for name, content in files.items():
            path = f"/api/records/{record}/files/{name}/content"
            self.paths[path] = Served(content)
            entries.append(
                {
                    "id": "ba0e7b8a-1b1f-4f6c-8f4e-7a8f8f1c2d3e",
                    "key": name,
                    "size": len(content),
                    "checksum": f"md5:{hashlib.md5(content).hexdigest()}",
                    "links": {"self": self.url + path},
                }
            )
        self.json(
            f"/api/records/{record}",
            {
                "created": "2022-11-02T03:21:00.000000+00:00",
                "id": record,
                "conceptrecid": str(record - 1),
                "doi": f"10.5281/zenodo.{record}",
                "metadata": {
                    "title": "Annotated Ultrasound Liver images",
                    "access_right": "open",
                    "license": {"id": licence},
                },
                "files": entries,
            },
        )

    def figshare(self, article: int, files: dict[str, bytes], licence: str = "CC BY 4.0") -> None:
        entries = []
        for number, (name, content) in enumerate(files.items(), start=52597376):
            digest = hashlib.md5(content).hexdigest()
            self.paths[f"/v2/file/download/{number}"] = Served(content)
            entries.append(
                {
                    "id": number,
                    "name": name,
                    "size": len(content),
                    "is_link_only": False,
                    "download_url": f"{self.url}/ndownloader/files/{number}",
                    "supplied_md5": digest,
                    "computed_md5": digest,
                    "mimetype": "application/zip",
                }
            )
        self.json(
            f"/v2/articles/{article}",
            {
                "id": article,
                "files": entries[:10],
                "license": {
                    "value": 1,
                    "name": licence,
                    "url": "https://creativecommons.org/licenses/by/4.0/",
                },
            },
        )
        self.json(f"/v2/articles/{article}/files?page_size=1000", entries)

    def github(self, repository: str, files: dict[str, bytes], truncated: bool = False) -> None:
        tree: list[dict[str, Any]] = [
            {"path": "data", "mode": "040000", "type": "tree", "sha": "0" * 40, "url": "..."},
            {"path": "data/sub", "mode": "160000", "type": "commit", "sha": "0" * 40, "url": ".."},
        ]
        for path, content in files.items():
            quoted = quote(path)
            self.paths[f"/raw/{repository}/{COMMIT}/{quoted}"] = Served(content)
            digest = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            tree.append(
                {
                    "path": path,
                    "mode": "100644",
                    "type": "blob",
                    "size": len(content),
                    "sha": digest,
                    "url": f"https://api.github.com/repos/{repository}/git/blobs/{digest}",
                }
            )
        self.json(
            f"/repos/{repository}/git/trees/{COMMIT}?recursive=1",
            {"sha": COMMIT, "url": "...", "tree": tree, "truncated": truncated},
        )

    def json(self, path: str, content: Any) -> None:
        self.paths[path] = Served(json.dumps(content).encode(), ranges=False, tag="")

    def change(self, path: str, change: Any) -> None:
        """Apply `change` to an answer in JSON."""
        content = json.loads(self.paths[path].content)
        change(content)
        self.json(path, content)


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host()
    yield host
    host.server.shutdown()
    host.server.server_close()


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits that were wanted; none is waited for."""
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    return waited


def fetch(host: Host, source: Source, folder: Path, **options: Any) -> list[Path]:
    addresses = {
        "zenodo": f"{host.url}/api",
        "figshare": f"{host.url}/v2",
        "github": host.url,
        "github_raw": f"{host.url}/raw",
    }
    return download.fetch(source, folder, base_urls=addresses, **options)


def zenodo(*files: str, record: int = 7272660, **fields: str) -> ZenodoRecord:
    known = {"page": "https://zenodo.org/records/7272660", "licence": "CC BY 4.0"}
    return ZenodoRecord(record=record, files=files, **{**known, **fields})  # type: ignore[arg-type]


def url(host: Host, path: str = "/file", checksum: str = "") -> Url:
    return Url(
        page="https://example.org/page",
        licence="CC0",
        url=host.url + path,
        name="file.bin",
        checksum=checksum,
    )


SHA = f"sha256:{hashlib.sha256(BYTES).hexdigest()}"


def content(folder: Path) -> dict[str, bytes]:
    """All files but locks."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


def refused(host: Host, source: Source, folder: Path, message: str, **options: Any) -> str:
    with pytest.raises(UserError, match=message) as raised:
        fetch(host, source, folder, **options)
    assert "\n" not in str(raised.value)
    return str(raised.value)


# The hosts.


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


# Terms.


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


# Broken connections. `/file` is plain, so that every request is for the file itself.


@pytest.mark.parametrize("checksum", ["", SHA])
def test_a_cut_connection_is_taken_up_where_it_broke(
    host: Host, tmp_path: Path, checksum: str
) -> None:
    host.paths["/file"] = Served(BYTES, cuts=[300_000, 400_000])
    fetch(host, url(host, checksum=checksum), tmp_path)
    assert content(tmp_path) == {"file.bin": BYTES}
    assert host.asked("/file") == ["", f"bytes={4 * BLOCK}-", f"bytes={10 * BLOCK}-"]
    assert host.log[-1][1]["If-Range"] == '"v1"'
    assert host.most_at_once == 1


def test_every_try_that_brings_something_counts_anew(
    host: Host, tmp_path: Path, waits: list[float]
) -> None:
    host.paths["/file"] = Served(BYTES, cuts=[100_000] * 12)
    fetch(host, url(host), tmp_path)
    assert content(tmp_path) == {"file.bin": BYTES}
    assert waits == [1] * 12


def test_a_later_call_goes_on(host: Host, tmp_path: Path) -> None:
    host.paths["/file"] = Served(BYTES, cuts=[600_000, 0, 0, 0, 0, 0])
    message = r"file.bin cannot be fetched: 127.0.0.1.* cuts the connection .*goes on where it was"
    refused(host, url(host), tmp_path, message)
    assert sorted(content(tmp_path)) == [".file.bin.part", ".file.bin.part.etag"]
    host.log.clear()
    host.paths["/file"].cuts = []
    fetch(host, url(host), tmp_path)
    assert host.asked("/file") == [f"bytes={9 * BLOCK}-"]
    assert content(tmp_path) == {"file.bin": BYTES}


def test_a_killed_process_goes_on(host: Host, tmp_path: Path) -> None:
    host.paths["/file"] = Served(BYTES, cuts=[600_000, 10**9])
    code = (
        "import os, signal; from pathlib import Path; from tasks import download\n"
        "from tasks.sources import Url\n"
        "import time; time.sleep = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"source = Url(page='', licence='', url={host.url + '/file'!r}, name='file.bin')\n"
        f"download.fetch(source, Path({str(tmp_path)!r}))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    assert not (tmp_path / "file.bin").exists()
    fetch(host, url(host), tmp_path)
    assert host.asked("/file") == ["", f"bytes={9 * BLOCK}-"]
    assert content(tmp_path) == {"file.bin": BYTES}


def test_a_part_that_is_whole_already(host: Host, tmp_path: Path) -> None:
    host.zenodo(7272660, {"a.zip": BYTES})
    (tmp_path / ".a.zip.part").write_bytes(BYTES)
    fetch(host, zenodo(), tmp_path)
    assert content(tmp_path) == {"a.zip": BYTES}
    assert len(host.log) == 1


@pytest.mark.parametrize("left", [BYTES + b"more", BYTES[:999]])
def test_a_part_that_does_not_fit(host: Host, tmp_path: Path, left: bytes) -> None:
    host.paths["/file"] = Served(BYTES)
    (tmp_path / ".file.bin.part").write_bytes(left)  # no tag, no checksum: whose is it?
    fetch(host, url(host), tmp_path)
    assert content(tmp_path) == {"file.bin": BYTES}


def test_without_ranges(host: Host, tmp_path: Path) -> None:
    host.zenodo(7272660, {"a.zip": BYTES})
    path = "/api/records/7272660/files/a.zip/content"
    host.paths[path] = Served(BYTES, cuts=[300_000, 700_000], ranges=False)
    told: list[int] = []
    fetch(host, zenodo(), tmp_path, progress=lambda name, done, total: told.append(done))
    assert told[8:10] == [5 * BLOCK, 6 * BLOCK]
    assert told.count(BLOCK) == 3
    assert host.asked(path) == ["", f"bytes={4 * BLOCK}-", f"bytes={10 * BLOCK}-"]
    assert content(tmp_path) == {"a.zip": BYTES}


def test_a_rest_that_begins_elsewhere(host: Host, tmp_path: Path) -> None:
    host.paths["/file"] = Served(BYTES, cuts=[300_000], shift=7)
    fetch(host, url(host), tmp_path)
    assert host.asked("/file") == ["", f"bytes={4 * BLOCK}-", ""]
    assert content(tmp_path) == {"file.bin": BYTES}


def test_without_tags_the_checksum_decides(host: Host, tmp_path: Path) -> None:
    host.zenodo(7272660, {"a.zip": BYTES})
    path = "/api/records/7272660/files/a.zip/content"
    host.paths[path] = Served(BYTES, tag="", cuts=[300_000])
    fetch(host, zenodo(), tmp_path)
    assert host.asked(path) == ["", f"bytes={4 * BLOCK}-"]
    assert content(tmp_path) == {"a.zip": BYTES}

    # Another file of the same length behind it: found out, and not kept.
    (tmp_path / "a.zip").unlink()
    (tmp_path / ".a.zip.part").write_bytes(b"\7" * 300_000)
    message = r"a.zip has md5 [0-9a-f]{32}, not [0-9a-f]{32} as stated; .* is removed: run again"
    refused(host, zenodo(), tmp_path, message)
    assert content(tmp_path) == {}
    fetch(host, zenodo(), tmp_path)
    assert content(tmp_path) == {"a.zip": BYTES}


@pytest.mark.parametrize("heeds", [True, False])
@pytest.mark.parametrize("tags", [('"v1"', '"v2"'), ('W/"v1"', 'W/"v2"'), ('W/"v1"', 'W/"v1"')])
def test_a_file_that_changes_between_two_parts(
    host: Host, tmp_path: Path, heeds: bool, tags: tuple[str, str]
) -> None:
    new = BYTES[::-1]
    host.paths["/file"] = Served(BYTES, tag=tags[0], cuts=[300_000] + [0] * 5)
    refused(host, url(host), tmp_path, "cuts the connection")
    host.paths["/file"] = Served(new, tag=tags[1], heeds_if_range=heeds)
    fetch(host, url(host), tmp_path)
    assert content(tmp_path) == {"file.bin": new}


def test_a_rest_of_another_length(host: Host, tmp_path: Path) -> None:
    host.zenodo(7272660, {"a.zip": BYTES})
    path = "/api/records/7272660/files/a.zip/content"
    host.paths[path] = Served(BYTES, tag="", cuts=[300_000], claims=len(BYTES) + 5)
    fetch(host, zenodo(), tmp_path)
    assert host.asked(path) == ["", f"bytes={4 * BLOCK}-", ""]
    assert content(tmp_path) == {"a.zip": BYTES}


def test_without_a_length(host: Host, tmp_path: Path) -> None:
    told: list[int | None] = []
    host.paths["/file"] = Served(BYTES, length=False)
    fetch(host, url(host), tmp_path, progress=lambda name, done, total: told.append(total))
    assert content(tmp_path) == {"file.bin": BYTES}
    assert set(told) == {None}


def test_cut_without_a_length(host: Host, tmp_path: Path) -> None:
    # Nobody can see that it is cut, but for what is known of the file.
    host.paths["/file"] = Served(BYTES, length=False, cuts=[300_000])
    refused(host, url(host, checksum=SHA), tmp_path, "has sha256 .*, not .* as stated")
    assert content(tmp_path) == {}
    host.zenodo(7272660, {"a.zip": BYTES})
    path = "/api/records/7272660/files/a.zip/content"
    host.paths[path] = Served(BYTES, length=False, cuts=[300_000])
    fetch(host, zenodo(), tmp_path)
    assert host.asked(path) == ["", "bytes=300000-"]
    assert content(tmp_path) == {"a.zip": BYTES}


def test_redirects_are_followed_at_each_try(host: Host, tmp_path: Path) -> None:
    there = (302, {"Location": "/store?signature=1"})
    host.paths["/file"] = Served(b"", answers=[there, there])
    host.paths["/store?signature=1"] = Served(BYTES, cuts=[300_000])
    fetch(host, url(host), tmp_path)
    assert host.asked("/file") == ["", f"bytes={4 * BLOCK}-"]  # such addresses live for seconds
    assert content(tmp_path) == {"file.bin": BYTES}


def test_a_circle_of_redirects(host: Host, tmp_path: Path) -> None:
    host.paths["/file"] = Served(b"", answers=[(302, {"Location": "/file"})] * 99)
    refused(host, url(host), tmp_path, "cannot be fetched .*redirects")


# Answers that are no files.


def test_too_many_requests(host: Host, tmp_path: Path, waits: list[float]) -> None:
    date = formatdate(time.time() + 30, usegmt=True)
    host.paths["/file"] = Served(
        BYTES,
        answers=[
            (429, {"Retry-After": "7"}),
            (429, {"Retry-After": date}),
            (429, {}),
            (503, {"Retry-After": "2"}),
        ],
    )
    fetch(host, url(host), tmp_path)
    assert content(tmp_path) == {"file.bin": BYTES}
    assert waits[0] == 7
    assert 25 < waits[1] <= 30
    assert waits[2:] == [4, 2]


def test_a_wait_that_is_too_long(host: Host, tmp_path: Path, waits: list[float]) -> None:
    host.paths["/file"] = Served(BYTES, answers=[(429, {"Retry-After": "4000"})])
    refused(host, url(host), tmp_path, "asks to wait 4000 seconds; run again after that")
    assert waits == []


def test_a_host_in_trouble(host: Host, tmp_path: Path, waits: list[float]) -> None:
    host.paths["/file"] = Served(BYTES, answers=[(502, {}), (500, {}), (503, {}), (504, {})])
    fetch(host, url(host), tmp_path)
    assert waits == [1, 2, 4, 8]
    host.paths["/file"].answers = [(500, {})] * 5
    (tmp_path / "file.bin").unlink()
    refused(host, url(host), tmp_path, r"has a problem \(HTTP status 500\); check the network")


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (404, "has no such file"),
        (410, "has no such file any more"),
        (401, "wants a login"),
        (403, "refuses the download"),
        (451, "answers with HTTP status 451"),
    ],
)
def test_a_refusal_is_final(
    host: Host, tmp_path: Path, status: int, message: str, waits: list[float]
) -> None:
    host.paths["/file"] = Served(BYTES, answers=[(status, {})])
    said = refused(host, url(host), tmp_path, message)
    assert said.endswith(f"download it by hand from https://example.org/page into {tmp_path}")
    assert len(host.log) == 1
    assert waits == []


def test_no_network(tmp_path: Path, waits: list[float]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    source = Url(page="the page", licence="", url=f"http://127.0.0.1:{port}/x", name="x")
    with pytest.raises(UserError, match=r"x cannot be fetched: .* cannot be reached.*the network"):
        download.fetch(source, tmp_path)
    assert waits == [1]  # nobody waits long without a network


@pytest.mark.parametrize("address", ["nonsense", "ftp://127.0.0.1/x", "http://[::bad/x"])
def test_addresses_of_no_use(tmp_path: Path, address: str) -> None:
    source = Url(page="the page", licence="", url=address, name="x")
    with pytest.raises(UserError, match=r"addresses .* that are none of the web|Invalid IPv6"):
        download.fetch(source, tmp_path)


# Wrong content, and the disk.


def test_a_wrong_checksum(host: Host, tmp_path: Path) -> None:
    host.zenodo(7272660, {"a.zip": BYTES})
    host.paths["/api/records/7272660/files/a.zip/content"].content = BYTES[::-1]
    refused(host, zenodo(), tmp_path, "a.zip has md5 .*, not .* as stated")
    assert content(tmp_path) == {}


def test_another_size_than_listed(host: Host, tmp_path: Path) -> None:
    host.zenodo(7272660, {"a.zip": BYTES})
    host.paths["/api/records/7272660/files/a.zip/content"].content = BYTES[:-1]
    refused(host, zenodo(), tmp_path, "has 1023999 bytes at .*, but 1024000 by its listing")
    assert content(tmp_path) == {}


def test_a_file_that_is_there_but_wrong_is_replaced_in_the_end(host: Host, tmp_path: Path) -> None:
    host.zenodo(7272660, {"a.zip": BYTES})
    path = "/api/records/7272660/files/a.zip/content"
    (tmp_path / "a.zip").write_bytes(b"old")
    host.paths[path].answers = [(404, {})]
    refused(host, zenodo(), tmp_path, "has no such file")
    assert content(tmp_path) == {"a.zip": b"old"}
    fetch(host, zenodo(), tmp_path)
    assert content(tmp_path) == {"a.zip": BYTES}


def test_a_folder_in_the_way(host: Host, tmp_path: Path) -> None:
    host.paths["/file"] = Served(BYTES)
    (tmp_path / "file.bin").mkdir()
    refused(host, url(host), tmp_path, "is a folder, where a file is to be put")


def test_a_disk_that_is_too_small(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    host.paths["/file"] = Served(BYTES * 4)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 20))
    refused(host, url(host), tmp_path, r"too small for file.bin: 4 MB more .* 1 MB are free")


def test_a_disk_that_fills_up(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    host.paths["/file"] = Served(BYTES)
    opened = Path.open

    def opening(self: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
        return full() if mode == "wb" else opened(self, mode, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", opening)
        refused(host, url(host), tmp_path, "the disk of .* is full; make room and run again")
    fetch(host, url(host), tmp_path)
    assert content(tmp_path) == {"file.bin": BYTES}


def test_a_folder_that_cannot_be_written(host: Host, tmp_path: Path) -> None:
    host.paths["/file"] = Served(BYTES)
    (tmp_path / "taken").write_text("a file")
    refused(host, url(host), tmp_path / "taken", "cannot be written .* choose another folder")
    refused(host, url(host), tmp_path / "taken/below", "cannot be written")


# The sources of the tasks.


def test_every_task_has_a_source() -> None:
    assert set(SOURCES) == {*tasks.BUILT_IN, "ultrabench_splits"}
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
    code = "from tasks import download; import sys; print('requests' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
