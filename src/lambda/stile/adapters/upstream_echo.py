"""The model `echo`: it answers with the last user message, so that a first call works with no provider at all."""

import asyncio
import re
import secrets
import time
from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from stile.core import body as bodies
from stile.core import sse
from stile.errors import BadRequest
from stile.ports import UpstreamAnswer, UpstreamRequest

_NOTICE = "This is Stile's echo, not a language model. You said: "
_WORD = re.compile(r"\s*\S+\s*")
_MODEL = "echo"
_MAX_PIECES = 1000

Message = dict[str, Any]


class EchoUpstream:
    """The Upstream port without an upstream. Its tokens are words, which is what its usage counts."""

    async def send(self, request: UpstreamRequest) -> UpstreamAnswer:
        if request.operation != "chat":
            raise BadRequest("The model 'echo' only chats.", code="unsupported_operation", param="model")
        messages: list[Message] = bodies.take(request.fields, "messages", list[Message], [])
        said = next((_text(message) for message in reversed(messages) if message.get("role") == "user"), "")
        words = _WORD.findall(_NOTICE + said)
        sent = sum(len(_text(message).split()) for message in messages)
        usage = {"prompt_tokens": sent, "completion_tokens": len(words), "total_tokens": sent + len(words)}
        frame = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": _MODEL}
        if request.stream:
            return UpstreamAnswer(200, [(b"content-type", b"text/event-stream")], _stream(frame, words, usage))
        message = {"role": "assistant", "content": "".join(words), "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        answer = {**frame, "object": "chat.completion", "choices": [choice], "usage": usage}
        return UpstreamAnswer(200, [(b"content-type", b"application/json")], msgspec.json.encode(answer))

    async def warm_up(self) -> None:
        """Nothing is needed."""

    async def release(self) -> None:
        """Nothing is held."""

    async def close(self) -> None:
        """Nothing is held."""


async def _stream(frame: dict[str, Any], words: list[str], usage: dict[str, int]) -> AsyncGenerator[bytes, None]:
    def event(delta: dict[str, str], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return sse.event(msgspec.json.encode({**frame, "object": "chat.completion.chunk", "choices": [choice]}))

    yield event({"role": "assistant", "content": ""})
    size = -(-len(words) // _MAX_PIECES) or 1
    for start in range(0, len(words), size):
        yield event({"content": "".join(words[start : start + size])})
        if size > 1:
            await asyncio.sleep(0)  # long ones shall not hold others up
    yield event({}, "stop")
    yield sse.event(msgspec.json.encode({**frame, "object": "chat.completion.chunk", "choices": [], "usage": usage}))
    yield sse.event(sse.DONE)


def _text(message: Message) -> str:
    content = message.get("content")
    if isinstance(content, list):
        parts = [part.get("text", "") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        return " ".join(str(part) for part in parts)
    return content if isinstance(content, str) else ""
