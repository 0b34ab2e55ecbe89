"""JSON-RPC 2.0 as MCP has it, as far as the edge looks at a message before the SDK reads it, and how the edge tells of
failures that the SDK never sees.

Codes: JSON-RPC 2.0, section 5.1; MCP 2026-07-28, "Error Codes".
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from stile.api.request import Request
from stile.core import body as bodies
from stile.core import sse
from stile.errors import BadRequest, PublicError
from stile.ports import Headers

PARSE_ERROR, INVALID_REQUEST, INTERNAL_ERROR, HEADER_MISMATCH = -32700, -32600, -32603, -32020
# What the log calls them.
NAMES: Mapping[int, str] = {
    PARSE_ERROR: "parse_error",
    INVALID_REQUEST: "invalid_request",
    -32601: "method_not_found",
    -32602: "invalid_params",
    INTERNAL_ERROR: "internal_error",
    HEADER_MISMATCH: "header_mismatch",
    -32021: "missing_client_capability",
    -32022: "unsupported_protocol_version",
    -32002: "resource_not_found",
}
_CODES = {name: code for code, name in NAMES.items()} | {"invalid_json": PARSE_ERROR}
_VERSION = "io.modelcontextprotocol/protocolVersion"
_NAMED_BY = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
NOTHING = msgspec.Raw(b"")


class Message(msgspec.Struct, frozen=True):
    """What the edge looks at of a message. `name`: of the tool or prompt, or a resource's address. `version`: the
    revision that the body itself says. `progress_token`: as JSON; empty where there is none."""

    id: msgspec.Raw
    method: str
    name: str | None
    version: str | None
    progress_token: msgspec.Raw


def read(body: bytes) -> Message:
    """The message, of which only the outer form is checked. Raises BadRequest for what is none, and for a batch."""
    if body.lstrip()[:1] == b"[":
        raise BadRequest("Send one message at a time: this protocol has no batches.")
    top = bodies.read(body)
    _check(top)
    params = _object(top.get("params", NOTHING))
    meta = _object(params.get("_meta", NOTHING))
    method = _text(top.get("method", NOTHING)) or ""
    said = params.get("protocolVersion", NOTHING) if method == "initialize" else meta.get(_VERSION, NOTHING)
    return Message(
        id=_id(top),
        method=method,
        name=_text(params.get(_NAMED_BY.get(method, ""), NOTHING)),
        version=_text(said),
        progress_token=_label(meta.get("progressToken", NOTHING)),
    )


def progress(token: msgspec.Raw, done: int, message: str) -> bytes:
    """A notification that a request is under way, as an event."""
    params = {"progressToken": token, "progress": done, "message": message}
    return event(msgspec.json.encode({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}))


def event(message: bytes) -> bytes:
    """A message as a server-sent event."""
    return sse.event(message, b"message")


def code_in(body: bytes) -> int | None:
    """The code of an error's message; None of another message."""
    try:
        return msgspec.json.decode(body, type=_Failure).error.code
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


class JsonRpc:
    """The envelope of failures at the edge, for one request: an error names the message that it answers."""

    def __init__(self, request: Request) -> None:
        self._request = request

    def error(self, error: PublicError, message: str, request_id: str) -> bytes:
        known = INTERNAL_ERROR if error.status >= 500 else INVALID_REQUEST
        code = _CODES.get(error.code or "", known)
        data = {"code": error.code, "request_id": request_id}
        told = {"code": code, "message": message, "data": data}
        return msgspec.json.encode({"jsonrpc": "2.0", "id": self._id(), "error": told})

    def adopted(self, status: int, body: bytes, request_id: str) -> bytes:  # noqa: ARG002
        return body

    def event(self, body: bytes, last: bytes) -> bytes:  # noqa: ARG002
        return event(body)

    def headers(self, request_id: str) -> Headers:  # noqa: ARG002
        return ()

    def _id(self) -> msgspec.Raw:
        try:
            return _id(bodies.read(self._request.body))
        except BadRequest:
            return msgspec.Raw(b"null")


class _Error(msgspec.Struct):
    code: int


class _Failure(msgspec.Struct):
    error: _Error


def _check(top: Mapping[str, msgspec.Raw]) -> None:
    if _text(top.get("jsonrpc", NOTHING)) != "2.0":
        raise BadRequest('A message says "jsonrpc": "2.0".')
    if _text(top.get("method", NOTHING)) is None:
        raise BadRequest("A message has a 'method', which is a text. Answers are not taken: nothing was asked.")
    if "id" in top and not bytes(_label(top["id"])):
        raise BadRequest("An 'id' is a text or a whole number.")
    if "params" in top and bytes(memoryview(top["params"])[:1]) != b"{":
        raise BadRequest("'params' must be an object.")


def _object(raw: msgspec.Raw) -> dict[str, msgspec.Raw]:
    try:
        found: dict[str, msgspec.Raw] = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return found


def _text(raw: msgspec.Raw) -> str | None:
    value = _value(raw)
    return value if isinstance(value, str) else None


def _label(raw: msgspec.Raw) -> msgspec.Raw:
    """A text or a whole number, which is what ids and tokens are; else nothing."""
    value = _value(raw)
    return raw if isinstance(value, str | int) and not isinstance(value, bool) else NOTHING


def _id(top: Mapping[str, msgspec.Raw]) -> msgspec.Raw:
    label = _label(top.get("id", NOTHING))
    return label if bytes(label) else msgspec.Raw(b"null")


def _value(raw: msgspec.Raw) -> Any:
    """A value that is no container; None for others."""
    if bytes(memoryview(raw)[:1]) in (b"", b"{", b"["):
        return None
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
