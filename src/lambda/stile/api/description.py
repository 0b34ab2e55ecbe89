"""The API's own description: /openapi.json and the page /docs. Both are made when somebody asks for them first."""

import functools

import msgspec

from stile.api.request import JSON, Reply, Request

_PAGE = [
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
]


async def document(_: Request) -> Reply:
    """The OpenAPI document."""
    return Reply(200, JSON, _document())


async def page(_: Request) -> Reply:
    """The same for people."""
    return Reply(200, _PAGE, _page())


@functools.cache
def _document() -> bytes:
    from stile.api import openapi  # noqa: PLC0415 (no start shall wait for what few ask for)

    return msgspec.json.encode(openapi.document())


@functools.cache
def _page() -> bytes:
    from stile.api import docs_page, openapi  # noqa: PLC0415

    return docs_page.page(openapi.document())
