"""A local server that speaks as Zenodo, figshare and GitHub document it, with faults to order."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tasks.obtain import download
from tasks.obtain.sources import ReleaseSource, Url, ZenodoRecord
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


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *where: Any) -> None:
        # A client that has seen enough hangs up, which is what some tests are about. The rest is
        # a mistake in here, and is printed.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(*where)


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

        self.server = Server(("127.0.0.1", 0), Handler)
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


def fetch(host: Host, source: ReleaseSource, folder: Path, **options: Any) -> list[Path]:
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


def refused(host: Host, source: ReleaseSource, folder: Path, message: str, **options: Any) -> str:
    with pytest.raises(UserError, match=message) as raised:
        fetch(host, source, folder, **options)
    assert "\n" not in str(raised.value)
    return str(raised.value)
