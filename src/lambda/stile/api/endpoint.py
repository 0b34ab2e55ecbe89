"""The frame of every endpoint: it opens the call's record, checks method and key, runs the handler, hands its reply
over, renders errors in OpenAI's envelope, and writes the record when all is done, also when the client has gone."""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, Literal

import msgspec

from stile.api import cors
from stile.api.request import JSON, ClientGone, Message, Receive, Reply, Request, Send, running_task
from stile.api.watch import Watch, Watched
from stile.authentication import Authenticator
from stile.core import envelope, sse
from stile.core.records import Caller, Scope
from stile.errors import Forbidden, InvalidKey, MethodNotAllowed, PublicError, UpstreamTimeout
from stile.telemetry import CallRecord, Telemetry, redact

# What a scope's extensions tell of a Lambda invocation (see hosts/lambda_event).
HOSTED = "aws.lambda"
ANY = "ANY"  # stands for all methods that have no handler of their own
_WITH_BODY = frozenset({"POST", "PATCH"})
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
    """One path as an ASGI app, with a handler for each method.

    `needs`: the scope that a key must have, "any" for a key whatever its scopes; None: no key is asked for. `fresh`:
    the key is looked up anew. `max_body_bytes`: where it is another than everywhere.
    """

    def __init__(
        self,
        frame: Frame,
        *,
        needs: Scope | Literal["any"] | None = None,
        fresh: bool = False,
        max_body_bytes: int | None = None,
        logged: bool = True,
        **handlers: Handler,
    ) -> None:
        self._frame = frame
        self._handlers = handlers
        if "GET" in handlers:
            self._handlers["HEAD"] = handlers["GET"]
        self._needs = needs
        self._fresh = fresh
        keyless = 0 if needs is None else frame.max_body_bytes  # nobody without a key makes the gateway hold a body
        self._max_body_bytes = keyless if max_body_bytes is None else max_body_bytes
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
        handler = self._handlers.get(method) or self._handlers.get(ANY)
        if handler is None:
            raise MethodNotAllowed(
                f"Not allowed to {method} on {request.scope['path']}.", headers=[("allow", ", ".join(self._handlers))]
            )
        if self._needs is not None:
            caller = await self._who(request)
            if self._needs not in caller.scopes and self._needs != "any":
                raise Forbidden(f"This API key does not have the scope '{self._needs}'.", code="missing_scope")
        if method in _WITH_BODY and self._max_body_bytes:
            request.body = await request.read(self._max_body_bytes)
        watched = self._frame.watch.begin(request.receive, request.deadline)
        try:
            reply = await handler(request)
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

    async def _who(self, request: Request) -> Caller:
        try:
            caller = await self._frame.authenticator.authenticate(request.key(), fresh=self._fresh)
        except InvalidKey as refused:
            request.record.refused = refused.reason
            raise
        request.caller = caller
        request.record.user_id, request.record.key_id = caller.user_id, caller.key_id
        return caller

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
