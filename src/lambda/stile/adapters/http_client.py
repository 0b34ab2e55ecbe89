"""A lean HTTP/1.1 client: GET, POST and DELETE over kept connections, in one loop, at a fraction of what a general
client costs.

This room owns addresses, TLS, the head of a request and which connections are kept. No redirects, no cookies, no
compression, no proxies, no time limit for a whole call: whoever calls bounds it.
"""

import asyncio
import codecs
import re
import socket
import ssl
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import NamedTuple
from urllib.parse import quote, urlsplit

import aiohappyeyeballs

from stile.adapters.http_answer import BrokenError, Header, HttpAnswer
from stile.adapters.http_connection import Connection

__all__ = ["BrokenError", "ConnectError", "HttpAnswer", "HttpClient"]

_NEXT_ADDRESS_SECONDS = 0.25  # RFC 8305, section 5
_OTHER_NAME = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH: their texts hold the name
_IN_TARGET = "/?%:@!$&'()*+,;=~"  # stays as it is; the rest is quoted
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OWN_HEADERS = frozenset({b"connection", b"content-length", b"expect", b"host", b"transfer-encoding", b"upgrade"})


class ConnectError(ConnectionError):
    """There is no connection. The text is a short reason for people, without name or address."""


class _Origin(NamedTuple):
    scheme: str
    host: str  # without brackets
    port: int


class HttpClient:
    """Made inside the event loop that it is used in. There is no limit to the number of connections.

    `connect_seconds` is for name, connection and TLS together; a connection that nobody uses is closed after
    `idle_seconds`. `tls` stands in for Python's default context.
    """

    def __init__(
        self, *, connect_seconds: float = 10, idle_seconds: float = 15, tls: ssl.SSLContext | None = None
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._connect_seconds = connect_seconds
        self._idle_seconds = idle_seconds
        self._tls = tls
        self._shelves: dict[_Origin, list[Connection]] = {}  # idle connections, the newest last
        self._open: set[Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._closed = False

    async def post(self, url: str, headers: Sequence[Header], body: bytes, *, once: bool = False) -> HttpAnswer:
        """Send, and wait for the answer's head. The client adds `host` and `content-length`, and nothing else.

        Raises ConnectError, BrokenError, TimeoutError when there is no connection in time, and ValueError for a URL or
        headers that cannot be sent. A call over a kept connection that was dead already goes over a new one; not when
        it may be sent `once` only, for the other side could have read it after all.
        """
        origin, target = _target(url)
        head = b"POST %b%bcontent-length: %d\r\n\r\n" % (target, _lines(headers), len(body))
        return await self._ask(origin, head, body, once=once)

    async def get(self, url: str, headers: Sequence[Header]) -> HttpAnswer:
        """The same for a request without a body."""
        origin, target = _target(url)
        return await self._ask(origin, b"GET %b%b\r\n" % (target, _lines(headers)), b"")

    async def delete(self, url: str, headers: Sequence[Header]) -> HttpAnswer:
        """The same to have something deleted."""
        origin, target = _target(url)
        return await self._ask(origin, b"DELETE %b%b\r\n" % (target, _lines(headers)), b"")

    def warm_up(self) -> None:
        """Load what the first connection needs: trusted certificates, the codec of names."""
        self._context()
        codecs.lookup("idna")

    def release(self) -> None:
        """Close the connections that nobody uses."""
        for shelf in self._shelves.values():
            while shelf:
                shelf.pop().fail("")

    async def close(self) -> None:
        """Close all connections; calls that still use one get a BrokenError."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        connections = list(self._open)
        for connection in connections:
            connection.fail("The client was closed.")
        if connections:
            await asyncio.wait([connection.closed for connection in connections])

    async def _ask(self, origin: _Origin, head: bytes, body: bytes, *, once: bool = False) -> HttpAnswer:
        now = self._loop.time()
        kept = self._take(origin, now)
        if kept is not None:
            answer = await kept.ask(head, body, now)
            if answer is not None:
                return answer
            if once:
                raise BrokenError("The connection was closed before there was an answer.")
        connection = await self._connect(origin)
        answer = await connection.ask(head, body, self._loop.time())
        assert answer is not None, "only a kept connection gives None"  # noqa: S101
        return answer

    def _take(self, origin: _Origin, now: float) -> Connection | None:
        shelf = self._shelves.get(origin)
        while shelf:
            connection = shelf.pop()
            if now - connection.idle_since < self._idle_seconds and connection.is_quiet():
                return connection
            connection.fail("")
        return None

    def _keep(self, connection: Connection) -> None:
        connection.idle_since = self._loop.time()
        connection.shelf.append(connection)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(self._idle_seconds, self._sweep)

    def _gone(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection in connection.shelf:
            connection.shelf.remove(connection)

    def _sweep(self) -> None:
        """Close what is idle too long. One timer serves all: it is set for the one that is idle longest."""
        now = self._loop.time()
        oldest = now
        for shelf in self._shelves.values():
            while shelf and now - shelf[0].idle_since >= self._idle_seconds:
                shelf.pop(0).fail("")
            if shelf:
                oldest = min(oldest, shelf[0].idle_since)
        self._sweeper = None
        if any(self._shelves.values()):
            self._sweeper = self._loop.call_at(oldest + self._idle_seconds, self._sweep)

    async def _connect(self, origin: _Origin) -> Connection:
        shelf = self._shelves.setdefault(origin, [])
        try:
            async with asyncio.timeout(self._connect_seconds):
                connection = await self._open_connection(origin, Connection(shelf, self._keep, self._gone))
        except TimeoutError as error:
            raise TimeoutError("There was no connection in time.") from error
        except (OSError, RuntimeError, UnicodeError) as error:  # RuntimeError: uvloop's, for addresses
            raise ConnectError(_why(error)) from error
        self._open.add(connection)
        if self._closed:
            connection.fail("")
            raise ConnectError("the client is closed")
        return connection

    async def _open_connection(self, origin: _Origin, connection: Connection) -> Connection:
        loop = self._loop
        addresses = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
        # Not left to create_connection: uvloop's tries the addresses one by one, each with all the time there is.
        sock = await aiohappyeyeballs.start_connection(
            addresses, happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS, interleave=1, loop=loop
        )
        try:
            if origin.scheme == "https":
                await loop.create_connection(
                    lambda: connection, sock=sock, ssl=self._context(), server_hostname=origin.host
                )
            else:
                await loop.create_connection(lambda: connection, sock=sock)
        except BaseException:
            sock.close()
            raise
        return connection

    def _context(self) -> ssl.SSLContext:
        return self._tls or _default_context()


@cache
def _default_context() -> ssl.SSLContext:
    """One for all clients: to load the trusted certificates takes 20 ms."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


@lru_cache(maxsize=256)
def _target(url: str) -> tuple[_Origin, bytes]:
    """Where a URL leads, and how the head of a request to it goes on after the method (RFC 9112, section 3.2.1)."""
    parts = urlsplit(url)
    default = {"http": 80, "https": 443}.get(parts.scheme)
    if default is None or not parts.hostname or parts.username is not None or parts.password is not None:
        raise ValueError("A URL must be http:// or https:// with a host, and without a user.")
    port = parts.port or default
    host = parts.hostname.encode("idna").decode() if not parts.hostname.isascii() else parts.hostname
    name = f"[{host}]" if ":" in host else host
    path = quote(f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/", safe=_IN_TARGET)
    authority = name if port == default else f"{name}:{port}"
    return _Origin(parts.scheme, host, port), f"{path} HTTP/1.1\r\nhost: {authority}\r\n".encode("ascii")


def _lines(headers: Sequence[Header]) -> bytes:
    """The header lines. The values may be secret, so no error shows them."""
    lines = b"".join([_name(name) + value + b"\r\n" for name, value in headers])
    if lines.count(b"\n") != len(headers) or lines.count(b"\r") != len(headers) or b"\0" in lines:
        raise ValueError("A header's value may not hold line breaks or NUL.")
    return lines


@lru_cache(maxsize=256)
def _name(name: bytes) -> bytes:
    """How a header's line begins (RFC 9110, section 5.1)."""
    if not _TOKEN.fullmatch(name):
        raise ValueError("A header's name may hold letters, digits and !#$%&'*+.^_`|~- only.")
    if name.lower() in _OWN_HEADERS:
        raise ValueError(f"The header {name.decode()} is the client's own to send.")
    return name + b": "


def _why(error: Exception) -> str:
    """The reason without name or address: whoever calls the gateway need not know them."""
    if isinstance(error, socket.gaierror | UnicodeError):
        return "its name cannot be resolved"
    if isinstance(error, ssl.SSLCertVerificationError):
        other = error.verify_code in _OTHER_NAME
        return f"TLS: certificate {'for another name' if other else 'not trusted: ' + error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {(error.reason or 'handshake failed').replace('_', ' ').lower()}"
    return "connection refused" if isinstance(error, ConnectionRefusedError) else "no connection"
