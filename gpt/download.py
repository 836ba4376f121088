"""Fetching a published file: the whole of it, verified, or an error in words."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable

_BLOCK_BYTES = 1 << 16


def download(url: str, *, sha256: str, timeout_s: float = 20.0, progress: Callable[[int], None] | None = None) -> bytes:
    """The bytes at `url`, whose SHA-256 is `sha256`.

    Args:
        url: the address.
        sha256: the published file's hash, as hexadecimal digits.
        timeout_s: seconds without an answer, or without another byte, before giving up.
        progress: called with the number of bytes so far, after every block of 64 KiB.

    Raises:
        OSError: no network, no such page, the connection broke, or the hash is another one; its text is the reason.
    """
    received = bytearray()
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as response:
            while block := response.read(_BLOCK_BYTES):
                received += block
                if progress is not None:
                    progress(len(received))
    except urllib.error.HTTPError:
        raise
    except urllib.error.URLError as error:
        raise OSError(str(error.reason)) from error
    except http.client.HTTPException as error:
        raise OSError(f"the connection broke: {error!r}") from error
    if (found := hashlib.sha256(received).hexdigest()) != sha256:
        raise OSError(f"it gave {len(received):,} bytes with sha256 {found} instead of {sha256}")
    return bytes(received)
