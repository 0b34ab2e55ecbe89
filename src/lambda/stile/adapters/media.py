"""Fetches the media that messages name by URL, from the public internet alone, and answers them as data URLs.

A name is resolved once; every address it has must be public, and the connection is made to one of exactly these, so a
name that changes its mind is of no use. Addresses written as such are checked the same way. Redirects are followed by
hand and checked again. What is in a message never chooses a header, a proxy or a cookie.
"""

import asyncio
import base64
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from stile import __version__
from stile.core import media
from stile.errors import BadRequest

MAX_URLS = 16
MAX_REDIRECTS = 3
MAX_BYTES = 20 * 1024 * 1024
SECONDS = 20

_REDIRECTS = (301, 302, 303, 307, 308)

Resolve = Callable[[str], Awaitable[Sequence[str]]]


class _NotPublicError(Exception):
    """An address that must not be called."""


async def resolve(host: str) -> Sequence[str]:
    """The host's addresses, by the system's resolver."""
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class MediaFetcher:
    """Fetches with bounds: in number, size and time, each over all of one call's media.

    Must be made inside the event loop. `is_allowed` tells which addresses may be called.
    """

    def __init__(
        self,
        *,
        max_bytes: int = MAX_BYTES,
        seconds: float = SECONDS,
        resolve: Resolve = resolve,
        is_allowed: Callable[[str], bool] = media.is_public,
    ) -> None:
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._is_allowed = is_allowed
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=_CheckedResolver(resolve, is_allowed), use_dns_cache=False, force_close=True
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers={"user-agent": f"stile/{__version__}", "accept-encoding": "identity"},
        )

    async def fetch(self, urls: Sequence[str]) -> list[str]:
        """The content of each URL, in order, as data URLs. Raises BadRequest when one of them cannot be had."""
        if len(urls) > MAX_URLS:
            raise media.not_allowed(f"A call may name at most {MAX_URLS} media URLs.")
        try:
            async with asyncio.timeout(self._seconds):
                contents, left = [], self._max_bytes
                for url in urls:
                    mime_type, content = await self._get(url, left)
                    left -= len(content)
                    contents.append(f"data:{mime_type};base64,{base64.b64encode(content).decode()}")
                return contents
        except _NotPublicError:
            raise media.not_allowed("Media are fetched from public addresses only.") from None
        except TimeoutError:
            raise _failed(f"they took longer than {self._seconds:g} seconds") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _failed(type(error).__name__) from None

    async def close(self) -> None:
        await self._session.close()

    async def _get(self, url: str, limit: int) -> tuple[str, bytes]:
        place = URL(url)
        for _ in range(MAX_REDIRECTS + 1):
            self._check(place)
            async with self._session.get(place, allow_redirects=False) as response:
                location = response.headers.get("location")
                if response.status not in _REDIRECTS or location is None:
                    return await _read(response, limit)
            place = place.join(URL(location))
        raise _failed(f"more than {MAX_REDIRECTS} redirects")

    def _check(self, place: URL) -> None:
        if place.scheme not in ("http", "https") or not place.host or place.user or place.password:
            raise media.not_allowed("Media URLs must be http or https, without user and password.")
        if _is_address(place.host) and not self._is_allowed(place.host):
            raise _NotPublicError


class _CheckedResolver(AbstractResolver):
    def __init__(self, resolve: Resolve, is_allowed: Callable[[str], bool]) -> None:
        self._resolve = resolve
        self._is_allowed = is_allowed

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        addresses = await self._resolve(host)
        if not all(map(self._is_allowed, addresses)):
            raise _NotPublicError
        wanted = [(address, socket.AF_INET6 if ":" in address else socket.AF_INET) for address in addresses]
        return [
            ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=socket.AI_NUMERICHOST)
            for address, kind in wanted
            if family in (socket.AF_UNSPEC, kind)
        ]

    async def close(self) -> None:
        """Nothing is held."""


async def _read(response: aiohttp.ClientResponse, limit: int) -> tuple[str, bytes]:
    if response.status != 200 or "content-encoding" in response.headers:
        raise _failed(f"the server answered {response.status}")
    if not media.is_media_type(response.content_type):
        raise _failed("the content is neither image, audio, video nor PDF")
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > limit:
            raise _failed("they are too large")
    return response.content_type, bytes(content)


def _is_address(host: str) -> bool:
    """Whether aiohttp would ask no resolver: IP addresses, and what only looks like one, which is never public."""
    return ":" in host or host.replace(".", "").isdigit()


def _failed(why: Any) -> BadRequest:
    return BadRequest(f"Media could not be fetched: {why}.", code="media_not_fetched", param="messages")
