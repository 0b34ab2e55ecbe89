"""Token usage: read from wherever a provider puts it, or estimated when it never came.

Shapes read: OpenAI's `usage {prompt_tokens, completion_tokens}` (also `input_tokens`, `output_tokens`), at the top
level, under `x_groq` (Groq), inside a choice (Moonshot), a `response` (OpenAI's Responses) and a `message` (Anthropic,
whose cached tokens come beside `input_tokens` and not in them). Where several come, as from providers that repeat a
running total in every event, the last one of each figure counts. What of the tokens was cached, and what was reasoning,
stands in `prompt_tokens_details` and `completion_tokens_details` (chat), `input_tokens_details` and
`output_tokens_details` (Responses), or beside the others.
"""

import re
from typing import Generic, TypeVar

import msgspec

_BYTES_PER_TOKEN = 4  # OpenAI's rule of thumb for English text
_MOST_TOKENS = 10**12
_MAX_NAME = 256
_USAGE_KEY = re.compile(rb'"usage"\s*:\s*\{')


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one call. `estimated` marks figures that no provider gave.

    `cached_tokens` (read from the provider's cache), `cache_write_tokens` and of these `cache_write_1h_tokens` (put
    into it, for an hour) are parts of the input, `reasoning_tokens` of the output; None where the provider does not
    say. `model`: as the answer names it.
    """

    input_tokens: int
    output_tokens: int
    estimated: bool = False
    cached_tokens: int | None = None
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int | None = None
    model: str | None = None


class _Details(msgspec.Struct):
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Written(msgspec.Struct):
    ephemeral_1h_input_tokens: int | None = None


_NONE = _Details()


class _Plain(msgspec.Struct):
    """What all providers say in one way or another."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None

    def read(self, model: str | None) -> "Found | None":
        """What is said of tokens sent and received; None where neither is."""
        sent = self.prompt_tokens
        if sent is None and self.input_tokens is not None:
            sent = self.input_tokens + (self.cache_read_input_tokens or 0) + (self.cache_creation_input_tokens or 0)
        received = self.completion_tokens if self.completion_tokens is not None else self.output_tokens
        if sent is None and self.total_tokens is not None:
            sent = self.total_tokens - (received or 0)
        if sent is None and received is None:
            return None
        return Found(sent, received, self.cache_read_input_tokens, self.cache_creation_input_tokens, model=model)


class _Reported(_Plain):
    """The same with what most say of its parts. DeepSeek has `prompt_cache_hit_tokens`, Moonshot `cached_tokens`."""

    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None
    cache_creation: _Written | None = None
    prompt_cache_hit_tokens: int | None = None
    cached_tokens: int | None = None

    def read(self, model: str | None) -> "Found | None":
        found = super().read(model)
        if found is None:
            return None
        of_input = self.prompt_tokens_details or self.input_tokens_details or _NONE
        of_output = self.completion_tokens_details or self.output_tokens_details or _NONE
        cached = (of_input.cached_tokens, found.cached, self.prompt_cache_hit_tokens, self.cached_tokens)
        found.cached = next((tokens for tokens in cached if tokens is not None), None)
        found.reasoning = of_output.reasoning_tokens
        if self.cache_creation is not None:
            found.written_1h = self.cache_creation.ephemeral_1h_input_tokens
        return found


R = TypeVar("R", bound=_Plain)
K = TypeVar("K", int, int | None)


class _Holder(msgspec.Struct, Generic[R]):
    usage: R | None = None
    model: object = None  # a text, of all that are known


class _Answer(msgspec.Struct, Generic[R]):
    usage: R | None = None
    model: object = None  # a text, of all that are known
    choices: list[_Holder[R]] | None = None
    x_groq: _Holder[R] | None = None
    response: _Holder[R] | None = None
    message: _Holder[R] | None = None


class Found(msgspec.Struct):
    """Usage seen in one JSON object, as far as it says any, and whether that object carries nothing else (its
    `choices` are empty)."""

    sent: int | None
    received: int | None
    cached: int | None = None
    written: int | None = None
    written_1h: int | None = None
    reasoning: int | None = None
    model: str | None = None
    alone: bool = False

    def after(self, before: Usage | None) -> Usage:
        """What is known when this is seen after what was known before."""
        known = before or _NOTHING
        sent, received = _last(self.sent, known.input_tokens), _last(self.received, known.output_tokens)
        cached, reasoning = _last(self.cached, known.cached_tokens), _last(self.reasoning, known.reasoning_tokens)
        return Usage(
            sent,
            received,
            cached_tokens=None if cached is None else min(cached, sent),
            cache_write_tokens=_last(self.written, known.cache_write_tokens),
            cache_write_1h_tokens=_last(self.written_1h, known.cache_write_1h_tokens),
            reasoning_tokens=None if reasoning is None else min(reasoning, received),
            model=self.model or known.model,
        )

    @property
    def usage(self) -> Usage:
        return self.after(None)


def _last(said: int | None, before: K) -> int | K:
    """A figure, unless it is none that a call can have."""
    return before if said is None or said > _MOST_TOKENS else max(said, 0)


_NOTHING = Usage(0, 0)
_decoder = msgspec.json.Decoder(_Answer[_Reported])
_plain_decoder = msgspec.json.Decoder(_Answer[_Plain])


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
    except msgspec.ValidationError:
        return _find_plain(data)
    except (msgspec.DecodeError, RecursionError):
        return None
    return _found(answer)


def _find_plain(data: bytes) -> Found | None:
    """Usage whose parts are of no type that is known."""
    try:
        return _found(_plain_decoder.decode(data))
    except msgspec.DecodeError:
        return None


def _found(answer: _Answer[R]) -> Found | None:
    found = None if answer.usage is None else answer.usage.read(_name(answer.model))
    if found is None:
        for holder in (answer.response, answer.message, answer.x_groq, *(answer.choices or ())):
            if holder is not None and holder.usage is not None:
                found = holder.usage.read(_name(holder.model) or _name(answer.model))
    if found is not None:
        found.alone = answer.choices == []
    return found


def _name(model: object) -> str | None:
    return model[:_MAX_NAME] if isinstance(model, str) and model else None


def estimate(input_bytes: int, output_bytes: int, events: int = 0) -> Usage:
    """Usage guessed from sizes: four bytes a token, and at least one token for each event that came, never zero."""
    sent = max(1, input_bytes // _BYTES_PER_TOKEN)
    received = max(events, output_bytes // _BYTES_PER_TOKEN)
    return Usage(sent, received, estimated=True)
