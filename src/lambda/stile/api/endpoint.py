"""The frame of every endpoint: it opens the call's record, checks method and key, runs the handler, hands its reply
over, renders errors in the caller's envelope, and writes the record when all is done, also when the client has gone."""

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

import msgspec

from stile.api import envelopes, told
from stile.api.content import Content
from stile.api.cors import Cors
from stile.api.envelopes import Envelope
from stile.api.line import Line
from stile.api.pulse import NEVER, NO_CACHE, Rhythm
from stile.api.request import JSON, ClientGone, Message, Receive, Reply, Request, Send, running_task
from stile.api.watch import Watch, Watched
from stile.authentication import Authenticator
from stile.calls import UPSTREAM_ERROR
from stile.core import trace as traces
from stile.core.records import Caller, Scope
from stile.errors import Forbidden, InvalidKey, MethodNotAllowed, PublicError, UpstreamFailed, UpstreamTimeout
from stile.telemetry.journal import Telemetry
from stile.telemetry.records import CallRecord, Dialect
from stile.telemetry.redaction import MAX_SHOWN, client_of, redact

# What a scope's extensions tell of a Lambda invocation (see hosts/lambda_event).
HOSTED = "aws.lambda"
ANY = "ANY"  # stands for all methods that have no handler of their own
_CALLS_MODELS = frozenset({"inference", "mcp"})
_WITH_BODY = frozenset({"POST", "PATCH"})
_REQUEST_BYTES = 12
CLIENT_GONE = 499  # nginx's status for a client that closed its connection before the answer

Handler = Callable[[Request], Awaitable[Reply]]
Envelopes = Callable[[Request], Envelope]

_log = logging.getLogger("stile.api")


class Frame:
    """What all endpoints share: who may call, from where, how long, how large, how silently, and where records go.

    `content`: None where what is asked and answered is not kept.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        telemetry: Telemetry,
        *,
        timeout: float,
        max_body_bytes: int,
        rhythm: Rhythm,
        cors: Cors,
        content: Content | None = None,
    ) -> None:
        self.authenticator = authenticator
        self.content = content
        self.telemetry = telemetry
        self.watch = Watch(timeout)
        self.max_body_bytes = max_body_bytes
        self.rhythm = rhythm
        self.cors = cors


class Door(Protocol):
    """What a path asks of requests beside a key."""

    def check(self, request: Request) -> None:
        """Raises PublicError for a request that may not come in, whoever sends it."""

    def challenge(self, request: Request) -> Sequence[tuple[str, str]]:
        """Headers that tell who came without a key how one gets in."""


class Endpoint:
    """One path as an ASGI app, with a handler for each method.

    `needs`: the scope that a key must have, "any" for a key whatever its scopes; None: no key is asked for. `fresh`:
    the key is looked up anew. `max_body_bytes`: where it is another than everywhere. `envelope`: how failures are told,
    or what finds that out for each request. `pulse`: whether a silent call may give signs of life, which only events
    and JSON have room for. `door`: what is asked beside a key.
    """

    def __init__(
        self,
        frame: Frame,
        *,
        needs: Scope | Literal["any"] | None = None,
        fresh: bool = False,
        max_body_bytes: int | None = None,
        logged: bool = True,
        envelope: Envelope | Envelopes = envelopes.OPENAI,
        pulse: bool = True,
        door: Door | None = None,
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
        has_pulse = pulse and needs in _CALLS_MODELS and "POST" in handlers
        self._rhythm = frame.rhythm if has_pulse else NEVER
        self._envelope: Envelopes = envelope if callable(envelope) else lambda _: envelope
        self._door = door
        self._logged = logged
        self._content = frame.content if needs == "inference" and "POST" in handlers else None
        self._route = ""
        self._dialect: Dialect | None = None

    def name(self, route: str, dialect: Dialect | None) -> None:
        """Say where it stands in the URL table, for the log."""
        self._route, self._dialect = route, dialect

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        random = os.urandom(_REQUEST_BYTES + traces.RANDOM_BYTES).hex()  # the system's, which no snapshot repeats
        request_id = f"req_{random[: 2 * _REQUEST_BYTES]}"
        record = CallRecord(request_id, scope["method"], scope["path"], self._route, self._dialect)
        invocation = scope["extensions"].get(HOSTED) if "extensions" in scope else None
        xray = None if invocation is None else invocation["trace_id"]
        request = Request(scope, receive, record, traces.begin(scope["headers"], xray, random[2 * _REQUEST_BYTES :]))
        _note_origin(request, invocation)
        heard = None if self._content is None else self._content.listen(send)
        line = Line(request, send if heard is None else heard.send, self._envelope(request), self._frame.cors)
        try:
            await self._serve(request, line)
        except PublicError as error:
            await _fail(error, line)
        except ClientGone:
            _note_gone(record)
        except Exception:
            _log.exception("request %s failed", record.request_id)
            await _fail(PublicError("The gateway failed; its log knows why, by the request id."), line)
        finally:
            if line.sign is not None:
                line.sign.cancel()
            record.total_ms = request.elapsed_ms()
            record.bytes_in = len(request.body)
            record.overhead_ms = _overhead(record)
            if self._logged:
                self._frame.telemetry.call(record)
            else:
                _log.debug("%s %s: %d in %.2f ms", record.method, record.path, record.status, record.total_ms)
            if heard is not None and self._content is not None and request.body:
                await self._content.keep(request, heard)

    async def _serve(self, request: Request, line: Line) -> None:
        if self._door is not None:
            self._door.check(request)
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
        watched = self._frame.watch.begin(line, self._rhythm)
        request.ends = watched.ends
        try:
            reply = await handler(request)
            if isinstance(reply.body, bytes):
                await _deliver_whole(reply, reply.body, line)
            else:
                async with contextlib.aclosing(reply.body) as events:
                    await _deliver_events(reply, events, line)
        except asyncio.CancelledError:
            if not await self._was_meant(watched, line):
                raise
        finally:
            watched.stop()

    async def _who(self, request: Request) -> Caller:
        try:
            caller = await self._frame.authenticator.authenticate(request.key(), fresh=self._fresh)
        except InvalidKey as refused:
            request.record.refused = refused.reason
            if self._door is not None:
                refused.headers = tuple(self._door.challenge(request))
            raise
        request.caller = caller
        request.record.user_id, request.record.key_id = caller.user_id, caller.key_id
        return caller

    async def _was_meant(self, watched: Watched, line: Line) -> bool:
        """Finish a call that was cancelled. Answers whether it was this call that was meant, and not the gateway."""
        if watched.ended_by is None:
            with contextlib.suppress(Exception):
                await _fail(PublicError("The gateway is stopping.", code="gateway_stopping"), line)
            return False
        running_task().uncancel()
        request = line.request
        if watched.ended_by == "client":
            _note_gone(request.record)
        else:
            who = request.record.target or "The call"
            late = UpstreamTimeout(f"{who} did not end within {request.elapsed_ms() / 1000:.3g} seconds.")
            await _fail(late, line)
        return True


async def _deliver_whole(reply: Reply, body: bytes, line: Line) -> None:
    request = line.request
    if line.sign is not None:
        await line.take()
    line.silent_since = None
    if reply.status >= 400 and request.record.error == UPSTREAM_ERROR:
        body = line.envelope.adopted(reply.status, body, request.record.request_id)
    if line.started:
        if reply.status >= 400:
            await _break_off(body, request.record.error, line)
            return
        _check_follows(reply, line, events=False)
    else:
        length = (b"content-length", b"%d" % len(body))
        await line.head(reply.status, [*reply.headers, *told.headers(request), length], events=False)
        if request.scope["method"] == "HEAD":
            body = b""
    request.record.bytes_out += len(body)
    await line.send({"type": "http.response.body", "body": body})


async def _deliver_events(reply: Reply, events: AsyncGenerator[bytes, None], line: Line) -> None:
    first = await anext(events, b"")  # until it is there, a failure can still be told by the status
    await line.take()
    if line.started:
        _check_follows(reply, line, events=True)
    else:
        await line.head(reply.status, [*reply.headers, *told.headers(line.request), NO_CACHE], events=reply.events)
    send, now = line.send, asyncio.get_running_loop().time
    sent = 0
    line.last, line.mute = first, not reply.events
    try:
        await send({"type": "http.response.body", "body": first, "more_body": True})
        sent = len(first)
        line.silent_since = now()
        async for chunk in events:
            if line.sign is not None:
                await line.take()
            line.silent_since = None
            if not chunk.startswith(b":"):  # a comment tells nothing of where the stream is
                line.last = chunk
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            line.silent_since = now()
            sent += len(chunk)
        await line.take()
        await send({"type": "http.response.body", "body": b""})
    finally:
        line.request.record.bytes_out += sent


def _check_follows(reply: Reply, line: Line, *, events: bool) -> None:
    """Whether the body can follow a head that went out before anything was known of it. Raises UpstreamFailed."""
    if line.events != events or any(name == b"content-encoding" for name, _ in reply.headers):
        who = line.request.record.target
        raise UpstreamFailed(f"{who} answered in another form than was asked for.", code="upstream_broken")


async def _fail(error: PublicError, line: Line) -> None:
    line.request.record.error = error.code
    body = line.envelope.error(error, redact(error.message), line.request.record.request_id)
    await line.take()
    if line.started:
        await _break_off(body, error.code, line)
        return
    headers = [*JSON, *((name.encode(), value.encode("latin-1")) for name, value in error.headers)]
    await _deliver_whole(Reply(error.status, headers, body), body, line)


async def _break_off(body: bytes, code: str | None, line: Line) -> None:
    """Tell of a failure behind a head that promised better: as a last event, or as the body; where neither can be, by
    an answer that has no end, for which hosts cut the connection."""
    if line.mute:
        return
    if line.events:
        body = line.envelope.event(body, line.last)
    line.request.record.bytes_out += len(body)
    # A host that can tell the platform of a broken answer reads `failure`; others have no use for it.
    await line.send({"type": "http.response.body", "body": body, "failure": code})


def _note_origin(request: Request, invocation: Mapping[str, Any] | None) -> None:
    """Note what is known before anything is asked: by which client, in which trace, in which invocation."""
    record, trace = request.record, request.trace
    if (agent := next((value for name, value in request.scope["headers"] if name == b"user-agent"), None)) is not None:
        record.client = client_of(agent[:MAX_SHOWN])
    record.trace_id = trace.id
    if trace.xray is not None:
        record.xray_trace_id = trace.xray
    if invocation is not None:
        request.deadline = invocation["deadline"]
        record.cold_start = invocation["cold_start"]
        record.aws_request_id = invocation["request_id"] or msgspec.UNSET
        record.api_request_id = invocation["api_request_id"] or msgspec.UNSET


def _overhead(record: CallRecord) -> float | None:
    """Milliseconds until the head went out that no target is to blame for; None where there was no such time, or the
    head went out ahead of the answer."""
    if not record.attempts or record.ttfb_ms is None or record.ttfb_ms < record.upstream_ms:
        return None
    return int((record.ttfb_ms - record.upstream_ms) * 100) / 100


def _note_gone(record: CallRecord) -> None:
    record.status, record.error = CLIENT_GONE, "client_gone"
