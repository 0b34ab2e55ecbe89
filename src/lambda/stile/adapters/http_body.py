"""Reading an HTTP answer's body up to a bound."""

import aiohttp


async def read_up_to(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body's first `limit` bytes, or all of it when it is shorter."""
    body = bytearray()
    while len(body) < limit and (chunk := await response.content.read(limit - len(body))):
        body += chunk
    return bytes(body)
