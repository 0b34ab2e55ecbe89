"""`/mcp`: Streamable HTTP without sessions (MCP, "Transports"). A POST is one message; it is answered as JSON, or as
events where a client wants to hear of a tool's progress.
"""

import asyncio
import importlib
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from stile.api.mcp import jsonrpc
from stile.api.mcp.exchange import DONE, OPENED, Exchange
from stile.api.mcp.jsonrpc import Message
from stile.api.mcp.offer import Offer
from stile.api.model_calls import caller_of
from stile.api.request import Reply, Request
from stile.authentication import Authenticator
from stile.core.records import Caller
from stile.errors import BadRequest

if TYPE_CHECKING:
    from stile.api.mcp.sdk import Sdk

MAX_BODY_BYTES = 4 * 1024 * 1024

_EVENTS = [(b"content-type", b"text/event-stream"), (b"x-accel-buffering", b"no")]
_FRAME_BYTES = 64
_FIRST_WITHOUT_SESSIONS = "2026"  # revisions are dates


class Mcp:
    """The handler of /mcp. The SDK behind it is imported with the first message, on a thread."""

    def __init__(self, offer: Offer, authenticator: Authenticator) -> None:
        self._offer = offer
        self._authenticator = authenticator
        self._starting: asyncio.Task[Sdk] | None = None

    async def post(self, request: Request) -> Reply:
        """The answer to one message."""
        message = jsonrpc.read(request.body)
        _note(message, request)
        _check_version(message, request)
        sdk = await self._sdk()
        exchange = self._exchange(message, request)
        if not exchange.wants_progress:
            return _noted(await sdk.answer(request.scope, request.body, exchange), message, request)
        answering = asyncio.create_task(_answer(sdk, request, exchange))
        try:
            begun = await exchange.heard.get() is OPENED
        except asyncio.CancelledError:
            await _end(answering)
            raise
        if not begun:
            return _noted(await answering, message, request)
        return Reply(200, _EVENTS, _events(answering, exchange, message, request))

    async def warm_up(self) -> None:
        """Do now what only the first message would do."""
        await self._sdk()

    async def close(self) -> None:
        """End what runs for it."""
        if self._starting is not None:
            await asyncio.wait({self._starting})
            if self._starting.exception() is None:
                await self._starting.result().close()

    async def _sdk(self) -> "Sdk":
        if self._starting is None or (self._starting.done() and self._starting.exception() is not None):
            self._starting = asyncio.create_task(self._start())
        return await asyncio.shield(self._starting)

    async def _start(self) -> "Sdk":
        module = await asyncio.to_thread(importlib.import_module, "stile.api.mcp.sdk")
        sdk: Sdk = module.Sdk(self._offer, MAX_BODY_BYTES)
        await sdk.start()
        return sdk

    def _exchange(self, message: Message, request: Request) -> Exchange:
        listens = message.method == "tools/call" and "text/event-stream" in (request.header(b"accept") or "")

        async def look_anew() -> Caller:
            return await self._authenticator.authenticate(request.key(), fresh=True)

        return Exchange(
            caller_of(request),
            request.record,
            request.ends,
            progress_token=message.progress_token if listens else jsonrpc.NOTHING,
            look_anew=look_anew,
            trace=request.trace.headers(),
        )


async def _answer(sdk: "Sdk", request: Request, exchange: Exchange) -> Reply:
    try:
        return await sdk.answer(request.scope, request.body, exchange)
    finally:
        exchange.heard.put_nowait(DONE)


async def _events(
    answering: "asyncio.Task[Reply]", exchange: Exchange, message: Message, request: Request
) -> AsyncGenerator[bytes, None]:
    """What is heard until the answer is there, and then the answer."""
    try:
        while isinstance(heard := await exchange.heard.get(), bytes):
            yield heard
        reply = _noted(await answering, message, request)
        assert isinstance(reply.body, bytes)  # noqa: S101
        yield jsonrpc.event(reply.body)
    finally:
        await _end(answering)


async def _end(answering: "asyncio.Task[Reply]") -> None:
    answering.cancel()
    await asyncio.wait({answering})


def _note(message: Message, request: Request) -> None:
    record = request.record
    record.mcp_method = message.method
    record.mcp_version = request.header(b"mcp-protocol-version") or message.version
    if message.name is not None:
        record.mcp_name = message.name


def _check_version(message: Message, request: Request) -> None:
    """The SDK tells the eras apart by the header alone, so one that the body contradicts is refused here."""
    if message.method == "initialize" or message.version is None:
        return
    header = (request.header(b"mcp-protocol-version") or "").strip(" \t")
    if not header or (header != message.version and header < _FIRST_WITHOUT_SESSIONS):
        told = "is missing" if not header else "does not say what the body says"
        raise BadRequest(f"The header MCP-Protocol-Version {told}.", code="header_mismatch")


def _noted(reply: Reply, message: Message, request: Request) -> Reply:
    """The reply, once the log knows what went wrong."""
    assert isinstance(reply.body, bytes)  # noqa: S101
    record = request.record
    before = _FRAME_BYTES + len(bytes(message.id))  # what stands before it in an answer that is an error
    if record.error is None and (reply.status >= 400 or b'"error"' in reply.body[:before]):
        code = jsonrpc.code_in(reply.body)
        if code is not None:
            record.error = jsonrpc.NAMES.get(code, str(code))
        elif reply.status >= 400:
            record.error = "invalid_request"
    return reply
