"""A stream in steps: the provider says the next thing when the test tells it to, and the test reads what is there so
far. So what comes before what is asserted by events, and not by clocks."""

import asyncio
import contextlib
import http.client
import json
from collections.abc import Iterator
from typing import Any

from tests.mocks.provider import SETTLED, Exchange
from tests.stage import Stage

_END, _BREAK = object(), object()


class Steps:
    """Both ends of one streamed call. `read` is all that the client has got."""

    def __init__(self, stage: Stage, response: http.client.HTTPResponse, told: "asyncio.Queue[Any]") -> None:
        self.read = b""
        self._stage = stage
        self._response = response
        self._told = told

    def say(self, *events: bytes) -> None:
        """Have the provider say this, and nothing more."""
        for event in events:
            self._tell(event)

    def until(self, mark: bytes) -> bytes:
        """Read until this is there."""
        while mark not in self.read:
            more = self._response.read1()
            assert more, f"the stream ended without {mark!r}: {self.read!r}"
            self.read += more
        return self.read

    def end(self) -> bytes:
        """Have the provider end its answer, and read the rest."""
        return self._finish(_END)

    def break_off(self) -> bytes:
        """Have the provider's connection break, and read the rest."""
        return self._finish(_BREAK)

    def _finish(self, how: object) -> bytes:
        self._tell(how)
        self.read += self._response.read()
        return self.read

    def _tell(self, what: object) -> None:
        assert self._stage.provider.loop is not None
        self._stage.provider.loop.call_soon_threadsafe(self._told.put_nowait, what)


@contextlib.contextmanager
def through(stage: Stage, path: str, body: dict[str, Any], *first: bytes) -> Iterator[Steps]:
    """A call whose provider has said `first`: without it the gateway has nothing to answer yet."""
    told: asyncio.Queue[Any] = asyncio.Queue()

    async def script(exchange: Exchange) -> None:
        await exchange.start("text/event-stream")
        while (what := await asyncio.wait_for(told.get(), SETTLED)) is not _END:
            if what is _BREAK:
                exchange.reset()
                return
            await exchange.chunk(what)
        await exchange.end()

    for event in first:
        told.put_nowait(event)
    stage.provider.script = script
    connection = http.client.HTTPConnection(*stage.gateway.address, timeout=SETTLED)
    with contextlib.closing(connection):
        headers = {"authorization": f"Bearer {stage.gateway.key}", "content-type": "application/json"}
        connection.request("POST", path, json.dumps({**body, "stream": True}), headers)
        response = connection.getresponse()
        assert response.status == 200, response.read()
        yield Steps(stage, response, told)
