"""A chat's answer as OpenAI's Responses API gives it (API reference, "The response object" and "Streaming events", as
of November 2026), whole or event by event."""

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from stile.core import sse
from stile.core.body import Fields
from stile.dialects import chat_answer, chat_stream, thoughts
from stile.dialects.chat_answer import Call, CallNumbers, Said, Usage
from stile.dialects.chat_stream import ChatStream
from stile.dialects.translation import Chat, Json, Names, Stream

# How a chat ended → why a response is not complete.
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
_ECHOED: Mapping[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "reasoning": {"effort": None, "summary": None},
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
_SPOT = b'"item_id":"%b","output_index":%d,"content_index":%d'
_TEXT_DELTA = (
    b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","sequence_number":%d,%b,'
    b'"delta":%b,"logprobs":%b}\n\n'
)
COMPLETED, INCOMPLETE = "completed", "incomplete"
_NULL = b"null"

_Open = TypeVar("_Open", "_Reasoning", "_Message")


class ResponsesTranslation:
    """The Translation of a call of Responses; `said` is its body, of which a response repeats a part."""

    def __init__(self, chat: Chat, model: str, said: Fields) -> None:
        self.fields = chat.fields()
        self.dropped = chat.dropped
        self._names = chat.names
        echoed = {name: said[name] if said.get(name, _NULL) != _NULL else value for name, value in _ECHOED.items()}
        self._frame = {"model": model, **echoed}
        self._shows_thoughts = b"reasoning.encrypted_content" in bytes(said.get("include", b""))

    def whole(self, answer: bytes) -> bytes:
        said, finish, usage, chances = chat_answer.whole(answer)
        response = self._response()
        response.add(said, chances)
        return msgspec.json.encode(response.finish(finish, usage))

    def at_once(self, answer: bytes) -> bytes:
        return chat_stream.at_once(self._response(), answer)

    def stream(self) -> Stream:
        return ChatStream(self._response())

    def _response(self) -> "_Response":
        return _Response(self._frame, self._names, shows_thoughts=self._shows_thoughts)


class _Response:
    """A response that grows by what a chat says, and the events that tell of it."""

    def __init__(self, frame: Json, names: Names, *, shows_thoughts: bool) -> None:
        self._names = names
        self.shows_thoughts = shows_thoughts
        self._number = 0
        self._events: list[bytes] = []
        self._output: list[Json] = []
        self._open: _Reasoning | _Message | None = None  # the message, or the reasoning, that goes on
        self._calls: dict[int, _Call] = {}
        self._numbers = CallNumbers()
        self._fields: Json = {
            "id": _id("resp"),
            "object": "response",
            "created_at": int(time.time()),
            "status": "in_progress",
            "background": False,
            "error": None,
            "incomplete_details": None,
            "previous_response_id": None,
            "store": False,
            "usage": None,
            **frame,
            "output": self._output,
        }

    def events(self) -> bytes:
        """Those since the last time."""
        ready, self._events = b"".join(self._events), []
        return ready

    def begin(self) -> None:
        self.emit("response.created", response=self._fields)
        self.emit("response.in_progress", response=self._fields)

    def add(self, said: Said, chances: list[Json]) -> None:
        if said.thought or said.thinking_blocks:
            reasoning = self._opened(_Reasoning)
            reasoning.add(said.thought, said.thinking_blocks or [])
        if text := said.text:
            self._opened(_Message).add("output_text", text, chances)
        if said.refusal:
            self._opened(_Message).add("refusal", said.refusal)
        for piece in said.tool_calls or ():
            self._call(piece)

    def finish(self, reason: str, usage: Usage | None) -> Json:
        """The response at its end. What was cut off is the item that came last."""
        why = _INCOMPLETE.get(reason)
        last = self._open or (next(reversed(self._calls.values())) if self._calls else None)
        for item in (*((self._open,) if self._open else ()), *self._calls.values()):
            item.close(INCOMPLETE if why and item is last else COMPLETED)
        self._open = None
        self._fields["status"] = "incomplete" if why else "completed"
        self._fields["incomplete_details"] = {"reason": why} if why else None
        self._fields["usage"] = _usage(usage)
        self.emit(f"response.{self._fields['status']}", response=self._fields)
        return self._fields

    def emit(self, kind: str, **fields: Any) -> None:
        event = {"type": kind, "sequence_number": self._number, **fields}
        self._number += 1
        self._events.append(sse.event(msgspec.json.encode(event), kind.encode()))

    def tell(self, text: str, spot: bytes, chances: list[Json]) -> None:
        """Emit a piece of text: the event that a stream is made of, written without a detour."""
        logprobs = msgspec.json.encode(chances) if chances else b"[]"
        self._events.append(_TEXT_DELTA % (self._number, spot, msgspec.json.encode(text), logprobs))
        self._number += 1

    def begin_item(self, item: Json) -> int:
        """Show a new item; answers its place."""
        self._output.append(item)
        self.emit("response.output_item.added", output_index=len(self._output) - 1, item=item)
        return len(self._output) - 1

    def _opened(self, kind: "type[_Open]") -> "_Open":
        if not isinstance(self._open, kind):
            self._close()
            self._open = kind(self)
        return self._open

    def _close(self) -> None:
        if self._open is not None:
            self._open.close(COMPLETED)
            self._open = None

    def _call(self, piece: Call) -> None:
        number = self._numbers.of(piece)
        if number not in self._calls:
            self._close()
            self._calls[number] = _Call(self, piece, self._names)
        self._calls[number].add(piece.arguments)


class _Reasoning:
    """Thoughts as an item: their text as its summary."""

    def __init__(self, response: _Response) -> None:
        self._response = response
        self._blocks: list[Json] = []
        self._text: list[str] = []
        self._item: Json = {"id": _id("rs"), "type": "reasoning", "summary": []}
        self._place = response.begin_item(self._item)

    def add(self, text: str, blocks: list[Any]) -> None:
        thoughts.merged(self._blocks, blocks)
        if text:
            if not self._text:
                self._emit("response.reasoning_summary_part.added", part={"type": "summary_text", "text": ""})
            self._text.append(text)
            self._emit("response.reasoning_summary_text.delta", delta=text)

    def close(self, status: str) -> None:
        text = "".join(self._text)
        if text:
            part = {"type": "summary_text", "text": text}
            self._emit("response.reasoning_summary_text.done", text=text)
            self._emit("response.reasoning_summary_part.done", part=part)
            self._item["summary"] = [part]
        self._item["status"] = status
        if self._response.shows_thoughts:
            self._item["encrypted_content"] = thoughts.sealed(text, self._blocks)
        self._response.emit("response.output_item.done", output_index=self._place, item=self._item)

    def _emit(self, kind: str, **fields: Any) -> None:
        self._response.emit(kind, item_id=self._item["id"], output_index=self._place, summary_index=0, **fields)


class _Message:
    """What is said, in parts: text, or a refusal."""

    def __init__(self, response: _Response) -> None:
        self._response = response
        self._kind = ""
        self._spot = b""  # where its open part is, as its events say it
        self._text: list[str] = []
        self._chances: list[Json] = []
        self._item: Json = {
            "id": _id("msg"),
            "type": "message",
            "status": "in_progress",
            "role": "assistant",
            "content": [],
        }
        self._place = response.begin_item(self._item)

    def add(self, kind: str, text: str, chances: list[Json] | None = None) -> None:
        if kind != self._kind:
            self._close_part()
            self._kind = kind
            self._spot = _SPOT % (self._item["id"].encode(), self._place, len(self._item["content"]))
            self._emit("response.content_part.added", part=_part(kind, ""))
        self._text.append(text)
        if kind == "refusal":
            self._emit("response.refusal.delta", delta=text)
        else:
            self._chances += chances or ()
            self._response.tell(text, self._spot, chances or [])

    def close(self, status: str) -> None:
        self._close_part()
        self._item["status"] = status
        self._response.emit("response.output_item.done", output_index=self._place, item=self._item)

    def _close_part(self) -> None:
        if not self._kind:
            return
        text = "".join(self._text)
        part = _part(self._kind, text, self._chances)
        if self._kind == "refusal":
            self._emit("response.refusal.done", refusal=text)
        else:
            self._emit("response.output_text.done", text=text, logprobs=self._chances)
        self._emit("response.content_part.done", part=part)
        self._item["content"].append(part)
        self._kind, self._text, self._chances = "", [], []

    def _emit(self, kind: str, **fields: Any) -> None:
        place = len(self._item["content"])
        self._response.emit(kind, item_id=self._item["id"], output_index=self._place, content_index=place, **fields)


class _Call:
    """A tool's call. What a custom tool is told comes as JSON and is shown when it is whole."""

    def __init__(self, response: _Response, piece: Call, names: Names) -> None:
        self._response = response
        self._arguments: list[str] = []
        flat = piece.name
        self._is_custom = flat in names.custom
        space, name = names.spaces.get(flat, (None, flat))
        call_id = piece.id or _id("call")
        self._item: Json = (
            {"id": _id("ctc"), "type": "custom_tool_call", "call_id": call_id, "name": name, "input": ""}
            if self._is_custom
            else {"id": _id("fc"), "type": "function_call", "call_id": call_id, "name": name, "arguments": ""}
        )
        self._item["status"] = "in_progress"
        if space is not None:
            self._item["namespace"] = space
        self._place = response.begin_item(self._item)

    def add(self, arguments: str) -> None:
        self._arguments.append(arguments)
        if arguments and not self._is_custom:
            self._emit("response.function_call_arguments.delta", delta=arguments)

    def close(self, status: str) -> None:
        arguments = "".join(self._arguments)
        self._item["status"] = status
        if self._is_custom:
            told = _told(arguments)
            self._item["input"] = told
            self._emit("response.custom_tool_call_input.delta", delta=told)
            self._emit("response.custom_tool_call_input.done", input=told)
        else:
            if not arguments and status == COMPLETED:
                arguments = "{}"
                self.add(arguments)  # for those who add the pieces up
            self._item["arguments"] = arguments
            self._emit("response.function_call_arguments.done", arguments=arguments, name=self._item["name"])
        self._response.emit("response.output_item.done", output_index=self._place, item=self._item)

    def _emit(self, kind: str, **fields: Any) -> None:
        self._response.emit(kind, item_id=self._item["id"], output_index=self._place, **fields)


def _told(arguments: str) -> str:
    """What a custom tool is told: the function's one parameter, as far as it came; of a model that did not keep to it,
    all it said."""
    for end in ("", '"}'):
        try:
            fields = msgspec.json.decode(arguments.rstrip("\\") + end if end else arguments)
        except (msgspec.DecodeError, RecursionError):
            continue
        told = fields.get("input") if isinstance(fields, dict) else None
        return told if isinstance(told, str) else arguments
    return arguments


def _part(kind: str, text: str, chances: Sequence[Json] = ()) -> Json:
    if kind == "refusal":
        return {"type": "refusal", "refusal": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": chances}


def _usage(usage: Usage | None) -> Json | None:
    if usage is None:
        return None
    return {
        "input_tokens": usage.sent,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": usage.written},
        "output_tokens": usage.received,
        "output_tokens_details": {"reasoning_tokens": usage.reasoned},
        "total_tokens": usage.sent + usage.received,
    }


def _id(kind: str) -> str:
    return f"{kind}_{secrets.token_hex(24)}"
