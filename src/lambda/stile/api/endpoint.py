"""The frame of every endpoint: it opens the call's record, checks method and key, runs the handler, hands its reply
over, renders errors in OpenAI's envelope, and writes the record when all is done, also when the client has gone."""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any

import msgspec

from stile.api import cors
from stile.api.request import JSON, ClientGone, Message, Receive, Reply, Request, Send, running_task
from stile.api.watch import Watch, Watched
from stile.authentication import Authenticator
from stile.core import envelope, sse
from stile.core.records import Scope
from stile.errors import Forbidden, MethodNotAllowed, PublicError, UpstreamTimeout
from stile.telemetry import CallRecord, Telemetry, redact

# What a scope's extensions tell of a Lambda invocation (see hosts/lambda_event).
HOSTED = "aws.lambda"
CLIENT_GONE = 499  # nginx's status for a client that closed its connection before the answer

Handler = Callable[[Request], Awaitable[Reply]]

_log = logging.getLogger("stile.api")


class Frame:
    """What all endpoints share: who may call, how long, how large, and where records go."""

    def __init__(
        self, authenticator: Authenticator, telemetry: Telemetry, *, timeout: float, max_body_bytes: int
    ) -> None:
        self.authenticator = authenticator
        self.telemetry = telemetry
        self.watch = Watch(timeout)
        self.max_body_bytes = max_body_bytes


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
        request = Request(scope, receive, record)
        if "extensions" in scope and (invocation := scope["extensions"].get(HOSTED)) is not None:
            _note_host(invocation, request)
        try:
            await self._serve(request, send)
        except PublicError as error:
            await _fail(error, request, send)
        except ClientGone:
            _note_gone(record)
        except Exception:
            _log.exception("request %s failed", record.request_id)
            await _fail(PublicError("The gateway failed; its log knows why, by the request id."), request, send)
        finally:
            record.total_ms = request.elapsed_ms()
            if self._logged:
                self._frame.telemetry.call(record)

    async def _serve(self, request: Request, send: Send) -> None:
        method = request.scope["method"]
        if self._methods and method not in self._methods:
            raise MethodNotAllowed(
                f"Not allowed to {method} on {request.scope['path']}.", headers=[("allow", ", ".join(self._methods))]
            )
        if self._needs is not None:
            request.caller = caller = await self._frame.authenticator.authenticate(request.key())
            request.record.user_id, request.record.key_id = caller.user_id, caller.key_id
            if self._needs not in caller.scopes:
                raise Forbidden(f"This API key does not have the scope '{self._needs}'.", code="missing_scope")
        if method == "POST" and self._needs is not None:  # nobody without a key makes the gateway hold a body
            request.body = await request.read(self._frame.max_body_bytes)
        watched = self._frame.watch.begin(request.receive, request.deadline)
        try:
            reply = await self._handler(request)
            if isinstance(reply.body, bytes):
                await _deliver_whole(reply, reply.body, request, send)
            else:
                async with contextlib.aclosing(reply.body) as events:
                    await _deliver_events(reply, events, request, send)
        except asyncio.CancelledError:
            if not await self._was_meant(request, watched, send):
                raise
        finally:
            watched.stop()

    async def _was_meant(self, request: Request, watched: Watched, send: Send) -> bool:
        """Finish a call that was cancelled. Answers whether it was this call that was meant, and not the gateway."""
        if watched.ended_by is None:
            with contextlib.suppress(Exception):
                await _fail(PublicError("The gateway is stopping.", code="gateway_stopping"), request, send)
            return False
        running_task().uncancel()
        if watched.ended_by == "client":
            _note_gone(request.record)
        else:
            who = request.record.target or "The call"
            late = UpstreamTimeout(f"{who} did not end within {request.elapsed_ms() / 1000:.3g} seconds.")
            await _fail(late, request, send)
        return True


async def _deliver_whole(reply: Reply, body: bytes, request: Request, send: Send) -> None:
    await _start(reply, (b"content-length", b"%d" % len(body)), request, send)
    if request.scope["method"] == "HEAD":
        body = b""
    request.record.bytes_out = len(body)
    await send({"type": "http.response.body", "body": body})


async def _deliver_events(reply: Reply, events: AsyncGenerator[bytes, None], request: Request, send: Send) -> None:
    first = await anext(events, b"")  # until it is there, a failure can still be told by the status
    await _start(reply, (b"cache-control", b"no-cache"), request, send)
    sent = len(first)
    try:
        await send({"type": "http.response.body", "body": first, "more_body": True})
        async for chunk in events:
            sent += len(chunk)
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        request.record.bytes_out = sent


async def _start(reply: Reply, header: tuple[bytes, bytes], request: Request, send: Send) -> None:
    record = request.record
    request.started = True
    record.status = reply.status
    record.ttfb_ms = request.elapsed_ms()
    headers = [*reply.headers, header, (b"x-request-id", record.request_id.encode()), *cors.shared(request)]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})


async def _fail(error: PublicError, request: Request, send: Send) -> None:
    request.record.error = error.code
    body = envelope.write(redact(error.message), error.kind, error.code, error.param)
    if request.started:
        # A host that can tell the platform of a broken answer reads `failure`; others have no use for it.
        await send({"type": "http.response.body", "body": sse.event(body), "failure": error.code})
        return
    headers = [*JSON, *((name.encode(), value.encode("latin-1")) for name, value in error.headers)]
    await _deliver_whole(Reply(error.status, headers, body), body, request, send)


def _note_host(invocation: Mapping[str, Any], request: Request) -> None:
    request.deadline = invocation["deadline"]
    request.record.aws_request_id = invocation["request_id"] or msgspec.UNSET
    request.record.api_request_id = invocation["api_request_id"] or msgspec.UNSET
    request.record.trace_id = invocation["trace_id"] or msgspec.UNSET


def _note_gone(record: CallRecord) -> None:
    record.status, record.error = CLIENT_GONE, "client_gone"
