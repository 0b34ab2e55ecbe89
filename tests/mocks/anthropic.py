"""Answers in Anthropic's Messages dialect, whole and as events, for a scripted provider."""

import json
from collections.abc import Sequence
from typing import Any

from tests.mocks.provider import Exchange, Script, status

MODEL = "claude-scripted-1"
USAGE = {"input_tokens": 11, "output_tokens": 7}
WORDS = ["Grüße", ", ", "世界", " 🎉", "!"]
TOOL_USE = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"where": "here"}}
_FRAME = {"id": "msg_1", "type": "message", "role": "assistant", "model": MODEL}


def message(*content: dict[str, Any]) -> dict[str, Any]:
    """A whole answer; without `content` it is all WORDS."""
    blocks = content or ({"type": "text", "text": "".join(WORDS)},)
    reason = "tool_use" if any(block["type"] == "tool_use" for block in blocks) else "end_turn"
    return {**_FRAME, "content": blocks, "stop_reason": reason, "stop_sequence": None, "usage": USAGE}


def events(words: Sequence[str] = WORDS) -> list[bytes]:
    """A whole stream: start, a delta for each word, stop."""
    return [*opening(), *(text(word) for word in words), *closing()]


def opening() -> list[bytes]:
    start: dict[str, Any] = {**_FRAME, "content": [], "stop_reason": None, "stop_sequence": None}
    return [
        event("message_start", message={**start, "usage": {**USAGE, "output_tokens": 1}}),
        event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
    ]


def text(word: str) -> bytes:
    return event("content_block_delta", index=0, delta={"type": "text_delta", "text": word})


def closing(reason: str = "end_turn") -> list[bytes]:
    return [
        event("content_block_stop", index=0),
        event("message_delta", delta={"stop_reason": reason, "stop_sequence": None}, usage=USAGE),
        event("message_stop"),
    ]


def tool_events() -> list[bytes]:
    """A stream that calls a tool, its arguments in two pieces."""
    pieces = ('{"where"', ': "here"}')
    deltas = [
        event("content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": piece})
        for piece in pieces
    ]
    block = {**TOOL_USE, "input": {}}
    return [opening()[0], event("content_block_start", index=0, content_block=block), *deltas, *closing("tool_use")]


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields}, ensure_ascii=False)}\n\n".encode()


def error(code: int, kind: str, said: str, **headers: str) -> Script:
    """A script that refuses every call."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status(code, {"type": "error", "error": {"type": kind, "message": said}}, named)


async def chat(exchange: Exchange) -> None:
    """Answers as it is asked: whole or streamed, with a tool call when tools are offered and not answered yet."""
    asked = exchange.call.json
    wants_tool = bool(asked.get("tools")) and b"tool_result" not in exchange.call.body
    if asked.get("stream"):
        await exchange.start("text/event-stream")
        for chunk in tool_events() if wants_tool else events():
            await exchange.chunk(chunk)
        await exchange.end()
        return
    await exchange.answer(200, json.dumps(message(TOOL_USE) if wants_tool else message()).encode())
