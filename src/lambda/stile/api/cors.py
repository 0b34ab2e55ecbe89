"""Which pages browsers may call from: any, unless the settings name some. Whoever has a key may use it anywhere, and
without one there is nothing to take, so the default opens nothing.

No cookie ever counts here. Protocol: Fetch Standard, CORS.
"""

from collections.abc import Collection

from stile.api.request import Reply, Request
from stile.ports import Headers

ANY = "*"

_EXPOSED = (b"access-control-expose-headers", b"*")
_ANYBODY: Headers = [(b"access-control-allow-origin", b"*"), _EXPOSED]
_METHODS = (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, PATCH, DELETE")
_MAX_AGE = (b"access-control-max-age", b"7200")  # the longest that Chromium believes
_BY_ORIGIN = (b"vary", b"origin")
_BY_WISH = (b"vary", b"access-control-request-headers")


class Cors:
    """The pages that may call, by their origins; ANY among them stands for all."""

    def __init__(self, origins: Collection[str]) -> None:
        self._origins = None if ANY in origins else frozenset(origins)

    def shared(self, request: Request) -> Headers:
        """Headers by which a page that asked may read the reply."""
        origin = request.header(b"origin")
        if origin is None:
            return ()
        if self._origins is None:
            return _ANYBODY
        if origin not in self._origins:
            return (_BY_ORIGIN,)
        return [(b"access-control-allow-origin", origin.encode("latin-1")), _EXPOSED, _BY_ORIGIN]


async def preflight(request: Request) -> Reply:
    """What a browser asks before it sends a call of another origin: to pages that may call, everything is allowed."""
    wanted = request.header(b"access-control-request-headers")
    # A `*` would not cover `authorization`.
    allowed = [(b"access-control-allow-headers", wanted.encode("latin-1")), _BY_WISH] if wanted else []
    return Reply(200, [_METHODS, _MAX_AGE, *allowed], b"")
