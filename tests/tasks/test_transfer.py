"""Files from a host that cuts, refuses, changes and fails."""

from __future__ import annotations

import errno
import shutil
import socket
import subprocess
import sys
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from fake_host import BLOCK, BYTES, SHA, Host, Served, content, fetch, refused, url, zenodo

from tasks.obtain import download
from tasks.obtain.sources import Url
from ultrabench_eval.core.errors import UserError

pytestmark = pytest.mark.usefixtures("waits")


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
    message = (
        r"file.bin cannot be fetched: 127.0.0.1.* cuts the connection .*resumes where it stopped"
    )
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
        "import os, signal; from pathlib import Path; from tasks.obtain import download\n"
        "from tasks.obtain.sources import Url\n"
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


# Answers that are not files.


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
    with pytest.raises(UserError, match=r"addresses .* that are not web addresses|Invalid IPv6"):
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
