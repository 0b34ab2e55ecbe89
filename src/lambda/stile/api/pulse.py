"""Signs of life of model calls that are silent for long. Proxies, and API Gateway after five minutes, cut a connection
on which nothing comes; what they let pass and clients skip is a comment between the events of a stream, and a space
before a JSON body.

A sign that goes out before the reply is known takes the head along: from then on only the body can tell of a failure.
A call that is over soon has no pulse (see `watch`), and a stream that flows pays for one timer per silence allowed, not
for one per chunk.
"""

import asyncio

import msgspec

from stile.api.line import Line
from stile.api.request import JSON
from stile.ports import Headers

NO_CACHE = (b"cache-control", b"no-cache")

_EVENTS: Headers = [(b"content-type", b"text/event-stream"), NO_CACHE]
_COMMENT = b": keep-alive\n\n"
_SPACE = b" "


class Rhythm(msgspec.Struct, frozen=True):
    """Seconds of silence after which a sign is due, in streams and before whole replies; 0: never.

    Once a whole reply has begun with one, the others come as in a stream.
    """

    stream: float
    whole: float


NEVER = Rhythm(0, 0)


class Pulse:
    """The signs of one call, until `stop`."""

    __slots__ = ("_line", "_loop", "_patience", "_stream", "_timer")

    def __init__(self, line: Line, rhythm: Rhythm, loop: asyncio.AbstractEventLoop) -> None:
        self._line = line
        self._loop = loop
        self._stream = rhythm.stream
        self._patience = rhythm.stream if line.request.record.stream else rhythm.whole
        self._timer: asyncio.TimerHandle | None = None
        if self._patience:
            self._look()

    def stop(self) -> None:
        """Begin no other sign. One that is on its way may still arrive: what the call has to say waits for it."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        line, now = self._line, self._loop.time()
        since = line.silent_since
        if since is None or line.sign is not None:  # something is being sent, perhaps to a slow client
            since = now
        elif now >= since + self._patience:
            line.sign = self._loop.create_task(self._give())
            since = now
            self._patience = self._stream or self._patience
        self._timer = self._loop.call_at(since + self._patience, self._look)

    async def _give(self) -> None:
        line = self._line
        record = line.request.record
        if not line.started:
            await line.head(200, _EVENTS if record.stream else JSON, events=record.stream)
        sign = _COMMENT if line.events else _SPACE
        await line.send({"type": "http.response.body", "body": sign, "more_body": True})
        record.bytes_out += len(sign)
        line.sign = None
