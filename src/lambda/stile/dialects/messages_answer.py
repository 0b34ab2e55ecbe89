"""A chat's answer as Anthropic's Messages API gives it (API reference, "Create a Message" and "Streaming messages", as
of November 2026), whole or event by event."""

import secrets
from typing import Any

import msgspec

from stile.core import sse
from stile.dialects import chat_answer, chat_stream, thoughts
from stile.dialects.chat_answer import Call, CallNumbers, Said, Usage
from stile.dialects.chat_stream import ChatStream
from stile.dialects.translation import Chat, Json, Stream

# The event that a stream is made of, written without a detour.
_TEXT_DELTA = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,'
    b'"delta":{"type":"text_delta","text":%b}}\n\n'
)
_CUT_OFF = ("length", "content_filter")
_STOPS = {"length": "max_tokens", "tool_calls": "tool_use", "function_call": "tool_use", "content_filter": "refusal"}


class MessagesTranslation:
    """The Translation of a call of Messages."""

    def __init__(self, chat: Chat, model: str) -> None:
        self.fields = chat.fields()
        self.dropped = chat.dropped
        self._model = model

    def whole(self, answer: bytes) -> bytes:
        said, finish, usage, _ = chat_answer.whole(answer)
        message = _frame(self._model)
        message["content"] = _blocks(said, cut_off=finish in _CUT_OFF)
        message["stop_reason"] = _stop(finish, calls=bool(said.tool_calls), refused=bool(said.refusal))
        message["usage"] = _usage(usage)
        return msgspec.json.encode(message)

    def at_once(self, answer: bytes) -> bytes:
        return chat_stream.at_once(_Message(self._model), answer)

    def stream(self) -> Stream:
        return ChatStream(_Message(self._model))


class _Message:
    """A message that grows by what a chat says, and the events that tell of it. One block is open at a time, as
    Anthropic's SDKs expect."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._events: list[bytes] = []
        self._place = -1  # of the block that is open, or was last
        self._open = ""  # its type
        self._thought = ""  # what it has said so far, where it is a thought
        self._calls: dict[int, list[Call]] = {}  # pieces that wait: the first call's do not
        self._numbers = CallNumbers()
        self._thoughts: list[Any] = []  # what was thought behind a call
        self._held = ""  # and said
        self._refused = False

    def events(self) -> bytes:
        ready, self._events = b"".join(self._events), []
        return ready

    def begin(self) -> None:
        self._emit("message_start", message=_frame(self._model))

    def add(self, said: Said, _: list[Json]) -> None:
        thinking = said.thinking_blocks or ([{"type": "thinking", "thinking": said.thought}] if said.thought else [])
        if self._calls:
            self._thoughts += thinking
        else:
            for block in thinking:
                self._think(block)
        text = said.text or said.refusal
        if text:
            self._refused = self._refused or not said.text
        if text and self._calls:
            self._held += text  # a call may still go on, and only one block may be open
        elif text:
            self._opened("text", {"type": "text", "text": ""})
            self._events.append(_TEXT_DELTA % (self._place, msgspec.json.encode(text)))
        for piece in said.tool_calls or ():
            self._use(piece)

    def _think(self, block: Any) -> None:
        if not isinstance(block, dict):
            return
        if block.get("type") == "redacted_thinking":
            self._close_block()
            data = str(block.get("data") or "")
            self._opened("redacted_thinking", {"type": "redacted_thinking", "data": data})
            self._close_block()
            return
        self._opened("thinking", {"type": "thinking", "thinking": "", "signature": ""})
        text = thoughts.fresh(self._thought, block)
        self._thought += text
        if text:
            self._delta(type="thinking_delta", thinking=text)
        if block.get("signature"):
            self._delta(type="signature_delta", signature=str(block["signature"]))
            self._close_block()

    def _use(self, piece: Call) -> None:
        """A piece of a call: of the first one, which is told as it comes, or of another, which waits for the end:
        pieces of several may come in turns, and only one block may be open."""
        number = self._numbers.of(piece)
        if number == 0 and not self._calls:
            self._start_call(piece)
        pieces = self._calls.setdefault(number, [])
        if number == 0:
            self._tell(piece)
        else:
            pieces.append(piece)

    def _start_call(self, piece: Call) -> None:
        name = piece.name
        self._opened("tool_use", {"type": "tool_use", "id": piece.id or _id("toolu"), "name": name, "input": {}})

    def _tell(self, piece: Call) -> None:
        if piece.arguments:
            self._delta(type="input_json_delta", partial_json=piece.arguments)

    def finish(self, reason: str, usage: Usage | None) -> None:
        for pieces in self._calls.values():
            for place, piece in enumerate(pieces):
                if place == 0:
                    self._start_call(piece)
                self._tell(piece)
        for block in self._thoughts:
            self._think(block)
        if self._held:
            self._opened("text", {"type": "text", "text": ""})
            self._delta(type="text_delta", text=self._held)
        self._close_block()
        stop = _stop(reason, calls=bool(self._calls), refused=self._refused)
        self._emit("message_delta", delta={"stop_reason": stop, "stop_sequence": None}, usage=_usage(usage))
        self._emit("message_stop")

    def _opened(self, kind: str, block: Json) -> None:
        if self._open == kind and kind != "tool_use":
            return
        self._close_block()
        self._place += 1
        self._open = kind
        self._emit("content_block_start", index=self._place, content_block=block)

    def _close_block(self) -> None:
        if self._open:
            self._emit("content_block_stop", index=self._place)
        self._open = self._thought = ""

    def _delta(self, **delta: Any) -> None:
        self._emit("content_block_delta", index=self._place, delta=delta)

    def _emit(self, kind: str, **fields: Any) -> None:
        self._events.append(sse.event(msgspec.json.encode({"type": kind, **fields}), kind.encode()))


def _frame(model: str) -> Json:
    return {
        "id": _id("msg"),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": _usage(None),
    }


def _blocks(said: Said, *, cut_off: bool) -> list[Json]:
    thinking: list[Json] = []
    thoughts.merged(thinking, said.thinking_blocks or [])
    if said.thought and not thinking:
        thinking = [{"type": "thinking", "thinking": said.thought, "signature": ""}]
    text = said.text or said.refusal
    calls = [
        {
            "type": "tool_use",
            "id": call.id or _id("toolu"),
            "name": call.name,
            "input": _input(call.arguments, cut_off=cut_off),
        }
        for call in said.tool_calls or ()
    ]
    return [*thinking, *([{"type": "text", "text": text}] if text else []), *calls]


def _input(arguments: str, *, cut_off: bool) -> Json:
    """What a tool is called with; of a model that made a slip its words, which come back to it as they were."""
    try:
        fields = msgspec.json.decode(arguments or "{}")
    except (msgspec.DecodeError, RecursionError):
        return {} if cut_off else {"arguments": arguments}
    if fields is None:
        return {}
    return fields if isinstance(fields, dict) else {"arguments": arguments}


def _stop(finish: str, *, calls: bool, refused: bool) -> str:
    if refused:
        return "refusal"
    if calls and finish == "stop":  # some servers say so
        return "tool_use"
    return _STOPS.get(finish, "end_turn")


def _usage(usage: Usage | None) -> Json:
    """Anthropic counts what was read from a cache, or written to one, beside the other tokens of the input."""
    if usage is None:
        usage = Usage()
    return {
        "input_tokens": max(usage.sent - usage.cached - usage.written, 0),
        "cache_creation_input_tokens": usage.written,
        "cache_read_input_tokens": usage.cached,
        "output_tokens": usage.received,
    }


def _id(kind: str) -> str:
    return f"{kind}_{secrets.token_hex(12)}"
