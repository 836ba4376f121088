"""Listener: the address that a server has, held before it listens."""

from __future__ import annotations

import errno
import ipaddress
import socket
from typing import Any

from gpt.errors import ListenError

BACKLOG = 2048


class Listener:
    """A socket that holds an address; it listens later, so that a browser is refused until the page is there.

    As a context manager it gives itself, and lets go of the address at the end.

    Args:
        host: a name or an address of this machine.
        port: 0 for any that is free.

    Raises:
        ListenError: the host is no address of this machine, or the port is taken.
    """

    def __init__(self, host: str, port: int) -> None:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        except OSError as error:
            raise ListenError(
                f"--host {host} is no address of this machine ({error.strerror}); try 127.0.0.1"
            ) from error
        self.socket = socket.socket(family, kind, protocol)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self.socket.bind(address)
        except OSError as error:
            self.socket.close()
            raise _taken(host, port, error) from error

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: Any) -> None:
        self.socket.close()

    def listen(self) -> None:
        """Let browsers connect.

        Raises:
            ListenError: another program took the port in the meantime.
        """
        host, port = self.socket.getsockname()[:2]
        try:
            self.socket.listen(BACKLOG)
        except OSError as error:
            raise _taken(host, port, error) from error

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return ipaddress.ip_address(self.socket.getsockname()[0].partition("%")[0]).is_loopback

    @property
    def url(self) -> str:
        """What a browser on this machine opens."""
        host, port = self.socket.getsockname()[:2]
        if host in ("0.0.0.0", "::"):
            host = "localhost"
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def _taken(host: str, port: int, error: OSError) -> ListenError:
    if error.errno == errno.EADDRINUSE:
        return ListenError(
            f"port {port} of {host} is taken by another program; choose another with --port, or 0 for any"
        )
    return ListenError(
        f"cannot listen on port {port} of {host} ({error.strerror}); choose others with --host and --port"
    )
