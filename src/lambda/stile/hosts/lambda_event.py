"""Events of Lambda's web front doors as ASGI, and ASGI's answers as Lambda wants them. Nothing here does I/O.

Two front doors are known: API Gateway's REST API (proxy integration, payload 1.0) and function URLs (payload 2.0).
The app sees its own paths: a stage or the base path of a custom domain is taken off.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal
from urllib.parse import unquote, urlencode

import msgspec

EXTENSION = "aws.lambda"
"""Where a scope's extensions hold what Lambda knows of the invocation: `request_id` and `trace_id` are Lambda's,
`cold_start` tells whether it is the first one after a start that somebody waited for; `api_request_id` is the front
door's, `deadline` is the loop's time by which the answer must have ended; `base_url` is the address at which the front
door was called, with the stage or base path (None where it does not say)."""

CONTENT_TYPE = b"application/vnd.awslambda.http-integration-response"
SEPARATOR = b"\0" * 8
PRELUDE_BYTES = 16 * 1024  # the separator must have come within them

_HTTPS_PORT = 443
_PARAMETER = re.compile(r"\{(\w+)\+?\}")
_HOP_BY_HOP = frozenset({b"connection", b"keep-alive", b"transfer-encoding", b"upgrade"})
_TEXT = re.compile(rb"text/|application/(json|[\w.-]+\+json|javascript|xml)")

Header = tuple[bytes, bytes]
Door = Literal["rest", "url"]


class UnknownEvent(Exception):
    """The event is none of the known kinds. The text says what it is instead, as far as that can be seen."""


class HeadTooLarge(Exception):
    """Status and headers of an answer exceed what Lambda takes before the body."""


class HttpRequest(msgspec.Struct, frozen=True):
    """A request as the app will see it: `scope` without what only the host knows, and the body's bytes."""

    door: Door
    scope: dict[str, Any]
    body: bytes


class _Http(msgspec.Struct, rename="camel"):
    method: str
    source_ip: str | None = None


class _Identity(msgspec.Struct, rename="camel"):
    source_ip: str | None = None


class _Context(msgspec.Struct, rename="camel"):
    request_id: str | None = None
    domain_name: str | None = None
    path: str | None = None
    stage: str | None = None
    identity: _Identity | None = None
    http: _Http | None = None
    elb: Any = None


class _Event(msgspec.Struct, rename="camel"):
    """The fields of both payloads that matter; a payload has some of them."""

    version: str | None = None
    request_context: _Context | None = None
    headers: dict[str, str | None] | None = None
    body: str | None = None
    is_base64_encoded: bool | None = False
    # payload 1.0
    http_method: str | None = None
    resource: str | None = None
    path: str | None = None
    path_parameters: dict[str, str | None] | None = None
    multi_value_headers: dict[str, list[str] | None] | None = None
    multi_value_query_string_parameters: dict[str, list[str] | None] | None = None
    # payload 2.0
    raw_path: str | None = None
    raw_query_string: str | None = None
    cookies: list[str] | None = None


def read(event: bytes | object) -> HttpRequest:
    """The request in an event, as JSON or decoded already. Raises UnknownEvent."""
    try:
        known = msgspec.json.decode(event, type=_Event) if isinstance(event, bytes) else msgspec.convert(event, _Event)
    except (msgspec.DecodeError, RecursionError) as fault:
        raise UnknownEvent(f"it cannot be read ({fault})") from None
    context = known.request_context
    if context is not None and known.version is None and known.http_method and known.path and context.elb is None:
        return _rest(known, known.http_method, known.path, context)
    if context is not None and context.http is not None and ".lambda-url." in (context.domain_name or ""):
        return _url(known, context.http)
    raise UnknownEvent(_instead(known, context))


def prelude(door: Door, status: int, headers: Iterable[Header]) -> bytes:
    """What stands before a streamed body: status and headers as JSON, then eight NULs. Raises HeadTooLarge.

    Format: "Lambda proxy integration format for response streaming" in API Gateway's developer guide.
    """
    head = msgspec.json.encode({"statusCode": status, **_fields(door, headers)}) + SEPARATOR
    if len(head) > PRELUDE_BYTES:
        raise HeadTooLarge(f"status and headers take {len(head)} bytes of {PRELUDE_BYTES}")
    return head


def whole(door: Door, status: int, headers: Sequence[Header], body: bytes) -> dict[str, Any]:
    """An answer in one piece, for hosts that cannot stream."""
    plain = all(name != b"content-encoding" for name, _ in headers) and any(
        name == b"content-type" and _TEXT.match(value) for name, value in headers
    )
    text = _decoded(body) if plain or not body else None
    return {
        "statusCode": status,
        **_fields(door, headers),
        "body": base64.b64encode(body).decode() if text is None else text,
        "isBase64Encoded": text is None,
    }


def refusal(unknown: UnknownEvent) -> tuple[int, list[Header], bytes]:
    """What to answer to an event that is no HTTP request: status, headers and body."""
    message = f"This function answers HTTP requests only. It does not know this event: {unknown}."
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": "unknown_event"}
    return 400, [(b"content-type", b"application/json")], msgspec.json.encode({"error": error})


def _rest(event: _Event, method: str, path: str, context: _Context) -> HttpRequest:
    parameters = event.multi_value_query_string_parameters or {}
    headers = event.multi_value_headers or {name: [value or ""] for name, value in (event.headers or {}).items()}
    return _request(
        "rest",
        event,
        method=method,
        path=_own_path(event, path),
        query=urlencode([(name, value) for name, values in parameters.items() for value in values or ()]),
        headers=[(name, value) for name, values in headers.items() for value in values or ()],
        client=context.identity.source_ip if context.identity else None,
    )


def _url(event: _Event, http: _Http) -> HttpRequest:
    headers = [(name, value or "") for name, value in (event.headers or {}).items() if name.lower() != "cookie"]
    if event.cookies:
        headers.append(("cookie", "; ".join(event.cookies)))
    return _request(
        "url",
        event,
        method=http.method,
        path=event.raw_path or "/",
        query=event.raw_query_string or "",
        headers=headers,
        client=http.source_ip,
    )


def _request(
    door: Door,
    event: _Event,
    *,
    method: str,
    path: str,
    query: str,
    headers: Sequence[tuple[str, str]],
    client: str | None,
) -> HttpRequest:
    body = _body(event)
    sent = [(name.lower().encode("latin-1", "replace"), value.encode("latin-1", "replace")) for name, value in headers]
    # What the front door says of the body's length and framing was true for its own connection to the client.
    lines = [line for line in sent if line[0] != b"content-length" and line[0] not in _HOP_BY_HOP]
    if body:
        lines.append((b"content-length", b"%d" % len(body)))
    context = event.request_context
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method.upper(),
        "scheme": "https",
        "path": unquote(path),
        "raw_path": path.encode("latin-1", "replace"),
        "query_string": query.encode("latin-1", "replace"),
        "root_path": "",
        "headers": lines,
        "client": (client, 0) if client else None,
        "server": (context.domain_name, _HTTPS_PORT) if context and context.domain_name else None,
        "extensions": {
            EXTENSION: {
                "api_request_id": context.request_id if context else None,
                "base_url": _base_url(context, path),
            }
        },
    }
    return HttpRequest(door, scope, body)


def _own_path(event: _Event, path: str) -> str:
    """The path below the stage or base path. `path` alone cannot tell: a custom domain's base path stands in it, and,
    where its mapping names no stage, the stage too. The resource and its parameters never hold them."""
    parameters = event.path_parameters or {}
    resource = event.resource or ""
    if not resource or any(parameters.get(name) is None for name in _PARAMETER.findall(resource)):
        return path
    return _PARAMETER.sub(lambda found: parameters[found[1]] or "", resource)


def _base_url(context: _Context | None, path: str) -> str | None:
    """Where the app's own paths begin. A REST API says the whole path, with stage or base path."""
    if context is None or context.domain_name is None:
        return None
    before = f"/{context.stage}" if context.stage and ".execute-api." in context.domain_name else ""
    if context.path and context.path.endswith(path):
        before = context.path.removesuffix(path)
    return f"https://{context.domain_name}{before}"


def _body(event: _Event) -> bytes:
    if not event.body:
        return b""
    if not event.is_base64_encoded:
        return event.body.encode("utf-8", "surrogatepass")
    try:
        return base64.b64decode(event.body, validate=True)
    except binascii.Error as fault:
        raise UnknownEvent(f"its body says that it is base64 and is not ({fault})") from None


def _fields(door: Door, headers: Iterable[Header]) -> dict[str, Any]:
    """Headers as the front door takes them: single ones as text, a list of values where the name comes again."""
    values: dict[str, list[str]] = {}
    for name, value in headers:
        if name.lower() not in _HOP_BY_HOP:
            values.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    cookies = values.pop("set-cookie", []) if door == "url" else []
    if door == "url":
        values = {name: [", ".join(found)] for name, found in values.items()}
    fields: dict[str, Any] = {"headers": {name: found[0] for name, found in values.items() if len(found) == 1}}
    if cookies:
        fields["cookies"] = cookies
    if repeated := {name: found for name, found in values.items() if len(found) > 1}:
        fields["multiValueHeaders"] = repeated
    return fields


def _decoded(body: bytes) -> str | None:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None


def _instead(event: _Event, context: _Context | None) -> str:
    if context is not None and context.elb is not None:
        return "it comes from a load balancer, which cannot stream; use an API Gateway REST API"
    if context is not None and (context.http is not None or event.version is not None):
        return "it comes from an API Gateway HTTP API, which cannot stream; use a REST API"
    return "it comes neither from an API Gateway REST API nor from a function URL"
