"""Apps for the Lambda host, each a rule broken or kept: `python lambda_apps.py NAME` serves one of them."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from stile.hosts import lambda_host
from stile.hosts.lambda_host import Hooks

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

LATE = asyncio.Event()
START: Message = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def part(body: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


async def told(scope: Message, receive: Receive, send: Send) -> None:
    """Says what it was asked; `/after` goes on working when the client has its answer."""
    body = (await receive())["body"]
    await send({**START, "headers": [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]})
    shown = {"body": body.decode(), **{name: str(scope[name]) for name in ("method", "path", "query_string", "client")}}
    await send(part(json.dumps(shown).encode(), more=False))
    if scope["path"] == "/after":
        for _ in range(10):
            await asyncio.sleep(0)
        say("worked on")


async def fails_early(scope: Message, receive: Receive, send: Send) -> None:
    if scope["path"] == "/fails":
        raise ValueError("before a word")
    await told(scope, receive, send)


async def fails_late(scope: Message, receive: Receive, send: Send) -> None:
    if scope["path"] == "/fails":
        await send(START)
        await send(part(b"half", more=True))
        raise ValueError("in mid-stream")
    await told(scope, receive, send)


async def says_nothing(scope: Message, receive: Receive, send: Send) -> None:
    if scope["path"] != "/fails":
        await told(scope, receive, send)


async def never_ends(scope: Message, receive: Receive, send: Send) -> None:
    if scope["path"] != "/fails":
        await told(scope, receive, send)
        return
    await send(START)
    await send(part(b"half", more=True))
    await asyncio.Event().wait()


async def speaks_after_its_end(scope: Message, receive: Receive, send: Send) -> None:
    if scope["path"] != "/fails":
        LATE.set()
        await asyncio.sleep(0)  # the late one has its say in the middle of this call
        await told(scope, receive, send)
        return
    while not LATE.is_set():
        with contextlib.suppress(asyncio.CancelledError):
            await LATE.wait()
    await send(START)
    await send(part(b"late", more=False))


async def large_head(scope: Message, receive: Receive, send: Send) -> None:
    if scope["path"] == "/fails":
        await send({**START, "headers": [(b"x-large", b"x" * 20_000)]})
        await send(part(b"", more=False))
    await told(scope, receive, send)


async def cannot_start(_: Message, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "first fault\nsecond fault"})


async def breaks_at_start(*_: object) -> None:
    raise KeyError("nobody expected this")


def with_lifespan(app: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    async def whole(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        await receive()
        say("began")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        say("ended")
        await send({"type": "lifespan.shutdown.complete"})

    return whole


async def before_snapshot() -> None:
    say("before the snapshot")


async def after_restore() -> None:
    say("after the restore")
    if "FAILS" in os.environ:
        raise ValueError("cannot go on")


if __name__ == "__main__":
    name = sys.argv[1]
    wanted = globals()[name]
    app = wanted if name in ("cannot_start", "breaks_at_start") else with_lifespan(wanted)
    hooks = Hooks(lambda: say("settled"), before_snapshot, after_restore)
    sys.exit(lambda_host.run(app, hooks, os.environ))
