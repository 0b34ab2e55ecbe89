"""One HTTP/1.1 connection: what goes over the wire, and when the connection may serve again.

It knows nothing of names, addresses, TLS or pools. llhttp (by httptools) reads the syntax, strictly: folded lines, bare
line feeds, two lengths, a length beside chunks are its errors. What it lets pass and must not is refused here.

The hot path is an answer that fits one segment: one future, no task, no timer, and no Python frame for the body.
"""

import asyncio
import select
from collections.abc import Callable
from typing import cast

from httptools import HttpParserCallbackError, HttpParserError, HttpResponseParser

from stile.adapters.http_answer import BrokenError, Header, HttpAnswer

HEAD_BYTES = 64 * 1024  # of heads and trailers: what one answer may send without a byte of its body
QUEUE_BYTES = 256 * 1024  # of a body that nobody has read yet; above it, reading stops
WRITE_BYTES = 64 * 1024  # handed to the transport at once
STALE_SECONDS = 2.0  # a kept connection that dies within this time was closed before it saw the request


class Connection(asyncio.Protocol):
    """One connection. `keep` is called when it may serve again, `gone` when it is closed for good."""

    def __init__(
        self, shelf: "list[Connection]", keep: "Callable[[Connection], None]", gone: "Callable[[Connection], None]"
    ) -> None:
        self.shelf = shelf  # where `keep` puts it
        self.idle_since = 0.0  # seconds of the loop's clock
        self._keep = keep
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self._transport: asyncio.Transport
        self._poll = select.poll()
        self._pieces: list[bytes] = []
        self.on_body = self._pieces.append  # httptools calls it straight from C
        self._parser = HttpResponseParser(self)
        self._headers: list[Header] = []
        self._answer: HttpAnswer | None = None
        self._waiter: asyncio.Future[HttpAnswer | None] | None = None
        self._failure = ""
        self._asked_at = 0.0
        self._reused = False
        self._busy = False  # between a request and the last byte of its answer
        self._complete = False  # the parser has seen the answer's last byte
        self._keep_alive = False
        self._barren = 0  # bytes since the request, or since the last byte of a body
        self._queued = 0  # bytes of the wire that stand behind `_pieces`
        self._paused = False
        self._unsent: memoryview | None = None
        self._write_paused = False

    # --- what the client calls ---

    async def ask(self, head: bytes, body: bytes, now: float) -> HttpAnswer | None:
        """Send a request and wait for its answer's head. `now` is the loop's clock.

        None says that a kept connection was dead before it saw the request, so that it may go over another one. Raises
        BrokenError. When this is cancelled the connection is closed.
        """
        if self._transport.is_closing():
            raise BrokenError("The connection was closed before the request.")
        self._busy = True
        self._asked_at = now
        self._complete = False
        self._barren = 0
        self._headers = []
        waiter: asyncio.Future[HttpAnswer | None] = self._loop.create_future()
        self._waiter = waiter
        if len(body) <= WRITE_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._unsent = memoryview(body)
            self._write()
        try:
            answer = await waiter
        except asyncio.CancelledError:
            if waiter.cancelled():
                self.fail("The call was cancelled.")
            elif (answer := waiter.result()) is not None:
                answer.close()  # its head came in the same moment
            raise
        if answer is None and self._failure:
            raise BrokenError(self._failure)
        self._reused = True
        return answer

    def is_quiet(self) -> bool:
        """Whether nothing has come since the last answer: no close, and no bytes that the next call would take for its
        own (RFC 9112, section 9.2). The loop may not have read them yet, so the socket is asked."""
        return not self._transport.is_closing() and not self._poll.poll(0)

    def fail(self, reason: str) -> None:
        """Close at once. A call that waits for its answer, or reads it, gets `reason` as a BrokenError."""
        self._transport.abort()
        self._unsent = None
        if not self._busy:
            return
        self._busy = False
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.end(self._pieces, reason)
        else:
            self._failure = reason
            self._answered(None)

    def taken(self) -> None:
        """The reader has taken all that was queued."""
        self._queued = 0
        if self._paused:
            self._paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    # --- what the transport calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        if not self._busy:
            self.fail("")
            return
        self._barren += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            if not self._complete:
                self.fail(_reason(error))
                return
            self._keep_alive = False  # what came behind the answer is nobody's
        if self._complete:
            self._finish()
        elif self._pieces and self._answer is not None:
            self._barren = 0
            self._queued += len(data)
            if self._queued > QUEUE_BYTES and not self._paused:
                self._paused = True
                self._transport.pause_reading()
            self._answer.wake()
        elif self._barren > HEAD_BYTES:
            self.fail("The answer's head, or its trailers, are too large.")

    def eof_received(self) -> None:
        self._ended(clean=True)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended(clean=exc is None)
        self._gone(self)
        self.closed.set_result(None)
        del self._parser  # it holds this object's methods

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        self._write()

    # --- what the parser calls ---

    def on_message_begin(self) -> None:
        if self._complete:
            raise _Refused("There is more than one answer.")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value.strip()))

    def on_headers_complete(self) -> None:
        headers, self._headers = self._headers, []  # what follows is another head, or trailers, which are ignored
        status = self._parser.get_status_code()
        if status < 200:
            if status < 100 or status == 101:
                raise _Refused("The answer's status is not one of a whole answer.")
            return
        codings = [value for name, value in headers if name == b"transfer-encoding"]
        if codings and (
            len(codings) > 1 or codings[0].lower() != b"chunked" or self._parser.get_http_version() < "1.1"
        ):
            raise _Refused("The answer's transfer coding was not asked for.")  # RFC 9112, section 6.1
        if self._barren > HEAD_BYTES and sum(len(name) + len(value) + 4 for name, value in headers) > HEAD_BYTES:
            raise _Refused("The answer's head is too large.")
        self._answer = HttpAnswer(self, status, headers, self._pieces)
        self._answered(self._answer)

    def on_message_complete(self) -> None:
        if self._answer is None:
            return  # 1xx: another head follows (RFC 9110, section 15.2)
        self._complete = True
        self._keep_alive = self._parser.should_keep_alive()  # known here only: later the parser has forgotten

    # --- own ---

    def _answered(self, answer: HttpAnswer | None) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(answer)

    def _write(self) -> None:
        """Hand on as much of a large body as the transport takes; `resume_writing` goes on."""
        while self._unsent is not None and not self._write_paused and not self._transport.is_closing():
            self._transport.write(self._unsent[:WRITE_BYTES])
            self._unsent = self._unsent[WRITE_BYTES:] if len(self._unsent) > WRITE_BYTES else None

    def _finish(self) -> None:
        """The answer's last byte is here: it needs the connection no more."""
        answer, self._answer = cast("HttpAnswer", self._answer), None
        self._busy = False
        answer.end(self._pieces.copy(), None)
        self._pieces.clear()
        self.taken()
        transport = self._transport
        if self._keep_alive and not self._unsent and not transport.get_write_buffer_size():
            self._keep(self)
        else:  # also where the answer came before the whole request was sent (RFC 9112, section 9.3)
            self.fail("")

    def _ended(self, *, clean: bool) -> None:
        if not self._busy:
            self.fail("")
        elif self._answer is None:
            stale = self._reused and not self._barren and self._loop.time() - self._asked_at < STALE_SECONDS
            self.fail("" if stale else "The connection was closed before an answer.")
        elif clean and not self._answer.framed:
            self._keep_alive = False
            self._finish()
        else:
            self.fail("The connection was closed before the answer was whole.")


class _Refused(Exception):
    """Raised into the parser, which stops and shows it as its own error's context."""


def _reason(error: Exception) -> str:
    if isinstance(error, HttpParserCallbackError) and isinstance(error.__context__, _Refused):
        return str(error.__context__)
    return f"The answer is not HTTP/1.1: {error}."
