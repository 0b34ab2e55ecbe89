"""A relay that adds a key to each request and changes nothing else, for programs that cannot send a header.

One request a connection: what comes back is passed on as it comes, until the gateway closes.
"""

import contextlib
import itertools
import re
import socket
import socketserver
import threading
from collections.abc import Iterator

SECONDS = 60  # for the longest silence
_ENDS = (b"\r\n", b"")
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


@contextlib.contextmanager
def running(to: tuple[str, int], key: str) -> Iterator[str]:
    """The relay's address, until the block ends."""

    class Handler(socketserver.StreamRequestHandler):
        timeout = SECONDS

        def handle(self) -> None:
            line, *headers = [*itertools.takewhile(lambda read: read not in _ENDS, self.rfile), b""]
            if not line:  # a connection that was opened and not used
                return
            length = next((int(found[1]) for header in headers if (found := _LENGTH.match(header))), 0)
            kept = [header for header in headers if not header.lower().startswith(b"connection:")]
            added = f"Authorization: Bearer {key}\r\nConnection: close\r\n\r\n".encode()
            with socket.create_connection(to, SECONDS) as upstream, contextlib.suppress(ConnectionError):
                upstream.sendall(b"".join([line, *kept, added]) + self.rfile.read(length))
                while data := upstream.recv(65536):
                    self.wfile.write(data)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield "http://{}:{}".format(*server.server_address)
        finally:
            server.shutdown()
            thread.join()
