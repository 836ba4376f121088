"""What the Hub's library raises, in words."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from gpt.errors import HubError

TOKEN = "set HF_TOKEN to a token that may do this (https://huggingface.co/settings/tokens)"


@contextlib.contextmanager
def in_words(doing: str) -> Iterator[None]:
    """Turn what huggingface_hub raises inside into HubError.

    Args:
        doing: what was attempted, as the beginning of a sentence: "the model X cannot be pulled".

    Raises:
        HubError: the Hub refused, has no such thing, or was not reached.
    """
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise HubError(
            f"{doing}: its owner lets in only who asked; ask on its page of the Hub, then {TOKEN}"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise HubError(f"{doing}: the Hub has no such repository, or not for this account; {TOKEN}") from error
    except errors.RevisionNotFoundError as error:
        raise HubError(f"{doing}: it has no such revision; give a branch, a tag or a commit of it") from error
    except (errors.EntryNotFoundError, errors.FileMetadataError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "a file is missing"
        raise HubError(f"{doing}: {reason}; look whether the Hub can be reached, and try again") from error
    except errors.HFValidationError as error:
        raise HubError(f"{doing}: that is no name of a repository; give OWNER/NAME, or NAME alone") from error
    except errors.OfflineModeIsEnabled as error:
        raise HubError(f"{doing}: HF_HUB_OFFLINE is set, so nothing is asked of the network; unset it") from error
    except errors.HTTPError as error:
        raise HubError(f"{doing}: {_reason(error)}") from error
    except RuntimeError as error:  # so it wraps what went wrong while it sent a large file
        if not isinstance(error.__cause__, errors.HTTPError):
            raise
        raise HubError(f"{doing}: {_reason(error.__cause__)}") from error


def _reason(error: Exception) -> str:
    """What the Hub answered, if it did, and what to do about it."""
    response = getattr(error, "response", None)
    if response is None:
        return f"the Hub cannot be reached ({str(error) or type(error).__name__}); try again with a network"
    status = response.status_code
    said = (getattr(error, "server_message", None) or "").strip().rstrip(".")
    words = f"the Hub answered {status}" + (f" ({said})" if said else "")
    if status == 401:
        return f"{words}: no token, or one that is not known; {TOKEN}"
    if status == 403:
        return f"{words}: the token may not do this; {TOKEN}"
    if status == 429:
        return f"{words}: too much was asked at once; wait a few minutes"
    return f"{words}; try again later" if status >= 500 else f"{words}; look at the name and what was given"
