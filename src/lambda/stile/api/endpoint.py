"""The frame of every endpoint: it opens the call's record, checks method and key, runs the handler, hands its reply
over, renders errors in OpenAI's envelope, and writes the record when all is done, also when the client has gone.

A client that goes away ends the call, and so does its deadline. Looking out for both takes a task and a timer, so it
begins only when a call has lasted WATCH_AFTER seconds: short calls never pay for it.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from typing import Any, Literal

import msgspec

from stile.authentication import Authenticator
from stile.core import envelope, sse
from stile.core.records import Caller, Scope
from stile.errors import BodyTooLarge, Forbidden, MethodNotAllowed, PublicError, UpstreamTimeout
from stile.ports import Headers
from stile.telemetry import CallRecord, Telemetry, redact

WATCH_AFTER = 0.05
CLIENT_GONE = 499  # nginx's status for a client that closed its connection before the answer

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
EndedBy = Literal["client", "deadline"]
Handler = Callable[["Request"], Awaitable["Reply"]]

_log = logging.getLogger("stile.api")


class Reply(msgspec.Struct, frozen=True):
    """A whole body, or server-sent events as they come."""

    status: int
    headers: Headers
    body: bytes | AsyncGenerator[bytes, None]


class Request:
    """One HTTP request and what is known of it. `caller` is None where no key is needed."""

    __slots__ = (
        "_limit",
        "_receive",
        "_timer",
        "_watcher",
        "began",
        "caller",
        "ended_by",
        "record",
        "scope",
        "started",
    )

    def __init__(self, scope: Message, receive: Receive, record: CallRecord, limit: float) -> None:
        self.scope = scope
        self.record = record
        self.began = time.perf_counter()
        self.caller: Caller | None = None
        self.started = False  # the reply's head is out
        self.ended_by: EndedBy | None = None
        self._limit = limit
        self._receive = receive
        self._timer: asyncio.TimerHandle | None = None
        self._watcher: asyncio.Task[None] | None = None

    def elapsed_ms(self) -> float:
        return round((time.perf_counter() - self.began) * 1000, 2)

    def header(self, wanted: bytes) -> str | None:
        """A request header's first value; `wanted` in lower case."""
        for name, value in self.scope["headers"]:
            if name == wanted:
                return bytes(value).decode("latin-1")
        return None

    async def body(self, limit: int) -> bytes:
        """The whole body. Raises BodyTooLarge beyond `limit` bytes, before or while it arrives.

        From then on the call is watched: nothing else may come but word that the client has gone.
        """
        announced = self.header(b"content-length")
        if announced is not None and announced.isdigit() and int(announced) > limit:
            raise _too_large(limit)
        message = await self._receive()
        body: bytes = message.get("body", b"")
        if not message.get("more_body", False):
            self._watch_from(message)
            return body
        parts = bytearray(body)
        while message.get("more_body", False):
            if len(parts) > limit:
                raise _too_large(limit)
            message = await self._receive()
            parts += message.get("body", b"")
        self._watch_from(message)
        if len(parts) > limit:
            raise _too_large(limit)
        return bytes(parts)

    def stop_watching(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()

    def _watch_from(self, last: Message) -> None:
        if last["type"] == "http.disconnect":
            self.ended_by = "client"
            raise asyncio.CancelledError
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None  # noqa: S101 (a server runs each call as a task)
        self._timer = loop.call_later(WATCH_AFTER, lambda: self._watch(loop, task))

    def _watch(self, loop: asyncio.AbstractEventLoop, task: "asyncio.Task[Any]") -> None:
        def end(by: EndedBy) -> None:
            self.ended_by = by
            task.cancel()

        async def until_gone() -> None:
            while (await self._receive())["type"] != "http.disconnect":
                pass
            end("client")

        self._timer = loop.call_later(max(self._limit - WATCH_AFTER, 0), lambda: end("deadline"))
        self._watcher = loop.create_task(until_gone())


class Frame:
    """What all endpoints share: who may call, where records go, and how many seconds a call may take in all."""

    def __init__(self, authenticator: Authenticator, telemetry: Telemetry, timeout: float) -> None:
        self.authenticator = authenticator
        self.telemetry = telemetry
        self.timeout = timeout


class Endpoint:
    """One path as an ASGI app. `needs`: the scope that a key must have; None: no key is asked for."""

    def __init__(
        self, frame: Frame, handler: Handler, *methods: str, needs: Scope | None = None, logged: bool = True
    ) -> None:
        self._frame = frame
        self._handler = handler
        self._methods = (*methods, "HEAD") if "GET" in methods else methods
        self._needs = needs
        self._logged = logged

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        record = CallRecord(f"req_{os.urandom(12).hex()}", scope["method"], scope["path"])
        request = Request(scope, receive, record, self._frame.timeout)
        try:
            await self._answer(request, send)
        except asyncio.CancelledError:
            if not await self._was_ended(request, send):
                raise
        finally:
            request.stop_watching()
            record.total_ms = request.elapsed_ms()
            if self._logged:
                self._frame.telemetry.call(record)

    async def _answer(self, request: Request, send: Send) -> None:
        try:
            await _deliver(await self._reply(request), request, send)
        except PublicError as error:
            await _fail(error, request, send)
        except Exception:
            _log.exception("request %s failed", request.record.request_id)
            await _fail(PublicError("The gateway failed; its log knows why, by the request id."), request, send)

    async def _was_ended(self, request: Request, send: Send) -> bool:
        """Finish a call that was cancelled. Answers whether the call itself was meant, and not the whole gateway."""
        record = request.record
        if request.ended_by == "client":
            record.status, record.error = CLIENT_GONE, "client_gone"
        elif request.ended_by == "deadline":
            who = record.target or "The call"
            await _fail(UpstreamTimeout(f"{who} did not end within {self._frame.timeout:g} seconds."), request, send)
        else:
            with contextlib.suppress(Exception):
                await _fail(PublicError("The gateway is stopping.", code="gateway_stopping"), request, send)
            return False
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
        return True

    async def _reply(self, request: Request) -> Reply:
        method = request.scope["method"]
        if self._methods and method not in self._methods:
            raise MethodNotAllowed(
                f"Not allowed to {method} on {request.scope['path']}.", headers=[("allow", ", ".join(self._methods))]
            )
        if self._needs is not None:
            caller = await self._frame.authenticator.authenticate(presented_key(request))
            request.caller = caller
            request.record.user_id, request.record.key_id = caller.user_id, caller.key_id
            if self._needs not in caller.scopes:
                raise Forbidden(f"This API key does not have the scope '{self._needs}'.", code="missing_scope")
        return await self._handler(request)


def presented_key(request: Request) -> str | None:
    """The key that came with a request: `authorization: Bearer`, else `x-api-key`, else `api-key`."""
    found: dict[bytes, bytes] = {}
    for name, value in request.scope["headers"]:
        if name in (b"authorization", b"x-api-key", b"api-key"):
            found.setdefault(name, value)
    bearer = found.get(b"authorization", b"")
    if bearer[:7].lower() == b"bearer ":
        return bearer[7:].strip().decode("latin-1")
    other = found.get(b"x-api-key") or found.get(b"api-key")
    return other.strip().decode("latin-1") if other else None


def json_reply(value: object, status: int = 200) -> Reply:
    """A reply with `value` as JSON."""
    return Reply(status, [("content-type", "application/json")], msgspec.json.encode(value))


async def _deliver(reply: Reply, request: Request, send: Send) -> None:
    if isinstance(reply.body, bytes):
        await _deliver_whole(reply, reply.body, request, send)
    else:
        async with contextlib.aclosing(reply.body) as events:
            await _deliver_events(reply, events, request, send)


async def _deliver_whole(reply: Reply, body: bytes, request: Request, send: Send) -> None:
    headers = [*_head(reply, request), (b"content-length", str(len(body)).encode())]
    _started(request, reply.status)
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    if request.scope["method"] != "HEAD":
        request.record.bytes_out = len(body)
        await send({"type": "http.response.body", "body": body})
    else:
        await send({"type": "http.response.body", "body": b""})


async def _deliver_events(reply: Reply, events: AsyncGenerator[bytes, None], request: Request, send: Send) -> None:
    first = await anext(events, b"")  # until it is there, a failure can still be told by the status
    headers = [*_head(reply, request), (b"cache-control", b"no-cache")]
    _started(request, reply.status)
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    record = request.record
    record.bytes_out = len(first)
    await send({"type": "http.response.body", "body": first, "more_body": True})
    async for chunk in events:
        record.bytes_out += len(chunk)
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def _started(request: Request, status: int) -> None:
    record = request.record
    request.started = True
    record.status = status
    record.ttfb_ms = request.elapsed_ms()


def _head(reply: Reply, request: Request) -> list[tuple[bytes, bytes]]:
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in reply.headers]
    headers.append((b"x-request-id", request.record.request_id.encode()))
    return headers


async def _fail(error: PublicError, request: Request, send: Send) -> None:
    request.record.error = error.code
    body = envelope.write(redact(error.message), error.kind, error.code, error.param)
    if request.started:
        await send({"type": "http.response.body", "body": sse.event(body)})
        return
    headers = [("content-type", "application/json"), *error.headers]
    await _deliver_whole(Reply(error.status, headers, body), body, request, send)


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body is larger than {limit} bytes, the most that this gateway takes.")
