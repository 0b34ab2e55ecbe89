"""One HTTP request, and what can be replied to it."""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from stile.core.records import Caller
from stile.core.trace import Trace
from stile.errors import BodyTooLarge
from stile.ports import Headers
from stile.telemetry.records import CallRecord

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

JSON: Headers = [(b"content-type", b"application/json")]


class Reply(msgspec.Struct, frozen=True):
    """A whole body, or a stream as it comes: server-sent events, unless `events` says that it is anything else."""

    status: int
    headers: Headers
    body: bytes | AsyncGenerator[bytes, None]
    events: bool = True


def json_reply(value: object, status: int = 200) -> Reply:
    """A reply with `value` as JSON."""
    return Reply(status, JSON, msgspec.json.encode(value))


class ClientGone(Exception):
    """The client closed its connection before its request was whole."""


class Request:
    """`body`: what came with a POST. `caller`: None where no key is needed. `deadline`: by the loop's clock,
    when the host's own time for this request ends; `ends`: when the call's own time does, which is not later.
    `trace`: the one that the call belongs to."""

    __slots__ = ("began", "body", "caller", "deadline", "ends", "receive", "record", "scope", "trace")

    def __init__(self, scope: Message, receive: Receive, record: CallRecord, trace: Trace) -> None:
        self.scope = scope
        self.deadline: float | None = None
        self.ends = math.inf
        self.receive = receive
        self.record = record
        self.began = time.perf_counter()
        self.body = b""
        self.caller: Caller | None = None
        self.trace = trace

    def elapsed_ms(self) -> float:
        return int((time.perf_counter() - self.began) * 100_000) / 100  # round() takes three times as long

    @property
    def path_params(self) -> dict[str, str]:
        """What stands in the place of names in the path."""
        found: dict[str, str] = self.scope.get("path_params", {})
        return found

    def header(self, wanted: bytes) -> str | None:
        """A header's first value; `wanted` in lower case."""
        for name, value in self.scope["headers"]:
            if name == wanted:
                return bytes(value).decode("latin-1")
        return None

    def key(self) -> str | None:
        """The key that came along: `authorization: Bearer`, else `x-api-key`, else `api-key`."""
        authorization = self.header(b"authorization")
        if authorization is not None and authorization[:7].lower() == "bearer ":
            return authorization[7:].strip()
        other = self.header(b"x-api-key") or self.header(b"api-key")
        return other.strip() if other else None

    async def read(self, limit: int) -> bytes:
        """The whole body as it comes. Raises ClientGone, and BodyTooLarge beyond `limit` bytes, at once or later."""
        announced = self.header(b"content-length")
        if announced is not None and announced.isdigit() and int(announced) > limit:
            raise _too_large(limit)
        message = await self.receive()
        body: bytes = message.get("body", b"")
        if message.get("more_body", False):
            body = await self._rest(bytearray(body), limit)
        elif message["type"] == "http.disconnect":
            raise ClientGone
        if len(body) > limit:
            raise _too_large(limit)
        return body

    async def _rest(self, parts: bytearray, limit: int) -> bytes:
        more = True
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            parts += message.get("body", b"")
            more = message.get("more_body", False)
            if len(parts) > limit:
                raise _too_large(limit)
        return bytes(parts)


def running_task() -> "asyncio.Task[Any]":
    """The task that serves this request: servers run each one as a task."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101
    return task


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body is larger than {limit} bytes, the most that this gateway takes.")
