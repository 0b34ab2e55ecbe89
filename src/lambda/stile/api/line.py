"""The way of a reply to its client. Two may speak on it: the call itself and, while that is silent, its pulse.

They take turns. The call says when it is silent; a sign of life begins only then, and the call waits for one that is on
its way, because a host takes one message after the other, and a slow client holds back both.
"""

import asyncio

from stile.api.cors import Cors
from stile.api.envelopes import Envelope
from stile.api.request import Request, Send
from stile.ports import Headers


class Line:
    """One call's way to its client.

    `envelope`: how its failures are told. `started`: the head is out; `events`: it promised server-sent events, of
    which `last` holds those that went out last; `mute`: it promised bytes among which nothing can be told.
    `silent_since`: when the call has last sent anything, by the loop's clock; None while it sends, and from its last
    words on. `sign`: a sign of life on its way; one that failed stays, and what the call sends next fails as it did.
    """

    __slots__ = ("cors", "envelope", "events", "last", "mute", "request", "send", "sign", "silent_since", "started")

    def __init__(self, request: Request, send: Send, envelope: Envelope, cors: Cors) -> None:
        self.request = request
        self.send = send
        self.cors = cors
        self.envelope = envelope
        self.started = False
        self.events = False
        self.last = b""
        self.mute = False
        self.silent_since: float | None = None
        self.sign: asyncio.Task[None] | None = None

    async def take(self) -> None:
        """Have the line to oneself until `silent_since` is set again."""
        while (sign := self.sign) is not None:
            await asyncio.wait({sign})  # which does not cancel the sign when this call is cancelled
            sign.result()
        self.silent_since = None

    async def head(self, status: int, headers: Headers, *, events: bool) -> None:
        """Send the head, with what all replies have."""
        record = self.request.record
        record.status = status
        record.ttfb_ms = self.request.elapsed_ms()
        own = (b"x-request-id", record.request_id.encode())
        headers = [*headers, own, *self.envelope.headers(record.request_id), *self.cors.shared(self.request)]
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        self.started, self.events = True, events  # a host that was interrupted here has not taken it
