"""What was asked and answered, for deployments that have said that it be kept: truncated, and on a way of its own,
never in a call's line."""

from collections.abc import Callable

import msgspec

from stile.api.request import Message, Request, Send
from stile.ports import ContentLog

_MARGIN = 4096  # bytes beyond the bound that are looked at: a secret that stands across it must be seen whole


class ContentRecord(msgspec.Struct, frozen=True):
    """One call's line of the content log. `request` and `answer` are bodies as they went, up to a bound, as far as they
    are text; an answer that streams is its events."""

    time: str
    request_id: str
    user_id: str | None
    key_id: str | None
    model: str | None
    status: int
    request: str
    answer: str
    event: str = "content"


class Heard:
    """A `send` that remembers the beginning of what goes out by it."""

    def __init__(self, send: Send, limit: int) -> None:
        self._send = send
        self._left = limit
        self._parts: list[bytes] = []

    async def send(self, message: Message) -> None:
        body: bytes = message.get("body", b"")
        if body and self._left:
            self._parts.append(bytes(body[: self._left]))
            self._left -= len(self._parts[-1])
        await self._send(message)

    @property
    def body(self) -> bytes:
        return b"".join(self._parts)


class Content:
    """Keeps the content of calls: at most `limit` bytes of each request and of each answer. `redact` blots out what may
    not even be there."""

    def __init__(self, log: ContentLog, limit: int, redact: Callable[[str], str]) -> None:
        self._log = log
        self._limit = limit
        self._redact = redact

    def listen(self, send: Send) -> Heard:
        """`send`, heard."""
        return Heard(send, self._limit + _MARGIN)

    async def keep(self, request: Request, heard: Heard) -> None:
        """Write the call's line; its record is complete."""
        record = request.record
        line = ContentRecord(
            record.time,
            record.request_id,
            record.user_id,
            record.key_id,
            record.model,
            record.status,
            self._text(request.body[: self._limit + _MARGIN]),
            self._text(heard.body),
        )
        await self._log.write(msgspec.json.encode(line))

    def _text(self, body: bytes) -> str:
        """Blotted first, and cut then: half of a secret could not be recognised any more."""
        kept = self._redact(body.decode("utf-8", "ignore")).encode()
        if len(body) == self._limit + _MARGIN:
            kept = kept[:-_MARGIN]  # where the body was cut, half of one may stand
        return kept[: self._limit].decode("utf-8", "ignore")
