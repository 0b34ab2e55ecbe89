"""Calls to providers that speak the caller's dialect: the checked body goes up, the answer comes back as it came.

Headers pass by allow-list, both ways. The caller's credentials, cookies and query never go up; cookies, hop-by-hop
headers and the provider's own rate limits never come down. Redirects are not followed.
"""

import functools
import logging
from collections.abc import AsyncGenerator

import msgspec

from stile import __version__
from stile.adapters import relay_body
from stile.adapters.aws_credentials import Credentials, CredentialsError
from stile.adapters.bedrock_bearer import BedrockBearer
from stile.adapters.http_client import ConnectError, HttpAnswer, HttpClient
from stile.adapters.relay_body import JSON
from stile.core import betas, envelope, sse
from stile.core.operations import ANTHROPIC, Operation
from stile.core.routes import Target
from stile.core.secret import Secret
from stile.errors import PublicError, UpstreamFailed, UpstreamTimeout
from stile.ports import Headers, UpstreamAnswer, UpstreamRequest, told_dropped

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
_OWN: Headers = ((b"user-agent", f"stile/{__version__}".encode()), (b"accept-encoding", b"identity"))
_EVENT_STREAM = b"text/event-stream"
_ACCEPT = {True: (b"accept", _EVENT_STREAM), False: (b"accept", JSON)}
_ACCEPT_ANY = (b"accept", b"*/*")
_ANSWER_ANYTHING = frozenset({"speech", "transcriptions", "translations"})  # sound, or text in the form asked for
_TELL_USAGE_IF_ASKED = frozenset({"chat", "completions"})
_VERSION = (b"anthropic-version", b"2023-06-01")  # the API refuses calls without one
_MOST_BETAS = 256  # remembered of one place: callers choose their names
_STATIC = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")

_log = logging.getLogger("stile.relay")


class RelayUpstream:
    """The Upstream port over HTTP, made inside the event loop. The time for a whole call is its caller's to bound."""

    def __init__(self, bearer: BedrockBearer) -> None:
        self._bearer = bearer
        self._client = HttpClient(connect_seconds=CONNECT_SECONDS)
        self._refuse_usage: set[str] = set()
        self._refused_betas: dict[str, set[str]] = {}

    async def send(self, request: UpstreamRequest) -> UpstreamAnswer:
        try:
            if request.operation in ANTHROPIC:
                return await self._send_with_betas(request)
            return await self._send_asking_usage(request)
        except OSError as error:
            raise _public(error, request.target) from error

    async def look_up(self, target: Target, method: str, path: str) -> UpstreamAnswer:
        """Ask about an answer that the target keeps: `path` goes on behind its address for responses."""
        url = f"{target.urls['responses']}{path}"
        headers = _with_own([*_OWN, _ACCEPT_ANY, *await self._credentials(target)], target)
        try:
            if method == "POST":
                found = await self._client.post(url, [*headers, (b"content-type", JSON)], b"{}")
            else:
                found = await (self._client.delete if method == "DELETE" else self._client.get)(url, headers)
            return await _answer(found, target, "responses")
        except OSError as error:
            raise _public(error, target) from error

    async def warm_up(self) -> None:
        self._client.warm_up()

    async def release(self) -> None:
        self._client.release()
        self._bearer.release()

    async def close(self) -> None:
        await self._client.close()

    async def _send_asking_usage(self, request: UpstreamRequest) -> UpstreamAnswer:
        asks_usage = self._asks_usage(request)
        answer = await self._post(request, asks_usage=asks_usage)
        if not asks_usage or answer.status not in (400, 422) or not _names_option(answer.body):
            return answer
        answer = await self._post(request)
        if answer.status < 300:
            url = request.target.urls[request.operation]
            self._refuse_usage.add(url)
            _log.warning("%s takes no stream_options.include_usage; it is not asked again", url)
        return answer

    def _asks_usage(self, request: UpstreamRequest) -> bool:
        """Whether to ask for usage on the gateway's own account: a caller's wish goes up in any case."""
        target = request.target
        if not request.stream or request.operation not in _TELL_USAGE_IF_ASKED or target.stream_usage is False:
            return False
        if _names_option(request.fields.get("stream_options")):
            return False
        return target.stream_usage is True or target.urls[request.operation] not in self._refuse_usage

    async def _send_with_betas(self, request: UpstreamRequest) -> UpstreamAnswer:
        """Without the flags that this place has refused; each refusal teaches more of them."""
        url = request.target.urls[request.operation]
        known = self._refused_betas.get(url, set())
        refused = set(known)
        while True:
            slim, left_out = _without(request, refused)
            answer = await self._post(slim)
            more = betas.refused(answer.status, _said(answer), _flags(slim))
            if not more:
                break
            refused.update(more)
        if answer.status < 400 and refused - known and len(refused) <= _MOST_BETAS:
            self._refused_betas[url] = refused
            _log.warning("%s takes none of these betas: %s; they are left out", url, ", ".join(sorted(refused - known)))
        return told_dropped(answer, left_out)

    async def _post(self, request: UpstreamRequest, *, asks_usage: bool = False) -> UpstreamAnswer:
        target = request.target
        kind, body = relay_body.make(request, asks_usage=asks_usage)
        accept = _ACCEPT[request.stream] if request.operation not in _ANSWER_ANYTHING else _ACCEPT_ANY
        headers = [*_OWN, (b"content-type", kind), accept, *request.headers, *request.trace]
        headers += await self._credentials(target)
        if request.operation in ANTHROPIC and not any(name == _VERSION[0] for name, _ in headers):
            headers.append(_VERSION)
        posted = await self._client.post(target.urls[request.operation], _with_own(headers, target), body)
        return await _answer(posted, target, request.operation)

    async def _credentials(self, target: Target) -> Headers:
        if target.aws_region is not None:
            return (_credential(await self._key(target, target.aws_region), target.key_header),)
        return (_credential(target.api_key, target.key_header),) if target.api_key is not None else ()

    async def _key(self, target: Target, region: str) -> Secret:
        try:
            return await self._bearer.token(region, credentials=_credentials(target))
        except CredentialsError as error:
            raise UpstreamFailed(
                f"{target.label} cannot be called without AWS's credentials ({error}).", code="upstream_unreachable"
            ) from error


async def _answer(answer: HttpAnswer, target: Target, operation: Operation) -> UpstreamAnswer:
    if answer.status >= 300:
        return await _failure(answer, target)
    down = [header for header in answer.headers if header[0] in DOWN]
    if any(name == b"content-type" and value.startswith(_EVENT_STREAM) for name, value in down):
        return UpstreamAnswer(answer.status, down, _events(answer, target))
    if operation == "speech":
        return UpstreamAnswer(answer.status, down, _bytes(answer, target), events=False)
    return UpstreamAnswer(answer.status, down, await answer.read())


def _with_own(headers: list[tuple[bytes, bytes]], target: Target) -> list[tuple[bytes, bytes]]:
    """The headers with those that the configuration sets for the target, which go before all others."""
    if not target.headers:
        return headers
    own = {name.encode(): value.reveal().encode() for name, value in target.headers.items()}
    return [*(header for header in headers if header[0] not in own), *own.items()]


async def _failure(answer: HttpAnswer, target: Target) -> UpstreamAnswer:
    body = await answer.read_up_to(_ERROR_BYTES)
    if answer.status < 400:
        raise UpstreamFailed(f"{target.label} answered with a redirect ({answer.status}); check its api_base.")
    said = target.without_secrets(body.decode("utf-8", "replace")).encode()
    headers = [header for header in answer.headers if header[0] in DOWN and not header[0].startswith(b"content-")]
    kept = envelope.keep_or_wrap(said, answer.status, target.label)
    return UpstreamAnswer(answer.status, [(b"content-type", JSON), *headers], kept)


def _credentials(target: Target) -> Credentials | None:
    """Those that its entry of the model file names; None: the process's own."""
    access_key, secret_key, token = (target.options.get(name) for name in _STATIC)
    return Credentials(access_key.reveal(), secret_key, token) if access_key and secret_key else None


@functools.lru_cache(1024)
def _credential(key: Secret, header: str) -> tuple[bytes, bytes]:
    value = key.reveal()
    return header.encode(), (f"Bearer {value}" if header == "authorization" else value).encode()


def _flags(request: UpstreamRequest) -> list[str]:
    return [flag for name, value in request.headers if name == betas.HEADER for flag in betas.split(value)]


def _without(request: UpstreamRequest, refused: set[str]) -> tuple[UpstreamRequest, list[str]]:
    """The request without these flags and what they stand for, and the names of all that was left out."""
    flags = _flags(request)
    gone = [flag for flag in flags if flag in refused]
    if not gone:
        return request, []
    kept = ",".join(flag for flag in flags if flag not in refused)
    headers = [header for header in request.headers if header[0] != betas.HEADER]
    fields = {name: value for name, value in request.fields.items() if name not in betas.fields_of(gone)}
    slim = msgspec.structs.replace(
        request, headers=[*headers, (betas.HEADER, kept.encode("latin-1"))] if kept else headers, fields=fields
    )
    return slim, [*(f"anthropic-beta={flag}" for flag in gone), *(request.fields.keys() - fields.keys())]


def _said(answer: UpstreamAnswer) -> bytes:
    return answer.body if isinstance(answer.body, bytes) else b""


async def _events(answer: HttpAnswer, target: Target) -> AsyncGenerator[bytes, None]:
    read = answer.readany
    last = b""
    try:
        while chunk := await read():
            last = chunk
            yield chunk
        # Where only the connection's close tells the end, an answer that was cut off looks the same as a whole one.
        if not answer.framed and not sse.is_last(last):
            raise UpstreamFailed(f"{target.label} broke off its answer.", code="upstream_broken")
    except OSError as error:
        raise _public(error, target) from error
    finally:
        answer.close()


async def _bytes(answer: HttpAnswer, target: Target) -> AsyncGenerator[bytes, None]:
    try:
        while chunk := await answer.readany():
            yield chunk
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
