"""OpenAI's error envelope, `{"error": {message, type, param, code}}`: written, and known when a provider sends one."""

from typing import Any

import msgspec

MAX_QUOTED = 2000


class _Envelope(msgspec.Struct):
    error: dict[str, msgspec.Raw]


class _Loose(msgspec.Struct):
    """Errors in other forms: as the Responses API streams them and older vLLMs answer (`message`), FastAPI (`detail`),
    Ollama and llama.cpp (`error`)."""

    message: str | None = None
    detail: str | None = None
    error: str | None = None
    code: Any = None
    param: str | None = None


def write(message: str, kind: str, code: str | None, param: str | None = None) -> bytes:
    """The envelope as JSON."""
    return msgspec.json.encode({"error": {"message": message, "type": kind, "param": param, "code": code}})


def keep_or_wrap(body: bytes, status: int, label: str) -> bytes:
    """A provider's error body as it is when it is an envelope already, else quoted in one."""
    try:
        if "message" in msgspec.json.decode(body, type=_Envelope).error:
            return body
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        said = msgspec.json.decode(body, type=_Loose)
        if message := said.message or said.detail or said.error:
            code = said.code if isinstance(said.code, str) else "upstream_error"
            return write(message[:MAX_QUOTED], "upstream_error", code, said.param)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    quoted = body[:MAX_QUOTED].decode("utf-8", "replace").strip() or "no message"
    return write(f"{label} answered {status}: {quoted}", "upstream_error", "upstream_error")
