"""Answers in Amazon Bedrock's Converse dialect, whole and in AWS's event-stream framing, for a scripted provider."""

import json
import struct
import zlib
from typing import Any

from tests.mocks.provider import Exchange

USAGE = {"inputTokens": 11, "outputTokens": 7, "totalTokens": 18}
WORDS = ["Grüße", ", ", "世界", " 🎉", "!"]
EMBEDDING = [0.25, -0.5]
STREAM = "application/vnd.amazon.eventstream"
TOOL_USE = {"toolUseId": "tooluse_1", "name": "look", "input": {"where": "here"}}


def message(*content: dict[str, Any]) -> dict[str, Any]:
    """A whole answer; without `content` it is all WORDS."""
    blocks = content or ({"text": "".join(WORDS)},)
    reason = "tool_use" if any("toolUse" in block for block in blocks) else "end_turn"
    output = {"message": {"role": "assistant", "content": blocks}}
    return {"output": output, "stopReason": reason, "usage": USAGE, "metrics": {"latencyMs": 1}}


def events() -> list[bytes]:
    """A whole stream: start, a delta for each word, stop, usage."""
    return [opening(), *(text(word) for word in WORDS), *closing()]


def opening() -> bytes:
    return frame("messageStart", {"role": "assistant"})


def text(word: str) -> bytes:
    return frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": word}})


def closing(reason: str = "end_turn") -> list[bytes]:
    return [
        frame("contentBlockStop", {"contentBlockIndex": 0}),
        frame("messageStop", {"stopReason": reason}),
        frame("metadata", {"usage": USAGE, "metrics": {"latencyMs": 1}}),
    ]


def tool_events() -> list[bytes]:
    """A stream that calls a tool, its arguments in two pieces."""
    start = {"toolUse": {"toolUseId": TOOL_USE["toolUseId"], "name": TOOL_USE["name"]}}
    deltas = [
        frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"toolUse": {"input": piece}}})
        for piece in ('{"where"', ': "here"}')
    ]
    opened = frame("contentBlockStart", {"contentBlockIndex": 0, "start": start})
    return [opening(), opened, *deltas, *closing("tool_use")]


def frame(kind: str, payload: dict[str, Any]) -> bytes:
    """One event: prelude, its CRC, headers, payload, the CRC of all of it (Amazon event stream encoding)."""
    names = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    headers = b"".join(_header(name, value) for name, value in names.items())
    body = json.dumps(payload, ensure_ascii=False).encode()
    prelude = struct.pack(">II", 4 + 4 + 4 + len(headers) + len(body) + 4, len(headers))
    begun = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + body
    return begun + struct.pack(">I", zlib.crc32(begun))


def _header(name: str, value: str) -> bytes:
    string = 7  # the type of a header that holds text
    return bytes([len(name)]) + name.encode() + struct.pack(">BH", string, len(value)) + value.encode()


async def converse(exchange: Exchange) -> None:
    """Answers as it is asked: Converse, ConverseStream, or Titan's embeddings by InvokeModel."""
    path, asked = exchange.call.path, exchange.call.body
    if path.endswith("/invoke"):
        await exchange.answer(200, json.dumps({"embedding": EMBEDDING, "inputTextTokenCount": 3}).encode())
        return
    wants_tool = b'"toolConfig"' in asked and b'"toolResult"' not in asked
    if path.endswith("/converse-stream"):
        await exchange.start(STREAM)
        for chunk in tool_events() if wants_tool else events():
            await exchange.chunk(chunk)
        await exchange.end()
        return
    await exchange.answer(200, json.dumps(message({"toolUse": TOOL_USE}) if wants_tool else message()).encode())
