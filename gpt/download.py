"""Fetching a published file: the whole of it, verified, or an error in words."""

from __future__ import annotations

import hashlib
import http.client
import urllib.request
from collections.abc import Callable

_BLOCK_BYTES = 1 << 16


def download(
    url: str,
    *,
    sha256: str,
    timeout_s: float = 20.0,
    progress: Callable[[int], None] | None = None,
) -> bytes:
    """The bytes at `url`, whose SHA-256 is `sha256`.

    Args:
        url: an https address.
        sha256: the published file's hash, as hexadecimal digits.
        timeout_s: seconds without an answer, or without another byte, before giving up.
        progress: called with the number of bytes so far, after every block of 64 KiB.

    Raises:
        OSError: no network, no such page, the connection broke, or the hash is another one; its text is one
            sentence without a stop, for the caller to complete with what to do.
    """
    received = bytearray()
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as response:
            while block := response.read(_BLOCK_BYTES):
                received += block
                if progress is not None:
                    progress(len(received))
    except http.client.HTTPException as error:
        raise OSError(f"the connection to {url} broke ({error!r})") from error
    except OSError as error:  # urllib's URLError and HTTPError, timeouts and resets are all OSErrors
        raise OSError(f"{url} could not be fetched ({getattr(error, 'reason', None) or error})") from error
    if (found := hashlib.sha256(received).hexdigest()) != sha256:
        raise OSError(f"{url} gave {len(received):,} bytes with sha256 {found} instead of {sha256}")
    return bytes(received)
