"""Bringing one file from a host: resumable, verified, with patience.

A file gets its name only once it is whole and has the checksum that its host states; until then it
is a hidden `.part` beside it, with which a later call goes on. One request at a time.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tasks.obtain.safe_names import safe_parts
from ultrabench_eval.core import files
from ultrabench_eval.core.errors import UserError

if TYPE_CHECKING:
    import requests

Progress = Callable[[str, int, int | None], None]
"""Called with a file's name, the bytes of it that are here, and all its bytes (None: not told)."""

WAITS = (1, 2, 4, 8)  # seconds before another try, as long as no try brings anything
LONGEST_WAIT = 300  # seconds that a host may ask for; beyond, the user must decide
_TIMEOUT = (10, 60)  # seconds to connect, and between two blocks
_BLOCK = 1 << 16  # what a cut connection can lose


@dataclass(frozen=True)
class RemoteFile:
    """A file as its host lists it."""

    name: str
    """Relative, with `/`."""
    urls: tuple[str, ...]
    """Tried in order where one is refused."""
    size: int | None = None
    checksum: str = ""
    """Algorithm and digits, e.g. "md5:..."; "git:..." is git's hash of a file; empty: none."""

    def __post_init__(self) -> None:
        if not all(urlsplit(url).scheme in ("http", "https") for url in self.urls):
            raise ValueError(f"addresses {self.urls} that are not web addresses")
        algorithm = self.checksum.partition(":")[0]
        if algorithm and algorithm not in ("git", *hashlib.algorithms_guaranteed):
            raise ValueError(f"checksum {self.checksum!r} of an unknown kind")

    def fault(self, path: Path) -> str:
        """What is wrong with a copy of the file; empty if nothing is."""
        size = path.stat().st_size
        if self.size is not None and size != self.size:
            return f"has {size} bytes, but {self.size} by its listing"
        if not self.checksum:
            return ""
        algorithm, _, digits = self.checksum.partition(":")
        with path.open("rb") as file:
            if algorithm == "git":
                made: Any = partial(hashlib.sha1, b"blob %d\0" % size, usedforsecurity=False)
            else:
                made = partial(hashlib.new, algorithm, usedforsecurity=False)
            found = hashlib.file_digest(file, made).hexdigest()
        return "" if found == digits.lower() else f"has {algorithm} {found}, not {digits} as stated"


class _HostRefused(UserError):
    """A host will not give a file, however often it is asked."""


class _Again(Exception):
    """A try failed in a way that another may not.

    Args:
        reason: the end of a sentence that begins with the host's name.
        wait: seconds after which the host wants to be asked again; None: not told.
    """

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class Client:
    """A session with the hosts of one source.

    Args:
        by_hand: what a user can do where the download fails, for messages.
        progress: told after each block.
        addresses: of the hosts, by the names in `hosts.BASE_URLS`.
    """

    def __init__(
        self, by_hand: str, progress: Progress | None, addresses: Mapping[str, str]
    ) -> None:
        import requests

        self.by_hand = by_hand
        self._progress = progress
        self._addresses = addresses
        self._reached: set[str] = set()  # hosts that have answered
        self._session = requests.Session()
        self._session.headers["User-Agent"] = f"ultrabench_eval/{version('ultrabench-eval')}"
        # Content as it is stored: ranges and lengths count those bytes.
        self._session.headers["Accept-Encoding"] = "identity"

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self._session.close()

    def address(self, host: str, path: str) -> str:
        """The address of a path on one of the known hosts."""
        return self._addresses[host].rstrip("/") + path

    def json(self, host: str, path: str) -> Any:
        """The answer of a host's interface."""

        def attempt() -> Any:
            with self._open(url, {"Accept": "application/json"}) as response:
                return response.json()

        url = self.address(host, path)
        return self._insist(url, url, attempt, lambda: 0)

    def bring(self, file: RemoteFile, folder: Path) -> Path:
        """Have `file` in `folder`, whole and verified."""
        try:
            target = folder.joinpath(*safe_parts(file.name))
        except ValueError as error:
            raise UserError(
                f"the host lists a file {file.name!r} that {error}; {self.by_hand}"
            ) from error
        if target.is_file() and not file.fault(target):
            self._report(file, target.stat().st_size, target.stat().st_size)
            return target
        if target.is_dir():
            raise UserError(f"{target} is a folder, where a file is to be put; move it away")
        target.parent.mkdir(parents=True, exist_ok=True)
        part = _Part(target)
        for i, url in enumerate(file.urls):
            try:
                self._insist(file.name, url, partial(self._get, file, url, part), part.size)
                break
            except _HostRefused:
                if i == len(file.urls) - 1:
                    raise
        fault = file.fault(part.path)
        if fault:
            part.drop()
            raise UserError(
                f"{file.name} {fault}; it was damaged on the way or replaced by its host, and is "
                f"removed: run again, or {self.by_hand}"
            )
        part.finish(target)
        return target

    def _report(self, file: RemoteFile, done: int, total: int | None) -> None:
        if self._progress:
            self._progress(file.name, done, total)

    def _insist(
        self, what: str, url: str, attempt: Callable[[], Any], gained: Callable[[], int]
    ) -> Any:
        """The result of `attempt`, which is repeated while there is hope.

        Args:
            what: name of what is wanted, for messages.
            url: its address.
            attempt: raises `_Again` if it may be repeated.
            gained: the bytes that are here so far; more than ever is a reason to go on.
        """
        host = urlsplit(url).netloc
        most, failures = gained(), 0
        while True:
            try:
                return attempt()
            except _Again as error:
                failures = 1 if gained() > most else failures + 1
                most = max(most, gained())
                # A host that never answered is most likely out of reach: no need to wait long.
                if failures > (len(WAITS) if host in self._reached else 1):
                    raise UserError(
                        f"{what} cannot be fetched: {host} {error}; check the network and run "
                        f"again (it resumes where it stopped), or {self.by_hand}"
                    ) from error
                wait = WAITS[failures - 1] if error.wait is None else error.wait
                if wait > LONGEST_WAIT:
                    raise UserError(
                        f"{what} cannot be fetched: {host} {error} and asks to wait {wait:.0f} "
                        f"seconds; run again after that, or {self.by_hand}"
                    ) from error
                time.sleep(wait)

    @contextmanager
    def _open(self, url: str, headers: Mapping[str, str]) -> Iterator[requests.Response]:
        """A response that has content: status 200, 206, or 416.

        Raises:
            _Again, _Refused: for all others, and for a connection that fails or breaks.
        """
        import requests

        try:
            with self._session.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
                self._reached.add(urlsplit(url).netloc)
                self._check(response)
                yield response
        except (requests.ConnectionError, requests.Timeout) as error:
            raise _Again(f"cannot be reached, or cuts the connection ({_reason(error)})") from error
        except requests.exceptions.ChunkedEncodingError as error:
            raise _Again(f"cuts the connection ({_reason(error)})") from error
        except requests.RequestException as error:
            raise _HostRefused(
                f"{url} cannot be fetched ({_reason(error)}); {self.by_hand}"
            ) from error

    def _check(self, response: requests.Response) -> None:
        status, host = response.status_code, urlsplit(response.url).netloc
        if status in (200, 206, 416):
            return
        headers = response.headers
        exhausted = headers.get("X-RateLimit-Remaining") == "0"
        if status == 429 or (status == 403 and (exhausted or "Retry-After" in headers)):
            raise _Again(f"is asked too often (HTTP status {status})", _wanted_wait(headers))
        if status in (408, 425) or status >= 500:
            raise _Again(f"has a problem (HTTP status {status})", _wanted_wait(headers))
        reasons = {
            202: "wants to see a browser (it sends a challenge, not the file)",
            404: "has no such file (any more)",
            410: "has no such file any more",
            401: "wants a login",
            403: "refuses the download",
        }
        reason = reasons.get(status, f"answers with HTTP status {status}")
        raise _HostRefused(f"{response.url.split('?')[0]}: {host} {reason}; {self.by_hand}")

    def _get(self, file: RemoteFile, url: str, part: _Part) -> None:
        """Fetch what is missing of a part.

        Raises:
            _Again: it is still not whole.
        """
        have, tag = part.size(), part.tag()
        if have and have == file.size:
            return  # a process was killed before it could finish
        if have and (have > (file.size or have) or not (tag or file.checksum)):
            part.drop()  # too long; or nothing could tell whether the rest belongs to it
            have = 0
        headers = {"Range": f"bytes={have}-"} if have else {}
        if have and tag:
            headers["If-Range"] = tag
        with self._open(url, headers) as response:
            if response.status_code == 416 or (
                response.status_code == 206 and not _continues(response, have, tag, file.size)
            ):
                part.drop()
                raise _Again("has another file than before", 0)
            if response.status_code == 200:
                have = 0  # no ranges here, or the file has changed
                part.begin(response.headers.get("ETag", ""))
            length = response.headers.get("Content-Length", "")
            total = have + int(length) if length.isdecimal() else file.size
            if file.size is not None and total != file.size:
                part.drop()
                raise _HostRefused(
                    f"{file.name} has {total} bytes at {urlsplit(response.url).netloc}, but "
                    f"{file.size} by its listing; {self.by_hand}"
                )
            free = shutil.disk_usage(part.path.parent).free
            if total is not None and total - have > free:
                raise UserError(
                    f"the disk is too small for {file.name}: {(total - have) / 2**20:.0f} MB more "
                    f"are needed and {free / 2**20:.0f} MB are free; make room and run again"
                )
            done = have
            with part.path.open("ab" if have else "wb") as out:
                for block in response.iter_content(_BLOCK):
                    out.write(block)
                    done += len(block)
                    self._report(file, done, total)
        if total is not None and done < total:
            raise _Again(f"cuts the connection ({done} of {total} bytes)")


class _Part:
    """What is here of a file that is not whole yet, and which version of the file it is of."""

    def __init__(self, target: Path) -> None:
        self.path = target.with_name(f".{target.name}.part")
        self._tag = target.with_name(f".{target.name}.part.etag")

    def size(self) -> int:
        """Bytes that are here."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def tag(self) -> str:
        """The entity tag of the version; empty if the host gave none."""
        return self._tag.read_text(encoding="utf-8") if self._tag.is_file() else ""

    def begin(self, tag: str) -> None:
        """Start from the beginning with this version."""
        self.drop()
        if tag.startswith('"'):  # weak ones do not stand for the same bytes
            files.write_text(self._tag, tag)

    def drop(self) -> None:
        """Forget what is here."""
        self.path.unlink(missing_ok=True)
        self._tag.unlink(missing_ok=True)

    def finish(self, target: Path) -> None:
        """Give the file its name."""
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(self.path, target)
        self._tag.unlink(missing_ok=True)


def _continues(response: requests.Response, have: int, tag: str, size: int | None) -> bool:
    """Whether a partial response is the rest of what is here."""
    match = re.fullmatch(
        r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip()
    )
    if match is None or int(match[1]) != have:
        return False
    other_size = size is not None and match[2] != "*" and int(match[2]) != size
    other_tag = tag and response.headers.get("ETag", tag) != tag
    return not (other_size or other_tag)


def _wanted_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds after which a host wants to be asked again; None if it does not say."""
    after = headers.get("Retry-After", "").strip()
    if after.isdecimal():
        return int(after)
    try:
        moment = parsedate_to_datetime(after).timestamp()
    except ValueError:
        reset = headers.get("X-RateLimit-Reset", "")  # GitHub's and Zenodo's: seconds since 1970
        if not (reset.isdecimal() and headers.get("X-RateLimit-Remaining") == "0"):
            return None
        moment = int(reset)
    return max(0.0, moment - time.time())


def _reason(error: BaseException) -> str:
    """The kernel of a library's message."""
    while error.__context__ is not None:
        error = error.__context__
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
