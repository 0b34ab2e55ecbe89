"""What a chat answers, whole or in chunks, as far as other dialects have a place for it.

Beside OpenAI's own fields: `reasoning_content` (DeepSeek and LiteLLM) or `reasoning` (OpenRouter, vLLM, Groq), and
LiteLLM's `thinking_blocks`, which hold an Anthropic model's signatures.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from stile.core import sse
from stile.errors import UpstreamFailed


class Function(msgspec.Struct):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None  # an object from servers of Ollama's kind


class Call(msgspec.Struct):
    """A tool's call, or a piece of one: `index` tells which."""

    index: int | None = None
    id: str | None = None
    function: Function | None = None

    @property
    def name(self) -> str:
        return (self.function and self.function.name) or ""

    @property
    def arguments(self) -> str:
        told = self.function and self.function.arguments
        return told if isinstance(told, str) else msgspec.json.encode(told).decode() if told is not None else ""


class CallNumbers:
    """Which call each piece of a stream belongs to, numbered as they begin.

    By its index, as OpenAI has it. But some servers give none, or say 0 of every call: then a name that comes with
    another id, or without index and id, begins another call.
    """

    def __init__(self) -> None:
        self._of_index: dict[int | None, int] = {}
        self._ids: list[str | None] = []

    def of(self, piece: Call) -> int:
        known = self._of_index.get(piece.index)
        named = bool(piece.name)
        another = known is not None and bool(piece.id) and piece.id != self._ids[known]
        if known is None or (named and (another or (piece.index is None and not piece.id))):
            known = self._of_index[piece.index] = len(self._ids)
            self._ids.append(piece.id)
        return known


class Said(msgspec.Struct):
    """A message, or what a chunk adds to it."""

    content: str | list[dict[str, Any]] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: Any = None
    thinking_blocks: list[Any] | None = None
    tool_calls: list[Call] | None = None

    @property
    def text(self) -> str:
        if self.content is None or isinstance(self.content, str):
            return self.content or ""
        return "".join(part["text"] for part in self.content if isinstance(part.get("text"), str))

    @property
    def thought(self) -> str:
        return self.reasoning_content or (self.reasoning if isinstance(self.reasoning, str) else "")


class Logprobs(msgspec.Struct):
    content: list[dict[str, Any]] | None = None


class Choice(msgspec.Struct):
    message: Said | None = None
    delta: Said | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | None = None

    @property
    def chances(self) -> list[dict[str, Any]]:
        """How likely each token was, where that was asked."""
        return (self.logprobs and self.logprobs.content) or []


class _InputDetails(msgspec.Struct):
    cached_tokens: float | None = None


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: float | None = None


class Usage(msgspec.Struct):
    """Tokens; those that were read from a cache or written to one are among the prompt's."""

    prompt_tokens: float | None = None
    completion_tokens: float | None = None
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None
    cache_creation_input_tokens: float | None = None

    @property
    def sent(self) -> int:
        return int(self.prompt_tokens or 0)

    @property
    def received(self) -> int:
        return int(self.completion_tokens or 0)

    @property
    def cached(self) -> int:
        return int((self.prompt_tokens_details and self.prompt_tokens_details.cached_tokens) or 0)

    @property
    def written(self) -> int:
        return int(self.cache_creation_input_tokens or 0)

    @property
    def reasoned(self) -> int:
        return int((self.completion_tokens_details and self.completion_tokens_details.reasoning_tokens) or 0)


class Answer(msgspec.Struct):
    """A whole answer, or a chunk. Only the first choice counts: other dialects have one."""

    choices: list[Choice] = []
    usage: Usage | None = None
    error: Any = None


_MAX_SAID = 2000  # characters of a provider's error
_DATA, _END = b"data: ", b"\n\n"
_decoder = msgspec.json.Decoder(Answer)


class Whole(NamedTuple):
    """A whole answer."""

    said: Said
    finish: str
    usage: Usage | None
    chances: list[dict[str, Any]]


def whole(body: bytes) -> Whole:
    """A whole answer. Raises UpstreamFailed when it is none."""
    answer = _decode(body)
    choice = answer.choices[0] if answer.choices else Choice()
    if choice.message is None:
        raise _unreadable()
    return Whole(choice.message, choice.finish_reason or "stop", answer.usage, choice.chances)


def chunks(events: bytes) -> Iterator[Answer | None]:
    """The chunks in whole events, None for the stream's end. Raises UpstreamFailed for an error among them."""
    for data in _data(events):
        if not data:
            continue
        if data == sse.DONE:
            yield None
            continue
        chunk = _decode(data)
        if chunk.error:
            said = chunk.error.get("message") if isinstance(chunk.error, dict) else None
            raise UpstreamFailed(str(said or chunk.error)[:_MAX_SAID], code="upstream_error")
        yield chunk


def _data(events: bytes) -> list[bytes]:
    if events.startswith(_DATA) and events.endswith(_END) and events.count(b"\n") == len(_END):  # one event, as mostly
        return [events[len(_DATA) : -len(_END)]]
    return [sse.data_of(event) for event in sse.split(events)]


def _decode(data: bytes) -> Answer:
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _unreadable() from None


def _unreadable() -> UpstreamFailed:
    return UpstreamFailed("The provider's answer is not a chat completion.", code="upstream_broken")
