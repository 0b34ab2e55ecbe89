"""HTTP/1.1 as a strict server speaks it over one connection (RFC 9112): the ground under the Runtime API's emulator.

It takes only what the Runtime API needs and says what is wrong with everything else, because a server that repairs a
runtime's mistakes would hide them.
"""

import contextlib
import re
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_LINE_BYTES = 64 * 1024
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD = re.compile(r"([^:]+):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*")
_REASONS = {200: "OK", 202: "Accepted", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 413: "Too Large"}


class Malformed(Exception):
    """What came is not HTTP/1.1 as the RFC has it; the connection cannot go on."""


@dataclass(frozen=True)
class Request:
    """One request's head. Names of `headers` are in lower case."""

    method: str
    path: str
    headers: dict[str, str]

    @property
    def chunked(self) -> bool:
        return "transfer-encoding" in self.headers


class Connection:
    """The server's end of one connection."""

    def __init__(self, accepted: socket.socket) -> None:
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = accepted
        self._read = bytearray()  # what has come and belongs to no line, chunk or body yet
        self.closed = False
        self.trailers: dict[str, str] = {}

    def request(self) -> Request | None:
        """The next request; None when the client has hung up in between. Raises Malformed, OSError."""
        if not self._read and not self._more():
            return None
        first = self._line()
        match = re.fullmatch(r"(GET|POST) (/[\x21-\x7e]*) HTTP/1\.1", first)
        if match is None:
            raise Malformed(f"the request line is {first!r}")
        headers = self._fields()
        if not headers.get("host"):
            raise Malformed(f"{first}: no Host")
        if match[1] == "POST" and ("content-length" in headers) == ("transfer-encoding" in headers):
            raise Malformed(f"{first}: a body needs either Content-Length or Transfer-Encoding")
        if match[1] == "GET" and ("transfer-encoding" in headers or headers.get("content-length", "0") != "0"):
            raise Malformed(f"{first}: a body where none belongs")
        if headers.get("transfer-encoding", "chunked") != "chunked":
            raise Malformed(f"{first}: Transfer-Encoding: {headers['transfer-encoding']}")
        return Request(match[1], match[2], headers)

    def chunks(self, request: Request) -> Iterator[bytes]:
        """The body's chunks as they arrive; one without chunks comes in one piece. `trailers` are known after it."""
        self.trailers = {}
        if not request.chunked:
            length = request.headers["content-length"]
            if not re.fullmatch(r"\d+", length):
                raise Malformed(f"Content-Length: {length}")
            yield self._exactly(int(length))
            return
        while size := self._chunk_size():
            yield self._exactly(size)
            if self._exactly(2) != b"\r\n":
                raise Malformed("a chunk is longer than it says")
        self.trailers = self._fields()

    def body(self, request: Request) -> bytes:
        return b"".join(self.chunks(request))

    def answer(
        self,
        status: int,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        chunked: bool = False,
        slowly: bool = False,
    ) -> None:
        """Answer the request. `slowly`: in small pieces, cut without regard to what they are pieces of."""
        kind = {"Content-Type": "application/json"}
        framing = {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(len(body))}
        lines = [f"HTTP/1.1 {status} {_REASONS[status]}"]
        lines += [f"{name}: {value}" for name, value in {**kind, **(headers or {}), **framing}.items()]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        data = head + (_chunked(body) if chunked else body)
        if not slowly:
            self._socket.sendall(data)
            return
        step = len(data) // 40 + 1
        for start in range(0, len(data), step):
            self._socket.sendall(data[start : start + step])
            time.sleep(0.002)  # or the kernel would make one piece of them again

    def early(self) -> bytes | None:
        """What the client sends while it should wait: None is as it should be, b"" means that it has hung up."""
        if self.closed:
            return b""
        try:
            return bytes(self._read) or self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def close(self) -> None:
        """Hang up; a thread that reads from this connection finds its end."""
        self.closed = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def release(self) -> None:
        """Let go of the socket, when nothing reads from it any more."""
        self._socket.close()

    def _more(self) -> bool:
        data = self._socket.recv(64 * 1024)
        self._read += data
        return bool(data)

    def _take(self, count: int) -> bytes:
        taken = bytes(self._read[:count])
        del self._read[:count]
        return taken

    def _line(self) -> str:
        while (end := self._read.find(b"\n")) < 0:
            if len(self._read) > _LINE_BYTES:
                raise Malformed(f"a line of more than {_LINE_BYTES} bytes")
            if not self._more():
                raise Malformed(f"the connection ends in the middle of a line: {bytes(self._read[-40:])!r}")
        line = self._take(end + 1)
        if not line.endswith(b"\r\n"):
            raise Malformed(f"a line does not end in CR LF: {line[-40:]!r}")
        return line[:-2].decode("latin-1")

    def _fields(self) -> dict[str, str]:
        fields: dict[str, str] = {}
        while line := self._line():
            match = _FIELD.fullmatch(line)
            if match is None or not _TOKEN.fullmatch(match[1]):
                raise Malformed(f"no header field: {line!r}")
            name = match[1].lower()
            if name in fields:
                raise Malformed(f"{match[1]} comes twice")
            fields[name] = match[2]
        return fields

    def _chunk_size(self) -> int:
        line = self._line()
        if not re.fullmatch(r"[0-9a-fA-F]+", line):
            raise Malformed(f"no chunk size: {line!r}")
        return int(line, 16)

    def _exactly(self, count: int) -> bytes:
        while len(self._read) < count:
            if not self._more():
                raise Malformed(f"the connection ends {count - len(self._read)} bytes too early")
        return self._take(count)


def _chunked(body: bytes) -> bytes:
    """The body in chunks of different sizes."""
    pieces = [body[:1], body[1:1000], body[1000:]]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece) + b"0\r\n\r\n"
