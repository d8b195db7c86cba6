"""The hub: weights that a user agreed to take from there."""

from __future__ import annotations

import socket
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import huggingface_hub
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

from model_zoo.cards import Card, HubFile
from model_zoo.checkpoints.files import FOLDER_VARIABLE
from ultrabench_eval.core.errors import UserError

_PATIENCE = 5.0  # seconds; the hub's own client tries for three quarters of a minute


def fetch(name: str, card: Card, accept_license: bool) -> Path:
    """The file of `card.hub`, from the local cache of an earlier download or from the hub.

    Args:
        name: name of the model, for errors.
        card: its card, with a `hub`.
        accept_license: the user's consent to the licence of the weights.

    Raises:
        UserError: no consent (the sentence states the licence), or the file cannot be had.
    """
    hub = card.hub
    if hub is None:
        raise ValueError(f"the card of '{name}' names no file on the hub")
    page = f"huggingface.co/{hub.repository}"
    if not accept_license:
        note = f" ({hub.note})" if hub.note else ""
        raise UserError(
            f"no weights for model '{name}': {hub.file} of {page}{note} is under: "
            f"{card.weights_licence}. Pass --accept-license to take it under these terms, or "
            f"{by_hand(name)}; other places: {card.weights_from}"
        )
    known = cached(hub)
    if known is not None:
        return known
    if not reachable():
        raise UserError(
            f"no weights for model '{name}': the hub cannot be reached from here; "
            f"get {hub.file} from {page} elsewhere and {by_hand(name)}"
        )
    try:
        return Path(huggingface_hub.hf_hub_download(hub.repository, hub.file))
    except GatedRepoError as error:
        raise UserError(
            f"no weights for model '{name}': {page} is gated; ask for access on its page, log in "
            "with `hf auth login` and run again"
        ) from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [""])[0][:160]
        raise UserError(
            f"no weights for model '{name}': {hub.file} of {page} cannot be fetched "
            f"({type(error).__name__}: {reason}); get it there and {by_hand(name)}"
        ) from error


def by_hand(name: str) -> str:
    """What to do with a file that was fetched by hand."""
    return (
        f"pass --weights {name}=PATH, or put the file in ${FOLDER_VARIABLE} "
        f"under a name that begins with '{name}'"
    )


def cached(hub: HubFile, revision: str | None = None) -> Path | None:
    """The file that an earlier download left in the hub's cache."""
    path = huggingface_hub.try_to_load_from_cache(hub.repository, hub.file, revision=revision)
    return Path(path) if isinstance(path, str) else None


def reachable() -> bool:
    """Whether the hub answers; told within seconds."""
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return False
    if urllib.request.getproxies():  # then a direct connection tells nothing
        return True
    address = urlsplit(huggingface_hub.constants.ENDPOINT)
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((address.hostname or "", port), timeout=_PATIENCE).close()
    except OSError:
        return False
    return True
