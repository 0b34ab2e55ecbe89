"""A provider on a socket that does what a test's script says: the ground under the mocks that speak a dialect.

It runs in the test's own event loop, or on a thread, so scripts and tests wait for each other by events and never by
clocks.
"""

import asyncio
import contextlib
import json
import socket
import struct
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

SETTLED = 10  # seconds after which a wait counts as failed


@dataclass
class Call:
    """One request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes
    method: str = "POST"

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Exchange:
    """One request and the means to answer it, byte by byte."""

    call: Call
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """A whole answer."""
        fields = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
        await self._head(status, fields)
        self.writer.write(body)
        await self.writer.drain()

    async def start(self, content_type: str) -> None:
        """The head of a streamed answer."""
        await self._head(200, {"content-type": content_type, "transfer-encoding": "chunked"})

    async def chunk(self, data: bytes) -> None:
        self.writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        await self.writer.drain()

    async def end(self) -> None:
        self.writer.write(b"0\r\n\r\n")
        await self.writer.drain()

    def reset(self) -> None:
        """Break the connection off so that the client gets RST."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()

    async def hung_up(self) -> None:
        """Wait for the client to go away."""
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(self.reader.read(1), SETTLED) == b""

    async def _head(self, status: int, headers: Mapping[str, str]) -> None:
        lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in headers.items())]
        self.writer.write("\r\n".join(lines).encode() + b"\r\n\r\n")
        await self.writer.drain()


Script = Callable[[Exchange], Awaitable[None]]


@dataclass
class Provider:
    """A running provider: `script` answers every call, `calls` are what came."""

    script: Script
    url: str = ""
    calls: list[Call] = field(default_factory=list)
    connections: set[asyncio.StreamWriter] = field(default_factory=set)
    loop: asyncio.AbstractEventLoop | None = None

    def hang_up(self) -> None:
        """Close all connections, from another thread, as a provider does with those that have been idle for long."""
        assert self.loop is not None
        asyncio.run_coroutine_threadsafe(close_all(self.connections), self.loop).result(SETTLED)

    @property
    def last(self) -> Call:
        return self.calls[-1]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.add(writer)
        try:
            while not writer.is_closing():
                call = await _read(reader)
                self.calls.append(call)
                await self.script(Exchange(call, reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.connections.discard(writer)
            writer.close()


async def close_all(connections: Collection[asyncio.StreamWriter]) -> None:
    """Close connections, and wait until they are."""
    for writer in tuple(connections):
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def running(script: Script) -> AsyncGenerator[Provider, None]:
    """A provider that serves until the block ends."""
    provider = Provider(script, loop=asyncio.get_running_loop())
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(provider.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    provider.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield provider
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.contextmanager
def on_a_thread(script: Script) -> Iterator[Provider]:
    """The same for tests without an event loop of their own."""
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        provider = running(script)
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        try:
            yield asyncio.run_coroutine_threadsafe(provider.__aenter__(), loop).result(SETTLED)
            asyncio.run_coroutine_threadsafe(provider.__aexit__(None, None, None), loop).result(SETTLED)
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()


def status(code: int, answer: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Script:
    """A script that always answers the same."""

    async def script(exchange: Exchange) -> None:
        await exchange.answer(code, json.dumps(answer).encode(), headers)

    return script


async def _read(reader: asyncio.StreamReader) -> Call:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = [line.partition(":") for line in head[1:] if line]
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    method, path, _ = head[0].split(" ")
    return Call(path, headers, body, method)
