"""An event loop's end: what its connections leave behind is found in the midst of other tests, so nothing is left."""

from __future__ import annotations

import asyncio
from typing import Any

ROUNDS = 100


async def drop_connections() -> None:
    """Close every connection of the running loop, as a process does that ends; returns when none is open.

    uvicorn knows its own connections, but not those that a request under way had opened to other servers. The loop
    knows all of them, and has no public way to say which.
    """
    loop: Any = asyncio.get_running_loop()
    for _ in range(ROUNDS):
        transports = list(loop._transports.values())
        if not transports:
            return
        for transport in transports:
            transport.abort()
        await asyncio.sleep(0.01)
