"""Providers of OpenAI's dialect whose behaviour a test changes while they run: they answer, fail, stall, break, vanish.

All of them run on one background thread, each on a port of its own that nobody else takes while it refuses connections.
A call carries a marker in its messages (`x-call:…`, see `marked`), each answer a token that no other one has: so a test
knows which provider saw a call how often, how each of them ended, and whose words the client got.
"""

import asyncio
import contextlib
import email.utils
import itertools
import json
import re
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from tests import leaks
from tests.mocks.openai import DONE, USAGE, data, event
from tests.mocks.provider import SETTLED, Call, Exchange, Provider, close_all

NO_SUCH_HOST = "http://no-such-host.invalid/v1"  # RFC 6761: the name never resolves
DRIP_SECONDS = 0.2  # before each event of a stream that drips
WORDS = 4  # content events of a stream, each of them the answer's token

_MARKER = re.compile(rb"x-call:([\w-]+)")
_TOKEN = re.compile(r"<[a-z]+ \d+>")
_markers = itertools.count()

T = TypeVar("T")

# How a call ended: with all of its answer sent, cut by this provider, or left by the client.
End = Literal["open", "whole", "broken", "left"]


@dataclass
class Seen:
    """One call as this provider saw it. `at`: when it came, by time.monotonic; `sent`: the answer's body so far."""

    marker: str
    provider: str
    mode: str
    call: Call
    token: str
    at: float
    kept: bool  # its connection had served another call before
    status: int = 0  # of the head that was sent
    sent: bytes = b""
    end: End = "open"

    @property
    def model(self) -> str:
        name: str = self.call.json["model"]
        return name

    @property
    def unread(self) -> bool:
        """Whether it looked as if the kept connection had died before: clients send such a call again at once."""
        return self.kept and self.end == "broken" and not self.status


@dataclass
class Answering(Exchange):
    """The means of a mode: whatever it sends is noted in `seen`."""

    seen: Seen
    outage: "Outage"

    @property
    def streams(self) -> bool:
        return bool(self.call.json.get("stream"))

    async def whole(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        fields = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
        self.seen.status, self.seen.sent = status, body
        self.finished()
        self.writer.write(_head(status, fields) + body)
        await self.writer.drain()

    async def head(self) -> None:
        """The head of an answer: a stream's, or one of a body that is never going to be whole."""
        streamed = {"content-type": "text/event-stream", "transfer-encoding": "chunked"}
        whole = {"content-type": "application/json", "content-length": "500"}
        self.seen.status = 200
        self.writer.write(_head(200, streamed if self.streams else whole))
        await self.writer.drain()

    async def begin(self) -> None:
        """The head and the first words of an answer."""
        await self.head()
        if self.streams:
            for one in _events(self)[:2]:
                await self.send(one)
        else:
            self.writer.write(_body(self)[:20])
            await self.writer.drain()

    async def send(self, one: bytes) -> None:
        self.seen.sent += one
        await self.chunk(one)

    async def answer_well(self) -> None:
        if not self.streams:
            await self.whole(200, _body(self))
            return
        await self.head()
        for one in _events(self):
            await self.send(one)
        self.finished()
        await self.end()

    def finished(self) -> None:
        """Noted before the last byte goes out, so that whoever has all of the answer finds it noted."""
        if not self.writer.is_closing() and not self.reader.at_eof():
            self.seen.end = "whole"

    def broken(self) -> None:
        if self.seen.end == "open":
            self.seen.end = "broken"

    async def left(self) -> None:
        """Wait until the client, or this provider's end, closes the connection."""
        with contextlib.suppress(ConnectionError):
            await self.reader.read(1)
        if self.seen.end == "open":
            self.seen.end = "left"

    async def opened(self) -> bool:
        """Wait for the gate; False when the client has left before it was open."""
        gate = asyncio.ensure_future(self.outage.gate.wait())
        left = asyncio.ensure_future(self.left())
        await asyncio.wait({gate, left}, return_when=asyncio.FIRST_COMPLETED)
        gone = left.done()
        for task in (gate, left):
            task.cancel()
        await asyncio.gather(gate, left, return_exceptions=True)
        return not gone


@dataclass(frozen=True, repr=False)
class Mode:
    """What a provider does with a call."""

    name: str
    script: Callable[[Answering], Awaitable[None]]

    def __repr__(self) -> str:
        return self.name


class Outage:
    """One provider. Its attributes are a test's to read at any time; methods without an underscore are thread-safe."""

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        self.name = name
        self.mode = OK
        self.seen: list[Seen] = []
        self.gate = asyncio.Event()
        self._next: deque[Mode] = deque()
        self._loop = loop
        self._provider = Provider(self._script)
        self._served: weakref.WeakSet[asyncio.StreamWriter] = weakref.WeakSet()
        self._tokens = itertools.count()
        # It never listens, it only keeps the port from others while nobody listens there.
        self._reservation = _bound(0)
        self.port: int = self._reservation.getsockname()[1]
        self._server: asyncio.Server | None = None

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def target(self, **params: Any) -> dict[str, Any]:
        """What a model file says of this provider, under litellm_params."""
        return {"model": f"openai/{self.name}", "api_base": self.base, "api_key": leaks.PROVIDER_KEY, **params}

    def next(self, *modes: Mode) -> None:
        """Modes of the next calls; those after them go by `mode`."""
        self._next.extend(modes)

    def of(self, marker: str) -> list[Seen]:
        """The calls with this marker, in the order in which they came."""
        return [seen for seen in tuple(self.seen) if seen.marker == marker]

    def become(self, mode: Mode) -> None:
        """From now on, this mode and no other; REFUSES is one, too."""
        self._next.clear()
        self.mode = mode
        if mode is REFUSES:
            self.refuse()
        else:
            self.listen()

    def heal(self) -> None:
        """As in the beginning."""
        self.become(OK)
        self.shut()

    def open(self) -> None:
        self._loop.call_soon_threadsafe(self.gate.set)

    def shut(self) -> None:
        self._loop.call_soon_threadsafe(self.gate.clear)

    def listen(self) -> None:
        self._do(self._listen())

    def refuse(self) -> None:
        """Refuse connections from now on, and break off those that there are."""
        self._do(self._refuse())

    def hang_up(self) -> None:
        """Close all connections."""
        self._do(self._hang_up())

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(SETTLED)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._provider.serve, sock=_bound(self.port))

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._hang_up()

    async def _hang_up(self) -> None:
        for seen in self.seen:
            if seen.end == "open":
                seen.end = "broken"
        await close_all(self._provider.connections)

    async def _close(self) -> None:
        await self._refuse()
        self._reservation.close()

    async def _script(self, exchange: Exchange) -> None:
        if not exchange.call.body:  # the list of models
            await exchange.answer(200, b'{"object": "list", "data": []}')
            return
        marker = _MARKER.search(exchange.call.body)
        assert marker is not None, "a test's call has a marker"
        mode = self._next.popleft() if self._next else self.mode
        token = f"<{self.name} {next(self._tokens)}>"
        kept = exchange.writer in self._served
        self._served.add(exchange.writer)
        seen = Seen(marker[1].decode(), self.name, mode.name, exchange.call, token, time.monotonic(), kept)
        self.seen.append(seen)
        try:
            await mode.script(Answering(exchange.call, exchange.reader, exchange.writer, seen, self))
        except ConnectionError:
            seen.end = "left"
            raise


@contextlib.contextmanager
def running(*names: str) -> Iterator[list[Outage]]:
    """Providers that serve until the block ends."""
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        outages: list[Outage] = []
        try:
            for name in names:
                outages.append(Outage(name, loop))
                outages[-1].listen()
            yield outages
        finally:
            for outage in outages:
                asyncio.run_coroutine_threadsafe(outage._close(), loop).result(SETTLED)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()


def model_file(models: Mapping[str, Sequence[Mapping[str, Any]]], **router: Any) -> str:
    """A config.yaml with these targets and router_settings."""
    entries = [{"model_name": name, "litellm_params": params} for name, targets in models.items() for params in targets]
    return json.dumps({"model_list": entries, "router_settings": router}, indent=1)


def nowhere(**params: Any) -> dict[str, Any]:
    """A target whose name does not resolve."""
    return {"model": "openai/nowhere", "api_base": NO_SUCH_HOST, "api_key": leaks.PROVIDER_KEY, **params}


def trail(providers: Iterable[Outage], call: str) -> list[Seen]:
    """What all providers saw of a call, in the order in which it came."""
    return sorted((seen for provider in providers for seen in provider.of(call)), key=lambda seen: seen.at)


def marker() -> str:
    """A new marker, for one call."""
    return f"call-{next(_markers)}"


def marked(call: str, text: str = "Hello") -> list[dict[str, Any]]:
    """The messages of a call with this marker."""
    return [{"role": "user", "content": f"{text} x-call:{call}."}]


def tokens(answer: bytes) -> list[str]:
    """The tokens in a client's answer, in order."""
    return _TOKEN.findall(answer.decode())


def _bound(port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind(("127.0.0.1", port))
    return bound


def _head(status: int, fields: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def _body(answering: Answering) -> bytes:
    """A whole answer. Its spaces, its number and its escape are not those that a JSON library would write."""
    usage = json.dumps(USAGE)
    return (
        b'{ "id": "chatcmpl-1",\n  "object":"chat.completion" , "created":1, "model": "scripted-2026",'
        b' "choices":[{"index":0,"message":{"role":"assistant","content":"Gr\\u00fc\\u00dfe '
        + answering.seen.token.encode()
        + b'"},"finish_reason":"stop"}], "x_cost": 1.50e0, "usage": '
        + usage.encode()
        + b"}\n"
    )


def _events(answering: Answering) -> list[bytes]:
    """A whole stream in events, one of them a comment, and one with a field that nobody knows."""
    asked = (answering.call.json.get("stream_options") or {}).get("include_usage")
    stream = [event({"role": "assistant", "content": ""})]
    stream += [event({"content": answering.seen.token}) for _ in range(WORDS)]
    stream += [b": still here\n\n", event({}, "stop", x_cost=1.5)]
    if asked:
        stream.append(data({"choices": [], "usage": USAGE}))
    return [*stream, DONE]


# --- modes ---


def error(status: int, code: str = "", headers: dict[str, str] | None = None, message: str = "It failed.") -> Mode:
    """An answer of this status, in OpenAI's envelope."""
    said = {"error": {"message": message, "type": "scripted", "param": None, "code": code or f"scripted_{status}"}}

    async def script(answering: Answering) -> None:
        await answering.whole(status, json.dumps(said).encode(), headers)

    return Mode(f"error {status}{' ' + code if code else ''}", script)


def rate_limited(**headers: str) -> Mode:
    """429; headers by their names, as in `retry_after="1"`."""
    return error(429, "rate_limit_exceeded", {name.replace("_", "-"): value for name, value in headers.items()})


def rate_limited_until(seconds: float) -> Mode:
    """429 that says by a date when to come back: so many seconds from the call on, or a bit more."""

    async def script(answering: Answering) -> None:
        date = email.utils.formatdate(time.time() + seconds + 1, usegmt=True)  # cut to whole seconds
        await rate_limited(retry_after=date).script(answering)

    return Mode("error 429 with a date", script)


async def _answer_well(answering: Answering) -> None:
    await answering.answer_well()


async def _answer_and_close(answering: Answering) -> None:
    """The client is not told, so it keeps a connection that is dead."""
    await answering.answer_well()
    answering.writer.close()


async def _gated(answering: Answering) -> None:
    if await answering.opened():
        await answering.answer_well()


async def _gated_body(answering: Answering) -> None:
    await answering.head()
    if await answering.opened():
        for one in _events(answering):
            await answering.send(one)
        answering.finished()
        await answering.end()


async def _never(answering: Answering) -> None:
    await answering.left()


async def _stall_after_head(answering: Answering) -> None:
    await answering.head()
    await answering.left()


async def _stall_in_body(answering: Answering) -> None:
    await answering.begin()
    await answering.left()


async def _reset_before_head(answering: Answering) -> None:
    answering.broken()
    answering.reset()


async def _reset_after_head(answering: Answering) -> None:
    await answering.head()
    answering.broken()
    answering.reset()


async def _reset_in_body(answering: Answering) -> None:
    """What was sent may be lost: a reset overtakes it."""
    await answering.begin()
    answering.broken()
    answering.reset()


async def _cut_after_head(answering: Answering) -> None:
    await answering.head()
    answering.broken()
    answering.writer.close()


async def _cut_in_body(answering: Answering) -> None:
    """What was sent arrives, then comes the end."""
    await answering.begin()
    answering.broken()
    answering.writer.close()


async def _gated_reset(answering: Answering) -> None:
    await answering.begin()
    if await answering.opened():
        answering.broken()
        answering.reset()


async def _comment_then_stall(answering: Answering) -> None:
    await answering.head()
    if answering.streams:
        await answering.send(b": processing\n\n")
    await answering.left()


async def _cut_in_first_event(answering: Answering) -> None:
    await answering.head()
    await answering.send(_events(answering)[0][:-2])
    answering.broken()
    answering.writer.close()


async def _nothing(answering: Answering) -> None:
    """A stream that is whole and has no event; else a body with its length and without its bytes."""
    await answering.head()
    answering.broken()
    if answering.streams:
        await answering.end()
    else:
        answering.writer.close()


async def _error_event(answering: Answering) -> None:
    """A stream whose first event says that there is none; else a plain 502."""
    said = b'{"error": {"message": "Overloaded.", "type": "scripted", "param": null, "code": "overloaded"}}'
    if not answering.streams:
        await answering.whole(502, said)
        return
    await answering.head()
    answering.broken()
    await answering.send(b"data: " + said + b"\n\n")
    await answering.end()


async def _drip(answering: Answering) -> None:
    await answering.head()
    for one in _events(answering):
        await asyncio.sleep(DRIP_SECONDS)
        await answering.send(one)
    answering.finished()
    await answering.end()


async def _garbage(answering: Answering) -> None:
    answering.seen.status = 200
    answering.broken()
    answering.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}")
    await answering.writer.drain()
    answering.writer.close()


REFUSES = Mode("refuses connections", _never)
OK = Mode("ok", _answer_well)
CLOSES = Mode("ok, then closes", _answer_and_close)
GATED = Mode("ok behind the gate", _gated)  # not a byte before it is open
GATED_BODY = Mode("head, ok behind the gate", _gated_body)
HALF_OPEN = Mode("half-open", _never)
STALL_AFTER_HEAD = Mode("stall after the head", _stall_after_head)
STALL_IN_BODY = Mode("stall in the body", _stall_in_body)
RESET_BEFORE_HEAD = Mode("reset before the head", _reset_before_head)
RESET_AFTER_HEAD = Mode("reset after the head", _reset_after_head)
RESET_IN_BODY = Mode("reset in the body", _reset_in_body)
RESET_BEHIND_GATE = Mode("reset in the body, behind the gate", _gated_reset)
CUT_AFTER_HEAD = Mode("cut after the head", _cut_after_head)
CUT_IN_FIRST_EVENT = Mode("cut in the first event", _cut_in_first_event)
COMMENT_THEN_STALL = Mode("comment, then stall", _comment_then_stall)
EMPTY = Mode("stream without events", _nothing)
ERROR_EVENT = Mode("error in place of the first event", _error_event)
DRIPS = Mode("a stream that drips", _drip)
CUT_IN_BODY = Mode("cut in the body", _cut_in_body)
BROKEN_HEAD = Mode("broken head", _garbage)
# None of these brings the first event of a stream, or a whole body.
ENDS_BEFORE_AN_ANSWER = (
    RESET_BEFORE_HEAD,
    RESET_AFTER_HEAD,
    CUT_AFTER_HEAD,
    CUT_IN_FIRST_EVENT,
    EMPTY,
    ERROR_EVENT,
    BROKEN_HEAD,
)
CONTEXT_LENGTH = error(
    400, "context_length_exceeded", message="This model's maximum context length is 8192 tokens; you asked for 9000."
)
CONTENT_FILTER = error(
    400, "content_filter", message="The response was filtered due to the prompt triggering the content policy."
)
