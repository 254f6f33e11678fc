"""The hub's client, huggingface_hub, and its errors in words; the only place that imports it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmadfer.errors import HubError
from mmadfer.share.address import HubAddress
from mmadfer.utils.memory import first_line
from mmadfer.utils.optional import need

_PLACES = ("etag", "x-linked-etag", "x-repo-commit")
"""Headers of the hub's that the client makes names of files of, as they are (huggingface_hub 2.4)."""
_LEADS_OUT = re.compile(r"(W/)?\"?([/\\]|(.*[/\\])?\.\.([/\\\"]|$))")


class UnreachableError(HubError):
    """Mend the network, or work from the cache."""


def client(module: str = "huggingface_hub") -> Any:
    """huggingface_hub, or a module of it.

    Raises:
        MissingDependencyError: it is not installed.
    """
    return need(module, extra="hub")


def api() -> Any:
    """The hub's interface at `HF_ENDPOINT`, with the token of `HF_TOKEN` or of `hf auth login`."""
    return client().HfApi(endpoint=endpoint(), library_name="mmadfer")


def endpoint() -> str:
    """Where the hub is."""
    return str(client("huggingface_hub.constants").ENDPOINT)


def offline() -> bool:
    """Whether nothing may be asked of the network (`HF_HUB_OFFLINE`)."""
    return bool(client("huggingface_hub.constants").is_offline_mode())


@contextmanager
def in_words(address: HubAddress) -> Iterator[None]:
    """In the block, what the client raises becomes a HubError that names the address.

    Raises:
        UnreachableError: there is no connection, or none may be made.
        HubError: anything else that the hub says.
    """
    errors, network = client("huggingface_hub.errors"), client("httpx2")
    where = f"{address} ({endpoint()})"
    _watch_headers()
    try:
        yield
    except errors.RevisionNotFoundError as error:
        raise HubError(
            f"{where} has no revision {address.revision or 'main'!r}: give a commit, tag or branch"
        ) from error
    except errors.GatedRepoError as error:
        raise HubError(f"{where} is gated: ask its owner, and log in (`hf auth login`, or HF_TOKEN)") from error
    except errors.RepositoryNotFoundError as error:
        raise HubError(
            f"{where} is not there, or you may not see it: check the name, and log in for a private one "
            "(`hf auth login`, or HF_TOKEN)"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise UnreachableError(
            f"{where} cannot be reached, and is not in the cache in full: mend the network or HF_ENDPOINT, or unset "
            f"HF_HUB_OFFLINE, and fetch it once ({_first(error)})"
        ) from error
    except (errors.OfflineModeIsEnabled, network.TransportError) as error:
        raise UnreachableError(
            f"{where} cannot be reached: mend the network or HF_ENDPOINT, or unset HF_HUB_OFFLINE ({_first(error)})"
        ) from error
    except errors.EntryNotFoundError as error:
        raise HubError(f"{where} holds no model that `mmadfer push` wrote: it has no contract.json") from error
    except errors.HfHubHTTPError as error:
        raise HubError(f"{where} refuses: {_first(error)}") from error
    except (errors.HFValidationError, ValueError) as error:
        raise HubError(f"{where}: {_first(error)}") from error


def _watch_headers() -> None:
    """Have the client's connection look at headers before the client does."""
    session = client().get_session()
    hooks = session.event_hooks
    if _check_headers not in hooks["response"]:
        session.event_hooks = {**hooks, "response": [*hooks["response"], _check_headers]}


def _check_headers(response: Any) -> None:
    """Raise HubError where a header would make the client write outside of its cache."""
    odd = [name for name in _PLACES if _LEADS_OUT.match(response.headers.get(name, ""))]
    if odd:
        raise HubError(
            f"{response.url} calls its file {response.headers[odd[0]]!r:.80}, which is a path: check HF_ENDPOINT"
        )


def _first(error: Exception) -> str:
    return first_line(error)[:300]
