"""An answer as its reader sees it: the head, and a body that arrives in its own time or breaks off."""

import asyncio
from typing import Protocol

Header = tuple[bytes, bytes]


class Source(Protocol):
    """Where an answer that is not whole yet comes from."""

    def fail(self, reason: str) -> None:
        """Close it: the rest is not wanted."""

    def taken(self) -> None:
        """The reader has taken all that was queued."""


class BrokenError(ConnectionError):
    """The connection ended, or sent what is not HTTP, before the answer was whole. The text holds no address."""


class HttpAnswer:
    """An answer whose head is here. Its body comes by `read`, `read_up_to` or `readany`, for one reader at a
    time.

    All raise BrokenError when the body does not come to its end. Whoever stops before the end must call `close`.
    """

    __slots__ = ("_done", "_failure", "_pieces", "_source", "_waiter", "headers", "status")

    def __init__(self, source: Source, status: int, headers: list[Header], pieces: list[bytes]) -> None:
        self.status = status
        self.headers = headers  # names in lower case, in order, repeated ones too
        self._source: Source | None = source  # until the last byte is here
        self._pieces = pieces
        self._done = False
        self._failure: str | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def framed(self) -> bool:
        """Whether a length or chunks tell the end of the body, or there is none; else the connection's close does.

        RFC 9112, section 6.3.
        """
        if self.status in (204, 304):
            return True
        return any(name in (b"content-length", b"transfer-encoding") for name, _ in self.headers)

    async def read(self) -> bytes:
        """The rest of the body. It is lost when this is cancelled, and the connection with it."""
        if self._done and self._failure is None:
            return self._take()
        parts: list[bytes] = []
        try:
            while part := await self.readany():
                parts.append(part)
        finally:
            self.close()
        return b"".join(parts)

    async def readany(self) -> bytes:
        """What has arrived, at least one byte; b"" at the end only. May be cancelled and called again."""
        while not self._pieces:
            if self._done:
                if self._failure is not None:
                    raise BrokenError(self._failure)
                return b""
            await self._more()
        return self._take()

    async def read_up_to(self, limit: int) -> bytes:
        """The body's first `limit` bytes, or all of it when it is shorter; the rest is not waited for."""
        body = bytearray()
        try:
            while len(body) < limit and (more := await self.readany()):
                body += more
        finally:
            self.close()
        return bytes(body[:limit])

    def close(self) -> None:
        """Drop the connection, unless all of the answer has come already. May be called again."""
        if self._source is not None:
            self._source.fail("The answer was closed before its end.")

    async def _more(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            raise RuntimeError("An answer has one reader at a time.")
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def _take(self) -> bytes:
        pieces = self._pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        if self._source is not None:
            self._source.taken()
        return data

    def wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def end(self, pieces: list[bytes], failure: str | None) -> None:
        self._pieces = pieces
        self._failure = failure
        self._done = True
        self._source = None
        self.wake()
