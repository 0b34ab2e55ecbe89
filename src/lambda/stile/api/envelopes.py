"""How each dialect tells of failures: as a whole answer, and as the last event of a stream.

OpenAI: API reference, "Error codes"; Responses: "Streaming events", `error`; Anthropic: API reference, "Errors". What a
provider says of itself is kept where it is in the caller's dialect already, else put into it.
"""

import re
from typing import Any, Protocol

import msgspec

from stile.api.request import Request
from stile.core import envelope, sse
from stile.errors import PublicError
from stile.ports import Headers

_NUMBER = re.compile(rb'"sequence_number": ?(\d+)')
_MESSAGES = re.compile(r"(/openai)?(/v1)?/messages(/|$)")
_MOST_WORDS = 2000


class Envelope(Protocol):
    """One dialect's way."""

    def error(self, error: PublicError, message: str, request_id: str) -> bytes:
        """A failure as a whole body; `message` is what may be shown of it."""

    def adopted(self, status: int, body: bytes, request_id: str) -> bytes:
        """What a provider, or the translator, answered with a status of 400 or above."""

    def event(self, body: bytes, last: bytes) -> bytes:
        """One of these bodies as the end of a stream, after its `last` events."""

    def headers(self, request_id: str) -> Headers:
        """Names that this dialect has for what all replies tell."""


class OpenAI:
    """The envelope of OpenAI's API, and of this gateway's own."""

    def error(self, error: PublicError, message: str, request_id: str) -> bytes:  # noqa: ARG002
        return envelope.write(message, error.kind, error.code, error.param)

    def adopted(self, status: int, body: bytes, request_id: str) -> bytes:  # noqa: ARG002
        return body

    def event(self, body: bytes, last: bytes) -> bytes:  # noqa: ARG002
        return sse.event(b" ".join(body.splitlines()))

    def headers(self, request_id: str) -> Headers:  # noqa: ARG002
        return ()


class Responses(OpenAI):
    """The same for the Responses API, whose streams have an event for it."""

    def event(self, body: bytes, last: bytes) -> bytes:
        numbers = _NUMBER.findall(last)
        said = _said(body)
        fields = {
            "type": "error",
            "code": said.code,
            "message": said.message,
            "param": said.param,
            "sequence_number": int(numbers[-1]) + 1 if numbers else 0,
        }
        return sse.event(msgspec.json.encode(fields), b"error")


class Anthropic:
    """The envelope of Anthropic's API."""

    def error(self, error: PublicError, message: str, request_id: str) -> bytes:
        return _anthropic(_kind(error.status), message, request_id)

    def adopted(self, status: int, body: bytes, request_id: str) -> bytes:
        said = _said(body)
        kind = said.type if said.is_anthropic and said.type else _kind(status)
        return _anthropic(kind, said.message or "", request_id)

    def event(self, body: bytes, last: bytes) -> bytes:  # noqa: ARG002
        return sse.event(b" ".join(body.splitlines()), b"error")

    def headers(self, request_id: str) -> Headers:
        return ((b"request-id", request_id.encode()),)


OPENAI, RESPONSES, ANTHROPIC = OpenAI(), Responses(), Anthropic()

_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "invalid_request_error",
    413: "request_too_large",
    422: "invalid_request_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def asked_for(request: Request) -> Envelope:
    """The envelope that a caller expects where any may call: Anthropic's clients say their version of its API."""
    speaks_anthropic = request.header(b"anthropic-version") is not None
    return ANTHROPIC if speaks_anthropic or _MESSAGES.match(request.scope["path"]) else OPENAI


def _kind(status: int) -> str:
    return _KINDS.get(status, "api_error")


def _anthropic(kind: str, message: str, request_id: str) -> bytes:
    error = {"type": kind, "message": message}
    return msgspec.json.encode({"type": "error", "error": error, "request_id": request_id})


class _Error(msgspec.Struct):
    message: str | None = None
    type: str | None = None
    code: Any = None
    param: Any = None
    is_anthropic: bool = False


class _Body(msgspec.Struct):
    error: msgspec.Raw
    type: str | None = None


def _said(body: bytes) -> _Error:
    """What an error body says, in whichever dialect; one that is in none says itself."""
    try:
        whole = msgspec.json.decode(body, type=_Body)
        said = msgspec.json.decode(whole.error, type=_Error)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        said = _Error()
        whole = None
    said.message = said.message or body[:_MOST_WORDS].decode("utf-8", "replace")
    said.param = said.param if isinstance(said.param, str) else None
    said.is_anthropic = whole is not None and whole.type == "error" and bool(said.type)
    said.code = None if said.code is None else str(said.code)
    return said
