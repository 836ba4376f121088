"""Long-running operations: begun by a call, asked for until they are done."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.routing import Route

from tests.emulator.call import Call, Resource, now, route
from tests.emulator.faults import Faults
from tests.emulator.google_error import GoogleError, not_found
from tests.emulator.listing import listing

TYPES = "type.googleapis.com/google.cloud.aiplatform.v1"
EMPTY = "type.googleapis.com/google.protobuf.Empty"
# HTTP status -> gRPC code, for the error of an operation that failed.
CODES = {400: 3, 403: 7, 404: 5, 409: 6, 412: 9, 429: 8, 500: 13, 503: 14}

Work = Callable[[], Resource] | Callable[[], Awaitable[Resource]]


class Operations:
    """Every operation since the emulator began, by its name."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self._numbers = itertools.count(1)
        self._operations: dict[str, Resource] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def routes(self) -> list[Route]:
        return [
            route("GET", "{collection}/{resource}/operations/{operation}", self._get),
            route("GET", "{collection}/{resource}/operations", self._list),
            route("GET", "operations/{operation}", self._get),
            route("GET", "operations", self._list),
            # The service also offers waiting and cancelling; nothing that is begun here can be taken back.
            route("POST", "{collection}/{resource}/operations/{operation}:cancel", self._cancel),
        ]

    def clear(self) -> None:
        """Forget every operation; what is under way is left where it is."""
        for task in self._tasks:
            task.cancel()
        self._operations.clear()

    def under_way(self) -> list[str]:
        """The names of the operations that are not done."""
        return [name for name, operation in self._operations.items() if not operation["done"]]

    def begin(
        self,
        resource: str,
        method: str,
        work: Work,
        response: str = EMPTY,
        ended: Callable[[], None] = lambda: None,
    ) -> Resource:
        """Begin `work` on `resource`; what it gives becomes the operation's response.

        Args:
            resource: full name of what the operation is about.
            method: "UploadModel", "DeployModel", ...; faults are set by it.
            work: does it and gives the response's fields. A plain function is done at once unless a fault slows the
                operation; of a coroutine function the caller sees the end later.
            response: the response's type.
            ended: called when it is done, however it ended.
        """
        name = f"{resource}/operations/{next(self._numbers)}"
        kind = "Delete" if method.startswith("Delete") else method
        began = now()
        operation: Resource = {
            "name": name,
            "done": False,
            "metadata": {
                "@type": f"{TYPES}.{kind}OperationMetadata",
                "genericMetadata": {"createTime": began, "updateTime": began},
            },
        }
        self._operations[name] = operation
        delay_s, failure = self.faults.operation(method)
        if delay_s == 0 and not asyncio.iscoroutinefunction(work):
            result: Any = failure or _attempt(work)
            _finish(operation, response, result)
            ended()
        else:
            running = self._run(operation, response, work, delay_s, failure, ended)
            task = asyncio.get_running_loop().create_task(running)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return operation

    async def _run(
        self,
        operation: Resource,
        response: str,
        work: Work,
        delay_s: float,
        failure: GoogleError | None,
        ended: Callable[[], None],
    ) -> None:
        await asyncio.sleep(delay_s)
        result: Any = failure or _attempt(work)
        if asyncio.iscoroutine(result):
            try:
                result = await result
            except GoogleError as error:
                result = error
        _finish(operation, response, result)
        ended()

    def _get(self, call: Call) -> Resource:
        name = "/".join([call.parent, *_parts(call), "operations", call.ids["operation"]])
        if name not in self._operations:
            raise not_found(name)
        return self._operations[name]

    def _list(self, call: Call) -> Resource:
        prefix = "/".join([call.parent, *_parts(call)]) + "/"
        return listing(
            call, "operations", [value for name, value in self._operations.items() if name.startswith(prefix)]
        )

    def _cancel(self, call: Call) -> Resource:
        self._get(call)
        raise GoogleError(501, "Operation cancellation is not supported for this operation.")


def _parts(call: Call) -> list[str]:
    return [call.ids[name] for name in ("collection", "resource") if name in call.ids]


def _attempt(work: Work) -> Any:
    try:
        return work()
    except GoogleError as error:
        return error


def _finish(operation: Resource, response: str, result: Resource | GoogleError) -> None:
    if isinstance(result, GoogleError):
        operation["error"] = {"code": CODES.get(result.code, 2), "message": result.message}
    else:
        operation["response"] = {"@type": response if "/" in response else f"{TYPES}.{response}", **result}
    operation["metadata"]["genericMetadata"]["updateTime"] = now()
    operation["done"] = True
