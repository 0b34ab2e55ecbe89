"""Browsers may call from any page: whoever has a key may use it anywhere, and without one there is nothing to take.

No cookie ever counts here, so the origin of a page decides nothing. Protocol: Fetch Standard, CORS.
"""

from stile.api.request import Reply, Request
from stile.ports import Headers

_ANY_ORIGIN = (b"access-control-allow-origin", b"*")
_SHARED: Headers = [_ANY_ORIGIN, (b"access-control-expose-headers", b"*")]
_METHODS = (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, PATCH, DELETE")
_MAX_AGE = (b"access-control-max-age", b"7200")  # the longest that Chromium believes
_VARY = (b"vary", b"access-control-request-headers")


def shared(request: Request) -> Headers:
    """Headers by which a page that asked may read the reply."""
    return _SHARED if request.header(b"origin") is not None else ()


async def preflight(request: Request) -> Reply:
    """What a browser asks before it sends a call of another origin: everything is allowed."""
    wanted = request.header(b"access-control-request-headers")
    # A `*` would not cover `authorization`.
    allowed = [(b"access-control-allow-headers", wanted.encode("latin-1")), _VARY] if wanted else []
    return Reply(200, [_METHODS, _MAX_AGE, *allowed], b"")
