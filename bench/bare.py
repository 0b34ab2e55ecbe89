"""The bare relay: what a Python gateway costs before it does anything of its own.

`python bench/bare.py PORT CALLS STREAMS`. CALLS and STREAMS are the upstream URLs for the paths /v1/chat/completions
and /streams/v1/chat/completions. Raw ASGI, aiohttp's client, uvicorn with httptools and uvloop: no keys, no routing, no
usage, no logs. It is the measure of the gateway, so it is meant to be as fast as these parts can be; whoever makes it
faster is welcome.
"""

import sys
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import uvicorn
from yarl import URL

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

UP = {"content-type": "application/json", "accept-encoding": "identity", "authorization": "Bearer x"}


class BareRelay:
    """An ASGI app. The session is made at startup, because it needs the running loop."""

    def __init__(self, calls: str, streams: str) -> None:
        self._upstreams = {"/v1/chat/completions": URL(calls), "/streams/v1/chat/completions": URL(streams)}
        self._session: aiohttp.ClientSession

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._live(receive, send)
        message = await receive()
        body = message["body"]
        while message["more_body"]:
            message = await receive()
            body += message["body"]
        upstream = self._upstreams[scope["path"]]
        async with self._session.post(upstream, data=body, headers=UP, allow_redirects=False) as response:
            kind = response.headers["content-type"].encode()
            head = {"type": "http.response.start", "status": response.status}
            if kind.startswith(b"text/event-stream"):
                await send({**head, "headers": [(b"content-type", kind)]})
                while chunk := await response.content.readany():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                return await send({"type": "http.response.body", "body": b""})
            answer = await response.read()
            length = b"%d" % len(answer)
            await send({**head, "headers": [(b"content-type", kind), (b"content-length", length)]})
            return await send({"type": "http.response.body", "body": answer})

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
        )
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._session.close()
        await send({"type": "lifespan.shutdown.complete"})


if __name__ == "__main__":
    uvicorn.run(
        BareRelay(*sys.argv[2:4]),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        ws="none",
        proxy_headers=False,
        access_log=False,
        server_header=False,
        log_level="warning",
    )
