"""Downloads: original releases from their hosts, with the user's consent.

`sources` says where from, `hosts` what there is, `transfer` brings each file.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path

from tasks.obtain.hosts import BASE_URLS, listing
from tasks.obtain.sources import SOURCES, Manual, ReleaseSource
from tasks.obtain.transfer import Client, Progress
from ultrabench_eval.core import files
from ultrabench_eval.core.errors import UserError

__all__ = ["BASE_URLS", "SOURCES", "fetch"]


def fetch(
    source: ReleaseSource,
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
    with Client(by_hand, progress, {**BASE_URLS, **(base_urls or {})}) as client:
        listed = listing(client, source, accept)
        try:
            with files.locked(folder / ".fetch"):  # two runs must not write the same part
                return [client.bring(file, folder) for file in listed]
        except OSError as error:  # of the network, there are none left here
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise UserError(
                    f"the disk of {folder} is full; make room and run again (it resumes where it "
                    "stopped)"
                ) from error
            raise UserError(
                f"{error.filename or folder} cannot be written ({error.strerror or error}); choose "
                "another folder"
            ) from error
