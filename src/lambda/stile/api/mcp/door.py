"""Who may come to /mcp at all: no page of a foreign origin, and those without a key are told where there is one.

A page could otherwise reach a gateway on its reader's machine by a name that it lets point there (MCP, "Transports",
on DNS rebinding). Any other program sends no Origin.
"""

from collections.abc import Collection, Sequence
from urllib.parse import SplitResult, urlsplit

from stile.api import oauth
from stile.api.base_url import BaseUrl
from stile.api.request import Request
from stile.errors import Forbidden

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class McpDoor:
    """The Door of /mcp. `origins`: those whose pages may call besides the gateway's own; that any may call elsewhere
    does not count here."""

    def __init__(self, base_url: BaseUrl, origins: Collection[str]) -> None:
        self._base_url = base_url
        self._origins = frozenset(origins)

    def check(self, request: Request) -> None:
        origins = [value.decode("latin-1") for name, value in request.scope["headers"] if name == b"origin"]
        if not all(self._is_known(origin, request) for origin in origins):
            raise Forbidden(
                "Pages of this origin may not call here. STILE_CORS_ORIGINS names those that may.",
                code="origin_not_allowed",
            )

    def challenge(self, request: Request) -> Sequence[tuple[str, str]]:
        where = f"{self._base_url.of(request)}{oauth.RESOURCE}"
        return [("www-authenticate", f'Bearer resource_metadata="{where}"')]

    def _is_known(self, origin: str, request: Request) -> bool:
        if origin in self._origins:
            return True
        own, other = urlsplit(self._base_url.of(request)), _split(origin)
        if other is None:
            return False
        if own.hostname in _LOOPBACK and other.hostname in _LOOPBACK:
            return True  # pages on the same machine, like the Inspector's
        return (own.scheme, own.netloc) == (other.scheme, other.netloc)


def _split(origin: str) -> SplitResult | None:
    try:
        return urlsplit(origin)
    except ValueError:
        return None
