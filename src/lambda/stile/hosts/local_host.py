"""Serves any ASGI app on one machine, on a socket that is bound already, until it is told to stop."""

import asyncio
import signal
import socket
import sys
from collections.abc import Callable, Collection, Coroutine
from typing import Any

import uvicorn

from stile.hosts import memory

BACKLOG = 2048
LAST_WORD_SECONDS = 1


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run `main` on uvloop where there is one."""
    if sys.platform == "win32":
        asyncio.run(main)
        return
    import uvloop  # noqa: PLC0415 (it does not exist on Windows)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens at the address, so that nobody else can; raises OSError when it is taken or not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(BACKLOG)
    except BaseException:
        bound.close()
        raise
    return bound


async def serve(app: Callable[..., Any], bound: socket.socket, *, drain_seconds: float) -> None:
    """Serve until SIGINT or SIGTERM; calls in flight then have `drain_seconds`, and a second signal ends them."""
    config = uvicorn.Config(
        app,
        lifespan="off",
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=int(drain_seconds),
    )
    memory.settle()
    # uvicorn raises the signals again once it has stopped; a stop that was asked for is not a failure.
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    server = uvicorn.Server(config)
    try:
        await server.serve(sockets=[bound])
        await _end(server.server_state.tasks)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def _end(calls: Collection["asyncio.Task[None]"]) -> None:
    """Calls that are still there have had their time: they are told, and say so to their clients."""
    for call in list(calls):
        call.cancel()
    if calls:
        await asyncio.wait(calls, timeout=LAST_WORD_SECONDS)
