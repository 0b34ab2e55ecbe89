"""The HTTP client over sockets, on both event loops, against servers that are scripted byte by byte."""

import asyncio
import contextlib
import hashlib
import os
import socket
import ssl
import struct
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from stile.adapters import http_connection
from stile.adapters.http_client import BrokenError, ConnectError, HttpAnswer, HttpClient, _target
from stile.adapters.http_connection import Connection

SETTLED = 20  # seconds after which a test counts as failed
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
UNFRAMED = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a test's coroutine on each kind of loop."""

    def run(test: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(asyncio.wait_for(test, SETTLED))

    return run


class Peer:
    """The server's end of one connection. `number` counts connections from 1."""

    def __init__(self, server: "Server", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.reader = reader
        self.writer = writer
        self.number = server.connections

    async def head(self) -> bytes:
        head = await self.reader.readuntil(b"\r\n\r\n")
        self.server.requests.append(head)
        return head

    async def request(self) -> bytes:
        """One whole request; answers its body."""
        head = await self.head()
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return await self.reader.readexactly(length)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def hung_up(self) -> None:
        """Wait until the client has closed."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close() sends RST
        self.writer.transport.abort()

    def send_now(self, data: bytes) -> None:
        """Past the event loop: the bytes are in the client's socket when this returns."""
        with socket.socket(fileno=os.dup(self.writer.get_extra_info("socket").fileno())) as sock:
            sock.send(data)


Script = Callable[[Peer], Awaitable[None]]


class Server:
    """What happened: `requests` holds heads, in the order of their arrival."""

    def __init__(self) -> None:
        self.connections = 0
        self.requests: list[bytes] = []
        self.url = ""


@contextlib.asynccontextmanager
async def serving(
    script: Script, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Server]:
    """A server that plays `script` for each connection and then closes it."""
    server = Server()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        server.connections += 1
        try:
            await script(Peer(server, reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    listener = await asyncio.start_server(serve, host, 0, ssl=tls)
    port = listener.sockets[0].getsockname()[1]
    name = f"[{host}]" if ":" in host else host
    server.url = f"{'https' if tls else 'http'}://{name}:{port}/v1/chat"
    try:
        yield server
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def client(**options: Any) -> AsyncIterator[HttpClient]:
    made = HttpClient(**options)
    try:
        yield made
    finally:
        await made.close()


def always(answer: bytes) -> Script:
    """Every request gets the same bytes."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(answer)

    return script


def once(answer: bytes) -> Script:
    """One request gets these bytes; then the connection is closed."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer)

    return script


async def ask(http: HttpClient, server: Server, body: bytes = b"{}") -> bytes:
    return await (await http.post(server.url, [], body)).read()


async def until(condition: Callable[[], Any]) -> None:
    """Let the loop run until it is so; the test's own time limit ends it."""
    while not condition():
        await asyncio.sleep(0)


def connection_of(answer: HttpAnswer) -> Connection:
    assert isinstance(answer._source, Connection)
    return answer._source


# --- what is sent ---


def test_a_request_is_written_as_the_standard_has_it(run: Run) -> None:
    async def test() -> None:
        bodies = []

        async def script(peer: Peer) -> None:
            bodies.append(await peer.request())
            await peer.send(OK)

        async with serving(script) as server, client() as http:
            headers = [(b"content-type", b"application/json"), (b"authorization", b"Bearer x")]
            answer = await http.post(server.url + "/a b?ü=1&c=%20#fragment", headers, b'{"a":1}')
            assert (answer.status, answer.headers, answer.framed) == (200, [(b"content-length", b"2")], True)
            assert await answer.read() == b"ok"
            authority = server.url.split("/")[2].encode()
            assert server.requests == [
                b"POST /v1/chat/a%20b?%C3%BC=1&c=%20 HTTP/1.1\r\nhost: " + authority + b"\r\n"
                b"content-type: application/json\r\nauthorization: Bearer x\r\ncontent-length: 7\r\n\r\n"
            ]
            assert bodies == [b'{"a":1}']

    run(test())


@pytest.mark.parametrize(
    ("url", "start"),
    [
        ("http://a.example", b"/ HTTP/1.1\r\nhost: a.example\r\n"),
        ("http://a.example:80/x", b"/x HTTP/1.1\r\nhost: a.example\r\n"),
        ("https://a.example:443?q", b"/?q HTTP/1.1\r\nhost: a.example\r\n"),
        ("https://a.example:80", b"/ HTTP/1.1\r\nhost: a.example:80\r\n"),
        ("https://[::1]:8443/", b"/ HTTP/1.1\r\nhost: [::1]:8443\r\n"),
        ("http://Bücher.example/", b"/ HTTP/1.1\r\nhost: xn--bcher-kva.example\r\n"),
    ],
)
def test_the_host_header_names_the_port_only_if_it_is_not_the_usual_one(url: str, start: bytes) -> None:
    assert _target(url)[1] == start


@pytest.mark.parametrize("url", ["ftp://a/", "http:///a", "a.example/x", "http://user:word@a/", "http://a:x/", ""])
def test_a_url_that_cannot_be_asked_is_refused(run: Run, url: str) -> None:
    async def test() -> None:
        async with client() as http:
            with pytest.raises(ValueError):  # noqa: PT011 (the port's text is Python's)
                await http.post(url, [], b"")

    run(test())


@pytest.mark.parametrize(
    "header",
    [
        (b"x", b"a\r\nx-injected: 1"),
        (b"x", b"a\nb"),
        (b"x", b"a\rb"),
        (b"x\r\ny", b"a"),
        (b"", b"a"),
        (b"x y", b"a"),
        (b"x", b"a\0"),
        (b"Transfer-Encoding", b"chunked"),
        (b"content-length", b"0"),
        (b"host", b"elsewhere"),
    ],
)
def test_no_header_can_break_out_of_its_line_or_change_the_framing(run: Run, header: tuple[bytes, bytes]) -> None:
    async def test() -> None:
        async with serving(always(OK)) as server, client() as http:
            with pytest.raises(ValueError, match="eader") as raised:
                await http.post(server.url, [(b"a", b"b"), header], b"")
            assert "injected" not in str(raised.value)
            assert server.connections == 0

    run(test())


def test_ten_megabytes_reach_a_slow_server_whole_and_are_not_copied_at_once(run: Run) -> None:
    async def test() -> None:
        body = os.urandom(1024) * 10240
        go = asyncio.Event()
        seen = hashlib.sha256()

        async def script(peer: Peer) -> None:
            await peer.head()
            await go.wait()
            left = len(body)
            while left:
                part = await peer.reader.read(10000)
                seen.update(part)
                left -= len(part)
            await peer.send(OK)
            await peer.request()
            await peer.send(OK)

        async with serving(script) as server, client() as http:
            call = asyncio.create_task(ask(http, server, body))
            await until(lambda: http._open and next(iter(http._open))._write_paused)
            connection = next(iter(http._open))
            assert connection._transport.get_write_buffer_size() <= 4 * http_connection.WRITE_BYTES
            go.set()
            assert await call == b"ok"
            assert seen.digest() == hashlib.sha256(body).digest()
            assert await ask(http, server) == b"ok"
            assert server.connections == 1

    run(test())


# --- what comes back ---


def test_headers_come_in_lower_case_and_in_order_and_as_often_as_sent(run: Run) -> None:
    async def test() -> None:
        head = b"HTTP/1.1 201 Created\r\nX-B:  1 \t\r\nx-a:\r\nX-B: \xfc\r\nContent-Length: 0\r\n\r\n"
        async with serving(always(head)) as server, client() as http:
            answer = await http.post(server.url, [], b"")
            assert answer.status == 201
            assert answer.headers == [(b"x-b", b"1"), (b"x-a", b""), (b"x-b", b"\xfc"), (b"content-length", b"0")]
            assert await answer.readany() == b""
            assert await answer.read() == b""

    run(test())


EVERYTHING = (
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'5\r\nhello\r\n7;name=value;q="a"\r\n, world\r\n1\r\n!\r\n0\r\nx-trailer: t\r\nx-other:\r\n\r\n'
)


class Wire(asyncio.Transport):
    """A transport without a network: what is written is kept, what arrives is the test's."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__({"socket": sock})
        self.written = b""
        self.aborted = False

    def write(self, data: Any) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        assert not self.aborted

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


async def over_a_wire(parts: list[bytes]) -> tuple[HttpAnswer, bytes, bool]:
    """The answer that comes in these parts, its body, and whether the connection was kept."""
    kept: list[Connection] = []
    here, there = socket.socketpair()
    with here, there:
        connection = Connection([], kept.append, lambda _: None)
        connection.connection_made(Wire(here))
        call = asyncio.create_task(connection.ask(b"", b"", 0.0))
        await asyncio.sleep(0)
        for part in parts:
            connection.data_received(part)
        answer = await call
        assert answer is not None
        return answer, await answer.read(), bool(kept)


def test_an_answer_may_be_cut_anywhere(run: Run) -> None:
    async def test() -> None:
        cuts = [[EVERYTHING[:at], EVERYTHING[at:]] for at in range(1, len(EVERYTHING))]
        cuts.append([EVERYTHING[at : at + 1] for at in range(len(EVERYTHING))])
        cuts.append([EVERYTHING])
        for parts in cuts:
            answer, body, kept = await over_a_wire(parts)
            assert answer.status == 200
            assert answer.headers == [(b"content-type", b"text/plain"), (b"transfer-encoding", b"chunked")]
            assert (body, kept) == (b"hello, world!", True)

    run(test())


def test_readany_gives_what_has_arrived(run: Run) -> None:
    async def test() -> None:
        step = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(CHUNKED)
            await peer.send(b"3\r\none\r\n")
            await step.wait()
            await peer.send(b"3\r\ntwo\r\n5\r\nthree\r\n0\r\n\r\n")
            await peer.hung_up()

        async with serving(script) as server, client() as http:
            answer = await http.post(server.url, [], b"")
            assert answer.framed
            assert await answer.readany() == b"one"
            step.set()
            assert await answer.readany() == b"twothree"
            assert await answer.readany() == b""
            assert await answer.readany() == b""
            answer.close()
            answer.close()

    run(test())


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_a_body_needs_no_length(run: Run, status: int) -> None:
    async def test() -> None:
        async with serving(always(b"HTTP/1.1 %d X\r\n\r\n" % status)) as server, client() as http:
            for _ in range(2):
                answer = await http.post(server.url, [], b"")
                assert (answer.status, answer.framed, await answer.read()) == (status, True, b"")
            assert server.connections == 1

    run(test())


def test_an_answer_without_framing_ends_with_its_connection_and_says_so(run: Run) -> None:
    async def test() -> None:
        async with serving(once(UNFRAMED + b"data: 1\n\n")) as server, client() as http:
            for _ in range(2):
                answer = await http.post(server.url, [], b"")
                assert not answer.framed
                assert await answer.read() == b"data: 1\n\n"
            assert server.connections == 2

    run(test())


def test_a_slow_reader_stops_the_sender(run: Run) -> None:
    async def test() -> None:
        piece = os.urandom(65536)

        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (len(piece) * 160))
            for _ in range(160):
                await peer.send(piece)
            await peer.request()
            await peer.send(OK)

        async with serving(script) as server, client() as http:
            answer = await http.post(server.url, [], b"")
            connection = connection_of(answer)
            await until(lambda: connection._paused)
            for _ in range(100):
                await asyncio.sleep(0)
            assert sum(map(len, answer._pieces)) <= 3 * http_connection.QUEUE_BYTES
            assert await answer.read() == piece * 160
            assert await ask(http, server) == b"ok"
            assert server.connections == 1, "a connection that was paused reads again"

    run(test())


def test_what_is_queued_can_be_read_while_the_connection_dies(run: Run) -> None:
    async def test() -> None:
        here, there = socket.socketpair()
        with here, there:
            connection = Connection([], lambda _: None, lambda _: None)
            wire = Wire(here)
            connection.connection_made(wire)
            call = asyncio.create_task(connection.ask(b"", b"", 0.0))
            await asyncio.sleep(0)
            connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 999999\r\n\r\n" + bytes(300_000))
            answer = await call
            assert answer is not None
            wire.aborted = True  # the transport knows, and has yet to tell
            assert await answer.readany() == bytes(300_000)
            connection.connection_lost(ConnectionResetError())
            with pytest.raises(BrokenError):
                await answer.readany()

    run(test())


def test_an_answer_has_one_reader(run: Run) -> None:
    async def test() -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(CHUNKED)
            await peer.hung_up()

        async with serving(script) as server, client() as http:
            answer = await http.post(server.url, [], b"")
            first = asyncio.create_task(answer.readany())
            await until(lambda: answer._waiter is not None)
            with pytest.raises(RuntimeError):
                await answer.readany()
            answer.close()
            with pytest.raises(BrokenError):
                await first

    run(test())


# --- what is refused ---

BROKEN = {
    "not HTTP": b"SSH-2.0-OpenSSH_9.0\r\n",
    "TLS": b"\x15\x03\x01\x00\x02\x02\x46",
    "nothing": b"",
    "half a head": b"HTTP/1.1 200 OK\r\ncontent-le",
    "half a body": b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhal",
    "no last chunk": CHUNKED + b"2\r\nok\r\n",
    "half a chunk": CHUNKED + b"5\r\nok",
    "no end of trailers": CHUNKED + b"2\r\nok\r\n0\r\nx: y\r\n",
    "a chunk too long": CHUNKED + b"2\r\nokay\r\n0\r\n\r\n",
    "a chunk of no size": CHUNKED + b"\r\nok\r\n0\r\n\r\n",
    "a chunk too large": CHUNKED + b"fffffffffffffffff\r\n",
    "bare line feeds": b"HTTP/1.1 200 OK\ncontent-length: 2\n\nok",
    "a folded line": b"HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 2\r\n\r\nok",
    "a space before the colon": b"HTTP/1.1 200 OK\r\ncontent-length : 2\r\n\r\nok",
    "NUL": b"HTTP/1.1 200 OK\r\nx: \0\r\ncontent-length: 2\r\n\r\nok",
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nokay",
    "the same length twice": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok",
    "a list of lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n\r\nok",
    "a signed length": b"HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nok",
    "a length before chunks": CHUNKED[:-2] + b"content-length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "a length after chunks": CHUNKED.replace(b"OK\r\n", b"OK\r\ncontent-length: 2\r\n") + b"2\r\nok\r\n0\r\n\r\n",
    "another coding": CHUNKED.replace(b"chunked", b"gzip, chunked") + b"2\r\nok\r\n0\r\n\r\n",
    "another coding alone": CHUNKED.replace(b"chunked", b"gzip") + b"ok",
    "chunked is not last": CHUNKED.replace(b"chunked", b"chunked, gzip") + b"2\r\nok\r\n0\r\n\r\n",
    "two codings": CHUNKED[:-2] + b"transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "another protocol": b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nok",
    "another protocol unnamed": b"HTTP/1.1 101 Switching\r\n\r\n",
    "a status below 100": b"HTTP/1.1 042 X\r\ncontent-length: 2\r\n\r\nok",
    "a status of four digits": b"HTTP/1.1 2000 X\r\ncontent-length: 2\r\n\r\nok",
    "a head too large": b"HTTP/1.1 200 OK\r\nx: " + b"a" * 66000 + b"\r\ncontent-length: 2\r\n\r\nok",
    "a head too long": b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 70000 + b"content-length: 2\r\n\r\nok",
    "1xx without end": b"HTTP/1.1 102 Processing\r\n\r\n" * 3000,
    "trailers too large": CHUNKED + b"2\r\nok\r\n0\r\n" + b"x: " + b"a" * 700000,
}


@pytest.mark.parametrize("wire", BROKEN.values(), ids=BROKEN)
def test_what_is_not_a_whole_answer_is_an_error_and_is_not_asked_again(run: Run, wire: bytes) -> None:
    async def test() -> None:
        async with serving(once(wire)) as server, client() as http:
            with pytest.raises(BrokenError) as raised:
                await ask(http, server)
            assert str(raised.value)
            assert "127.0.0.1" not in str(raised.value)
            assert len(server.requests) == 1
            assert not any(http._shelves.values())

    run(test())


def test_a_head_too_large_is_refused_in_one_piece_too() -> None:
    async def test() -> None:
        with pytest.raises(BrokenError, match="too large"):
            await over_a_wire([b"HTTP/1.1 200 OK\r\n" + b"a: bcd\r\n" * 14000 + b"content-length: 0\r\n\r\n"])
        _, body, _ = await over_a_wire([b"HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\n" + b"a" * 99999])
        assert len(body) == 99999, "the body's bytes are not the head's"

    asyncio.run(test())


@pytest.mark.parametrize("start", [b"", OK[:-1], CHUNKED + b"2\r\nok\r\n", UNFRAMED + b"ok"], ids=repr)
def test_a_reset_is_never_a_good_end(run: Run, start: bytes) -> None:
    async def test() -> None:
        got = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(start)
            if start:
                await got.wait()
            peer.reset()

        async with serving(script) as server, client() as http:
            with pytest.raises(BrokenError):
                await read_slowly(await http.post(server.url, [], b""), got)
            assert len(server.requests) == 1

    run(test())


async def read_slowly(answer: HttpAnswer, got: asyncio.Event) -> None:
    while await answer.readany():
        got.set()


def test_what_came_before_the_break_can_be_read(run: Run) -> None:
    async def test() -> None:
        async with serving(once(CHUNKED + b"2\r\nok\r\n")) as server, client() as http:
            answer = await http.post(server.url, [], b"")
            assert await answer.readany() == b"ok"
            for _ in range(2):
                with pytest.raises(BrokenError, match="whole"):
                    await answer.readany()
            with pytest.raises(BrokenError):
                await answer.read()

    run(test())


# --- which connection ---


def test_one_connection_serves_call_after_call(run: Run) -> None:
    async def test() -> None:
        async with serving(always(OK)) as server, client() as http:
            for _ in range(5):
                assert await ask(http, server) == b"ok"
            assert (server.connections, len(server.requests)) == (1, 5)
            sock = next(iter(http._open))._transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run(test())


def test_calls_at_once_have_their_own_connections_and_the_newest_serves_next(run: Run) -> None:
    async def test() -> None:
        served: list[int] = []

        async def script(peer: Peer) -> None:
            while True:
                name = await peer.request()
                served.append(peer.number)
                await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(name), name))

        async with serving(script) as server, client() as http:
            names = [b"%d" % number for number in range(20)]
            assert await asyncio.gather(*(ask(http, server, name) for name in names)) == names
            assert server.connections == 20
            newest = http._shelves[next(iter(http._shelves))][-1]
            assert await ask(http, server, b"x") == b"x"
            assert http._shelves[next(iter(http._shelves))][-1] is newest
            assert server.connections == 20

    run(test())


@pytest.mark.parametrize(
    ("wire", "connections"),
    [
        (OK.replace(b"content", b"connection: close\r\ncontent"), 2),
        (OK.replace(b"1.1", b"1.0"), 2),
        (OK.replace(b"1.1", b"1.0").replace(b"content", b"connection: keep-alive\r\ncontent"), 1),
    ],
)
def test_the_server_says_whether_a_connection_is_kept(run: Run, wire: bytes, connections: int) -> None:
    async def test() -> None:
        async with serving(always(wire)) as server, client() as http:
            assert [await ask(http, server), await ask(http, server)] == [b"ok", b"ok"]
            assert server.connections == connections

    run(test())


@pytest.mark.parametrize("how", ["close", "reset", "half"])
def test_a_kept_connection_that_dies_unheard_is_replaced_once_and_silently(run: Run, how: str) -> None:
    async def test() -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(OK)
            await peer.request()
            if peer.number > 1:
                await peer.send(OK)
            elif how == "reset":
                peer.reset()
            elif how == "half":
                peer.writer.write_eof()
                await peer.hung_up()

        async with serving(script) as server, client() as http:
            assert await ask(http, server) == b"ok"
            assert await ask(http, server) == b"ok"
            assert (server.connections, len(server.requests)) == (2, 3)

    run(test())


def test_a_call_is_sent_no_third_time(run: Run) -> None:
    async def test() -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            if peer.number == 1:
                await peer.send(OK)
                await peer.request()

        async with serving(script) as server, client() as http:
            assert await ask(http, server) == b"ok"
            with pytest.raises(BrokenError):
                await ask(http, server)
            assert (server.connections, len(server.requests)) == (2, 3)

    run(test())


def test_a_call_that_was_worked_on_for_a_while_is_not_sent_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that dies over a request is not a server that had hung up before it."""
    monkeypatch.setattr(http_connection, "STALE_SECONDS", 0)

    async def test() -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(OK)
            await peer.request()

        async with serving(script) as server, client() as http:
            assert await ask(http, server) == b"ok"
            with pytest.raises(BrokenError):
                await ask(http, server)
            assert len(server.requests) == 2

    run(test())


@pytest.mark.parametrize("start", [b"H", OK[:20], b"HTTP/1.1 100 Continue\r\n\r\n", OK[:-1]])
def test_a_call_whose_answer_has_begun_is_not_sent_again(run: Run, start: bytes) -> None:
    async def test() -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(OK)
            await peer.request()
            await peer.send(start)

        async with serving(script) as server, client() as http:
            assert await ask(http, server) == b"ok"
            with pytest.raises(BrokenError):
                await ask(http, server)
            assert len(server.requests) == 2

    run(test())


@pytest.mark.parametrize("extra", [OK.replace(b"ok", b"no"), b"H", b"garbage", OK[:30]])
@pytest.mark.parametrize("when", ["behind the answer", "while idle", "while idle, not yet read"])
def test_bytes_that_nobody_asked_for_never_answer_the_next_call(run: Run, when: str, extra: bytes) -> None:
    async def test() -> None:
        peers: list[Peer] = []
        closed = asyncio.Event()

        async def script(peer: Peer) -> None:
            peers.append(peer)
            await peer.request()
            await peer.send(OK + extra if when == "behind the answer" and peer.number == 1 else OK)
            await peer.hung_up()
            closed.set()

        async with serving(script) as server, client() as http:
            assert await ask(http, server) == b"ok"
            if when != "behind the answer":
                peers[0].send_now(extra)
            if when == "while idle":
                await closed.wait()
            assert await ask(http, server) == b"ok"
            assert (server.connections, len(server.requests)) == (2, 2)

    run(test())


def test_a_connection_that_the_server_closed_while_idle_is_not_used(run: Run) -> None:
    async def test() -> None:
        async with serving(once(OK)) as server, client() as http:
            assert await ask(http, server) == b"ok"
            await until(lambda: not http._open)
            assert not any(http._shelves.values())
            assert await ask(http, server) == b"ok"
            assert len(server.requests) == 2

    run(test())


def test_idle_connections_are_closed_in_time(run: Run) -> None:
    async def test() -> None:
        closed: asyncio.Queue[int] = asyncio.Queue()

        async def script(peer: Peer) -> None:
            for _ in range(peer.number):
                await peer.request()
                await peer.send(OK)
            await peer.hung_up()
            closed.put_nowait(peer.number)

        async with serving(script) as server, client(idle_seconds=0.05) as http:
            await asyncio.gather(ask(http, server), ask(http, server))
            await ask(http, server)
            http._shelves[next(iter(http._shelves))][-1].idle_since += 0.05  # so that the timer is set anew
            assert sorted([await closed.get(), await closed.get()]) == [1, 2]
            assert http._sweeper is None
            assert await ask(http, server) == b"ok"
            assert server.connections == 3

    run(test())


def test_a_connection_older_than_its_time_is_not_used_even_if_the_timer_is_late(run: Run) -> None:
    async def test() -> None:
        async with serving(always(OK)) as server, client() as http:
            await ask(http, server)
            next(iter(http._open)).idle_since -= 15  # as after a frozen machine
            await ask(http, server)
            assert server.connections == 2

    run(test())


def test_an_answer_before_the_request_is_whole_comes_and_its_connection_goes(run: Run) -> None:
    async def test() -> None:
        async def script(peer: Peer) -> None:
            await peer.head()
            if peer.number == 1:
                await peer.send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 4\r\n\r\nmuch")
                await asyncio.Event().wait()
            await peer.send(OK)

        async with serving(script) as server, client() as http:
            answer = await http.post(server.url, [], bytes(20_000_000))
            assert (answer.status, await answer.read()) == (413, b"much")
            assert await ask(http, server, b"") == b"ok"
            assert server.connections == 2

    run(test())


def test_an_answer_that_starts_early_does_not_stop_the_request(run: Run) -> None:
    async def test() -> None:
        size = 20_000_000

        async def script(peer: Peer) -> None:
            await peer.head()
            await peer.send(CHUNKED + b"2\r\nok\r\n")
            await peer.reader.readexactly(size)
            await peer.send(b"4\r\nay!!\r\n0\r\n\r\n")
            await peer.request()
            await peer.send(OK)

        async with serving(script) as server, client() as http:
            assert await ask(http, server, bytes(size)) == b"okay!!"
            assert await ask(http, server) == b"ok"
            assert server.connections == 1

    run(test())


# --- cancelling and closing ---


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200", CHUNKED + b"2\r\nno\r\n", OK[:-1]], ids=repr)
def test_a_cancelled_call_leaves_nothing_behind(run: Run, start: bytes) -> None:
    async def test() -> None:
        hung_up = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.request()
            if peer.number > 1:
                return await peer.send(OK)
            await peer.send(start)
            await peer.hung_up()
            return hung_up.set()

        async with serving(script) as server, client() as http:
            call = asyncio.create_task(ask(http, server))
            await until(lambda: server.requests)
            for _ in range(20):
                await asyncio.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await hung_up.wait()
            assert await ask(http, server) == b"ok"
            assert (server.connections, len(server.requests)) == (2, 2)

    run(test())


@pytest.mark.parametrize(("wire", "connections"), [(OK, 1), (OK[:-1], 2), (b"garbage", 2)])
def test_a_call_cancelled_in_the_moment_of_its_answer_leaves_nothing_behind(
    run: Run, monkeypatch: pytest.MonkeyPatch, wire: bytes, connections: int
) -> None:
    async def test() -> None:
        calls: list[asyncio.Task[bytes]] = []
        answered = Connection._answered

        def cancelling(self: Connection, answer: HttpAnswer | None) -> None:
            answered(self, answer)
            if calls:
                calls.pop().cancel()

        monkeypatch.setattr(Connection, "_answered", cancelling)

        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(wire)
            await peer.request()
            await peer.send(OK)

        async def second(peer: Peer) -> None:
            await (script if peer.number == 1 else always(OK))(peer)

        async with serving(second) as server, client() as http:
            call = asyncio.create_task(ask(http, server))
            calls.append(call)
            with pytest.raises(asyncio.CancelledError):
                await call
            assert await ask(http, server) == b"ok"
            assert server.connections == connections

    run(test())


def test_readany_may_be_cancelled_and_called_again(run: Run) -> None:
    async def test() -> None:
        step = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(CHUNKED)
            await step.wait()
            await peer.send(b"2\r\nok\r\n0\r\n\r\n")

        async with serving(script) as server, client() as http:
            answer = await http.post(server.url, [], b"")
            reader = asyncio.create_task(answer.readany())
            await until(lambda: answer._waiter is not None)
            reader.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reader
            step.set()
            assert await answer.readany() == b"ok"
            assert await answer.readany() == b""

    run(test())


def test_closing_an_answer_ends_the_call_at_the_server(run: Run) -> None:
    async def test() -> None:
        hung_up = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(CHUNKED + b"2\r\nok\r\n")
            await peer.hung_up()
            hung_up.set()

        async with serving(script) as server, client() as http:
            answer = await http.post(server.url, [], b"")
            assert await answer.readany() == b"ok"
            answer.close()
            answer.close()
            await hung_up.wait()
            with pytest.raises(BrokenError):
                await answer.readany()

    run(test())


@pytest.mark.parametrize("start", [b"", CHUNKED, UNFRAMED], ids=repr)
def test_closing_the_client_breaks_answers_in_flight(run: Run, start: bytes) -> None:
    async def test() -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(start)
            await peer.hung_up()

        async with serving(script) as server, client() as http:
            call = asyncio.create_task(ask(http, server))
            await until(lambda: server.requests)
            for _ in range(20):
                await asyncio.sleep(0)
            await http.close()
            with pytest.raises(BrokenError, match="client was closed"):
                await call
            assert not http._open
            await http.close()
            with pytest.raises(ConnectError, match="the client is closed"):
                await ask(http, server)

    run(test())


# --- connecting ---


def test_the_reason_of_a_failed_connection_names_no_address(run: Run) -> None:
    async def test() -> None:
        with socket.socket() as unheard:
            unheard.bind(("127.0.0.1", 0))
            port = unheard.getsockname()[1]
            reasons = {
                f"http://127.0.0.1:{port}/": "connection refused",
                f"http://localhost:{port}/": "connection refused",
                "http://does-not-exist.invalid/": "its name cannot be resolved",
                f"http://{'a' * 64}.example/": "its name cannot be resolved",
                "http://255.255.255.255:1/": "no connection",
            }
            async with client() as http:
                for url, reason in reasons.items():
                    with pytest.raises(ConnectError) as raised:
                        await http.post(url, [], b"")
                    assert str(raised.value) == reason

    run(test())


def test_ipv6_has_its_brackets_in_the_host_header_only(run: Run) -> None:
    async def test() -> None:
        async with serving(always(OK), host="::1") as server, client() as http:
            assert await ask(http, server) == b"ok"
            assert b"\r\nhost: [::1]:" in server.requests[0]

    run(test())


def test_a_connection_that_is_closed_at_once_is_an_error(run: Run) -> None:
    async def test() -> None:
        here, there = socket.socketpair()
        with here, there:
            connection = Connection([], lambda _: None, lambda _: None)
            connection.connection_made(Wire(here))
            connection.data_received(b"HTTP/1.1 408 Too late\r\n\r\n")
            with pytest.raises(BrokenError, match="before the request"):
                await connection.ask(b"", b"", 0.0)

        async def script(peer: Peer) -> None:
            peer.reset()

        async with serving(script) as server, client() as http:
            for _ in range(20):
                with pytest.raises((BrokenError, ConnectError)):
                    await ask(http, server)

    run(test())


class Certificates:
    """Contexts for a server at 127.0.0.1, for one of another name, and for a client that trusts both."""

    def __init__(self, folder: Path) -> None:
        self.client = ssl.create_default_context()
        self.here = self._make(folder / "here", "IP:127.0.0.1")
        self.elsewhere = self._make(folder / "elsewhere", "DNS:elsewhere.example")

    def _make(self, path: Path, name: str) -> ssl.SSLContext:
        key, certificate = f"{path}.key", f"{path}.crt"
        words = ["openssl", "req", "-x509", "-nodes", "-days", "1", "-subj", "/CN=test"]
        words += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-addext", f"subjectAltName={name}"]
        words += ["-keyout", key, "-out", certificate]
        subprocess.run(words, check=True, capture_output=True)
        self.client.load_verify_locations(certificate)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        return context


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


def test_tls_with_a_trusted_certificate(run: Run, certificates: Certificates) -> None:
    async def test() -> None:
        big = os.urandom(1_000_000)

        async def script(peer: Peer) -> None:
            while True:
                body = await peer.request()
                await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))

        async with serving(script, tls=certificates.here) as server, client(tls=certificates.client) as http:
            for body in (b"a", b"b", big, b"c"):
                assert await ask(http, server, body) == body
            assert server.connections == 1

    run(test())


def test_tls_ends_an_unframed_answer_and_a_cut_one_is_broken(run: Run, certificates: Certificates) -> None:
    async def test() -> None:
        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(UNFRAMED + b"ok" if peer.number == 1 else CHUNKED + b"2\r\nok\r\n")

        async with serving(script, tls=certificates.here) as server, client(tls=certificates.client) as http:
            assert await ask(http, server) == b"ok"
            with pytest.raises(BrokenError):
                await ask(http, server)

    run(test())


def test_tls_reasons_are_told_without_the_address(run: Run, certificates: Certificates) -> None:
    async def test() -> None:
        async with serving(always(OK), tls=certificates.here) as server, client() as http:
            with pytest.raises(ConnectError, match=r"^TLS: certificate not trusted: self-signed certificate$"):
                await ask(http, server)
        async with serving(always(OK), tls=certificates.elsewhere) as server, client(tls=certificates.client) as http:
            with pytest.raises(ConnectError, match=r"^TLS: certificate for another name$"):
                await ask(http, server)
            assert not http._open

        async def plain(peer: Peer) -> None:
            await peer.send(b"HTTP/1.1 400 no\r\n\r\n")
            await peer.hung_up()

        async with serving(plain) as server, client() as http:
            server.url = server.url.replace("http:", "https:")
            with pytest.raises(ConnectError) as raised:
                await ask(http, server)
            assert "127.0.0.1" not in str(raised.value)

    run(test())


def test_a_server_that_says_nothing_is_no_connection_in_time(run: Run) -> None:
    async def test() -> None:
        async def script(peer: Peer) -> None:
            await peer.hung_up()

        async with serving(script) as server, client(connect_seconds=0.05) as http:
            server.url = server.url.replace("http:", "https:")
            with pytest.raises(TimeoutError, match="in time"):
                await ask(http, server)
            assert not http._open

    run(test())


def test_a_call_cancelled_while_it_connects_leaves_nothing_behind(run: Run) -> None:
    async def test() -> None:
        hung_up = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.hung_up()
            hung_up.set()

        async with serving(script) as server, client() as http:
            server.url = server.url.replace("http:", "https:")
            call = asyncio.create_task(ask(http, server))
            await until(lambda: server.connections)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await hung_up.wait()
            assert not http._open

    run(test())


def test_a_client_closed_while_a_call_connects_keeps_no_connection(run: Run) -> None:
    async def test() -> None:
        async with serving(always(OK)) as server, client() as http:
            call = asyncio.create_task(ask(http, server))
            await asyncio.sleep(0)
            await http.close()
            with pytest.raises(ConnectError, match="client is closed"):
                await call
            await until(lambda: not http._open)

    run(test())
