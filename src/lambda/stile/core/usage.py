"""Token usage: read from wherever a provider puts it, or estimated when it never came.

Shapes read: OpenAI's `usage {prompt_tokens, completion_tokens}` (also `input_tokens`, `output_tokens`), at the top
level, under `x_groq` (Groq) and inside a choice (Moonshot). Where several come, as from providers that repeat a running
total in every event, the last one counts.
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

    def read(self) -> Usage | None:
        sent = self.prompt_tokens if self.prompt_tokens is not None else self.input_tokens
        received = self.completion_tokens if self.completion_tokens is not None else self.output_tokens
        if sent is None and self.total_tokens is not None:
            sent = self.total_tokens - (received or 0)
        if sent is None and received is None:
            return None
        return Usage(max(sent or 0, 0), max(received or 0, 0))


class _Holder(msgspec.Struct):
    usage: _Reported | None = None


class _Answer(msgspec.Struct):
    usage: _Reported | None = None
    choices: list[_Holder] | None = None
    x_groq: _Holder | None = None


class Found(msgspec.Struct, frozen=True):
    """Usage seen in one JSON object, and whether that object carries nothing else (its `choices` are empty)."""

    usage: Usage
    alone: bool


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
    usage = None if answer.usage is None else answer.usage.read()
    for holder in () if usage is not None else (answer.x_groq, *(answer.choices or ())):
        if holder is not None and holder.usage is not None:
            usage = holder.usage.read()
    return None if usage is None else Found(usage, alone=answer.choices == [])


def estimate(input_bytes: int, output_bytes: int, events: int = 0) -> Usage:
    """Usage guessed from sizes: four bytes a token, and at least one token for each event that came, never zero."""
    sent = max(1, input_bytes // _BYTES_PER_TOKEN)
    received = max(events, output_bytes // _BYTES_PER_TOKEN)
    return Usage(sent, received, estimated=True)
