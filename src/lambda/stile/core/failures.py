"""What a target's failure means: whether another attempt may help, where, and when.

Statuses as RFC 9110, 9111 and 6585 have them; codes and words of a too long prompt and of a refused content as the
providers' own documentation and answers have them.
"""

import email.utils
import re
from collections.abc import Sequence
from datetime import UTC
from typing import Literal

import msgspec

from stile.core.routes import Occasion

# `again`: the same target may be tried again. `elsewhere`: only others. `final`: the caller's own affair.
Remedy = Literal["again", "elsewhere", "final"]
Kind = Literal[
    "unreachable",
    "broken",
    "timeout",
    "rate_limited",
    "server_error",
    "unauthorized",
    "forbidden",
    "not_found",
    "refused",
    "context_window",
    "content_policy",
]

UNCOUNTED_SECONDS = 1  # a provider that asks for no longer pause is busy for a moment, and not down

_AGAIN = {408: "timeout", 409: "server_error", 425: "server_error", 429: "rate_limited"}
_ELSEWHERE = {401: "unauthorized", 403: "forbidden", 404: "not_found"}
_ABOUT_THE_BODY = frozenset({400, 413, 422})
_QUOTED_BYTES = 8192
# What errors are called where they have no status: Anthropic's types, and OpenAI's codes.
_STATUSES = {
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "overloaded_error": 529,
}
_CONTEXT_WINDOW = re.compile(
    rb"context_length_exceeded|context_window_exceeded|model_max_prompt_tokens_exceeded|maximum context length"
    rb"|exceed(s|ed)? (the )?(model's )?(maximum )?context|context limit|available context size|prompt is too long"
    rb"|input is too long|too many (input )?tokens|longer than the model's context|maximum number of tokens allowed"
    rb"|input tokens exceed|input token count|longer than the maximum model length|while limit is \d+",
    re.IGNORECASE,
)
_CONTENT_POLICY = re.compile(
    rb"content_policy_violation|content_filter|responsibleaipolicyviolation|content management policy"
    rb"|our safety system|violating our usage policy|flagged by our moderation|blocked by (our |the )?content filter",
    re.IGNORECASE,
)


class Failure(msgspec.Struct, frozen=True):
    """One attempt's end. `retry_after`: seconds that the provider asks to be left alone."""

    kind: Kind
    remedy: Remedy
    retry_after: float | None = None

    @property
    def occasion(self) -> Occasion:
        """Which fallbacks are meant for it."""
        if self.kind in ("context_window", "content_policy"):
            return self.kind
        return "failure"

    @property
    def counts(self) -> bool:
        """Whether it speaks against the target: a refusal of what this one caller sent does not."""
        if self.kind in ("refused", "context_window", "content_policy"):
            return False
        return self.kind != "rate_limited" or self.retry_after is None or self.retry_after > UNCOUNTED_SECONDS


UNREACHABLE = Failure("unreachable", "again")
BROKEN = Failure("broken", "again")
TIMEOUT = Failure("timeout", "again")
REFUSED = Failure("refused", "final")
NOT_TAKEN = Failure("refused", "elsewhere")  # the translator knows that this target cannot take it


def read(status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes, now: float) -> Failure:
    """What an answer with a status of 400 or above means. `now`: seconds since the epoch."""
    if status in _ABOUT_THE_BODY:
        return _of_words(body[:_QUOTED_BYTES])
    if status in _ELSEWHERE:
        return Failure(_ELSEWHERE[status], "elsewhere")  # type: ignore[arg-type]
    if status < 500 and status not in _AGAIN:
        return REFUSED
    lasting = b"insufficient_quota" in body[:_QUOTED_BYTES] or dict(headers).get(b"x-should-retry") == b"false"
    kind: Kind = _AGAIN.get(status, "server_error")  # type: ignore[assignment]
    return Failure(kind, "elsewhere" if lasting else "again", _retry_after(dict(headers), now))


def in_stream(data: bytes) -> tuple[int, Failure] | None:
    """Status and meaning of a stream's first event that is an error in place of an answer; None when it is none."""
    if b'"error"' not in data:
        return None
    try:
        said = msgspec.json.decode(data, type=_ErrorEvent)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if said.type == "error" and not said.error:  # as Responses has it
        said.error = {"message": said.message, "code": said.code}
    if not said.error or any(choice.says_something for choice in said.choices):
        return None
    fields = said.error if isinstance(said.error, dict) else {}
    named = [_STATUSES.get(str(fields.get(name))) for name in ("type", "code")]
    for number in (fields.get("code"), fields.get("status"), said.status, *named):
        if isinstance(number, int) and 400 <= number < 600:
            return number, read(number, (), data, 0)
    found = _of_words(data)
    return (502, Failure("server_error", "again")) if found.kind == "refused" else (400, found)


class _Choice(msgspec.Struct):
    delta: dict[str, object] | None = None

    @property
    def says_something(self) -> bool:
        return any(value for name, value in (self.delta or {}).items() if name != "role")


class _ErrorEvent(msgspec.Struct):
    error: dict[str, object] | str | None = None
    choices: list[_Choice] = []
    status: object = None
    type: str | None = None
    message: object = None
    code: object = None


def _of_words(body: bytes) -> Failure:
    if _CONTEXT_WINDOW.search(body):
        return Failure("context_window", "final")
    if _CONTENT_POLICY.search(body):
        return Failure("content_policy", "final")
    return REFUSED


def _retry_after(headers: dict[bytes, bytes], now: float) -> float | None:
    """RFC 9110, section 10.2.3, and OpenAI's own header in milliseconds before it."""
    milliseconds = _number(headers.get(b"retry-after-ms", b""))
    if milliseconds is not None:
        return milliseconds / 1000
    said = headers.get(b"retry-after", b"")
    seconds = _number(said)
    if seconds is not None or not said:
        return seconds
    try:
        when = email.utils.parsedate_to_datetime(said.decode("latin-1"))
        return max(0.0, (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - now)
    except (ValueError, OverflowError):
        return None


def _number(text: bytes) -> float | None:
    return float(text) if re.fullmatch(rb"\d{1,9}(\.\d{1,9})?", text.strip()) else None
