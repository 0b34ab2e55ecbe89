"""The least that runs on the Lambda host: an ASGI app that answers and does nothing."""

import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from stile.hosts import lambda_host
from stile.hosts.lambda_host import Hooks

Message = dict[str, Any]


async def app(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    if scope["type"] == "lifespan":
        for phase in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{phase}.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


async def nothing() -> None:
    """No hook is needed."""


if __name__ == "__main__":
    sys.exit(lambda_host.run(app, Hooks(lambda: None, nothing, nothing), os.environ))
