"""Calls to providers that speak OpenAI's dialect already: the checked body goes up, the answer comes back as it came.

Headers pass by allow-list, both ways. The caller's credentials, cookies and query never go up; cookies, hop-by-hop
headers and the provider's own rate limits never come down. Redirects are not followed.
"""

import functools
import logging
from collections.abc import AsyncGenerator, Mapping

import msgspec

from stile import __version__
from stile.adapters.aws_credentials import Credentials, CredentialsError
from stile.adapters.bedrock_bearer import BedrockBearer
from stile.adapters.http_client import ConnectError, HttpAnswer, HttpClient
from stile.core import body as bodies
from stile.core import envelope, parameters, sse
from stile.core.body import Fields
from stile.core.routes import Target
from stile.core.secret import Secret
from stile.errors import PublicError, UpstreamFailed, UpstreamTimeout
from stile.ports import Headers, Operation, UpstreamAnswer, UpstreamRequest

DOWN = frozenset(
    {
        b"content-type",
        b"content-encoding",
        b"retry-after",
        b"retry-after-ms",
        b"x-should-retry",
        b"openai-processing-ms",
        b"openai-version",
    }
)

CONNECT_SECONDS = 10
_ERROR_BYTES = 256 * 1024
_PATHS: dict[Operation, str] = {"chat": "/chat/completions", "embeddings": "/embeddings"}
_JSON = (b"content-type", b"application/json")
_OWN: Headers = (_JSON, (b"user-agent", f"stile/{__version__}".encode()), (b"accept-encoding", b"identity"))
_EVENT_STREAM = b"text/event-stream"
_ACCEPT = {True: (b"accept", _EVENT_STREAM), False: (b"accept", b"application/json")}
_SAME = {"max_tokens": "max_completion_tokens"}  # the old name and the new one; OpenAI refuses both at once
_STATIC = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
_TRUE = msgspec.Raw(b"true")

_log = logging.getLogger("stile.relay")


class RelayUpstream:
    """The Upstream port over HTTP, made inside the event loop. The time for a whole call is its caller's to bound."""

    def __init__(self, bearer: BedrockBearer) -> None:
        self._bearer = bearer
        self._client = HttpClient(connect_seconds=CONNECT_SECONDS)
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
        except OSError as error:
            raise _public(error, target) from error

    async def warm_up(self) -> None:
        self._client.warm_up()

    async def release(self) -> None:
        self._client.release()
        self._bearer.release()

    async def close(self) -> None:
        await self._client.close()

    def _asks_usage(self, request: UpstreamRequest) -> bool:
        """Whether to ask for usage on the gateway's own account: a caller's wish goes up in any case."""
        target = request.target
        if not request.stream or target.stream_usage is False or _names_option(request.fields.get("stream_options")):
            return False
        return target.stream_usage is True or target.api_base not in self._refuse_usage

    async def _post(self, request: UpstreamRequest, asks_usage: bool) -> HttpAnswer:
        target = request.target
        headers = [*_OWN, _ACCEPT[request.stream], *request.headers]
        if target.aws_region is not None:
            headers.append(_credential(await self._key(target, target.aws_region), target.key_header))
        elif target.api_key is not None:
            headers.append(_credential(target.api_key, target.key_header))
        if target.headers:
            own = {name.encode(): value.reveal().encode() for name, value in target.headers.items()}
            headers = [*(header for header in headers if header[0] not in own), *own.items()]
        body = bodies.write(_fields(request, asks_usage))
        return await self._client.post(_url(target.api_base, request.operation), headers, body)

    async def _key(self, target: Target, region: str) -> Secret:
        try:
            return await self._bearer.token(region, credentials=_credentials(target))
        except CredentialsError as error:
            raise UpstreamFailed(
                f"{target.label} cannot be called without AWS's credentials ({error}).", code="upstream_unreachable"
            ) from error

    async def _answer(self, answer: HttpAnswer, target: Target) -> UpstreamAnswer:
        if answer.status >= 300:
            return await _failure(answer, target)
        down = [header for header in answer.headers if header[0] in DOWN]
        if any(name == b"content-type" and value.startswith(_EVENT_STREAM) for name, value in down):
            return UpstreamAnswer(answer.status, down, _events(answer, target))
        return UpstreamAnswer(answer.status, down, await answer.read())


async def _failure(answer: HttpAnswer, target: Target) -> UpstreamAnswer:
    body = await answer.read_up_to(_ERROR_BYTES)
    if answer.status < 400:
        raise UpstreamFailed(f"{target.label} answered with a redirect ({answer.status}); check its api_base.")
    said = target.without_secrets(body.decode("utf-8", "replace")).encode()
    headers = [header for header in answer.headers if header[0] in DOWN and not header[0].startswith(b"content-")]
    return UpstreamAnswer(answer.status, [_JSON, *headers], envelope.keep_or_wrap(said, answer.status, target.label))


def _credentials(target: Target) -> Credentials | None:
    """Those that its entry of the model file names; None: the process's own."""
    access_key, secret_key, token = (target.options.get(name) for name in _STATIC)
    return Credentials(access_key.reveal(), secret_key, token) if access_key and secret_key else None


@functools.lru_cache(1024)
def _credential(key: Secret, header: str) -> tuple[bytes, bytes]:
    value = key.reveal()
    return header.encode(), (f"Bearer {value}" if header == "authorization" else value).encode()


@functools.lru_cache(1024)
def _url(base: str | None, operation: Operation) -> str:
    return f"{base}{_PATHS[operation]}"


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


async def _events(answer: HttpAnswer, target: Target) -> AsyncGenerator[bytes, None]:
    read = answer.readany
    last = b""
    try:
        while chunk := await read():
            last = chunk
            yield chunk
        # Where only the connection's close tells the end, an answer that was cut off looks the same as a whole one.
        if not answer.framed and sse.DONE not in last:
            raise UpstreamFailed(f"{target.label} broke off its answer.", code="upstream_broken")
    except OSError as error:
        raise _public(error, target) from error
    finally:
        answer.close()


def _names_option(said: object) -> bool:
    """Whether a caller's options, or a provider's refusal, speak of usage in streams."""
    text = bytes(said) if isinstance(said, bytes | msgspec.Raw) else b""
    return b"stream_options" in text or b"include_usage" in text


def _public(error: OSError, target: Target) -> PublicError:
    if isinstance(error, TimeoutError):
        return UpstreamTimeout(f"{target.label} did not answer in time.")
    if isinstance(error, ConnectError):
        return UpstreamFailed(f"{target.label} cannot be reached ({error}).")
    return UpstreamFailed(f"{target.label} broke off its answer.", code="upstream_broken")
