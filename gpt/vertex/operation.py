"""Long-running operations of the service: waited for, and found again by a command that did not begin them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from gpt.errors import ResourceNotFoundError, ServiceUnavailableError, VertexError, VertexTimeoutError
from gpt.vertex.faults import from_status, translated

TIMEOUT_S = 60  # of one request
SHOW_S = 30
MAX_PAUSE_S = 10.0
FAILURES_IN_A_ROW = 5  # of asking how an operation is, before waiting for it gives up
# gRPC code of a failed operation -> the HTTP status that says the same.
STATUSES = {7: 403, 8: 429, 14: 503, 16: 401}


def finish(client: Any, name: str, what: str, show: Callable[[str], None]) -> None:
    """Wait until an operation is done, as `wait` does.

    Raises:
        VertexError: it failed, or could not be waited for.
    """
    operation = wait(client, name, what, show)
    if operation.HasField("error"):
        raise _failed(what, operation.error.code, operation.error.message)


def settle(client: Any, resource: str, what: str, show: Callable[[str], None]) -> None:
    """Wait for what another command, perhaps an interrupted one, began on a resource.

    How it ended does not matter here: it shows in what is there then.
    """
    for name in _under_way(client, resource, what):
        show(f"waiting for what was begun before on {what}")
        wait(client, name, f"waiting for what was begun before on {what}", show)


def wait(client: Any, name: str, what: str, show: Callable[[str], None]) -> Any:
    """Wait until an operation is done; the operation, which may have failed.

    Args:
        client: of the service that runs it.
        name: full name of the operation.
        what: what it does, for messages: "deploying version 2 of model gpt".
        show: given a line twice a minute.

    Raises:
        VertexError: the service could not be asked for it many times in a row.
    """
    started = shown = time.monotonic()
    pause_s, failures = 0.2, 0
    while True:
        try:
            with translated(what):
                operation = client.get_operation(request={"name": name}, timeout=TIMEOUT_S)
            failures = 0
        except (ServiceUnavailableError, VertexTimeoutError):
            failures += 1
            if failures == FAILURES_IN_A_ROW:
                raise
        else:
            if operation.done:
                return operation
        now = time.monotonic()
        if now - shown >= SHOW_S:
            shown = now
            minutes, seconds = divmod(int(now - started), 60)
            show(f"still {what}, {minutes} min {seconds:02} s")
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.3, MAX_PAUSE_S)


def _under_way(client: Any, resource: str, what: str) -> list[str]:
    """The names of the operations on a resource that are not done; none if the resource is not there."""
    names, page = [], ""
    while True:
        try:
            with translated(what):
                answer = client.list_operations(request={"name": resource, "page_token": page}, timeout=TIMEOUT_S)
        except ResourceNotFoundError:
            return []
        names += [operation.name for operation in answer.operations if not operation.done]
        page = answer.next_page_token
        if not page:
            return names


def _failed(what: str, code: int, message: str) -> VertexError:
    if code in STATUSES:
        return from_status(STATUSES[code], message, what)
    words = " ".join(message.split())
    return VertexError(f"{what} failed ({words.rstrip('.')}); see the log in the console, and run the command again")
