"""Calls to providers that speak OpenAI's dialect already: the checked body goes up, the answer comes back as it came.

Headers pass by allow-list, both ways. The caller's credentials, cookies and query never go up; cookies, hop-by-hop
headers and the provider's own rate limits never come down. Redirects are not followed.
"""

import functools
import io
import logging
from collections.abc import AsyncGenerator, Mapping

import aiohttp
import msgspec
from yarl import URL

from stile import __version__
from stile.adapters.http_body import read_up_to
from stile.core import body as bodies
from stile.core import envelope, parameters, sse
from stile.core.body import Fields
from stile.core.routes import Target
from stile.errors import PublicError, UpstreamFailed, UpstreamTimeout
from stile.ports import Headers, Operation, UpstreamAnswer, UpstreamRequest

DOWN = frozenset(
    {b"content-type", b"retry-after", b"retry-after-ms", b"x-should-retry", b"openai-processing-ms", b"openai-version"}
)

CONNECT_SECONDS = 10
_ERROR_BYTES = 256 * 1024
_LARGE_BODY = 1024 * 1024
_PATHS: dict[Operation, str] = {"chat": "/chat/completions", "embeddings": "/embeddings"}
_EVENT_STREAM = "text/event-stream"
_SAME = {"max_tokens": "max_completion_tokens"}  # the old name and the new one; OpenAI refuses both at once
_TRUE = msgspec.Raw(b"true")

_log = logging.getLogger("stile.relay")


class RelayUpstream:
    """The Upstream port over HTTP, made inside the event loop. The time for a whole call is its caller's to bound."""

    def __init__(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=60),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            headers={"user-agent": f"stile/{__version__}", "accept-encoding": "identity"},
        )
        self._refuse_usage: set[str | None] = set()

    async def send(self, request: UpstreamRequest) -> UpstreamAnswer:
        target = request.target
        try:
            asks_usage = self._asks_usage(request)
            answer = await self._answer(await self._post(request, asks_usage), target)
            if not asks_usage or answer.status not in (400, 422) or not _names_option(answer.body):
                return answer
            answer = await self._answer(await self._post(request, asks_usage=False), target)
            if answer.status < 300:
                self._refuse_usage.add(target.api_base)
                _log.warning("%s takes no stream_options.include_usage; it is not asked again", target.api_base)
            return answer
        except (aiohttp.ClientError, OSError) as error:
            raise _public(error, target) from error

    async def close(self) -> None:
        await self._session.close()

    def _asks_usage(self, request: UpstreamRequest) -> bool:
        """Whether to ask for usage on the gateway's own account: a caller's wish goes up in any case."""
        target = request.target
        if not request.stream or target.stream_usage is False or _names_option(request.fields.get("stream_options")):
            return False
        return target.stream_usage is True or target.api_base not in self._refuse_usage

    async def _post(self, request: UpstreamRequest, asks_usage: bool) -> aiohttp.ClientResponse:
        target = request.target
        headers = {
            "content-type": "application/json",
            "accept": _EVENT_STREAM if request.stream else "application/json",
        }
        for name, value in request.headers:
            headers[name.decode("latin-1")] = value.decode("latin-1")
        for own, secret in target.headers.items():
            headers[own] = secret.reveal()
        if target.api_key is not None:
            key = target.api_key.reveal()
            headers[target.key_header] = f"Bearer {key}" if target.key_header == "authorization" else key
        body = bodies.write(_fields(request, asks_usage))
        return await self._session.post(
            _url(target.api_base, request.operation),
            data=body if len(body) < _LARGE_BODY else io.BytesIO(body),
            headers=headers,
            allow_redirects=False,
        )

    async def _answer(self, response: aiohttp.ClientResponse, target: Target) -> UpstreamAnswer:
        if response.status >= 300:
            return await self._failure(response, target)
        if response.headers.get("content-type", "").startswith(_EVENT_STREAM):
            return UpstreamAnswer(response.status, _down(response), _events(response, target))
        return UpstreamAnswer(response.status, _down(response), await response.read())

    async def _failure(self, response: aiohttp.ClientResponse, target: Target) -> UpstreamAnswer:
        async with response:
            if response.status < 400:
                raise UpstreamFailed(
                    f"{target.label} answered with a redirect ({response.status}); check its api_base."
                )
            body = await read_up_to(response, _ERROR_BYTES)
            body = target.without_secrets(body.decode("utf-8", "replace")).encode()
            headers = [(name, value) for name, value in _down(response) if name != b"content-type"]
            return UpstreamAnswer(
                response.status,
                [(b"content-type", b"application/json"), *headers],
                envelope.keep_or_wrap(body, response.status, target.label),
            )


@functools.lru_cache(1024)
def _url(base: str | None, operation: Operation) -> URL:
    return URL(f"{base}{_PATHS[operation]}")


@functools.lru_cache(1024)
def _text(value: str) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def _fields(request: UpstreamRequest, asks_usage: bool) -> Fields:
    fields = _with_defaults(request) if request.target.defaults else dict(request.fields)
    fields["model"] = _text(request.target.model)
    if request.target.stream_usage is False:
        fields.pop("stream_options", None)  # it would be refused; usage comes unasked, or is estimated
    if asks_usage:
        options: Mapping[str, msgspec.Raw] = bodies.take(fields, "stream_options", Fields, {})
        fields["stream_options"] = msgspec.Raw(msgspec.json.encode({**options, "include_usage": _TRUE}))
    return fields


def _with_defaults(request: UpstreamRequest) -> Fields:
    """The request's fields over those that the configuration sets for this operation."""
    allowed = parameters.CHAT if request.operation == "chat" else parameters.EMBEDDINGS
    said = {_SAME.get(name, name) for name in request.fields}
    fields = {
        name: msgspec.Raw(msgspec.json.encode(value))
        for name, value in request.target.defaults.items()
        if name in allowed and _SAME.get(name, name) not in said
    }
    return {**fields, **request.fields}


def _down(response: aiohttp.ClientResponse) -> Headers:
    return [(lower, value) for name, value in response.raw_headers if (lower := name.lower()) in DOWN]


async def _events(response: aiohttp.ClientResponse, target: Target) -> AsyncGenerator[bytes, None]:
    read = response.content.readany
    last = b""
    try:
        while chunk := await read():
            last = chunk
            yield chunk
        # Where only the connection's close tells the end, an answer that was cut off looks the same as a whole one.
        if not _is_framed(response) and sse.DONE not in last:
            raise UpstreamFailed(f"{target.label} broke off its answer.", code="upstream_broken")
    except (aiohttp.ClientError, OSError) as error:
        raise _public(error, target) from error
    finally:
        response.close()


def _is_framed(response: aiohttp.ClientResponse) -> bool:
    return "transfer-encoding" in response.headers or "content-length" in response.headers


def _why(error: aiohttp.ClientConnectorError) -> str:
    """The reason without the address: whoever calls need not know it."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its name cannot be resolved"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "its certificate is not trusted"
    return "connection refused" if isinstance(error.os_error, ConnectionRefusedError) else "no connection"


def _names_option(said: object) -> bool:
    """Whether a caller's options, or a provider's refusal, speak of usage in streams."""
    text = bytes(said) if isinstance(said, bytes | msgspec.Raw) else b""
    return b"stream_options" in text or b"include_usage" in text


def _public(error: Exception, target: Target) -> PublicError:
    if isinstance(error, TimeoutError):
        return UpstreamTimeout(f"{target.label} did not answer in time.")
    if isinstance(error, aiohttp.ClientConnectorError):
        return UpstreamFailed(f"{target.label} cannot be reached ({_why(error)}).")
    return UpstreamFailed(f"{target.label} broke off its answer.", code="upstream_broken")
