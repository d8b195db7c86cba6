"""Downloads: original releases from their hosts, resumable, verified, with the user's consent.

A file gets its name only once it is whole and has the checksum that its host states; until then it
is a hidden `.part` beside it, with which a later call goes on. One request at a time.
"""

from __future__ import annotations

import errno
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
from urllib.parse import quote, urlsplit

from tasks.archives import safe_parts
from tasks.sources import (
    SOURCES,
    FigshareArticle,
    GitHubFolder,
    Manual,
    Source,
    Url,
    ZenodoRecord,
)
from ultrabench_eval.core import files
from ultrabench_eval.core.errors import UserError

if TYPE_CHECKING:
    import requests

__all__ = ["BASE_URLS", "SOURCES", "fetch"]

Progress = Callable[[str, int, int | None], None]
"""Called with a file's name, the bytes of it that are here, and all its bytes (None: not told)."""

BASE_URLS: Mapping[str, str] = {
    "zenodo": "https://zenodo.org/api",
    "figshare": "https://api.figshare.com/v2",
    "github": "https://api.github.com",
    "github_raw": "https://raw.githubusercontent.com",
}

WAITS = (1, 2, 4, 8)  # seconds before another try, as long as no try brings anything
LONGEST_WAIT = 300  # seconds that a host may ask for; beyond, the user is told
_TIMEOUT = (10, 60)  # seconds to connect, and between two blocks
_BLOCK = 1 << 16  # what a cut connection can lose


def fetch(
    source: Source,
    folder: Path,
    *,
    accept: bool = False,
    progress: Progress | None = None,
    base_urls: Mapping[str, str] | None = None,
) -> list[Path]:
    """Bring the files of a source into a folder; those that are there and whole stay.

    Args:
        source: what to bring; `SOURCES` has those of the tasks.
        folder: where to; it is made. Names below it are those of the host.
        accept: the user's consent to the terms of the source.
        progress: told after each block, and once of a file that is there already.
        base_urls: other addresses of the hosts in `BASE_URLS`.

    Returns:
        The files, in the order of the host's listing.

    Raises:
        UserError: the terms need consent (the sentence has them) or the source must be got by hand
            (it has the steps); no network, or the host refuses; a file is not there, has another
            checksum than stated (then its part is removed), or does not fit on the disk.
    """
    if isinstance(source, Manual):
        steps = " ".join(f"({i}) {step}" for i, step in enumerate(source.steps, start=1))
        raise UserError(
            f"{source.page} cannot be downloaded by a program: {steps} Put it into {folder}. "
            f"Terms: {source.consent or source.licence}"
        )
    if source.consent and not accept:
        raise UserError(
            f"{source.page} has terms that need your consent: {source.consent} "
            "Pass --accept-license to download under them"
        )
    by_hand = f"download it by hand from {source.page} into {folder}"
    with _Client(by_hand, progress, {**BASE_URLS, **(base_urls or {})}) as client:
        listed = _listing(client, source, accept)
        try:
            with files.locked(folder / ".fetch"):  # two runs must not write the same part
                return [client.bring(file, folder) for file in listed]
        except OSError as error:  # of the network, there are none left here
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise UserError(
                    f"the disk of {folder} is full; make room and run again (it goes on where it "
                    "was)"
                ) from error
            raise UserError(
                f"{error.filename or folder} cannot be written ({error.strerror or error}); choose "
                "another folder"
            ) from error


@dataclass(frozen=True)
class _File:
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
            raise ValueError(f"addresses {self.urls} that are none of the web")
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


# What the hosts list.


def _listing(client: _Client, source: Source, accept: bool) -> list[_File]:
    """The files of a source.

    Raises:
        UserError: the host's answer is not as documented, or states another licence.
    """
    try:
        if isinstance(source, Url):
            return [_File(source.name, (source.url,), checksum=source.checksum)]
        if isinstance(source, ZenodoRecord):
            return _zenodo(client, source, accept)
        if isinstance(source, FigshareArticle):
            return _figshare(client, source, accept)
        if isinstance(source, GitHubFolder):
            return _github(client, source)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"the listing of {source.page} is not as documented ({type(error).__name__}: {error}); "
            f"the host has changed its interface: {client.by_hand}"
        ) from error
    raise TypeError(f"no source of a known kind: {source!r}")


def _zenodo(client: _Client, source: ZenodoRecord, accept: bool) -> list[_File]:
    """https://developers.zenodo.org, "Records": a record has its files with size and checksum."""
    record = client.json("zenodo", f"/records/{source.record}")
    if int(record["id"]) != source.record:
        raise UserError(
            f"Zenodo answers with record {record['id']} for {source.record}, which so stands for "
            "the newest version; name the record of one version"
        )
    _check_licence((record["metadata"].get("license") or {}).get("id", ""), source, accept)
    listed = [
        _File(entry["key"], (entry["links"]["self"],), int(entry["size"]), entry["checksum"])
        for entry in record["files"]
    ]
    return _selected(listed, source.files, source)


def _figshare(client: _Client, source: FigshareArticle, accept: bool) -> list[_File]:
    """https://docs.figshare.com, "articles": licence and files of a public article."""
    article = client.json("figshare", f"/articles/{source.article}")
    _check_licence((article.get("license") or {}).get("name", ""), source, accept)
    entries = client.json("figshare", f"/articles/{source.article}/files?page_size=1000")
    listed = [
        _File(
            entry["name"],
            # The second address shows programs a challenge for browsers at times.
            (client.address("figshare", f"/file/download/{entry['id']}"), entry["download_url"]),
            int(entry["size"]),
            f"md5:{entry['computed_md5']}",
        )
        for entry in entries
        if not entry["is_link_only"]  # kept elsewhere
    ]
    return _selected(listed, source.files, source)


def _github(client: _Client, source: GitHubFolder) -> list[_File]:
    """https://docs.github.com/rest/git/trees: all files of a commit with size and git hash."""
    tree = client.json(
        "github", f"/repos/{source.repository}/git/trees/{source.commit}?recursive=1"
    )
    if tree["truncated"]:
        raise UserError(
            f"GitHub does not list all files of {source.repository} (too many for one answer); "
            f"{client.by_hand} (commit {source.commit})"
        )
    blobs = {entry["path"]: entry for entry in tree["tree"] if entry["type"] == "blob"}
    listed = []
    for wanted in source.paths:
        found = [path for path in blobs if path == wanted or path.startswith(f"{wanted}/")]
        if not found:
            raise UserError(
                f"{source.repository} has no {wanted} at commit {source.commit}; correct the path "
                "or the commit"
            )
        listed += [
            _File(
                path.removeprefix(source.strip),
                (
                    client.address(
                        "github_raw", f"/{source.repository}/{source.commit}/{quote(path)}"
                    ),
                ),
                int(blobs[path]["size"]),
                f"git:{blobs[path]['sha']}",
            )
            for path in found
        ]
    return listed


def _selected(listed: list[_File], names: tuple[str, ...], source: Source) -> list[_File]:
    """The files that are wanted; all if none is named."""
    if not listed:
        raise UserError(
            f"{source.page} lists no files that can be downloaded (is access restricted?); "
            "read its page"
        )
    by_name = {file.name: file for file in listed}
    missing = [name for name in names if name not in by_name]
    if missing:
        raise UserError(
            f"{source.page} has no file {missing[0]}, only {', '.join(sorted(by_name))}; it has "
            "changed: read its page"
        )
    return [by_name[name] for name in names] if names else listed


def _check_licence(stated: str, source: Source, accept: bool) -> None:
    """Stop where a record states another licence than what the user was told."""

    def plain(name: str) -> str:
        return re.sub(r"[\s_-]+", "-", name.strip().lower())

    if plain(stated) != plain(source.licence) and not accept:
        raise UserError(
            f"{source.page} states the licence '{stated or 'none'}', not '{source.licence}' as was "
            "known; read its terms, and pass --accept-license to download under them"
        )


# Bringing one file.


class _Refused(UserError):
    """A host will not give a file, however often it is asked."""


class _Again(Exception):
    """A try failed in a way that another may mend.

    Args:
        reason: the end of a sentence that begins with the host's name.
        wait: seconds after which the host wants to be asked again; None: not told.
    """

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class _Client:
    """A session with the hosts of one source.

    Args:
        by_hand: what a user can do where the download fails, for messages.
        progress: told after each block.
        addresses: of the hosts, by the names in `BASE_URLS`.
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

    def __enter__(self) -> _Client:
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

    def bring(self, file: _File, folder: Path) -> Path:
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
            except _Refused:
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

    def _report(self, file: _File, done: int, total: int | None) -> None:
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
                        f"again (it goes on where it was), or {self.by_hand}"
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
            raise _Refused(f"{url} cannot be fetched ({_reason(error)}); {self.by_hand}") from error

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
        raise _Refused(f"{response.url.split('?')[0]}: {host} {reason}; {self.by_hand}")

    def _get(self, file: _File, url: str, part: _Part) -> None:
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
                raise _Refused(
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
        """Start anew with this version."""
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
    """Seconds after which a host wants to be asked again; None if it does not tell."""
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
