"""Token usage: read from wherever a provider puts it, or estimated when it never came.

Shapes read: OpenAI's `usage {prompt_tokens, completion_tokens}` (also `input_tokens`, `output_tokens`), at the top
level, under `x_groq` (Groq), inside a choice (Moonshot), a `response` (OpenAI's Responses) and a `message` (Anthropic,
whose cached tokens come beside `input_tokens` and not in them). Where several come, as from providers that repeat a
running total in every event, the last one of each figure counts.
"""

import re

import msgspec

_BYTES_PER_TOKEN = 4  # OpenAI's rule of thumb for English text
_USAGE_KEY = re.compile(rb'"usage"\s*:\s*\{')


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one call. `estimated` marks figures that no provider gave."""

    input_tokens: int
    output_tokens: int
    estimated: bool = False


class _Reported(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None

    def read(self) -> tuple[int | None, int | None] | None:
        """Tokens sent and received, each only where it is said; None where neither is."""
        sent = self.prompt_tokens
        if sent is None and self.input_tokens is not None:
            sent = self.input_tokens + (self.cache_read_input_tokens or 0) + (self.cache_creation_input_tokens or 0)
        received = self.completion_tokens if self.completion_tokens is not None else self.output_tokens
        if sent is None and self.total_tokens is not None:
            sent = self.total_tokens - (received or 0)
        return None if sent is None and received is None else (sent, received)


class _Holder(msgspec.Struct):
    usage: _Reported | None = None


class _Answer(msgspec.Struct):
    usage: _Reported | None = None
    choices: list[_Holder] | None = None
    x_groq: _Holder | None = None
    response: _Holder | None = None
    message: _Holder | None = None


class Found(msgspec.Struct, frozen=True):
    """Usage seen in one JSON object, as far as it says any, and whether that object carries nothing else (its
    `choices` are empty)."""

    sent: int | None
    received: int | None
    alone: bool

    def after(self, before: Usage | None) -> Usage:
        """What is known when this is seen after what was known before."""
        sent = self.sent if self.sent is not None else before.input_tokens if before else 0
        received = self.received if self.received is not None else before.output_tokens if before else 0
        return Usage(max(sent, 0), max(received, 0))

    @property
    def usage(self) -> Usage:
        return self.after(None)


_decoder = msgspec.json.Decoder(_Answer)


def may_hold_usage(data: bytes) -> bool:
    """A quick look that is never wrong about absence: inside JSON strings a quote is always escaped.

    Providers that were asked for usage say `"usage":null` in every chunk but the last: counting is the cheapest.
    """
    named = data.count(b'"usage"')
    return named != 0 and named != data.count(b'"usage":null') and _USAGE_KEY.search(data) is not None


def find(data: bytes) -> Found | None:
    """Usage in one JSON object of a provider's answer; None where there is none or it is not such an object."""
    if b'"usage"' not in data:
        return None
    try:
        answer = _decoder.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return None
    found = None if answer.usage is None else answer.usage.read()
    if found is None:
        for holder in (answer.response, answer.message, answer.x_groq, *(answer.choices or ())):
            if holder is not None and holder.usage is not None:
                found = holder.usage.read()
    return None if found is None else Found(*found, alone=answer.choices == [])


def estimate(input_bytes: int, output_bytes: int, events: int = 0) -> Usage:
    """Usage guessed from sizes: four bytes a token, and at least one token for each event that came, never zero."""
    sent = max(1, input_bytes // _BYTES_PER_TOKEN)
    received = max(events, output_bytes // _BYTES_PER_TOKEN)
    return Usage(sent, received, estimated=True)
