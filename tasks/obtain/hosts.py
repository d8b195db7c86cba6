"""What the hosts of releases list: names, sizes and checksums, by their documented interfaces."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from tasks.obtain.sources import FigshareArticle, GitHubFolder, ReleaseSource, Url, ZenodoRecord
from tasks.obtain.transfer import Client, RemoteFile
from ultrabench_eval.core.errors import UserError
from ultrabench_eval.core.licence_kind import plain

BASE_URLS: Mapping[str, str] = {
    "zenodo": "https://zenodo.org/api",
    "figshare": "https://api.figshare.com/v2",
    "github": "https://api.github.com",
    "github_raw": "https://raw.githubusercontent.com",
}


def listing(client: Client, source: ReleaseSource, accept: bool) -> list[RemoteFile]:
    """The files of a source, in the order of its host.

    Args:
        client: a session with the hosts.
        source: of any kind but `Manual`.
        accept: the user's consent, also to another licence than the one known.

    Raises:
        UserError: the host's answer is not as documented, or states another licence.
    """
    try:
        if isinstance(source, Url):
            return [RemoteFile(source.name, (source.url,), checksum=source.checksum)]
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


def _zenodo(client: Client, source: ZenodoRecord, accept: bool) -> list[RemoteFile]:
    """https://developers.zenodo.org, "Records": a record has its files with size and checksum."""
    record = client.json("zenodo", f"/records/{source.record}")
    if int(record["id"]) != source.record:
        raise UserError(
            f"Zenodo answers with record {record['id']} for {source.record}, which so stands for "
            "the newest version; name the record of one version"
        )
    _check_licence((record["metadata"].get("license") or {}).get("id", ""), source, accept)
    listed = [
        RemoteFile(entry["key"], (entry["links"]["self"],), int(entry["size"]), entry["checksum"])
        for entry in record["files"]
    ]
    return _selected(listed, source.files, source)


def _figshare(client: Client, source: FigshareArticle, accept: bool) -> list[RemoteFile]:
    """https://docs.figshare.com, "articles": licence and files of a public article."""
    article = client.json("figshare", f"/articles/{source.article}")
    _check_licence((article.get("license") or {}).get("name", ""), source, accept)
    entries = client.json("figshare", f"/articles/{source.article}/files?page_size=1000")
    listed = [
        RemoteFile(
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


def _github(client: Client, source: GitHubFolder) -> list[RemoteFile]:
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
            RemoteFile(
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


def _selected(
    listed: list[RemoteFile], names: tuple[str, ...], source: ReleaseSource
) -> list[RemoteFile]:
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


def _check_licence(stated: str, source: ReleaseSource, accept: bool) -> None:
    """Stop where a record states another licence than the one shown to the user."""
    if plain(stated) != plain(source.licence) and not accept:
        raise UserError(
            f"{source.page} states the licence '{stated or 'none'}', not '{source.licence}' as was "
            "known; read its terms, and pass --accept-license to download under them"
        )
