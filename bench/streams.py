"""Streaming load: a provider and its clients in one process, on both sides of the server under test.

The two are one process so that the provider knows what the clients have seen. Each stream has one event on its way:
the next leaves the provider when the client has read the last one. So the server under test reads every event by
itself, as it does in life, where tokens are milliseconds apart. A provider that just writes as fast as it can would
measure something else: events pile up in the socket, are read a hundred at a time, and cost next to nothing each.

With a pace, events leave by the clock instead; that is the life-like load of streams that are mostly silent.
An event is one token of a few letters in OpenAI's dialect, sent as one HTTP chunk. A stream is EVENTS events long.
Neighbours differ: LiteLLM ends a stream that repeats itself.
"""

import contextlib
import json
import re
import select
import socket
import time
from collections import deque
from dataclasses import dataclass

CLIENTS = 32
EVENTS = 256
MARK = b"zephyr"

_STALLED = 0.25
_BEHIND = 4
_NUMBER = re.compile(rb"bench-stream-(\d+)")
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_END = b"\r\n0\r\n\r\n"
_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
)

PROMPT = "Tell the story of a stile between two meadows, of those who cross it, and of the gate that was there before."


@dataclass(frozen=True, slots=True)
class Target:
    """Where clients send their calls: a server on 127.0.0.1, and the model to ask for."""

    port: int
    path: str
    key: str
    model: str


class StreamError(Exception):
    """The server under test broke off a stream or refused one; the message says what it answered."""


def request_body(model: str, number: int | None = None) -> bytes:
    """A chat call; with `number`, a streaming one whose upstream side the provider can tell from the others."""
    system = {"role": "system", "content": "You are a helpful assistant. Answer briefly."}
    fields: dict[str, object] = {"model": model, "messages": [system, {"role": "user", "content": PROMPT}]}
    if number is not None:
        fields |= {"stream": True, "messages": [system, {"role": "user", "content": f"bench-stream-{number} {PROMPT}"}]}
    return json.dumps({**fields, "temperature": 0.7, "max_tokens": 1024}).encode()


def call_answer() -> bytes:
    """The fixed answer to a call that does not stream."""
    message = {"role": "assistant", "content": "People and sheep look alike to it, " * 6 + "but only one can climb."}
    return json.dumps(
        {
            "id": "chatcmpl-bench",
            "object": "chat.completion",
            "created": 1700000000,
            "model": "bench",
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 42, "completion_tokens": 61, "total_tokens": 103},
        }
    ).encode()


def _event(delta: dict[str, str], asked: bool, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return _data([choice], {"usage": None} if asked else {})


def _data(choices: list[object], more: dict[str, object]) -> bytes:
    fields = {
        "id": "chatcmpl-bench",
        "object": "chat.completion.chunk",
        "created": 1700000000,
        "model": "bench",
        "system_fingerprint": "fp_bench",
        "choices": choices,
        **more,
    }
    return _chunk(b"data: " + json.dumps(fields, separators=(",", ":")).encode() + b"\n\n")


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class Script:
    """The provider's side of a stream, encoded once: with usage if the caller `asked` for it, as OpenAI does."""

    def __init__(self, asked: bool) -> None:
        usage = {"prompt_tokens": 42, "completion_tokens": EVENTS, "total_tokens": EVENTS + 42}
        self.head = _HEAD + _event({"role": "assistant", "content": ""}, asked)
        self.events = [_event({"content": f" {MARK.decode()}{n}"}, asked) for n in range(10)]
        last = _data([], {"usage": usage}) if asked else b""
        self.tail = _event({}, asked, finish="stop") + last + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


SCRIPTS = {asked: Script(asked) for asked in (False, True)}


class Upstream:
    """One connection from the server under test to the provider."""

    def __init__(self, bed: "Bed", connection: socket.socket) -> None:
        self.bed = bed
        self.socket = connection
        self.pending = b""
        self.script = SCRIPTS[False]
        self.left = -1

    def readable(self) -> None:
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            self.bed.forget(self.socket)
            if self.left >= 0 and not self.bed.ending:
                raise StreamError("the server left its provider in mid-stream")
            return
        self.pending += data
        head, blank, body = self.pending.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if blank and length and len(body) >= int(length[1]):
            self.pending = b""
            self.answer(body)

    def answer(self, body: bytes) -> None:
        fields = json.loads(body)
        number = _NUMBER.search(body)
        if not fields.get("stream") or number is None:
            answer = self.bed.call_answer
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(answer)
            return self.write(head + answer)
        if int(number[1]) >= len(self.bed.clients):
            return self.bed.forget(self.socket)
        options = fields.get("stream_options") or {}
        self.script = SCRIPTS[bool(options.get("include_usage"))]
        self.left = EVENTS
        self.bed.clients[int(number[1])].upstream = self
        self.write(self.script.head)
        return self.advance()

    def advance(self) -> None:
        """One event more; after the last one the end of the stream."""
        if self.left > 0 and not self.bed.ending:
            self.left -= 1
            self.write(self.script.events[self.left % 10])
        elif self.left >= 0:
            self.left = -1
            self.write(self.script.tail)

    def write(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            self.socket.send(data)


class Client:
    """One client of the server under test: asks, reads to the end, asks again on the same connection."""

    def __init__(self, bed: "Bed", request: bytes) -> None:
        self.bed = bed
        self.request = request
        self.socket = socket.create_connection(bed.server)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.upstream: Upstream | None = None
        self.head = b""
        self.end = b""
        self.left = 0
        self.seen = 0
        self.seen_before = 0
        self.outstanding = 0
        self.open = False

    def ask(self) -> None:
        self.upstream = None
        self.head = self.end = b""
        self.left = -1
        self.outstanding = 1
        self.open = True
        self.socket.sendall(self.request)

    def readable(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise StreamError("the server closed a connection in mid-stream")
        if not self.end and not (data := self._after_head(data)):
            return
        self.seen += (found := data.count(MARK))
        self.outstanding -= found
        if self._ended(data):
            self.open = False
            self.bed.answered += 1
            if not self.bed.ending:
                self.ask()
        elif found and self.bed.pace is None and self.upstream:
            for _ in range(found):
                self.outstanding += 1
                self.upstream.advance()

    def _after_head(self, data: bytes) -> bytes:
        """What is left of `data` when the head of the answer is complete; nothing before that."""
        head, blank, rest = (self.head + data).partition(b"\r\n\r\n")
        if not blank:
            self.head = head
            return b""
        if not head.startswith(b"HTTP/1.1 200"):
            raise StreamError(f"the server answered {(head + blank + rest)[:600].decode(errors='replace')}")
        length = _LENGTH.search(head)
        self.left = int(length[1]) if length else -1
        self.end = b"\r\n"
        return rest

    def _ended(self, data: bytes) -> bool:
        if self.left >= 0:
            self.left -= len(data)
            return self.left <= 0
        self.end = data[-7:] if len(data) >= 7 else (self.end + data)[-7:]
        return self.end == _END


class Bed:
    """The provider at `port`, for the length of the benchmark; clients come and go with each round."""

    def __init__(self, port: int) -> None:
        self.listener = socket.create_server(("127.0.0.1", port), backlog=256)
        self.listener.setblocking(False)
        self.poll = select.epoll()
        self.poll.register(self.listener, select.EPOLLIN)
        self.server = ("127.0.0.1", 0)
        self.sides: dict[int, Upstream | Client] = {}
        self.clients: list[Client] = []
        self.pace: float | None = None
        self.ending = False
        self.answered = 0
        self.call_answer = call_answer()

    def __enter__(self) -> "Bed":
        return self

    def __exit__(self, *_: object) -> None:
        for side in list(self.sides.values()):
            self.forget(side.socket)
        self.listener.close()
        self.poll.close()

    def open(self, target: Target, clients: int, *, streams: bool = True, pace: float | None = None) -> None:
        """Connect the clients to the server under test and let them ask. `pace`: seconds between a stream's events."""
        self.server = ("127.0.0.1", target.port)
        self.ending, self.pace, self.answered = False, pace, 0
        head = f"POST {target.path} HTTP/1.1\r\nhost: 127.0.0.1:{target.port}\r\n"
        head += f"authorization: Bearer {target.key}\r\n"
        head += "content-type: application/json\r\ncontent-length: "
        for number in range(clients):
            body = request_body(target.model, number if streams else None)
            client = Client(self, f"{head}{len(body)}\r\n\r\n".encode() + body)
            self.clients.append(client)
            self.enter(client)
            client.ask()

    def enter(self, side: Upstream | Client) -> None:
        side.socket.setblocking(False)
        self.sides[side.socket.fileno()] = side
        self.poll.register(side.socket, select.EPOLLIN)

    def forget(self, connection: socket.socket) -> None:
        self.sides.pop(connection.fileno(), None)
        connection.close()

    def drive(self, seconds: float) -> None:
        """Keep all streams going for so long."""
        until = time.perf_counter() + seconds
        if self.pace is None:
            self._saturate(until)
        else:
            self._keep_pace(until, self.pace)

    @property
    def seen(self) -> int:
        """Events that the clients have read since they were opened."""
        return sum(client.seen for client in self.clients)

    def close(self, seconds: float = 2) -> None:
        """End all streams in good order, for at most so long, and let the clients go."""
        self.ending = True
        until = time.perf_counter() + seconds
        try:
            while any(client.open for client in self.clients) and time.perf_counter() < until:
                for client in self.clients:
                    if client.open and client.upstream:
                        client.upstream.advance()
                self._turn(0.05)
        finally:
            for client in self.clients:
                self.forget(client.socket)
            self.clients.clear()

    def answers(self, target: Target) -> bool:
        """Whether the server answers one call."""
        try:
            self.open(target, 1, streams=False)
            self.close(10)
        except (OSError, StreamError):
            return False
        return self.answered == 1

    def _saturate(self, until: float) -> None:
        looked = time.perf_counter()
        while (now := time.perf_counter()) < until:
            if now - looked > _STALLED:
                looked = now
                self._nudge()
            self._turn(0.1)

    def _nudge(self) -> None:
        """A server that holds an event back until the next one comes gets that next one: once is enough."""
        for client in self.clients:
            if client.upstream and client.seen == client.seen_before:
                client.outstanding += 1
                client.upstream.advance()
            client.seen_before = client.seen

    def _keep_pace(self, until: float, pace: float) -> None:
        start = time.perf_counter()
        gap = pace / len(self.clients)
        turn = deque(self.clients)
        sent = 0
        while (now := time.perf_counter()) < until:
            if (early := start + sent * gap - now) > 0:
                time.sleep(early)
            sent += 1
            client = turn[0]
            turn.rotate(-1)
            if client.upstream and client.outstanding < _BEHIND:
                client.outstanding += 1
                client.upstream.advance()
            self._turn(0)

    def _turn(self, wait: float) -> None:
        sides = self.sides
        for descriptor, _ in self.poll.poll(wait, 256):
            if side := sides.get(descriptor):
                side.readable()
            else:
                self._accept()

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                connection, _ = self.listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.enter(Upstream(self, connection))
