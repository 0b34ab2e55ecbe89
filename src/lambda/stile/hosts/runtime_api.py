"""Lambda's Runtime API as the one who serves a function speaks it: HTTP/1.1 over one kept connection.

Protocol: "Using the Lambda runtime API for custom runtimes" and its response streaming, in Lambda's developer guide.
The other side is the platform itself, on this machine, so that only what it really sends has to be understood.
"""

import asyncio
import base64
import contextlib
import json
from collections.abc import Mapping
from typing import NamedTuple

_VERSION = "/2018-06-01/runtime"
_BUFFER_BYTES = 1024 * 1024
_ERROR_TYPE, _ERROR_BODY = "Lambda-Runtime-Function-Error-Type", "Lambda-Runtime-Function-Error-Body"
_INVOCATION_ID = "lambda-runtime-invocation-id"
_STREAMING = (
    "Lambda-Runtime-Function-Response-Mode: streaming\r\nTransfer-Encoding: chunked\r\n"
    f"Trailer: {_ERROR_TYPE}, {_ERROR_BODY}\r\n"
)


class RuntimeGone(Exception):
    """The Runtime API cannot be reached any more, or says that this environment is over."""


class Invocation(NamedTuple):
    """One call of the function. `deadline`: seconds since 1970. `echo`: headers that every answer must carry."""

    id: str
    deadline: float
    trace_id: str | None
    event: bytes
    echo: str


class Failure(NamedTuple):
    """What Lambda is told of a failure: shown in its log and metrics, never to the client."""

    kind: str
    message: str

    def body(self) -> bytes:
        return json.dumps({"errorType": self.kind, "errorMessage": self.message, "stackTrace": []}).encode()


class _Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


class RuntimeApi:
    """The platform's end at `address` (host:port). One exchange at a time; all raise RuntimeGone."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def next(self) -> Invocation:
        """The next invocation; may take for ever."""
        answer = await self._exchange("GET", "/invocation/next")
        _expect(answer, 200)
        headers = answer.headers
        invocation_id = headers.get(_INVOCATION_ID)
        return Invocation(
            id=headers["lambda-runtime-aws-request-id"],
            deadline=int(headers["lambda-runtime-deadline-ms"]) / 1000,
            trace_id=headers.get("lambda-runtime-trace-id"),
            event=answer.body,
            echo=f"Lambda-Runtime-Invocation-Id: {invocation_id}\r\n" if invocation_id else "",
        )

    async def respond(self, invocation: Invocation, content_type: str, first: bytes) -> "ResponseStream":
        """Begin a streamed response, with `first` on its way."""
        path = f"/invocation/{invocation.id}/response"
        head = self._head("POST", path, f"{_STREAMING}Content-Type: {content_type}\r\n{invocation.echo}")
        _, writer = await self._connect()
        writer.write(head + _chunk(first))
        return ResponseStream(self, writer)

    async def fail(self, invocation: Invocation, failure: Failure) -> None:
        """Report a failure, while no response has begun."""
        await self._report(f"/invocation/{invocation.id}/error", failure, invocation.echo)

    async def fail_init(self, failure: Failure) -> None:
        """Report that the function cannot start; the process should end then."""
        await self._report("/init/error", failure)

    async def restored(self) -> None:
        """Say that a snapshot may be taken; returns in each environment that is made from it."""
        _expect(await self._exchange("GET", "/restore/next"), 200)

    async def fail_restore(self, failure: Failure) -> None:
        """Report that the function cannot go on after a restore; the process should end then."""
        await self._report("/restore/error", failure)

    def close(self) -> None:
        if self._connection is not None:
            self._connection[1].close()
            self._connection = None

    async def answer(self) -> _Answer:
        """The answer to what was sent last."""
        assert self._connection is not None  # noqa: S101 (something was sent)
        try:
            return await _read(self._connection[0])
        except (OSError, EOFError, ValueError) as fault:
            self.close()
            raise RuntimeGone(str(fault)) from fault

    async def _report(self, path: str, failure: Failure, extra: str = "") -> None:
        headers = f"Content-Type: application/json\r\n{_ERROR_TYPE}: {failure.kind}\r\n{extra}"
        _expect(await self._exchange("POST", path, headers, failure.body()), 202)

    async def _exchange(self, method: str, path: str, headers: str = "", body: bytes = b"") -> _Answer:
        """One request and its answer; once more, over a new connection, when the connection is lost meanwhile."""
        length = f"Content-Length: {len(body)}\r\n" if method == "POST" else ""
        request = self._head(method, path, headers + length) + body
        with contextlib.suppress(RuntimeGone):
            (await self._connect())[1].write(request)
            return await self.answer()
        (await self._connect())[1].write(request)
        return await self.answer()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._connection is None or self._connection[1].is_closing() or self._connection[0].at_eof():
            self.close()
            host, _, port = self._address.rpartition(":")
            try:
                self._connection = await asyncio.open_connection(host, int(port), limit=_BUFFER_BYTES)
            except OSError as fault:
                raise RuntimeGone(str(fault)) from fault
        return self._connection

    def _head(self, method: str, path: str, headers: str) -> bytes:
        return f"{method} {_VERSION}{path} HTTP/1.1\r\nHost: {self._address}\r\n{headers}\r\n".encode("latin-1")


class ResponseStream:
    """A streamed response that has begun."""

    def __init__(self, api: RuntimeApi, writer: asyncio.StreamWriter) -> None:
        self._api = api
        self._writer = writer

    async def write(self, data: bytes) -> None:
        """Send bytes on; waits while the platform takes no more. Raises OSError when it takes none of this response."""
        if data:  # an empty chunk would be the end
            self._writer.write(_chunk(data))
        await self._writer.drain()

    def end(self, failure: Failure | None = None) -> None:
        """End the response. With a failure the trailers tell it to Lambda; what was sent stays sent."""
        trailers = b""
        if failure is not None:
            body = base64.b64encode(failure.body()).decode()
            trailers = f"{_ERROR_TYPE}: {failure.kind}\r\n{_ERROR_BODY}: {body}\r\n".encode("latin-1")
        self._writer.write(b"0\r\n%b\r\n" % trailers)

    async def taken(self) -> None:
        """Wait until Lambda has taken the whole response. One that it refuses is lost, but must not stop the next."""
        with contextlib.suppress(RuntimeGone):  # if it really is, asking for the next invocation will tell
            await self._api.answer()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _expect(answer: _Answer, status: int) -> None:
    if answer.status != status:
        raise RuntimeGone(f"the Runtime API answered {answer.status}: {answer.body[:200].decode('utf-8', 'replace')}")


async def _read(reader: asyncio.StreamReader) -> _Answer:
    """One answer (RFC 9112). Raises OSError, EOFError, ValueError."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    fields = [line.partition(":") for line in lines if line]
    headers = {name.strip().lower(): value.strip() for name, _, value in fields}
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = await _read_chunks(reader)
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    return _Answer(int(first.split(" ", 2)[1]), headers, body)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass
    return bytes(body)
