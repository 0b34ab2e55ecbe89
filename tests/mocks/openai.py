"""A scripted provider that speaks OpenAI's dialect on a socket: the model's name in a call chooses what happens.

It runs on a thread of its own and writes bytes by hand, so that it can break every rule: stall, cut chunks in the
middle of a character, reset the connection. `calls` holds what it was sent. `gate` holds back the rest of a gated
stream until a test opens it, so that order is asserted by events and not by clocks.
"""

import asyncio
import contextlib
import json
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from tests.mocks.provider import close_all

USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
TEXT = ["Grüße", ", ", "世界", " 🎉", "!"]
SETTLED = 10  # seconds after which a wait counts as failed


@dataclass
class Call:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    raw_headers: list[tuple[str, str]]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Upstream:
    """The provider. `port` is known once it runs; `closed` is set when a client hangs up on an endless answer."""

    port: int = 0
    calls: list[Call] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    closed: threading.Event = field(default_factory=threading.Event)
    models: list[str] = field(default_factory=lambda: ["one", "two"])
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    connections: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def last(self, model: str) -> Call:
        """The newest call of this model."""
        return next(call for call in reversed(self.calls) if call.body and call.json.get("model") == model)

    def hang_up(self) -> None:
        """Close all connections, as a provider does with those that have been idle for long."""
        asyncio.run_coroutine_threadsafe(close_all(self.connections), self.loop).result(SETTLED)

    def count(self, model: str) -> int:
        return sum(1 for call in self.calls if call.body and call.json.get("model") == model)


@contextlib.contextmanager
def running() -> Iterator[Upstream]:
    """A provider that serves until the block ends."""
    upstream = Upstream()
    loop = upstream.loop
    ready = threading.Event()
    stop = asyncio.Event()

    async def main() -> None:
        server = await asyncio.start_server(lambda reader, writer: _serve(upstream, reader, writer), "127.0.0.1", 0)
        upstream.port = server.sockets[0].getsockname()[1]
        ready.set()
        await stop.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    thread = threading.Thread(target=loop.run_until_complete, args=(main(),))
    thread.start()
    assert ready.wait(SETTLED)
    try:
        yield upstream
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def _serve(upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    upstream.connections.add(writer)
    try:
        while await _one(upstream, reader, writer):
            pass
    except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
        pass
    finally:
        upstream.connections.discard(writer)
        writer.close()


async def _one(upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ")
    pairs = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in head[1:] if line)]
    body = await reader.readexactly(int(dict(pairs).get("content-length", 0)))
    call = Call(method, path, dict(pairs), pairs, body)
    upstream.calls.append(call)
    if method == "GET":
        listed = {"object": "list", "data": [{"id": name, "object": "model"} for name in upstream.models]}
        _respond(writer, 200, json.dumps(listed).encode())
        await writer.drain()
        return True
    script = _SCRIPTS.get(call.json["model"], _ok)
    return await script(_Exchange(upstream, call, reader, writer))


@dataclass
class _Exchange:
    upstream: Upstream
    call: Call
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def wants_usage(self) -> bool:
        return bool((self.call.json.get("stream_options") or {}).get("include_usage"))

    async def head(self) -> None:
        self.writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n"
            b"set-cookie: tracker=1\r\nx-ratelimit-remaining-requests: 1\r\nopenai-version: 2020-10-01\r\n\r\n"
        )
        await self.writer.drain()

    async def chunk(self, data: bytes) -> None:
        self.writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        await self.writer.drain()

    async def end(self) -> bool:
        self.writer.write(b"0\r\n\r\n")
        await self.writer.drain()
        return True

    async def reset(self) -> bool:
        socket = self.writer.get_extra_info("socket")
        socket.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SO_LINGER 0: close() sends RST
        self.writer.transport.abort()
        return False

    async def hung_up(self) -> bool:
        """Wait for the client to go away."""
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(self.reader.read(1), SETTLED)
        self.upstream.closed.set()
        return False

    async def opened(self) -> None:
        """Wait for the test to open the gate."""
        while not self.upstream.gate.is_set():
            await asyncio.sleep(0.005)


Script = Callable[[_Exchange], Awaitable[bool]]


def _respond(writer: asyncio.StreamWriter, status: int, body: bytes, *headers: str) -> None:
    lines = [f"HTTP/1.1 {status} X", "content-type: application/json", f"content-length: {len(body)}", *headers]
    lines += ["set-cookie: tracker=1", "x-ratelimit-remaining-requests: 1", "x-request-id: upstream-1"]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)


def event(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    """One chunk of a chat stream."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
    return data({"choices": [choice], **more})


def data(fields: dict[str, Any]) -> bytes:
    frame = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "scripted-2026"}
    return b"data: " + json.dumps({**frame, **fields}, ensure_ascii=False).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def events(*, usage: bool) -> list[bytes]:
    """A whole stream, in events; with `usage` as OpenAI sends it: null in every chunk, the figures in the last."""
    more: dict[str, Any] = {"usage": None} if usage else {}
    stream = [event({"role": "assistant", "content": ""}, **more)]
    stream += [event({"content": word}, **more) for word in TEXT]
    stream.append(event({}, "stop", **more))
    if usage:
        stream.append(data({"choices": [], "usage": USAGE}))
    return [*stream, DONE]


async def _ok(exchange: _Exchange) -> bool:
    if "input" in exchange.call.json:
        embedding = {"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}
        usage = {"prompt_tokens": 5, "total_tokens": 5}
        answer: dict[str, Any] = {"object": "list", "data": [embedding], "model": "e", "usage": usage}
        _respond(exchange.writer, 200, json.dumps(answer).encode())
        return True
    if exchange.call.json.get("stream"):
        await exchange.head()
        for chunk in events(usage=exchange.wants_usage):
            await exchange.chunk(chunk)
        return await exchange.end()
    message = {"role": "assistant", "content": "".join(TEXT), "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    answer = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    _respond(exchange.writer, 200, json.dumps({**answer, "usage": USAGE}).encode())
    return True


async def _split(exchange: _Exchange) -> bool:
    """Chunks of three bytes: in the middle of events, of lines, of characters."""
    await exchange.head()
    whole = b"".join(events(usage=exchange.wants_usage))
    for start in range(0, len(whole), 3):
        await exchange.chunk(whole[start : start + 3])
        await asyncio.sleep(0)
    return await exchange.end()


async def _gated(exchange: _Exchange) -> bool:
    stream = events(usage=exchange.wants_usage)
    await exchange.head()
    for chunk in stream[:2]:
        await exchange.chunk(chunk)
    await exchange.opened()
    for chunk in stream[2:]:
        await exchange.chunk(chunk)
    return await exchange.end()


async def _slow(exchange: _Exchange) -> bool:
    return await exchange.hung_up()


async def _never_ending(exchange: _Exchange) -> bool:
    await exchange.head()
    await exchange.chunk(event({"role": "assistant", "content": "on and on"}))
    return await exchange.hung_up()


async def _reset_before(exchange: _Exchange) -> bool:
    return await exchange.reset()


async def _reset_in_head(exchange: _Exchange) -> bool:
    """The stream's head is out, but no event of it."""
    await exchange.head()
    await asyncio.sleep(0)
    return await exchange.reset()


async def _reset_mid(exchange: _Exchange) -> bool:
    await exchange.head()
    for chunk in events(usage=False)[:3]:
        await exchange.chunk(chunk)
    await exchange.chunk(b'data: {"half an ev')
    await exchange.opened()
    return await exchange.reset()


async def _unframed(exchange: _Exchange) -> bool:
    """Neither a length nor chunks: the connection's close is the end."""
    exchange.writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
    whole = exchange.call.json["model"] == "unframed"
    exchange.writer.write(b"".join(events(usage=False) if whole else events(usage=False)[:3]))
    await exchange.writer.drain()
    return False


async def _short(exchange: _Exchange) -> bool:
    """Fewer bytes than announced."""
    exchange.writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{")
    await exchange.writer.drain()
    return False


async def _refuses_usage(exchange: _Exchange) -> bool:
    """Knows no stream_options, as some servers do."""
    if "stream_options" in exchange.call.json:
        fault = {"message": "Unrecognized request argument: stream_options", "type": "invalid_request_error"}
        _respond(exchange.writer, 400, json.dumps({"error": fault}).encode())
        return True
    return await _ok(exchange)


async def _groq(exchange: _Exchange) -> bool:
    await exchange.head()
    await exchange.chunk(event({"role": "assistant", "content": "hi"}))
    await exchange.chunk(event({}, "stop", x_groq={"id": "r", "usage": USAGE}))
    await exchange.chunk(DONE)
    return await exchange.end()


async def _mistral(exchange: _Exchange) -> bool:
    await exchange.head()
    await exchange.chunk(event({"role": "assistant", "content": "hi"}))
    await exchange.chunk(event({}, "stop", usage=USAGE))
    await exchange.chunk(DONE)
    return await exchange.end()


async def _tool_call(exchange: _Exchange) -> bool:
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}}
    await exchange.head()
    await exchange.chunk(event({"role": "assistant", "content": None, "tool_calls": [call]}))
    await exchange.chunk(event({}, "tool_calls"))
    await exchange.chunk(DONE)
    return await exchange.end()


async def _held(exchange: _Exchange) -> bool:
    """Not a byte until the gate opens."""
    await exchange.opened()
    return await _ok(exchange)


async def _held_reset(exchange: _Exchange) -> bool:
    await exchange.opened()
    return await exchange.reset()


async def _held_other(exchange: _Exchange) -> bool:
    """Answers in the form that was not asked for: whole for a stream, a stream for a whole answer."""
    await exchange.opened()
    other = {**exchange.call.json, "stream": not exchange.call.json.get("stream")}
    return await _ok(replace(exchange, call=replace(exchange.call, body=json.dumps(other).encode())))


async def _stall_mid(exchange: _Exchange) -> bool:
    """Silent in the middle of an event, until the gate opens."""
    stream = events(usage=exchange.wants_usage)
    await exchange.head()
    await exchange.chunk(stream[0] + stream[1][:20])
    await exchange.opened()
    await exchange.chunk(stream[1][20:] + b"".join(stream[2:]))
    return await exchange.end()


def _status(status: int, body: bytes, *headers: str) -> Script:
    async def script(exchange: _Exchange) -> bool:
        _respond(exchange.writer, status, body.replace(b"{key}", _bearer(exchange)), *headers)
        await exchange.writer.drain()
        return True

    return script


def _held_status(status: int, body: bytes) -> Script:
    answer = _status(status, body)

    async def script(exchange: _Exchange) -> bool:
        await exchange.opened()
        return await answer(exchange)

    return script


def _bearer(exchange: _Exchange) -> bytes:
    return exchange.call.headers.get("authorization", "").removeprefix("Bearer ").encode()


_RATE_LIMITED = b'{"error":{"message":"Slow down","type":"rate_limit_error","param":null,"code":"rate_limit_exceeded"}}'
_TOO_LONG = b'{\n  "error": {"message": "Too long.",\n  "type": "invalid_request_error",\n  "code": "too_long"}\n}'
_SCRIPTS: dict[str, Script] = {
    "split": _split,
    "gated": _gated,
    "slow": _slow,
    "never-ending": _never_ending,
    "reset-before": _reset_before,
    "reset-in-head": _reset_in_head,
    "reset-mid": _reset_mid,
    "short": _short,
    "unframed": _unframed,
    "unframed-cut": _unframed,
    "refuses-usage": _refuses_usage,
    "groq": _groq,
    "mistral": _mistral,
    "tool-call": _tool_call,
    "429": _status(429, _RATE_LIMITED, "retry-after: 7"),
    "500": _status(500, b"<html>Internal error</html>"),
    "401": _status(401, b'{"error":{"message":"Incorrect API key provided: {key}","code":"invalid_api_key"}}'),
    "redirect": _status(307, b"", "location: http://127.0.0.1:1/"),
    "held": _held,
    "held-reset": _held_reset,
    "held-other": _held_other,
    "held-400": _held_status(400, _TOO_LONG),
    "stall-mid": _stall_mid,
}
